"""A bundle as an OCI image layout 1.0.0: what each artifact becomes, and how it is read back.

Source: OCI image-spec 1.1: image-layout.md, manifest.md ("Guidelines for Artifact Usage"),
annotations.md; CNCF model-spec for models.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from airgap import modelpack, oci
from airgap.decode import canonical_json
from airgap.errors import InputError, IntegrityError
from airgap.lock import Lock
from airgap.media import Media, MissingFileError, not_a_bundle
from airgap.model import (
    PROVENANCE_SUFFIX,
    Artifact,
    BundlePath,
    ContainerArtifact,
    FileArtifact,
    ModelArtifact,
    Sha256,
    WheelsArtifact,
    bundle_path,
)
from airgap.pylock import pylock_name, render_pylock
from airgap.trust.envelope import MAX_ENVELOPE, MAX_RECORD
from airgap.trust.root import MAX_ROOT

OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
ENVELOPE_FILE = "bundle.dsse.json"
VERIFY_DIRECTORY = "verify"
ROOTS_DIRECTORY = "roots"
ROOT_NAME = re.compile(r"([1-9][0-9]{0,8})\.root\.json")
"""A root by its version, in a bundle's `roots/`, in a site's `trust/`, and beside each other."""
RECORDS_DIRECTORY = "records"
RECORD_NAME = re.compile(r"[0-9a-f]{64}\.dsse\.json")
"""The record of a smoke run by the sha256 of its bytes, in the `records/` of a bundle and of a site."""
BESIDE = {ROOTS_DIRECTORY: (ROOT_NAME, MAX_ROOT), RECORDS_DIRECTORY: (RECORD_NAME, MAX_RECORD)}
"""What may lie beside the statement and vouches for itself: names by directory, and bytes at most."""

WHEELS_TYPE = "application/vnd.airgap.wheels.v1"
WHEEL_LAYER = "application/vnd.airgap.wheel.v1+zip"
PROVENANCE_LAYER = "application/vnd.airgap.provenance.v1+json"
PYLOCK_LAYER = "application/vnd.airgap.pylock.v1+toml"
FILE_TYPE = "application/vnd.airgap.file.v1"
FILE_LAYER = "application/octet-stream"
EMPTY_CONFIG_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY_CONFIG = b"{}"
"""image-spec, manifest.md: the config of an artifact that needs none."""

TITLE = "org.opencontainers.image.title"
KIND = "dev.airgap.kind"
LOCK = "dev.airgap.lock"
UPSTREAM_INDEX = "dev.airgap.upstream-index"
"""The digest of the upstream index when one of its manifests travels as the image."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of an artifact as the layout holds it; for a container `path` is the blob's own path."""

    path: BundlePath
    sha256: Sha256
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class BundledArtifact:
    """A locked artifact and the layers it became. The pylock of a wheels set is a layer too."""

    artifact: Artifact
    media_type: str
    digest: Sha256
    size: int
    """Of the manifest or index that index.json points at."""
    layers: tuple[Layer, ...]
    documents: Mapping[Sha256, bytes]
    """Manifest, config and generated files, by digest; none for a container: its documents are upstream's."""


def blob_path(digest: Sha256) -> BundlePath:
    """Where a blob lies below the bundle's directory (image-layout.md, "Blobs")."""
    return BundlePath(f"blobs/sha256/{digest}")


def root_name(version: int) -> str:
    """The name of a root's file; `ROOT_NAME` is the inverse."""
    return f"{version}.root.json"


def record_name(data: bytes) -> str:
    """The name that the record of a smoke run lies under."""
    return f"{digest_of(data)}.dsse.json"


def digest_of(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


def pack(artifact: Artifact) -> BundledArtifact:
    """What a locked artifact becomes; pure, and the same for the same lock."""
    match artifact:
        case WheelsArtifact():
            pylock = render_pylock(artifact)
            layers = (
                Layer(bundle_path(pylock_name(artifact)), digest_of(pylock), len(pylock), PYLOCK_LAYER),
                *_layers(artifact, _wheels_layer),
            )
            return _pack_artifact(artifact, layers, artifact_type=WHEELS_TYPE, generated=(pylock,))
        case ModelArtifact():
            layers = _layers(artifact, modelpack.layer_media_type)
            config = modelpack.render_config(artifact)
            return _pack_artifact(
                artifact,
                layers,
                artifact_type=modelpack.MANIFEST_ARTIFACT_TYPE,
                config_type=modelpack.CONFIG_TYPE,
                config=config,
            )
        case FileArtifact():
            layers = _layers(artifact, lambda path: FILE_LAYER)
            return _pack_artifact(artifact, layers, artifact_type=FILE_TYPE)
        case ContainerArtifact():
            return _pack_container(artifact)


def render_index(artifacts: Sequence[BundledArtifact], lock: Sha256) -> bytes:
    """The bytes of index.json: one descriptor per artifact in the lock's order."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_INDEX,
            "manifests": [_index_entry(bundled) for bundled in artifacts],
            "annotations": {LOCK: f"sha256:{lock}"},
        }
    )


def read_layout(index: bytes, lock: Lock, read: Callable[[Sha256], bytes]) -> tuple[BundledArtifact, ...]:
    """Read artifacts back from index.json, each checked against the lock.

    `read` returns the verified bytes of a manifest. Raises IntegrityError naming every
    disagreement between index, manifests and lock.
    """
    try:
        found = oci.parse_image(index, INDEX_FILE, media_type=oci.OCI_INDEX)
    except InputError as error:
        raise IntegrityError(error.message) from None
    assert isinstance(found, oci.ImageIndex)  # parse_image holds the announced type
    names = [descriptor.annotations.get(oci.REF_NAME, "") for descriptor in found.manifests]
    wanted = [artifact.name for artifact in lock.artifacts]
    if names != wanted:
        raise IntegrityError(f"{INDEX_FILE}: expected the artifacts {wanted}, as locked; found {names}")
    problems: list[str] = []
    artifacts = []
    for artifact, descriptor in zip(lock.artifacts, found.manifests, strict=True):
        bundled, wrong = _read_artifact(artifact, descriptor, read)
        artifacts.append(bundled)
        problems.extend(f"{artifact.name}: {problem}" for problem in wrong)
    if problems:
        raise IntegrityError("\n  ".join((f"{INDEX_FILE} and the lock disagree", *problems)))
    return tuple(artifacts)


def _wheels_layer(path: str) -> str:
    return PROVENANCE_LAYER if path.endswith(PROVENANCE_SUFFIX) else WHEEL_LAYER


def _layers(artifact: Artifact, media_type: Callable[[str], str]) -> tuple[Layer, ...]:
    return tuple(Layer(f.path, f.sha256, f.size, media_type(f.path)) for f in artifact.files)


def _pack_artifact(
    artifact: Artifact,
    layers: tuple[Layer, ...],
    *,
    artifact_type: str,
    config_type: str = EMPTY_CONFIG_TYPE,
    config: bytes = EMPTY_CONFIG,
    generated: tuple[bytes, ...] = (),
) -> BundledArtifact:
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": oci.Descriptor(config_type, digest_of(config), len(config)).as_json(),
            "layers": [
                oci.Descriptor(layer.media_type, layer.sha256, layer.size).as_json()
                | {"annotations": {_path_annotation(artifact): layer.path}}
                for layer in layers
            ],
        }
    )
    documents = {digest_of(data): data for data in (manifest, config, *generated)}
    return BundledArtifact(artifact, oci.OCI_MANIFEST, digest_of(manifest), len(manifest), layers, documents)


def _pack_container(artifact: ContainerArtifact) -> BundledArtifact:
    root = next(file for file in artifact.files if file.sha256 == artifact.root)
    layers = tuple(Layer(f.path, f.sha256, f.size, f.media_type) for f in artifact.files)
    return BundledArtifact(artifact, root.media_type, root.sha256, root.size, layers, {})


def _path_annotation(artifact: Artifact) -> str:
    return modelpack.FILEPATH_ANNOTATION if isinstance(artifact, ModelArtifact) else TITLE


def _index_entry(bundled: BundledArtifact) -> dict[str, object]:
    artifact = bundled.artifact
    annotations = {oci.REF_NAME: artifact.name, KIND: artifact.kind.value}
    if isinstance(artifact, ContainerArtifact):
        annotations |= {oci.CONTAINERD_NAME: artifact.image} if artifact.image else {}
        if artifact.root != artifact.digest:
            annotations[UPSTREAM_INDEX] = f"sha256:{artifact.digest}"
    descriptor = oci.Descriptor(bundled.media_type, bundled.digest, bundled.size)
    return descriptor.as_json() | {"annotations": annotations}


def _read_artifact(
    artifact: Artifact, descriptor: oci.Descriptor, read: Callable[[Sha256], bytes]
) -> tuple[BundledArtifact, list[str]]:
    """The artifact as the layout holds it, and every way in which that is not what was locked."""
    problems = []
    if descriptor.annotations.get(KIND) != artifact.kind:
        problems.append(f"expected a {artifact.kind}, found {descriptor.annotations.get(KIND)!r}")
    if isinstance(artifact, ContainerArtifact):
        bundled = _pack_container(artifact)
        problems.extend(_image_problems(artifact, read))
    else:
        data = read(descriptor.digest)
        layers = _manifest_layers(artifact, data)
        bundled = BundledArtifact(artifact, oci.OCI_MANIFEST, digest_of(data), len(data), layers, {})
        problems.extend(_layer_problems(artifact, layers))
    expected = (bundled.media_type, bundled.digest, bundled.size)
    if (descriptor.media_type, descriptor.digest, descriptor.size) != expected:
        problems.append(f"the descriptor names {descriptor.digest}, the lock {bundled.digest}")
    return bundled, problems


def _manifest_layers(artifact: Artifact, data: bytes) -> tuple[Layer, ...]:
    what = f"manifest of {artifact.name}"
    try:
        manifest = oci.parse_image(data, what, media_type=oci.OCI_MANIFEST)
        assert isinstance(manifest, oci.ImageManifest)  # parse_image holds the announced type
        key = _path_annotation(artifact)
        return tuple(
            Layer(bundle_path(d.annotations.get(key, "")), d.digest, d.size, d.media_type)
            for d in manifest.layers
        )
    except InputError as error:
        raise IntegrityError(error.message) from None


def _layer_problems(artifact: Artifact, layers: Sequence[Layer]) -> Iterator[str]:
    """Layers must be the locked files, in the lock's order, after the pylock of a wheels set."""
    generated = 1 if isinstance(artifact, WheelsArtifact) else 0
    if generated and [layer.media_type for layer in layers[:1]] != [PYLOCK_LAYER]:
        yield "its first layer is not its pylock"
    found = [(layer.path, layer.sha256, layer.size) for layer in layers[generated:]]
    wanted = [(file.path, file.sha256, file.size) for file in artifact.files]
    yield from (f"{path} is not as locked" for path, *_ in sorted(set(found) - set(wanted)))
    yield from (f"{path} is locked and not here" for path, *_ in sorted(set(wanted) - set(found)))
    if len(found) != len(wanted) and set(found) == set(wanted):
        yield "a file is named twice"


def _image_problems(artifact: ContainerArtifact, read: Callable[[Sha256], bytes]) -> Iterator[str]:
    """What the image's manifests name must be locked with that size, and nothing else be locked.

    Of an index some children may be absent: the platforms that the lock leaves out.
    """
    locked = {file.sha256: file for file in artifact.files}
    pending = {artifact.digest, artifact.root}
    if artifact.signature:
        pending |= {file.sha256 for file in artifact.files if file.path in artifact.signature.files}
    named: dict[Sha256, int] = {digest: locked[digest].size for digest in pending}
    read_already: set[Sha256] = set()
    while pending:
        digest = pending.pop()
        read_already.add(digest)
        what = f"manifest {digest}"
        try:
            image = oci.parse_image(read(digest), what, media_type=locked[digest].media_type)
        except InputError as error:
            yield error.message
            continue
        if isinstance(image, oci.ImageIndex):
            children = [d for d in image.manifests if d.digest in locked]
            documents = {d.digest for d in children if d.media_type in (*oci.INDEXES, *oci.MANIFESTS)}
            pending |= documents - read_already
        else:
            children = [image.config, *image.layers]
        named |= {d.digest: d.size for d in children}
    for digest, size in named.items():
        if digest not in locked or locked[digest].size != size:
            yield f"a manifest names {digest} of {size} bytes, which is not locked so"
    yield from (f"{digest} is locked and no manifest names it" for digest in locked.keys() - named.keys())


def read_envelope(media: Media, *, also: str = "") -> bytes:
    """The envelope's bytes. Raises InputError, naming `also` what else the user could have meant."""
    try:
        return media.read(ENVELOPE_FILE, max_bytes=MAX_ENVELOPE)
    except MissingFileError:
        raise not_a_bundle(media, also=also) from None
    except IntegrityError as error:
        raise InputError(
            f"{media.root}: not a bundle: {error.message}",
            remedy=f"name the directory that holds {ENVELOPE_FILE}{also}",
        ) from None
