"""What the OCI image and distribution specs define, as values: references, descriptors, manifests, indexes.

Pure: bytes in, values or InputError out. Both sides use it. Docker's schema 2 manifest and manifest
list have the same shape under other media types and are read by the same rules.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airgap.decode import Fields, Json, parse_json
from airgap.errors import InputError
from airgap.model import Platform, Sha256, oci_digest

MAX_MANIFEST = 4 * 1024 * 1024
"""Bytes of a manifest or index (distribution-spec v1.1, "Pushing Manifests": at least 4 MiB)."""

MAX_CONFIG = 16 * 1024 * 1024
"""Bytes of an image config; it grows with the history, the largest in use are below 1 MiB."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"

NULL_DIGEST = Sha256("0" * 64)

DOCKER_HUB = "docker.io"


# ------------------------------------------------------------------ references

_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_PATH = r"[a-z0-9]+(?:(?:[_.]|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_PATH}(?:/{_PATH})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REFERENCE = re.compile(
    rf"(?P<name>[^@]+?)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>[A-Za-z0-9]+:[0-9a-fA-F]{{32,}}))?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry: `registry/repository[:tag][@sha256:digest]`, at least one of tag and digest."""

    registry: str
    repository: str
    tag: str = ""
    digest: Sha256 | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference as Docker does (distribution/reference, "normalized named").

        The first component is a registry when it holds a dot or a port, is `localhost`, or has an
        upper-case letter; else the image is Docker Hub's, and a single name is in `library/`. No
        tag and no digest mean `latest`. Raises InputError.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or len(text) > 512:
            raise _not_a_reference(text, "name[:tag][@sha256:digest]")
        registry, repository = _split_name(match["name"])
        if not re.fullmatch(_REGISTRY, registry):
            raise _not_a_reference(text, f"{registry!r} is not a registry's host[:port]")
        if not re.fullmatch(_REPOSITORY, repository):
            raise _not_a_reference(text, "a repository has lower-case components joined by '/'")
        if len(registry) + len(repository) > 254:
            raise _not_a_reference(text, "registry and repository are at most 255 characters")
        if re.fullmatch(r"[0-9a-f]{64}", match["name"]):
            raise _not_a_reference(text, "64 hex digits are an image id, which no registry knows")
        digest = oci_digest(match["digest"]) if match["digest"] else None
        tag = match["tag"] or ("" if digest else "latest")
        return cls(registry, repository, tag, digest)

    @property
    def wanted(self) -> str:
        """What the manifest is asked for by: the digest where there is one, else the tag."""
        return f"sha256:{self.digest}" if self.digest else self.tag

    @property
    def tagged(self) -> str:
        """`registry/repository:tag`, which engines accept as a name; empty without a tag."""
        return f"{self.registry}/{self.repository}:{self.tag}" if self.tag else ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@sha256:{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def _split_name(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    named = slash and (re.search(r"[.:\[]", first) or first == "localhost" or first.lower() != first)
    registry, repository = (first, rest) if named else (DOCKER_HUB, name)
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _not_a_reference(text: str, why: str) -> InputError:
    return InputError(
        f"expected an image reference such as docker.io/library/debian:12, found {text[:200]!r} ({why})"
    )


# ------------------------------------------------------------------ documents


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob as a manifest or index names it (image-spec, descriptor.md); `size` in bytes."""

    media_type: str
    digest: Sha256
    size: int
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    """Of what is no image, and of an entry in a list of referrers, what it is."""

    @property
    def names_platform(self) -> bool:
        """Whether a machine could run it: attestations are filed under `unknown/unknown` (BuildKit)."""
        return self.platform is not None and self.platform.os != "unknown"

    def as_json(self) -> dict[str, object]:
        """The descriptor's three required properties, for documents airgap derives."""
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.size}


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """One image for one platform (image-spec, manifest.md; Docker schema 2)."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    """The manifest that this one refers to, if any: it is a signature of it, or the like."""


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """Several images under one digest (image-spec, image-index.md; Docker manifest list)."""

    media_type: str
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What selection and verification need of an image config (image-spec, config.md)."""

    platform: Platform
    diff_ids: tuple[Sha256, ...]
    """sha256 of each layer's uncompressed tar, lowest first."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as it was found: its exact bytes, and what the server or descriptor called them."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> Sha256:
        return Sha256(hashlib.sha256(self.data).hexdigest())


def parse_image(data: bytes, what: str, *, media_type: str = "") -> ImageManifest | ImageIndex:
    """Read a manifest or an index. `media_type` is what the descriptor or the server called it.

    Unknown keys are allowed: the bytes travel unchanged. A document that is both an index and a
    manifest, or that calls itself other than it was called, is refused (CVE-2021-41190). Raises InputError.
    """
    document = parse_json(data, what, max_bytes=MAX_MANIFEST, floats=True)
    _refuse_other_case(document, what)
    fields = Fields(without_nulls(document) if b"null" in data else document)
    fields.raise_if_bad(what)
    version = fields.integer("schemaVersion")
    if version == 1:
        raise InputError(
            f"{what}: a Docker schema 1 manifest, which names no digest of its image",
            remedy="push the image again with a current Docker or skopeo, and name that",
        )
    if version != 2:
        fields.problem("schemaVersion", f"expected 2, found {version}")
    own = fields.optional_text("mediaType") or media_type
    if media_type in (*INDEXES, *MANIFESTS) and own != media_type:
        fields.problem("mediaType", f"expected {media_type}, as it was announced, found {own[:100]!r}")
    if fields.has("manifests") and (fields.has("layers") or fields.has("config")):
        fields.problem("", "both an image index and an image manifest, so readers would differ")
    if fields.has("manifests"):
        image: ImageManifest | ImageIndex = _index(fields, own or OCI_INDEX)
    else:
        image = _manifest(fields, own or OCI_MANIFEST)
    fields.raise_if_bad(what)
    return image


def parse_config(data: bytes, what: str) -> ImageConfig:
    """Read an image config. Raises InputError."""
    document = parse_json(data, what, max_bytes=MAX_CONFIG, floats=True)
    _refuse_other_case(document, what)
    fields = Fields(without_nulls(document))
    fields.raise_if_bad(what)
    name = "/".join((fields.text("os"), fields.text("architecture")))
    variant = fields.optional_text("variant")
    platform = Platform("unknown", "unknown")
    try:
        platform = Platform.parse(f"{name}/{variant}" if variant else name)
    except InputError as error:
        fields.problem("os", error.message)
    rootfs = fields.table("rootfs")
    diff_ids = []
    for index, text in enumerate(rootfs.texts("diff_ids")):
        try:
            diff_ids.append(oci_digest(text))
        except InputError as error:
            rootfs.problem(f"diff_ids[{index}]", error.message)
    fields.raise_if_bad(what)
    return ImageConfig(platform, tuple(diff_ids))


def _index(fields: Fields, media_type: str) -> ImageIndex:
    if media_type not in INDEXES:
        fields.problem("mediaType", f"expected an image index, found {media_type[:100]!r}")
    return ImageIndex(media_type, tuple(_descriptor(entry) for entry in fields.tables("manifests")))


def _manifest(fields: Fields, media_type: str) -> ImageManifest:
    if media_type not in MANIFESTS:
        fields.problem("mediaType", f"expected an image manifest, found {media_type[:100]!r}")
    layers = tuple(_descriptor(entry) for entry in fields.tables("layers"))
    subject = fields.optional_table("subject")
    return ImageManifest(
        media_type, _descriptor(fields.table("config")), layers, _descriptor(subject) if subject else None
    )


def _descriptor(fields: Fields) -> Descriptor:
    return Descriptor(
        fields.text("mediaType", pattern=r"[\x21-\x7e]{1,255}", expected="a media type"),
        fields.parsed("digest", oci_digest, NULL_DIGEST),
        fields.integer("size", default=None),
        _platform(fields.table("platform")) if fields.has("platform") else None,
        fields.texts("urls"),
        _annotations(fields.table("annotations")) if fields.has("annotations") else {},
        fields.text("artifactType", default=""),
    )


def _platform(fields: Fields) -> Platform | None:
    os, architecture = fields.text("os", default=""), fields.text("architecture", default="")
    variant = fields.text("variant", default="")
    if not os and not architecture:  # some builders write an empty platform for what has none
        return None
    try:
        return Platform.parse("/".join(part for part in (os, architecture, variant) if part))
    except InputError as error:
        fields.problem("", error.message)
        return None


def _annotations(fields: Fields) -> dict[str, str]:
    return {key: fields.text(key) for key in fields.all_keys()}


_READ = {
    name.casefold(): name
    for name in (
        *(
            "schemaVersion",
            "mediaType",
            "config",
            "layers",
            "manifests",
            "subject",
            "digest",
            "size",
            "platform",
        ),
        *("annotations", "urls", "os", "architecture", "variant", "rootfs", "diff_ids", "created", "history"),
        *(
            "created_by",
            "User",
            "Env",
            "Entrypoint",
            "Cmd",
            "WorkingDir",
            "ExposedPorts",
            "Volumes",
            "Labels",
        ),
    )
}
_FREE = frozenset({"annotations", "ExposedPorts", "Volumes", "Labels"})
"""Tables whose keys are anybody's."""


def _refuse_other_case(value: Json, what: str) -> None:
    """Go takes a key for the one it knows whatever its case, and the last of several. Raises InputError."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, list):
            pending += one
        for key, inner in one.items() if isinstance(one, dict) else ():
            known = _READ.get(key.casefold(), key)
            if known != key:
                raise InputError(f"{what}: {key[:100]}: expected {known}, as Go's readers take it")
            if key not in _FREE:
                pending.append(inner)


def without_nulls(value: Json) -> Json:
    """The document with null members dropped: Go's encoders write null for what is absent."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


# ------------------------------------------------------------------ choosing platforms

_IMPLIED_VARIANT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
"""The variant an architecture means when none is written (containerd's platform normalisation)."""


def same_platform(one: Platform, other: Platform) -> bool:
    """Whether two platforms are equal once implied variants are written out: arm64 is arm64/v8."""
    return _explicit(one) == _explicit(other)


def _explicit(platform: Platform) -> tuple[str, str, str]:
    variant = platform.variant or _IMPLIED_VARIANT.get(platform.architecture, "")
    return platform.os, platform.architecture, variant


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries of an index travel, and which stay behind, each in the index's order."""

    kept: tuple[Descriptor, ...]
    left_out: tuple[Descriptor, ...]


def select(index: ImageIndex, wanted: Sequence[str], what: str) -> Selection:
    """The entries for the `wanted` platforms, or with `all` every entry, attestations included.

    Of several entries for one platform the first is taken, as engines do. Raises InputError naming
    the platforms that exist when a wanted one does not.
    """
    if "all" in wanted:
        return Selection(index.manifests, ())
    chosen: set[int] = set()
    missing = []
    for text in wanted:
        platform = Platform.parse(text)
        position = _first(index, platform)
        if position is None:
            missing.append(text)
        else:
            chosen.add(position)
    if missing:
        there = ", ".join(dict.fromkeys(str(d.platform) for d in index.manifests if d.names_platform))
        raise InputError(
            f"{what}: no image for {', '.join(missing)}; its platforms are {there or 'not named'}",
            remedy='choose with platforms = ["…"] in the manifest, or change [target] platform',
        )
    numbered = list(enumerate(index.manifests))
    return Selection(
        tuple(entry for position, entry in numbered if position in chosen),
        tuple(entry for position, entry in numbered if position not in chosen),
    )


def _first(index: ImageIndex, wanted: Platform) -> int | None:
    for position, entry in enumerate(index.manifests):
        if entry.platform is not None and entry.names_platform and same_platform(entry.platform, wanted):
            return position
    return None
