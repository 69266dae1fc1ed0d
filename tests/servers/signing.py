"""Signatures of images in the shapes that cosign and notation give them, put into a registry by its API.

They have the shape, and no signature that could be verified: airgap judges none.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airgap.image_signatures import (
    CERTIFICATE,
    COSE,
    COSIGN_SIGN,
    JWS,
    NOTATION,
    SIGNATURE,
    SIGSTORE_BUNDLE,
    SIMPLE_SIGNING,
)
from tests.servers.registry import RunningRegistry

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
BUNDLE = f"{SIGSTORE_BUNDLE}.v0.3+json"
COSIGN_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNER = "release@example.org"


def payload(image: str) -> bytes:
    """What cosign's simple signing signs."""
    critical = {
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": f"sha256:{image}"},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": critical, "optional": None}).encode()


def bundle(image: str, predicate: str = COSIGN_SIGN) -> bytes:
    """A Sigstore bundle v0.3 with a signed statement about the image."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "", "digest": {"sha256": image}}],
        "predicateType": predicate,
        "predicate": {},
    }
    envelope = {
        "payload": _base64(json.dumps(statement).encode()),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": _base64(b"signature")}],
    }
    material = {"certificate": {"rawBytes": _base64(certificate())}, "tlogEntries": []}
    document = {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps(document).encode()


def jws(image: str) -> bytes:
    """notation's envelope in JSON."""
    signed = {"targetArtifact": {"mediaType": OCI_MANIFEST, "digest": f"sha256:{image}", "size": 1}}
    return json.dumps(
        {
            "payload": _base64url(json.dumps(signed).encode()),
            "protected": _base64url(b"{}"),
            "header": {"x5c": [_base64(certificate())]},
            "signature": _base64url(b"signature"),
        }
    ).encode()


def cose(image: str) -> bytes:
    """notation's envelope in CBOR: a COSE_Sign1 whose payload is the same JSON."""
    signed = b'{"targetArtifact":{"mediaType":"%s","digest":"sha256:%s","size":1}}' % (
        OCI_MANIFEST.encode(),
        image.encode(),
    )
    return b"\xd2\x84\x43\xa1\x01\x26\xa0\x59" + len(signed).to_bytes(2, "big") + signed + b"\x49signature"


MAKERS: Mapping[str, Callable[[str], bytes]] = {
    SIMPLE_SIGNING: payload,
    BUNDLE: bundle,
    JWS: jws,
    COSE: cose,
}
ARTIFACT_TYPES = {SIMPLE_SIGNING: COSIGN_ARTIFACT, BUNDLE: BUNDLE, JWS: NOTATION, COSE: NOTATION}


@cache
def certificate() -> bytes:
    """A signer's certificate as Fulcio makes them, DER: who it is stands in the alternative name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example signer")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.RFC822Name(SIGNER)])
    return (
        builder.add_extension(names, critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def push_referrer(
    registry: RunningRegistry,
    repository: str,
    image: tuple[str, int],
    kind: str,
    *,
    about: str = "",
    data: bytes = b"",
    artifact_type: str = "",
    stated_size: int = 0,
) -> dict[str, object]:
    """Push a manifest whose subject is the image of this sha256 and size; its descriptor as a referrer."""
    digest, size = image
    data = data or MAKERS[kind](about or digest)
    layer = push_blob(registry, repository, data, kind)
    if stated_size:
        layer["size"] = stated_size
    if kind == SIMPLE_SIGNING:
        layer["annotations"] = {SIGNATURE: _base64(b"signature"), CERTIFICATE: certificate_pem()}
    named = artifact_type or ARTIFACT_TYPES[kind]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": named,
        "config": push_blob(registry, repository, b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [layer],
        "subject": {"mediaType": OCI_MANIFEST, "digest": f"sha256:{digest}", "size": size},
        "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
    }
    return put_manifest(registry, repository, document, OCI_MANIFEST) | {"artifactType": named}


def certificate_pem() -> str:
    return x509.load_der_x509_certificate(certificate()).public_bytes(serialization.Encoding.PEM).decode()


def push_index(
    registry: RunningRegistry, repository: str, tag: str, entries: list[dict[str, object]]
) -> None:
    """What a client of a registry without the referrers API keeps under the tag that stands in for it."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    put_manifest(registry, repository, document, OCI_INDEX, tag)


def put_manifest(
    registry: RunningRegistry,
    repository: str,
    document: Mapping[str, object],
    media_type: str,
    tag: str = "",
) -> dict[str, object]:
    data = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    where = f"http://{registry.host}/v2/{repository}/manifests/{tag or digest}"
    requests.put(where, data=data, headers={"Content-Type": media_type}, timeout=10).raise_for_status()
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def push_signature(registry: RunningRegistry, repository: str, image: str, *, about: str = "") -> str:
    """Push what lies under cosign's tag for the image of this sha256; its digest.

    `about` makes it one of another image.
    """
    layer = push_blob(registry, repository, payload(about or image), SIMPLE_SIGNING)
    layer["annotations"] = {SIGNATURE: _base64(b"signature")}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": push_blob(registry, repository, b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": [layer],
    }
    stored = put_manifest(registry, repository, document, OCI_MANIFEST, f"sha256-{image}.sig")
    return str(stored["digest"]).removeprefix("sha256:")


def push_blob(registry: RunningRegistry, repository: str, data: bytes, media_type: str) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    begun = requests.post(f"http://{registry.host}/v2/{repository}/blobs/uploads/", timeout=10)
    begun.raise_for_status()
    where = f"{begun.headers['Location']}&digest={digest}"
    requests.put(where, data=data, timeout=10).raise_for_status()
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
