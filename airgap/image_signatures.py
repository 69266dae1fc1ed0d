"""Signatures of an image as registries keep them: by whom, and that each is about exactly one image. Pure.

Sources: cosign's SIGNATURE_SPEC.md ("simple signing": layers with the signature in an annotation) and
BUNDLE_SPEC.md (Sigstore bundles that hold a DSSE envelope); the Notary Project's signature specification (JWS
and COSE envelopes); OCI image-spec v1.1, manifest.md, for `subject` and `artifactType`.
What is checked is the form and the image that is named; signatures are not judged.
"""

import re
from base64 import urlsafe_b64decode

from cryptography import x509

from airgap.decode import Fields, parse_base64, parse_json
from airgap.errors import InputError
from airgap.model import Sha256
from airgap.oci import Descriptor, ImageManifest, without_nulls

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle"
"""Begins its media types: `.v0.3+json`, and `+json;version=0.1` of old."""
PREDICATE = "dev.sigstore.bundle.predicateType"
COSIGN_SIGN = "https://sigstore.dev/cosign/sign/v1"
"""The predicate of a bundle that is a signature; others are attestations."""
NOTATION = "application/vnd.cncf.notary.signature"
JWS, COSE = "application/jose+json", "application/cose"
_COSIGN_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
_STATEMENT = "application/vnd.in-toto+json"

MAX_PAYLOAD = 1024 * 1024
"""Bytes of one signature, and of the config of its manifest; all of them are some KB."""
MAX_IDENTITIES = 5
"""Of one certificate; Fulcio writes one."""
_UNREADABLE = (
    ValueError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def signature_tag(image: Sha256) -> str:
    """The tag under which cosign keeps signatures of the image of this sha256."""
    return f"sha256-{image}.sig"


def referrers_tag(image: Sha256) -> str:
    """The tag of what refers to it where a registry has no referrers API (distribution-spec v1.1)."""
    return f"sha256-{image}"


def maybe_signature(referrer: Descriptor) -> bool:
    """Whether a referrer calls itself a signature; one that says nothing has to be looked at."""
    kind = referrer.artifact_type
    if kind.startswith(SIGSTORE_BUNDLE):
        return referrer.annotations.get(PREDICATE, COSIGN_SIGN) == COSIGN_SIGN
    return kind in ("", _COSIGN_ARTIFACT, NOTATION)


def signature_layers(manifest: ImageManifest, what: str) -> tuple[Descriptor, ...]:
    """The layers of a manifest of signatures; none where it is none. Raises InputError where mixed."""
    kinds = (SIMPLE_SIGNING, JWS, COSE)
    found = [d for d in manifest.layers if d.media_type in kinds or d.media_type.startswith(SIGSTORE_BUNDLE)]
    if found and len(found) != len(manifest.layers):
        raise InputError(f"{what}: signatures and other layers in one manifest")
    return tuple(found)


def judge_signature(layer: Descriptor, data: bytes, image: Sha256, what: str) -> tuple[str, ...] | None:
    """Who made it, as they claim; None for an attestation. Raises InputError unless it is about the image."""
    named, publishers = image_signed(layer, data, what)
    if named is None:
        return None
    if image not in named:
        raise InputError(
            f"{what}: expected one about sha256:{image}, found sha256:{', sha256:'.join(named[:3])}"
        )
    return publishers


def image_signed(layer: Descriptor, data: bytes, what: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The sha256 that one signature names, and who made it, as they claim. Raises InputError.

    None instead of a sha256 for a bundle that is an attestation.
    """
    if layer.media_type == SIMPLE_SIGNING:
        if not layer.annotations.get(SIGNATURE):
            raise InputError(f"{what}: a layer without a signature in its annotations")
        pem = layer.annotations.get(CERTIFICATE, "")
        return (_simple_signing(data, what),), _identities(pem.encode(), what) if pem else ()
    if layer.media_type.startswith(SIGSTORE_BUNDLE):
        return _bundle(data, what)
    return _notation(layer.media_type, data, what)


def _document(data: bytes, what: str) -> Fields:
    fields = Fields(without_nulls(parse_json(data, what, max_bytes=MAX_PAYLOAD, floats=True)))
    fields.raise_if_bad(what)
    return fields


def _simple_signing(data: bytes, what: str) -> str:
    fields = _document(data, what)
    named = fields.table("critical").table("image").text("docker-manifest-digest")
    digest = _hex(named)
    if not digest:
        fields.problem("critical.image", f"expected the digest of an image, found {named[:100] or 'none'}")
    fields.raise_if_bad(what)
    return digest


def _bundle(data: bytes, what: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    fields = _document(data, what)
    material = fields.table("verificationMaterial")
    envelope = fields.table("dsseEnvelope")
    if envelope.text("payloadType") != _STATEMENT:
        envelope.problem("payloadType", f"expected {_STATEMENT}")
    if not [True for signature in envelope.tables("signatures") if signature.text("sig")]:
        envelope.problem("signatures", "expected one, found none")
    payload = envelope.text("payload")
    fields.raise_if_bad(what)
    statement = _document(parse_base64(payload, f"{what}: payload"), f"{what}: statement")
    predicate = statement.text("predicateType")
    named = [_hex(f"sha256:{one.table('digest').text('sha256')}") for one in statement.tables("subject")]
    if not named or not all(named):
        statement.problem("subject", "expected the sha256 of an image")
    statement.raise_if_bad(f"{what}: statement")
    if predicate != COSIGN_SIGN:
        return None, ()
    certificate = _certificate(material)
    fields.raise_if_bad(what)
    return tuple(named), _identities(certificate, what) if certificate else ()


def _certificate(material: Fields) -> bytes:
    """That of the signer, DER: alone since v0.3, before the first of a chain; b'' where a key has signed."""
    chain = material.optional_table("x509CertificateChain")
    alone = material.optional_table("certificate")
    if alone is None and chain is not None:
        alone = next(iter(chain.tables("certificates")), None)
    return alone.parsed("rawBytes", lambda text: parse_base64(text, "a certificate"), b"") if alone else b""


def _notation(media_type: str, data: bytes, what: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if media_type == COSE:  # CBOR around the same JSON: what it names stands in it as it is
        match = re.search(rb'"targetArtifact"\s*:\s*\{[^{}]*"digest"\s*:\s*"sha256:([0-9a-f]{64})"', data)
        if match is None:
            raise InputError(f"{what}: expected a COSE envelope that names the digest of an image")
        return (match[1].decode(),), ()
    fields = _document(data, what)
    fields.text("signature")
    payload = fields.text("payload")
    chain = fields.table("header").texts("x5c")
    fields.raise_if_bad(what)
    signed = _document(_base64url(payload, what), f"{what}: payload")
    named = signed.table("targetArtifact").text("digest")
    if not _hex(named):
        signed.problem("targetArtifact.digest", f"expected the digest of an image, found {named[:100]}")
    signed.raise_if_bad(f"{what}: payload")
    subject = _load(parse_base64(chain[0], f"{what}: certificate"), what).subject if chain else None
    return (_hex(named),), _printable([subject.rfc4514_string()] if subject else [])


def _hex(digest: str) -> str:
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", digest)
    return match[1] if match else ""


def _base64url(text: str, what: str) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9_-]*={0,2}", text):
        raise InputError(f"{what}: payload: expected base64url")
    try:
        return urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except ValueError:
        raise InputError(f"{what}: payload: expected base64url") from None


def _identities(certificate: bytes, what: str) -> tuple[str, ...]:
    """The e-mail addresses and URIs in a signer's certificate (Fulcio's), which nobody judged."""
    try:
        extension = _load(certificate, what).extensions
        names = extension.get_extension_for_class(x509.SubjectAlternativeName).value
        return _printable(
            [
                *names.get_values_for_type(x509.RFC822Name),
                *names.get_values_for_type(x509.UniformResourceIdentifier),
            ]
        )
    except _UNREADABLE as error:
        raise InputError(f"{what}: a certificate that cannot be read: {str(error)[:100]}") from None


def _load(certificate: bytes, what: str) -> x509.Certificate:
    pem = certificate.lstrip().startswith(b"-----BEGIN")
    try:
        return (x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate)(certificate)
    except _UNREADABLE as error:
        raise InputError(f"{what}: a certificate that cannot be read: {str(error)[:100]}") from None


def _printable(names: list[str]) -> tuple[str, ...]:
    return tuple(name[:200] for name in names[:MAX_IDENTITIES] if name.isprintable())
