"""The signatures of an image that travelled with it, into the registry that the image goes to.

What lay under cosign's tag goes under that tag; what names the image as its subject becomes a referrer of it
(OCI distribution-spec v1.1, "Pushing Manifests with Subject"). Nobody else's signature is replaced.
"""

import json
import threading
from dataclasses import dataclass

from airgap.decode import Fields, Json, parse_json
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.image_signatures import (
    MAX_PAYLOAD,
    image_signed,
    referrers_tag,
    signature_layers,
    signature_tag,
)
from airgap.isolated.push_registry import Registry
from airgap.isolated.push_source import BlobReader, Source
from airgap.layout import digest_of
from airgap.model import ContainerArtifact, Sha256
from airgap.oci import (
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageIndex,
    ImageManifest,
    parse_image,
)


@dataclass(frozen=True, slots=True)
class CarriedSignature:
    """A manifest of signatures with its bytes, the image it is about, and its tag; '' for a referrer."""

    image: Sha256
    manifest: Descriptor
    data: bytes
    blobs: tuple[Descriptor, ...]
    tag: str


@dataclass(frozen=True, slots=True)
class PushedSignature:
    """Where a signature is now. `kept_out` says why it is not there."""

    digest: Sha256
    tag: str
    kept_out: str = ""


def carried_signatures(source: Source, artifact: ContainerArtifact) -> tuple[CarriedSignature, ...]:
    """Those that travelled with the image. Raises IntegrityError where they are none."""
    found = artifact.signature
    files = [file for file in artifact.files if found and file.path in found.files]
    return tuple(
        _carried(source, Descriptor(file.media_type or OCI_MANIFEST, file.sha256, file.size))
        for file in files
    )


def _carried(source: Source, top: Descriptor) -> CarriedSignature:
    what = f"signatures sha256:{top.digest}"
    data = source.read(top.digest)
    try:
        manifest = parse_image(data, what, media_type=top.media_type)
        if not isinstance(manifest, ImageManifest):
            raise InputError(f"{what}: expected a manifest")
        layers = signature_layers(manifest, what)
        if manifest.subject:
            image, tag = manifest.subject.digest, ""
        else:
            image = _named(source, layers, what)
            tag = signature_tag(image)
    except InputError as error:
        raise IntegrityError(error.message) from None
    blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
    return CarriedSignature(image, top, data, tuple(blobs.values()), tag)


def _named(source: Source, layers: tuple[Descriptor, ...], what: str) -> Sha256:
    """The image that the first of them is about: without a subject only the signature itself says it."""
    if not layers or layers[0].size > MAX_PAYLOAD:
        raise InputError(f"{what}: expected signatures of at most {MAX_PAYLOAD} bytes")
    with BlobReader(source, layers[0], threading.Event()) as reader:
        data = b"".join(reader.chunks(0, layers[0].size))
    named, _ = image_signed(layers[0], data, what)
    if not named:
        raise InputError(f"{what}: it names no image")
    return Sha256(named[0])


def push_signature(carried: CarriedSignature, registry: Registry) -> PushedSignature:
    """Store the manifest, its blobs being there, and prove it by its bytes.

    Raises SourceError and IntegrityError as the push of an image does.
    """
    if carried.tag:
        return _push_tagged(carried, registry)
    wanted = f"sha256:{carried.manifest.digest}"
    if registry.find_manifest(wanted) != carried.manifest.digest:
        registry.put_manifest(wanted, carried.manifest, carried.data)
    _prove(registry, wanted, carried.manifest.digest)
    if not registry.lists_referrer(carried.image, carried.manifest.digest):
        _list_by_tag(carried, registry)
    return PushedSignature(carried.manifest.digest, "")


def _push_tagged(carried: CarriedSignature, registry: Registry) -> PushedSignature:
    digest = carried.manifest.digest
    before = registry.find_manifest(carried.tag)
    if before not in (None, digest) and not _among(carried, registry.manifest(carried.tag)):
        others = f"{carried.tag} there holds other signatures, sha256:{before}; they were left as they are"
        return PushedSignature(digest, carried.tag, others)
    if before is None:
        registry.put_manifest(carried.tag, carried.manifest, carried.data)
        before = digest
    if before == digest:
        _prove(registry, carried.tag, digest)
    return PushedSignature(digest, carried.tag)


def _among(carried: CarriedSignature, there: bytes) -> bool:
    """Whether a manifest there has all of ours and more: cosign adds what is signed later to the same one."""
    try:
        manifest = parse_image(there, carried.tag)
    except InputError:
        return False
    layers = manifest.layers if isinstance(manifest, ImageManifest) else ()
    ours = parse_image(carried.data, carried.tag)
    assert isinstance(ours, ImageManifest)  # it was planned so
    return {(d.digest, str(d.annotations)) for d in ours.layers} <= {
        (d.digest, str(d.annotations)) for d in layers
    }


def _list_by_tag(carried: CarriedSignature, registry: Registry) -> None:
    """Add it to the index that stands in for the referrers API ("Referrers Tag Schema"), and prove that."""
    tag = referrers_tag(carried.image)
    there = registry.manifest(tag) if registry.find_manifest(tag) else None
    data = _listing(carried, tag, there)
    if data == there:
        return
    registry.put_manifest(tag, Descriptor(OCI_INDEX, digest_of(data), len(data)), data)
    _prove(registry, tag, digest_of(data))


def _listing(carried: CarriedSignature, tag: str, there: bytes | None) -> bytes:
    """The index that is `there` with the signature in it; what it lists already stays as it is."""
    document: dict[str, Json] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    listed: list[Json] = []
    if there is not None:
        try:
            index = parse_image(there, f"the tag {tag}", media_type=OCI_INDEX)
            found = parse_json(there, tag, max_bytes=MAX_MANIFEST, floats=True)
            if not isinstance(index, ImageIndex) or not isinstance(found, dict):
                raise InputError(f"the tag {tag} names no index of referrers")
        except InputError as error:
            raise SourceError(
                f"{error.message}; it was left as it is",
                remedy="ask who put it there: registries without the referrers API need that tag",
            ) from None
        if any(entry.digest == carried.manifest.digest for entry in index.manifests):
            return there
        before = found.get("manifests")
        document, listed = found, before if isinstance(before, list) else []
    document["manifests"] = [*listed, _entry(carried)]
    return json.dumps(document).encode()


def _entry(carried: CarriedSignature) -> dict[str, Json]:
    """The descriptor of a referrer, with the type and annotations of its manifest, as the spec asks."""
    document = Fields(parse_json(carried.data, "a signature", max_bytes=MAX_MANIFEST, floats=True))
    kind = document.text("artifactType", default="") or document.table("config").text("mediaType")
    notes = document.optional_table("annotations")
    annotations: dict[str, Json] = {key: notes.text(key) for key in notes.all_keys()} if notes else {}
    entry: dict[str, Json] = {
        "mediaType": carried.manifest.media_type,
        "digest": f"sha256:{carried.manifest.digest}",
        "size": carried.manifest.size,
        "artifactType": kind,
    }
    return entry | {"annotations": annotations} if annotations else entry


def _prove(registry: Registry, wanted: str, digest: Sha256) -> None:
    found = digest_of(registry.manifest(wanted))
    if found != digest:
        raise IntegrityError(
            f"{wanted} is sha256:{found} in the registry, expected sha256:{digest}",
            remedy="someone pushed there at the same time, or a proxy alters manifests: ask, then push again",
        )
