"""Containers: from a registry, a docker or OCI archive, or an OCI layout; manifests byte for byte.

The reference names one document, an index or a manifest. From an index the wanted platforms are
kept; whatever stays behind is said in a finding, since a digest that was pinned is no longer all there.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from airgap.connected.archives import TarFiles
from airgap.connected.local_images import DockerImage, open_image
from airgap.connected.registry import Registry
from airgap.connected.signatures import judge as judge_signatures
from airgap.connected.signatures import with_signature
from airgap.connected.source import Context, Resolved, copy_local
from airgap.errors import InputError, IntegrityError
from airgap.manifest import ContainerRequest, request_digest
from airgap.model import (
    BundlePath,
    ContainerArtifact,
    Finding,
    Local,
    LockedFile,
    Made,
    Origin,
    Platform,
    Remote,
    Severity,
    Sha256,
    Target,
)
from airgap.oci import (
    CONFIGS,
    Descriptor,
    Document,
    ImageManifest,
    Reference,
    parse_config,
    parse_image,
    same_platform,
    select,
)
from airgap.progress import Silent

_MAX_NESTING = 4
"""Indexes within indexes; the spec allows them, nobody goes beyond two."""

_ATTESTATION = "unknown/unknown"
"""What BuildKit files provenance and SBOM attestations under."""


class ImageSource(Protocol):
    """One image, wherever it lies: a registry, an archive, a layout."""

    @property
    def image(self) -> str: ...

    def top(self, pinned: Sha256 | None = None) -> Document: ...

    def document(self, descriptor: Descriptor) -> bytes: ...

    def config(self, descriptor: Descriptor) -> bytes: ...

    def document_origin(self, digest: Sha256) -> Origin: ...

    def blob_origin(self, descriptor: Descriptor) -> Origin: ...


# ------------------------------------------------------------------ resolve


def resolve(request: ContainerRequest, previous: ContainerArtifact | None, context: Context) -> Resolved:
    """Pin an image: every blob of the platforms wanted, with digest, size and origin.

    A registry is not asked again for what `previous` answers; a reference that stayed keeps its
    digest when only the platforms changed. Local sources are read each time. Raises InputError
    (reference, archive, platform), SourceError, IntegrityError or HostError.
    """
    digest = request_digest(request, {"platform": str(context.target.platform), **context.asks})
    if request.image and previous and previous.request == digest:
        return Resolved(previous, judge(previous, request, context.target))
    source = _open(request, context)
    pinned = previous.digest if previous and request.image and previous.image == source.image else None
    context.store.prepare()
    artifact = _collect(request, digest, source, source.top(pinned), context)
    if context.provenance and isinstance(source, Registry):
        artifact = with_signature(artifact, source, context)
    return Resolved(artifact, judge(artifact, request, context.target))


def _open(request: ContainerRequest, context: Context) -> ImageSource:
    if request.image:
        return _registry(Reference.parse(request.image), request.plain_http, context)
    text = request.archive or request.layout
    return open_image(
        text, layout=bool(request.layout), directory=context.directory, progress=context.progress
    )


def _registry(reference: Reference, plain_http: bool, context: Context) -> Registry:
    return Registry(reference, plain_http=plain_http, transfer=context.transfer, environ=os.environ)


def _collect(
    request: ContainerRequest, digest: str, source: ImageSource, top: Document, context: Context
) -> ContainerArtifact:
    what = source.image or request.archive or request.layout
    image = parse_image(top.data, what, media_type=top.media_type)
    tree = _Tree(source, context)
    if isinstance(image, ImageManifest):
        platform = _platform(source, image, what)
        tree.add_manifest(top.data, image)
        root, platforms, left_out = top.digest, [str(platform)], []
    else:
        wanted = request.platforms or (str(context.target.platform),)
        selection = select(image, wanted, what)
        tree.add_document(top.data, image.media_type)
        for entry in selection.kept:
            tree.add_entry(entry, what)
        whole = not selection.left_out or len(selection.kept) > 1
        root = top.digest if whole else selection.kept[0].digest
        platforms = _spelled(selection.kept, attestations=False)
        left_out = _spelled(selection.left_out, attestations=True)
    return ContainerArtifact(
        request.name,
        digest,
        source.image,
        top.digest,
        root,
        tuple(platforms),
        tuple(left_out),
        tree.files(),
    )


def _platform(source: ImageSource, image: ImageManifest, what: str) -> Platform:
    """A single manifest does not say what it is for; its config does. Raises InputError."""
    if image.config.media_type not in CONFIGS:
        raise InputError(
            f"{what}: expected a container image, found one whose config is {image.config.media_type}",
            remedy="carry it as a [[models]] or [[files]] entry, or name the image",
        )
    return parse_config(source.config(image.config), f"{what}: config").platform


def _spelled(entries: Sequence[Descriptor], *, attestations: bool) -> list[str]:
    """Platforms as the index spells them, each once; what names none counts as an attestation."""
    named = [str(e.platform) if e.names_platform else _ATTESTATION for e in entries]
    return [name for name in dict.fromkeys(named) if attestations or name != _ATTESTATION]


class _Tree:
    """The blobs of an image in the order they are met: index, then manifest, config, layers; each once.

    Manifests and indexes go into the store at once, so that fetching asks for them no more.
    """

    def __init__(self, source: ImageSource, context: Context) -> None:
        self._source = source
        self._context = context
        self._files: dict[Sha256, LockedFile] = {}

    def files(self) -> tuple[LockedFile, ...]:
        return tuple(self._files.values())

    def add_entry(self, entry: Descriptor, what: str, depth: int = 1) -> None:
        """A manifest of an index with all it needs, or an index inside it."""
        if depth > _MAX_NESTING:
            raise InputError(f"{what}: image indexes are nested more than {_MAX_NESTING} deep")
        data = self._source.document(entry)
        if len(data) != entry.size:
            raise IntegrityError(
                f"{what}: expected {entry.size} bytes for sha256:{entry.digest}, as its index says,"
                f" found {len(data)}",
                remedy="ask whoever pushed the image to push it again",
            )
        image = parse_image(data, f"{what}: sha256:{entry.digest}", media_type=entry.media_type)
        if isinstance(image, ImageManifest):
            self.add_manifest(data, image)
        elif self.add_document(data, image.media_type):
            for inner in image.manifests:
                self.add_entry(inner, what, depth + 1)

    def add_manifest(self, data: bytes, image: ImageManifest) -> None:
        if self.add_document(data, image.media_type):
            for descriptor in (image.config, *image.layers):
                origin = self._source.blob_origin(descriptor)
                self._add(descriptor.digest, descriptor.size, descriptor.media_type, origin)

    def add_document(self, data: bytes, media_type: str) -> bool:
        """False when the document was there already."""
        digest = Document(data, media_type).digest
        if digest in self._files:
            return False
        self._context.store.add_bytes(data)
        self._add(digest, len(data), media_type, self._source.document_origin(digest))
        return True

    def _add(self, digest: Sha256, size: int, media_type: str, origin: Origin) -> None:
        path = BundlePath(f"blobs/sha256/{digest}")
        known = self._files.setdefault(digest, LockedFile(path, size, digest, origin, media_type))
        if known.size != size:
            raise InputError(
                f"sha256:{digest} is named with {known.size} bytes and with {size}; one is wrong"
            )


# ------------------------------------------------------------------ findings


def judge(artifact: ContainerArtifact, request: ContainerRequest, target: Target) -> tuple[Finding, ...]:
    """What a person should know about how the image was chosen; the same at every lock."""
    return tuple(_findings(artifact, request, target))


def _findings(artifact: ContainerArtifact, request: ContainerRequest, target: Target) -> Iterator[Finding]:
    kept = ", ".join(artifact.platforms)
    left = ", ".join("its attestations" if p == _ATTESTATION else p for p in artifact.left_out)
    index = f"index sha256:{artifact.digest}"
    if artifact.root != artifact.digest:
        pinned = bool(request.image) and Reference.parse(request.image).digest is not None
        yield Finding(
            "container-narrowed",
            Severity.WARNING if pinned else Severity.INFO,
            artifact.name,
            f"of the index {'that was pinned' if pinned else 'upstream'} only the image for {kept} travels,"
            f" as sha256:{artifact.root}; left behind: {left}",
            index,
            'platforms = ["all"] carries the whole index under its own digest',
        )
    elif artifact.left_out:
        yield Finding(
            "container-sparse-index",
            Severity.WARNING,
            artifact.name,
            f"the index travels without {left}; registries such as docker-registry refuse such an index,"
            " and importing all platforms of it fails",
            index,
            'choose one platform, or platforms = ["all"]',
        )
    else:
        wanted = [Platform.parse(text) for text in request.platforms if text != "all"] or [target.platform]
        there = [Platform.parse(text) for text in artifact.platforms]
        if there and not any(same_platform(one, other) for one in wanted for other in there):
            yield Finding(
                "container-platform",
                Severity.WARNING,
                artifact.name,
                f"the image is for {kept}, not for {', '.join(str(platform) for platform in wanted)}",
                f"sha256:{artifact.root}",
                "name an image for that platform, or correct [target] platform",
            )
    yield from judge_signatures(artifact)
    if any(file.media_type.endswith("+zstd") for file in artifact.files):
        yield Finding(
            "container-zstd",
            Severity.INFO,
            artifact.name,
            "layers are compressed with zstd, which docker 20.10 cannot load",
            ", ".join(f"sha256:{f.sha256}" for f in artifact.files if f.media_type.endswith("+zstd")),
            "use docker 23 or later, podman or containerd there, or an image with gzip layers",
        )


# ------------------------------------------------------------------ fetch


def fetch(artifact: ContainerArtifact, context: Context, only: Collection[Sha256] | None = None) -> None:
    """Bring every blob of a locked image into the store, or those named by `only`.

    Raises SourceError, IntegrityError or HostError.
    """
    context.store.prepare()
    wanted = [file for file in artifact.files if only is None or file.sha256 in only]
    missing = [file for file in wanted if not context.store.holds(file.sha256, file.size)]
    remote = [file for file in missing if isinstance(file.origin, Remote)]
    if remote:
        _pull(artifact, remote, context)
    local = [file for file in missing if isinstance(file.origin, Local)]
    for file in local:
        assert isinstance(file.origin, Local)
        if not file.origin.member:
            copy_local(file, context)
    archives = {f.origin.path for f in local if isinstance(f.origin, Local) and f.origin.member}
    for archive in sorted(archives):
        wanted = [f for f in local if isinstance(f.origin, Local) and f.origin.path == archive]
        _copy_members(TarFiles(context.directory / archive, archive), wanted, context)
    for file in missing:
        if isinstance(file.origin, Made):
            _make_manifest(artifact, file, context)


def _pull(artifact: ContainerArtifact, files: Sequence[LockedFile], context: Context) -> None:
    reference = Reference.parse(artifact.image)
    registry = _registry(reference, plain_http=_is_plain(artifact), context=context)
    registry.fetch(files, artifact.name)


def _is_plain(artifact: ContainerArtifact) -> bool:
    """The lock holds what the manifest asked for: the manifest's own URL is the registry's."""
    first = artifact.files[0].origin
    return isinstance(first, Remote) and first.url.startswith("http://")


def _copy_members(archive: TarFiles, files: Sequence[LockedFile], context: Context) -> None:
    """Read an archive's members in the order they lie in it, which is one pass."""
    members = []
    for file in files:
        assert isinstance(file.origin, Local)
        if not archive.holds(file.origin.member):
            raise _changed(archive.label, file, "no such member")
        members.append((archive.span(file.origin.member), file))
    for span, file in sorted(members, key=lambda pair: pair[0].offset):
        with archive.open_span(span) as stream:
            blob = context.store.add_stream(stream, name=file.path, expected=file.sha256)
        context.progress.advance(blob.size)
        if (blob.sha256, blob.size) != (file.sha256, file.size):
            raise _changed(archive.label, file, f"sha256 {blob.sha256} and {blob.size} bytes")


def _make_manifest(artifact: ContainerArtifact, file: LockedFile, context: Context) -> None:
    """Derive a docker archive's manifest once more; it comes out the same from the same archive."""
    assert isinstance(file.origin, Made) and isinstance(file.origin.source, Local)
    path = file.origin.source.path
    config = artifact.files[1].origin  # files begin with the manifest and its config
    assert isinstance(config, Local)
    # Silent: these bytes are read a second time, progress counts them once.
    image = DockerImage.with_config(TarFiles(context.directory / path, path), config.member, Silent())
    data = image.top().data
    found = Document(data, file.media_type).digest
    if found != file.sha256:
        raise _changed(path, file, f"a manifest of sha256 {found}")
    context.store.add_bytes(data)


def _changed(label: str, file: LockedFile, found: str) -> IntegrityError:
    return IntegrityError(
        f"{label}: expected sha256 {file.sha256} and {file.size} bytes for {_member(file)}, as locked;"
        f" found {found}",
        remedy="run 'airgap lock' again if the change is meant",
    )


def _member(file: LockedFile) -> str:
    return file.origin.member if isinstance(file.origin, Local) else "the image manifest"
