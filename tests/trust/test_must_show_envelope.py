"""Every way of forging the envelope of a real bundle, before a real site. Named after the promises."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airgap.decode import canonical_json
from airgap.trust import envelope, keys
from airgap.trust.root import PAYLOAD_TYPE as ROOT_TYPE
from airgap.trust.root import render as render_root
from airgap.trust.statement import PAYLOAD_TYPE
from tests import bundles

from .refusals import Capture, accepted, notes, refused

Forgery = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return notes(tmp_path_factory.mktemp("envelope") / "bundle")


@pytest.fixture
def bundle(master: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(master, tmp_path / "bundle"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return bundles.pin(tmp_path / "site")


def forge(bundle: Path, change: Forgery) -> Path:
    """Change the envelope as an attacker would who holds no key, `verify/` with it."""
    document = json.loads((bundle / "bundle.dsse.json").read_bytes())
    change(document)
    return write(bundle, canonical_json(document))


def write(bundle: Path, data: bytes) -> Path:
    (bundle / "bundle.dsse.json").write_bytes(data)
    return bundle


def secret(name: str) -> keys.HolderSecret:
    return next(s for s in bundles.trust().holders if s.holder.name == name)


def of(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda signature: signature["keyid"] in secret(name).holder.keyids


def payload(bundle: Path) -> bytes:
    return envelope.parse((bundle / "bundle.dsse.json").read_bytes()).payload


def test_the_untouched_bundle_is_accepted(bundle: Path, site: Path, capsys: Capture) -> None:
    assert "signed by alice, bob; not signed by carol, not needed" in accepted(bundle, site, capsys)


def test_no_signatures(bundle: Path, site: Path, capsys: Capture) -> None:
    said = refused(forge(bundle, lambda d: d.update(signatures=[])), site, capsys)
    assert "0 of 2 required signed: nobody; missing: alice, bob, carol" in said


def test_too_few_signatures(bundle: Path, site: Path, capsys: Capture) -> None:
    def strip(document: dict[str, Any]) -> None:
        document["signatures"] = [s for s in document["signatures"] if of("alice")(s)]

    assert "1 of 2 required signed: alice" in refused(forge(bundle, strip), site, capsys)


def test_same_signature_twice(bundle: Path, site: Path, capsys: Capture) -> None:
    def double(document: dict[str, Any]) -> None:
        document["signatures"] = [s for s in document["signatures"] if of("alice")(s)] * 2

    assert "1 of 2" in refused(forge(bundle, double), site, capsys)


def test_one_key_under_two_ids(bundle: Path, site: Path, capsys: Capture) -> None:
    bob = dict(zip(secret("alice").holder.keyids, secret("bob").holder.keyids, strict=True))

    def relabel(document: dict[str, Any]) -> None:
        mine = [s for s in document["signatures"] if of("alice")(s)]
        document["signatures"] = [*mine, *({**s, "keyid": bob[s["keyid"]]} for s in mine)]

    assert "1 of 2 required signed: alice" in refused(forge(bundle, relabel), site, capsys)


def test_two_keys_of_one_holder(bundle: Path, site: Path, capsys: Capture) -> None:
    """One P-384 signature and one ML-DSA signature, of alice alone, are one holder and not two."""
    twice = [s for _ in range(2) for s in envelope.sign(payload(bundle), PAYLOAD_TYPE, secret("alice"))]
    assert "1 of 2" in refused(
        write(bundle, envelope.render(payload(bundle), PAYLOAD_TYPE, twice)), site, capsys
    )


@pytest.mark.parametrize("algorithm", [0, 1], ids=["P-384", "ML-DSA-87"])
def test_either_algorithm_stripped(bundle: Path, site: Path, capsys: Capture, algorithm: int) -> None:
    gone = secret("bob").holder.keyids[algorithm]

    def strip(document: dict[str, Any]) -> None:
        document["signatures"] = [s for s in document["signatures"] if s["keyid"] != gone]

    assert "with only one of two signatures: bob" in refused(forge(bundle, strip), site, capsys)


FOREIGN: dict[str, Any] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA": rsa.generate_private_key(65537, 2048),
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_key_of_another_algorithm_in_a_root(
    bundle: Path, site: Path, capsys: Capture, tmp_path: Path, kind: str
) -> None:
    """Even when every holder signs a root with such a key, no site takes it, nor any bundle under it."""
    document = json.loads(render_root(bundles.next_trust(bundles.trust()).root))
    pem = FOREIGN[kind].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    document["holders"]["alice"]["p384"] = pem.decode()
    forged = canonical_json(document)
    signatures = [s for one in bundles.trust().holders for s in envelope.sign(forged, ROOT_TYPE, one)]
    (bundle / "roots").mkdir()
    (bundle / "roots" / "2.root.json").write_bytes(envelope.render(forged, ROOT_TYPE, signatures))
    assert "holders.alice.p384: expected an ECDSA P-384 public key" in refused(bundle, site, capsys)


def test_scheme_label_swapped(bundle: Path, site: Path, capsys: Capture) -> None:
    """An envelope names no scheme; one that does is refused, and swapped key ids change nothing."""
    labelled = forge(bundle, lambda d: d["signatures"][0].update(scheme="ed25519"))
    assert "unknown key" in refused(labelled, site, capsys)


def test_the_two_signatures_of_a_holder_swapped(bundle: Path, site: Path, capsys: Capture) -> None:
    """A P-384 signature under the ML-DSA key's id is still judged by the key that made it."""

    def swap(document: dict[str, Any]) -> None:
        one, other = (s for s in document["signatures"] if of("alice")(s))
        one["keyid"], other["keyid"] = other["keyid"], one["keyid"]

    forge(bundle, swap)
    for keyid in secret("alice").holder.keyids:  # verify/ names its files by the ids of the envelope
        (bundle / "verify" / f"{keyid}.sig").unlink()
    for signature in envelope.parse((bundle / "bundle.dsse.json").read_bytes()).signatures:
        (bundle / "verify" / f"{signature.keyid}.sig").write_bytes(signature.sig)
    assert "signed by alice, bob" in accepted(bundle, site, capsys)


def test_raw_pae_signed(bundle: Path, site: Path, capsys: Capture) -> None:
    """Signatures over the payload itself, and over a hash of the encoding in place of it."""
    alice, data = secret("alice"), payload(bundle)
    digest = hashes.Hash(hashes.SHA384())
    digest.update(envelope.pae(data, PAYLOAD_TYPE))
    for signed in (data, digest.finalize()):
        message = keys.Message.of(signed)
        raw = [
            envelope.Signature(key.keyid, one.sign(key.algorithm, message))
            for one in (alice, secret("bob"))
            for key in (one.holder.p384, one.holder.mldsa87)
        ]
        forged = write(bundle, envelope.render(data, PAYLOAD_TYPE, raw))
        assert "0 of 2" in refused(forged, site, capsys)


def sealed_as(data: bytes, payload_type: str) -> bytes:
    holders = bundles.trust().holders
    return envelope.render(
        data, payload_type, [s for one in holders for s in envelope.sign(data, payload_type, one)]
    )


def test_wrong_payload_type_with_a_valid_signature(bundle: Path, site: Path, capsys: Capture) -> None:
    forged = write(bundle, sealed_as(payload(bundle), "application/json"))
    assert "expected the payload type application/vnd.in-toto+json" in refused(forged, site, capsys)


def test_duplicate_payload_type(bundle: Path, site: Path, capsys: Capture) -> None:
    data = sealed_as(payload(bundle), "application/json")
    forged = data.replace(b'"payloadType"', b'"payloadType":"application/vnd.in-toto+json","payloadType"')
    assert "'payloadType' occurs twice" in refused(write(bundle, forged), site, capsys)


@pytest.mark.parametrize("where", ["payload", "sig"])
@pytest.mark.parametrize("spelling", ["url-safe", "unpadded", "newline", "stray bits"])
def test_bad_base64(bundle: Path, site: Path, capsys: Capture, where: str, spelling: str) -> None:
    def respell(text: str) -> str:
        data = base64.b64decode(text)
        return {
            "url-safe": base64.urlsafe_b64encode(b"\xff\xfe" + data).decode(),
            "unpadded": base64.b64encode(data[: len(data) // 3 * 3 - 2]).decode().rstrip("="),
            "newline": f"{text[:4]}\n{text[4:]}",
            "stray bits": base64.b64encode(data[: len(data) // 3 * 3 - 2]).decode()[:-3] + "B==",
        }[spelling]

    def change(document: dict[str, Any]) -> None:
        table = document if where == "payload" else document["signatures"][0]
        table[where] = respell(table[where])

    assert "not base64" in refused(forge(bundle, change), site, capsys)


def test_a_root_replayed_as_a_bundle(bundle: Path, site: Path, capsys: Capture) -> None:
    assert "found application/vnd.airgap.root" in refused(
        write(bundle, bundles.trust().root_file), site, capsys
    )


def test_a_bundle_replayed_as_a_root(bundle: Path, site: Path, capsys: Capture) -> None:
    (bundle / "roots").mkdir()
    shutil.copy(bundle / "bundle.dsse.json", bundle / "roots" / "2.root.json")
    assert "expected the payload type application/vnd.airgap.root" in refused(bundle, site, capsys)


@pytest.mark.parametrize("keyid", ["", "0" * 64, "../../etc/passwd"])
def test_wrong_or_empty_key_id_is_still_safe(bundle: Path, site: Path, capsys: Capture, keyid: str) -> None:
    """A signature counts by the key that made it. Its file in verify/ has no name, so none may be there."""
    forge(bundle, lambda d: [s.update(keyid=keyid) for s in d["signatures"]])
    for signature in (bundle / "verify").glob("*.sig"):
        signature.unlink()
    if keyid == "0" * 64:
        last = envelope.parse((bundle / "bundle.dsse.json").read_bytes()).signatures[-1]
        (bundle / "verify" / f"{keyid}.sig").write_bytes(last.sig)
    assert "signed by alice, bob" in accepted(bundle, site, capsys)


@pytest.mark.parametrize("extra", [b"{}", b"\0", b"x", b"\n{}"])
def test_trailing_bytes(bundle: Path, site: Path, capsys: Capture, extra: bytes) -> None:
    forged = write(bundle, (bundle / "bundle.dsse.json").read_bytes() + extra)
    assert "not JSON" in refused(forged, site, capsys)
