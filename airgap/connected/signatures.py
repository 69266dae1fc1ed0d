"""Who says that they vouch for an image: cosign's signatures of it in its repository, carried as they are.

Source: cosign's specs/SIGNATURE_SPEC.md: under the tag `sha256-<hex>.sig` lies a manifest each layer of
which is a payload that names the image's digest ("simple signing"), with its signature in an annotation.
What is checked is that each is about exactly this image; signatures are not judged. Those kept by the
referrers API (OCI 1.1) alone are not looked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cryptography import x509

from airgap.connected.registry import Registry
from airgap.connected.source import Context
from airgap.connected.transfer import TooLarge
from airgap.decode import Fields, parse_json
from airgap.errors import InputError, IntegrityError, SourceError
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
from airgap.oci import Descriptor, Document, ImageManifest, parse_image

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
MAX_PAYLOAD = 1024 * 1024
"""Bytes of what one signature signs, and of the config; cosign's own are below 1 KB."""
MAX_SIGNATURES = 100
"""Of one image: each is a request."""
MAX_IDENTITIES = 5
"""Of one certificate; Fulcio writes one."""
_UNREADABLE = (
    ValueError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def with_signature(artifact: ContainerArtifact, registry: Registry, context: Context) -> ContainerArtifact:
    """The artifact with what its repository has as its signatures, which travel where they are about it.

    Of an index from which one platform travels, its own signature is taken before the platform's. A
    registry that cannot be asked makes it UNKNOWN, no error.
    """
    for digest in dict.fromkeys((artifact.digest, artifact.root)):
        try:
            document = registry.tagged(f"sha256-{digest}.sig")
            if document is None:
                continue
            files, publishers = _read(document, digest, registry, context)
            _require_same_sizes(artifact.files, files)
        except (InputError, IntegrityError, TooLarge) as error:
            return replace(artifact, signature=_without(ProvenanceState.FAILED, error))
        except SourceError as error:
            return replace(artifact, signature=_without(ProvenanceState.UNKNOWN, error))
        found = Provenance(ProvenanceState.PRESENT, publishers, file=files[0].path)
        known = {file.sha256 for file in artifact.files}
        more = tuple(file for file in files if file.sha256 not in known)
        return replace(artifact, files=artifact.files + more, signature=found)
    return replace(artifact, signature=Provenance(ProvenanceState.ABSENT))


def _require_same_sizes(image: Sequence[LockedFile], signature: Sequence[LockedFile]) -> None:
    """Raises InputError where one digest would be locked with two sizes."""
    sizes = {file.sha256: file.size for file in image}
    for file in signature:
        if sizes.get(file.sha256, file.size) != file.size:
            raise InputError(
                f"sha256:{file.sha256} has {sizes[file.sha256]} bytes in the image, here {file.size}"
            )


def _without(state: ProvenanceState, error: InputError | IntegrityError | SourceError) -> Provenance:
    return Provenance(state, reason=" ".join(error.message.split())[:500])


def _read(
    document: Document, image: Sha256, registry: Registry, context: Context
) -> tuple[list[LockedFile], tuple[str, ...]]:
    """The blobs of a manifest of signatures, itself the first, and who signed as they claim."""
    what = f"signatures of sha256:{image}"
    manifest = parse_image(document.data, what, media_type=document.media_type)
    if not isinstance(manifest, ImageManifest) or not 0 < len(manifest.layers) <= MAX_SIGNATURES:
        raise InputError(f"{what}: expected a manifest of 1 to {MAX_SIGNATURES} signatures")
    _fetch(manifest.config, "the config of a signature", registry, context)
    publishers: list[str] = []
    for layer in manifest.layers:
        if layer.media_type != PAYLOAD or not layer.annotations.get(SIGNATURE):
            raise InputError(f"{what}: expected layers of {PAYLOAD} with a signature")
        judge_payload(_fetch(layer, "a signature", registry, context), image, what)
        publishers += _identities(layer.annotations.get(CERTIFICATE, ""), what)
    context.store.add_bytes(document.data)
    blobs = {d.digest: d for d in (manifest.config, *manifest.layers)}.values()
    return [
        _file(Descriptor(manifest.media_type, document.digest, len(document.data)), registry, manifest=True),
        *(_file(blob, registry) for blob in blobs),
    ], tuple(dict.fromkeys(publishers))


def _fetch(blob: Descriptor, part: str, registry: Registry, context: Context) -> bytes:
    data = registry.blob(blob, part, MAX_PAYLOAD)
    if len(data) != blob.size:
        raise InputError(f"{part} has {len(data)} bytes, its manifest says {blob.size}")
    context.store.add_bytes(data)
    return data


def _file(blob: Descriptor, registry: Registry, *, manifest: bool = False) -> LockedFile:
    path = BundlePath(f"blobs/sha256/{blob.digest}")
    origin = registry.document_origin(blob.digest) if manifest else registry.blob_origin(blob)
    return LockedFile(path, blob.size, blob.digest, origin, blob.media_type)


def judge_payload(data: bytes, image: Sha256, what: str) -> None:
    """Raises InputError unless the payload names the image by its digest."""
    fields = Fields(parse_json(data, what, max_bytes=MAX_PAYLOAD, floats=True))
    named = fields.table("critical").table("image").text("docker-manifest-digest")
    if named != f"sha256:{image}":
        fields.problem("critical.image", f"expected sha256:{image}, found {named[:100] or 'none'}")
    fields.raise_if_bad(what)


def _identities(certificate: str, what: str) -> list[str]:
    """The e-mail addresses and URIs in a signer's certificate (Fulcio's), which nobody judged."""
    if not certificate:
        return []
    try:
        extension = x509.load_pem_x509_certificate(certificate.encode()).extensions
        names = extension.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [
            *names.get_values_for_type(x509.RFC822Name),
            *names.get_values_for_type(x509.UniformResourceIdentifier),
        ]
    except _UNREADABLE as error:
        raise InputError(f"{what}: a certificate that cannot be read: {str(error)[:100]}") from None
    return [name[:200] for name in found[:MAX_IDENTITIES] if name.isprintable()]


def judge_signature(artifact: ContainerArtifact) -> Iterator[Finding]:
    """What a person should know about the signature of an image; the same at every lock."""
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
    elif found and found.state is ProvenanceState.UNKNOWN:
        yield Finding(
            "signature-unknown",
            Severity.WARNING,
            artifact.name,
            f"whether it is signed is not known: {found.reason}",
            f"sha256:{artifact.digest}",
            f"airgap lock … --upgrade {artifact.name} asks again",
        )
