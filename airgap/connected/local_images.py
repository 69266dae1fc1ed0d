"""Images that are local already: OCI layouts, OCI archives and docker archives.

Sources: OCI image-spec, image-layout.md; Docker image spec v1.2, "Combined Image JSON + Filesystem
Changeset Format". An archive that is both (docker 25 and later) is read as OCI, its manifest unchanged.
"""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.connected.archives import DirectoryFiles, Files, TarFiles, hash_members, read_small
from airgap.decode import Fields, canonical_json, parse_json
from airgap.errors import InputError, IntegrityError
from airgap.model import Local, Made, Sha256
from airgap.oci import (
    CONTAINERD_NAME,
    INDEXES,
    MANIFESTS,
    MAX_CONFIG,
    MAX_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    REF_NAME,
    Descriptor,
    Document,
    ImageIndex,
    Reference,
    parse_config,
    parse_image,
    without_nulls,
)
from airgap.progress import Progress
from airgap.store import CHUNK


def open_image(
    text: str, *, layout: bool, directory: Path, progress: Progress
) -> "LayoutImage | DockerImage":
    """Open `archive` or `layout` of a manifest: a path, or `path:reference` where it holds several images.

    `directory` is what the path is relative to. Raises InputError when it is none of docker archive,
    OCI archive and OCI layout, or holds several images and the reference names none of them.
    """
    path_text, wanted = _split(text, directory)
    path = directory / path_text
    files: Files
    if layout:
        if not path.is_dir():
            raise InputError(f"{path}: expected an OCI layout directory, found none")
        files = DirectoryFiles(path, path_text)
    elif path.exists() and not path.is_file():
        raise InputError(
            f"{path}: expected a docker or OCI archive, which is a regular file, found something else",
            remedy='for an OCI layout directory write layout = "…"',
        )
    else:
        files = TarFiles(path, path_text)
    if files.holds("oci-layout") and files.holds("index.json"):
        return LayoutImage(files, wanted)
    if isinstance(files, TarFiles) and files.holds("manifest.json"):
        return DockerImage.named(files, wanted, progress)
    expected = "an OCI layout" if layout else "a docker or OCI archive"
    raise InputError(
        f"{path}: expected {expected}, found no oci-layout with an index.json"
        f"{'' if layout else ' and no manifest.json'}",
        remedy="write one with 'skopeo copy … oci-archive:FILE', 'docker save' or 'podman save'",
    )


def _split(text: str, directory: Path) -> tuple[str, str]:
    """`path` or `path:reference`, as skopeo writes it; a path that exists wins over a shorter one."""
    if (directory / text).exists():
        return text, ""
    for position, character in enumerate(text):
        if character == ":" and position and (directory / text[:position]).exists():
            return text[:position], text[position + 1 :]
    return text, ""


def _names(raw: Sequence[str]) -> tuple[str, ...]:
    """Each name as written and as a full reference, so that either chooses it."""
    return tuple(dict.fromkeys(name for text in raw if text for name in (text, full_name(text)) if name))


def full_name(text: str) -> str:
    """A name found in an archive as a full reference; '' for a bare tag such as `latest`."""
    if ":" not in text and "/" not in text:
        return ""
    try:
        return str(Reference.parse(text))
    except InputError:
        return ""


def _choose(label: str, images: Sequence[Sequence[str]], wanted: str) -> int:
    """The position of the one image meant. Raises InputError naming those there are."""
    matching = [
        position
        for position, names in enumerate(images)
        if not wanted or wanted in names or full_name(wanted) in names
    ]
    if len(matching) == 1:
        return matching[0]
    there = ", ".join(names[0] if names else "one without a name" for names in images) or "none"
    found = "no" if not matching else str(len(matching))
    named = f" named {wanted!r}" if wanted else ""
    raise InputError(
        f"{label}: expected exactly one image{named}, found {found}; images: {there[:500]}",
        remedy=f'choose one: "{label}:NAME:TAG"',
    )


# ------------------------------------------------------------------ OCI layout


class LayoutImage:
    """One image of an OCI layout, its manifests byte for byte as they lie there."""

    def __init__(self, files: Files, wanted: str) -> None:
        self._files = files
        index = parse_image(read_small(files, "index.json", MAX_MANIFEST), f"{files.label}: index.json")
        if not isinstance(index, ImageIndex):
            raise InputError(f"{files.label}: index.json is not an image index")
        candidates: dict[Sha256, list[Descriptor]] = {}
        for entry in index.manifests:
            if entry.media_type in (*INDEXES, *MANIFESTS):
                candidates.setdefault(entry.digest, []).append(entry)
        images = list(candidates.values())
        raw = [[e.annotations.get(k, "") for e in i for k in (CONTAINERD_NAME, REF_NAME)] for i in images]
        position = _choose(files.label, [_names(names) for names in raw], wanted)
        self._top = images[position][0]
        named = [full_name(wanted), *(full_name(name) for name in raw[position])]
        self.image = next((name for name in named if name), "")

    def top(self, pinned: Sha256 | None = None) -> Document:
        return Document(self.document(self._top), self._top.media_type)

    def document(self, descriptor: Descriptor) -> bytes:
        return self._read(descriptor, MAX_MANIFEST)

    def config(self, descriptor: Descriptor) -> bytes:
        return self._read(descriptor, MAX_CONFIG)

    def document_origin(self, digest: Sha256) -> Local:
        return self._files.origin(_blob(digest))

    def blob_origin(self, descriptor: Descriptor) -> Local:
        """Raises InputError when the blob is not there or has another size."""
        name = _blob(descriptor.digest)
        if not self._files.holds(name) or self._files.size(name) != descriptor.size:
            raise InputError(
                f"{self._files.label}: expected a blob {name} of {descriptor.size} bytes, found"
                f" {self._files.size(name) if self._files.holds(name) else 'none'}",
                remedy="write the layout again, with every platform that is to travel",
            )
        return self._files.origin(name)

    def _read(self, descriptor: Descriptor, max_bytes: int) -> bytes:
        data = read_small(self._files, _blob(descriptor.digest), max_bytes)
        found = hashlib.sha256(data).hexdigest()
        if found != descriptor.digest or len(data) != descriptor.size:
            raise IntegrityError(
                f"{self._files.label}: {_blob(descriptor.digest)} has sha256 {found} and {len(data)} bytes,"
                f" expected {descriptor.size} bytes",
                remedy="write the archive or layout again",
            )
        return data


def _blob(digest: Sha256) -> str:
    return f"blobs/sha256/{digest}"


# ------------------------------------------------------------------ docker archive


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image of a docker archive's manifest.json; names of members."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


class DockerImage:
    """One image of a docker archive, under a manifest that is derived: the same for the same archive.

    The config travels byte for byte; each layer is proven against the diff_id the config gives it.
    """

    def __init__(self, files: TarFiles, entry: _Entry, image: str, progress: Progress) -> None:
        self.image = image
        self._files = files
        self._entry = entry
        self._progress = progress
        self._members: dict[Sha256, str] = {}
        self._archive = Sha256("")

    @classmethod
    def named(cls, files: TarFiles, wanted: str, progress: Progress) -> "DockerImage":
        """The image `wanted` names, or the only one. Raises InputError."""
        entries = _entries(files)
        entry = entries[_choose(files.label, [_names(e.tags) for e in entries], wanted)]
        named = [full_name(wanted), *(full_name(tag) for tag in entry.tags)]
        return cls(files, entry, next((name for name in named if name), ""), progress)

    @classmethod
    def with_config(cls, files: TarFiles, config: str, progress: Progress) -> "DockerImage":
        """The image whose config is the member `config`. Raises InputError."""
        for entry in _entries(files):
            if entry.config == config:
                return cls(files, entry, "", progress)
        raise InputError(f"{files.label}: no image has the config {config[:200]!r} any more")

    def top(self, pinned: Sha256 | None = None) -> Document:
        """Read every layer once and derive the manifest. Raises InputError or IntegrityError."""
        label, entry = self._files.label, self._entry
        data = read_small(self._files, entry.config, MAX_CONFIG)
        config = parse_config(data, f"{label}: {entry.config}")
        if len(config.diff_ids) != len(entry.layers):
            raise InputError(
                f"{label}: {len(entry.layers)} layers, but {len(config.diff_ids)} diff_ids in {entry.config}"
            )
        for name in entry.layers:
            if not self._files.holds(name):
                raise InputError(f"{label}: the layer {name[:200]!r} is not a regular file of the archive")
        spans = [self._files.span(name) for name in entry.layers]
        self._archive, digests = hash_members(self._files.path, spans, self._progress)
        layers = []
        for name, span, diff_id in zip(entry.layers, spans, config.diff_ids, strict=True):
            digest = digests[span]
            layers.append(Descriptor(self._prove(name, digest, diff_id), digest, span.size))
            self._members.setdefault(digest, name)
        found = Sha256(hashlib.sha256(data).hexdigest())
        self._members[found] = entry.config
        return Document(derive_manifest(Descriptor(OCI_CONFIG, found, len(data)), layers), OCI_MANIFEST)

    def document(self, descriptor: Descriptor) -> bytes:
        raise InputError(
            f"{self._files.label}: a docker archive holds no manifest sha256:{descriptor.digest}"
        )

    def config(self, descriptor: Descriptor) -> bytes:
        return read_small(self._files, self._members[descriptor.digest], MAX_CONFIG)

    def document_origin(self, digest: Sha256) -> Made:
        return Made("image-manifest", Local(self._files.label), self._archive)

    def blob_origin(self, descriptor: Descriptor) -> Local:
        return self._files.origin(self._members[descriptor.digest])

    def _prove(self, name: str, digest: Sha256, diff_id: Sha256) -> str:
        """The layer's media type. Raises IntegrityError when it is not the layer the config names."""
        media_type, found = OCI_LAYER, digest
        with self._files.open(name) as stream:
            if stream.read(2) == b"\x1f\x8b":
                media_type = f"{OCI_LAYER}+gzip"
                found = self._uncompressed(name)
        if found != diff_id:
            raise IntegrityError(
                f"{self._files.label}: layer {name} has diff_id sha256:{found}, expected sha256:{diff_id}"
                f" as {self._entry.config} says",
                remedy="save the image again",
            )
        return media_type

    def _uncompressed(self, name: str) -> Sha256:
        hasher = hashlib.sha256()
        try:
            with self._files.open(name) as stream, gzip.open(stream) as plain:
                while chunk := plain.read(CHUNK):
                    hasher.update(chunk)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{self._files.label}: layer {name} is not gzip: {error}") from None
        return Sha256(hasher.hexdigest())


def derive_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """The OCI image manifest of a config and its layers, in canonical JSON."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
    )


def _entries(files: TarFiles) -> list[_Entry]:
    what = f"{files.label}: manifest.json"
    document = parse_json(read_small(files, "manifest.json", MAX_MANIFEST), what)
    fields = Fields(without_nulls({"images": document}))
    entries = [
        _Entry(table.text("Config"), table.texts("RepoTags"), table.texts("Layers"))
        for table in fields.tables("images")
    ]
    fields.raise_if_bad(what)
    return entries
