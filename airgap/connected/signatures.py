"""Who says that they vouch for an image: signatures of it in its repository, carried as they are.

They are looked for under cosign's tag, `sha256-<hex>.sig`, and among what refers to the image (OCI
distribution-spec v1.1, "Listing Referrers"), where notation and newer cosign keep them. What is checked is
that each is about exactly this image; signatures are not judged.
"""

from collections.abc import Iterator
from dataclasses import replace

from airgap.connected.provenance import one_line
from airgap.connected.registry import Registry
from airgap.connected.source import Context
from airgap.connected.transfer import TooLarge
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.image_signatures import (
    MAX_PAYLOAD,
    judge_signature,
    maybe_signature,
    signature_layers,
    signature_tag,
)
from airgap.model import (
    BundlePath,
    ContainerArtifact,
    Finding,
    LockedFile,
    Provenance,
    ProvenanceState,
    Severity,
    Sha256,
)
from airgap.oci import MANIFESTS, Descriptor, Document, ImageManifest, parse_image

MAX_SIGNATURES = 100
"""Of one image, and manifests that may hold one: each is a request."""


def with_signature(artifact: ContainerArtifact, registry: Registry, context: Context) -> ContainerArtifact:
    """The artifact with what its repository has as its signatures, which travel where they are about it.

    Of an index from which one platform travels, both its own and the platform's are taken. A registry that
    cannot be asked makes it UNKNOWN, no error; one that is malformed or about another image makes all FAILED.
    """
    search = _Search(registry, context)
    reason = ""
    try:
        try:
            for digest in dict.fromkeys((artifact.digest, artifact.root)):
                search.tagged(digest)
                search.referring(digest)
        except TooLarge:
            raise
        except SourceError as error:  # it is asked no more: each request would cost all the retries
            reason = one_line(error)
    except (InputError, IntegrityError, TooLarge) as error:
        return replace(artifact, signature=Provenance(ProvenanceState.FAILED, reason=one_line(error)))
    if not search.manifests:
        state = ProvenanceState.UNKNOWN if reason else ProvenanceState.ABSENT
        return replace(artifact, signature=Provenance(state, reason=reason))
    found = Provenance(ProvenanceState.PRESENT, tuple(search.publishers), reason, tuple(search.manifests))
    known = {file.sha256 for file in artifact.files}
    more = tuple(file for digest, file in search.files.items() if digest not in known)
    return replace(artifact, files=artifact.files + more, signature=found)


class _Search:
    """What was found so far: `manifests` by their paths, and `files`, they and their blobs."""

    def __init__(self, registry: Registry, context: Context) -> None:
        self._registry = registry
        self._context = context
        self._left = MAX_SIGNATURES
        self.files: dict[Sha256, LockedFile] = {}
        self.manifests: dict[BundlePath, None] = {}
        self.publishers: dict[str, None] = {}

    def tagged(self, image: Sha256) -> None:
        """Raises SourceError, IntegrityError, or InputError where it is no signature of this image."""
        document = self._registry.tagged(signature_tag(image))
        if document and not self._take(document, image):
            raise InputError(f"signatures of sha256:{image}: expected a manifest of them under cosign's tag")

    def referring(self, image: Sha256) -> None:
        """What refers to the image and is a signature; the rest is left aside. Raises as `tagged`."""
        for referrer in self._registry.referrers(image):
            if referrer.media_type in MANIFESTS and maybe_signature(referrer):
                self._count(image)
                self._take(Document(self._registry.document(referrer), referrer.media_type), image)

    def _count(self, image: Sha256) -> None:
        self._left -= 1
        if self._left < 0:
            raise InputError(f"signatures of sha256:{image}: more than {MAX_SIGNATURES}")

    def _take(self, document: Document, image: Sha256) -> bool:
        """Whether the manifest holds signatures, which are then taken with all that it names."""
        what = f"signatures of sha256:{image}"
        manifest = parse_image(document.data, what, media_type=document.media_type)
        layers = signature_layers(manifest, what) if isinstance(manifest, ImageManifest) else ()
        if not isinstance(manifest, ImageManifest) or not layers:
            return False
        if manifest.subject and manifest.subject.digest != image:
            raise InputError(f"{what}: expected sha256:{image} as subject, found {manifest.subject.digest}")
        blobs = [(manifest.config, self._fetch(manifest.config, "the config of a signature"))]
        publishers: list[str] = []
        for layer in layers:
            self._count(image)
            data = self._fetch(layer, "a signature")
            claimed = judge_signature(layer, data, image, what)
            if claimed is None:
                return False
            blobs.append((layer, data))
            publishers += claimed
        self._keep(Descriptor(manifest.media_type, document.digest, len(document.data)), document.data)
        for blob, data in blobs:
            self._keep(blob, data)
        self.manifests[self.files[document.digest].path] = None
        self.publishers |= dict.fromkeys(publishers)
        return True

    def _fetch(self, blob: Descriptor, part: str) -> bytes:
        data = self._registry.blob(blob, part, MAX_PAYLOAD)
        if len(data) != blob.size:
            raise InputError(f"{part} has {len(data)} bytes, its manifest says {blob.size}")
        return data

    def _keep(self, blob: Descriptor, data: bytes) -> None:
        self._context.store.add_bytes(data)
        manifest = blob.media_type in MANIFESTS
        origin = self._registry.document_origin(blob.digest) if manifest else self._registry.blob_origin(blob)
        path = BundlePath(f"blobs/sha256/{blob.digest}")
        self.files.setdefault(blob.digest, LockedFile(path, blob.size, blob.digest, origin, blob.media_type))


def judge(artifact: ContainerArtifact) -> Iterator[Finding]:
    """What a person should know about the signatures of an image; the same at every lock."""
    found = artifact.signature
    if found and found.state is ProvenanceState.FAILED:
        yield Finding(
            "signature-failed",
            Severity.WARNING,
            artifact.name,
            f"what its repository has as its signature is not carried: {found.reason}",
            f"sha256:{artifact.digest}",
            "ask whoever pushed the image; what travels is what the registry has under this digest",
        )
    elif found and found.reason:
        present = found.state is ProvenanceState.PRESENT
        yield Finding(
            "signature-unknown",
            Severity.WARNING,
            artifact.name,
            f"{'not all of its signatures travel' if present else 'whether it is signed is not known'}:"
            f" {found.reason}",
            f"sha256:{artifact.digest}",
            f"airgap lock … --upgrade {artifact.name} asks again",
        )
