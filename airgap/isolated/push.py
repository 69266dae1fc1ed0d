"""`airgap push`: an artifact into a registry, byte for byte, its digest proven there afterwards.

A container keeps its own manifests; a model is a ModelPack artifact, wheels and files are OCI artifacts:
all of them are documents and blobs that were signed, and are pushed alike.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airgap.errors import InputError, IntegrityError, SourceError
from airgap.isolated.push_http import Client
from airgap.isolated.push_registry import Registry
from airgap.isolated.push_signatures import (
    CarriedSignature,
    PushedSignature,
    carried_signatures,
    push_signature,
)
from airgap.isolated.push_source import BlobReader, Source, find_artifact
from airgap.layout import digest_of
from airgap.model import ContainerArtifact, Platform, Sha256
from airgap.oci import Descriptor, ImageIndex, Reference, parse_image, same_platform
from airgap.progress import Progress
from airgap.workers import spread

JOBS = 3
"""Uploads at once: while the registry commits one blob, others use the network."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be in the registry: manifests with their bytes, children first and the root last; blobs."""

    documents: tuple[tuple[Descriptor, bytes], ...]
    blobs: tuple[Descriptor, ...]
    """Of the signatures too."""
    signatures: tuple[CarriedSignature, ...] = ()
    left: tuple[CarriedSignature, ...] = ()
    """Signatures of an index of which only one image is to be there."""

    @property
    def root(self) -> Descriptor:
        return self.documents[-1][0]


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did; sizes in bytes. `replaced` is what the tag named before, if something else."""

    reference: Reference
    digest: Sha256
    sent: int
    sent_bytes: int
    present: int
    mounted: int
    replaced: Sha256 | None
    signatures: tuple[PushedSignature, ...] = ()


def parse_destination(text: str) -> Reference:
    """`registry/repository:tag`, all three written out. Raises InputError.

    Docker's defaults are no help here: `team/app` would be pushed to Docker Hub, and `latest` overwritten.
    """
    reference = Reference.parse(text)
    if str(reference) != text or reference.digest:
        raise InputError(
            f"expected REGISTRY/repository:tag, found {text[:200]!r}",
            remedy="write the registry's host (with its port), the repository and a tag, and no digest",
        )
    return reference


def plan_parcel(source: Source, name: str, platform: str | None = None, *, signatures: bool = True) -> Parcel:
    """Everything below artifact `name`, or below its image for one `platform`, and the signatures of that.

    Reads documents, and of signatures what says which image they are about.

    Raises InputError when there is no such artifact or platform, or when some of an index did not
    travel, which registries refuse; IntegrityError when a document is damaged.
    """
    bundled = find_artifact(source, name)
    top = Descriptor(bundled.media_type, bundled.digest, bundled.size)
    if platform is not None:
        top = _child(source, top, Platform.parse(platform), name)
    documents: dict[Sha256, tuple[Descriptor, bytes]] = {}
    blobs: dict[Sha256, Descriptor] = {}
    absent: list[Descriptor] = []
    _gather(source, top, documents, blobs, absent)
    if absent:
        names = ", ".join(str(d.platform) if d.names_platform else f"sha256:{d.digest}" for d in absent)
        raise InputError(
            f"{name}: its index sha256:{top.digest} names parts that did not travel: {names};"
            " registries refuse an index that is not whole",
            remedy='push one image of it with --platform, or lock the container with platforms = ["all"]',
        )
    artifact = bundled.artifact
    image = artifact if signatures and isinstance(artifact, ContainerArtifact) else None
    found = carried_signatures(source, image) if image else ()
    ours = tuple(one for one in found if one.image in documents)
    blobs = {blob.digest: blob for one in ours for blob in one.blobs} | blobs
    left = tuple(one for one in found if one.image not in documents)
    return Parcel(tuple(documents.values()), tuple(blobs.values()), ours, left)


def push(
    source: Source,
    parcel: Parcel,
    reference: Reference,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    plain_http: bool = False,
    mount_from: str = "",
    retries: int = 5,
    first_wait: float = 0.5,
) -> Pushed:
    """Send what the registry lacks, then ask it what the tag names and compare.

    Raises SourceError when the registry fails or refuses, IntegrityError when a blob here is damaged or
    the registry ends up with other bytes, HostError for this host's part.
    """
    client = Client(environ)
    try:
        registry = Registry(
            *(reference, client, environ),
            plain_http=plain_http,
            note=progress.note,
            mount_from=mount_from,
            retries=retries,
            first_wait=first_wait,
        )
        before = registry.find_manifest(reference.tag)
        outcome = _push_blobs(source, parcel, registry, progress)
        changed = _push_documents(parcel, registry, before)
        _prove(parcel, registry, unchanged=before if not changed and "sent" not in outcome.values() else None)
        signatures = [*_push_signatures(parcel, registry)]
    finally:
        client.close()
    sent = [blob for blob in parcel.blobs if outcome[blob.digest] == "sent"]
    return Pushed(
        reference,
        parcel.root.digest,
        len(sent),
        sum(blob.size for blob in sent),
        sum(found == "present" for found in outcome.values()),
        sum(found == "mounted" for found in outcome.values()),
        before if before != parcel.root.digest else None,
        tuple(signatures),
    )


def _child(source: Source, top: Descriptor, platform: Platform, name: str) -> Descriptor:
    image = parse_image(source.read(top.digest), f"sha256:{top.digest}", media_type=top.media_type)
    entries = image.manifests if isinstance(image, ImageIndex) else ()
    there = [entry for entry in entries if entry.names_platform and source.holds(entry.digest)]
    for entry in there:
        if entry.platform and same_platform(entry.platform, platform):
            return entry
    names = ", ".join(str(entry.platform) for entry in there)
    raise InputError(
        f"{name}: no image for {platform} in it; found {names or 'a single image, which needs no --platform'}"
    )


def _gather(
    source: Source,
    top: Descriptor,
    documents: dict[Sha256, tuple[Descriptor, bytes]],
    blobs: dict[Sha256, Descriptor],
    absent: list[Descriptor],
) -> None:
    """Note `top` and all below it, children before parents."""
    data = source.read(top.digest)
    image = parse_image(data, f"sha256:{top.digest}", media_type=top.media_type)
    if isinstance(image, ImageIndex):
        for entry in image.manifests:
            if not source.holds(entry.digest):
                absent.append(entry)
            elif entry.digest not in documents:
                _gather(source, entry, documents, blobs, absent)
    else:
        # A foreign layer that has its own URL need not be in a registry (image-spec, descriptor.md).
        held = [b for b in (image.config, *image.layers) if not b.urls or source.holds(b.digest)]
        absent.extend(blob for blob in held if not source.holds(blob.digest))
        blobs.update((blob.digest, blob) for blob in held)
    documents[top.digest] = (top, data)


def _push_blobs(
    source: Source, parcel: Parcel, registry: Registry, progress: Progress
) -> Mapping[Sha256, str]:
    """What became of each blob: `present`, `mounted` or `sent`."""

    def bring(blob: Descriptor, stop: threading.Event) -> str:
        if registry.has_blob(blob.digest):
            progress.advance(blob.size)
            return "present"
        there = 0

        def report(position: int) -> None:
            nonlocal there
            progress.advance(position - there)
            there = position

        with BlobReader(source, blob, stop) as reader:
            sent = registry.upload(blob, reader, report, stop)
        report(blob.size)
        return "sent" if sent else "mounted"

    largest_first = sorted(parcel.blobs, key=lambda blob: (-blob.size, blob.digest))
    label = f"pushing to {registry.reference.registry}"
    with progress.task(label, sum(blob.size for blob in largest_first)):
        found = spread(bring, largest_first, JOBS)
    return {blob.digest: outcome for blob, outcome in zip(largest_first, found, strict=True)}


def _push_documents(parcel: Parcel, registry: Registry, before: Sha256 | None) -> bool:
    """Children under their digests, then the root under the tag. Whether anything had to be sent."""
    changed = False
    for descriptor, data in parcel.documents[:-1]:
        wanted = f"sha256:{descriptor.digest}"
        if registry.find_manifest(wanted) != descriptor.digest:
            registry.put_manifest(wanted, descriptor, data)
            changed = True
    if before != parcel.root.digest:
        registry.put_manifest(registry.reference.tag, *parcel.documents[-1])
        changed = True
    return changed


def _push_signatures(parcel: Parcel, registry: Registry) -> Iterator[PushedSignature]:
    """After the image, which is there and proven whatever becomes of them."""
    for carried in parcel.signatures:
        try:
            yield push_signature(carried, registry)
        except SourceError as error:
            raise SourceError(
                f"{registry.reference} is there as it was signed, not all its signatures: {error.message}",
                remedy="airgap push … --without-signatures leaves them out",
            ) from error
    for carried in parcel.left:
        index = f"they are of the index sha256:{carried.image}, which is not there"
        yield PushedSignature(carried.manifest.digest, carried.tag, index)


def _prove(parcel: Parcel, registry: Registry, *, unchanged: Sha256 | None) -> None:
    """Hash what the tag names now; where nothing was sent, the registry's word of a moment ago is enough."""
    if unchanged == parcel.root.digest:
        return
    found = digest_of(registry.manifest(registry.reference.tag))
    if found != parcel.root.digest:
        raise IntegrityError(
            f"{registry.reference} is sha256:{found} in the registry, expected sha256:{parcel.root.digest}",
            remedy="someone pushed there at the same time, or a proxy alters manifests: ask, then push again",
        )
