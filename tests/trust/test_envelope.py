"""DSSE envelopes: who counts, who does not, and that others read ours."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import Key, SSlibKey

from airgap.decode import canonical_json
from airgap.errors import InputError, TrustError
from airgap.trust.envelope import Signature, add, pae, parse, render, sign, tally, verify
from airgap.trust.keys import Algorithm, Holder, HolderSecret, Message
from airgap.trust.pem import render_public_key

from .people import person, sealed

TYPE = "application/vnd.in-toto+json"
PAYLOAD = b'{"_type":"x"}'


def both() -> tuple[Holder, Holder]:
    return person("alice").holder, person("bob").holder


def changed(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(data)
    change(document)
    return canonical_json(document)


def test_the_pre_authentication_encoding_is_that_of_the_specification() -> None:
    assert pae(b"hello world", "http://example.com/HelloWorld") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_holders_who_signed_are_named_and_the_payload_returned() -> None:
    found = verify(sealed(PAYLOAD, TYPE, "bob", "alice"), TYPE, both(), 2)
    assert (found.payload, found.signers, found.missing) == (PAYLOAD, ("alice", "bob"), ())
    found = verify(sealed(PAYLOAD, TYPE, "bob"), TYPE, both(), 1)
    assert (found.signers, found.missing) == (("bob",), ("alice",))


def refused(data: bytes, threshold: int = 2, match: str = "required signed") -> TrustError:
    with pytest.raises(TrustError, match=match) as caught:
        verify(data, TYPE, both(), threshold)
    return caught.value


def test_no_signatures() -> None:
    assert "0 of 1 required signed: nobody; missing: alice, bob" in refused(sealed(PAYLOAD, TYPE), 1).message


def test_too_few_signatures() -> None:
    message = refused(sealed(PAYLOAD, TYPE, "alice")).message
    assert "1 of 2 required signed: alice; missing: bob" in message


def test_same_signature_twice_counts_once() -> None:
    data = sealed(PAYLOAD, TYPE, "alice")
    refused(changed(data, lambda d: d["signatures"].extend(d["signatures"])))


def test_two_different_signatures_of_one_holder_count_once() -> None:
    twice = [*sign(PAYLOAD, TYPE, person("alice")), *sign(PAYLOAD, TYPE, person("alice"))]
    refused(render(PAYLOAD, TYPE, twice))


def test_one_key_under_two_ids_counts_once() -> None:
    signatures = sign(PAYLOAD, TYPE, person("alice"))
    forged = [
        Signature(keyid, s.sig) for s in signatures for keyid in (s.keyid, person("bob").holder.p384.keyid)
    ]
    refused(render(PAYLOAD, TYPE, forged))


def test_one_person_cannot_be_two_holders() -> None:
    alice = person("alice").holder
    twin = Holder("twin", alice.p384, alice.mldsa87)
    with pytest.raises(TrustError, match="alice and twin share the key"):
        verify(sealed(PAYLOAD, TYPE, "alice"), TYPE, [alice, twin], 2)
    with pytest.raises(TrustError, match="a name occurs twice"):
        verify(sealed(PAYLOAD, TYPE, "alice"), TYPE, [alice, alice], 2)


@pytest.mark.parametrize("stripped", Algorithm)
def test_either_algorithm_stripped_is_half_a_holder(stripped: Algorithm) -> None:
    holder = person("alice").holder
    gone = holder.p384.keyid if stripped is Algorithm.P384 else holder.mldsa87.keyid
    kept = [s for s in sign(PAYLOAD, TYPE, person("alice")) if s.keyid != gone]
    assert "with only one of two signatures: alice" in refused(render(PAYLOAD, TYPE, kept), 1).message


def test_signatures_of_two_holders_do_not_make_up_one() -> None:
    alice, bob = sign(PAYLOAD, TYPE, person("alice")), sign(PAYLOAD, TYPE, person("bob"))
    refused(render(PAYLOAD, TYPE, [alice[0], bob[1]]), 1)


def test_a_strangers_signatures_count_for_nothing() -> None:
    refused(sealed(PAYLOAD, TYPE, "mallory"), 1)


@pytest.mark.parametrize("keyid", ["", "0" * 64, "../../x"])
def test_wrong_or_empty_key_ids_are_only_hints(keyid: str) -> None:
    signatures = [Signature(keyid, s.sig) for s in sign(PAYLOAD, TYPE, person("alice"))]
    assert verify(render(PAYLOAD, TYPE, signatures), TYPE, both(), 1).signers == ("alice",)


def test_absent_key_ids_are_only_hints() -> None:
    data = changed(sealed(PAYLOAD, TYPE, "alice"), lambda d: [s.pop("keyid") for s in d["signatures"]])
    assert verify(data, TYPE, both(), 1).signers == ("alice",)


def test_the_payload_signed_raw_is_not_signed() -> None:
    alice, message = person("alice"), Message.of(PAYLOAD)
    raw = [
        Signature(key.keyid, alice.sign(key.algorithm, message))
        for key in (alice.holder.p384, alice.holder.mldsa87)
    ]
    refused(render(PAYLOAD, TYPE, raw), 1)


def test_wrong_payload_type_with_valid_signatures() -> None:
    refused(sealed(PAYLOAD, "application/vnd.airgap.root.v1+json", "alice"), 1, "expected the payload type")


def test_a_relabelled_payload_type_breaks_the_signatures() -> None:
    data = sealed(PAYLOAD, "application/vnd.airgap.root.v1+json", "alice")
    refused(changed(data, lambda d: d.update(payloadType=TYPE)), 1)


def test_a_changed_payload_breaks_the_signatures() -> None:
    data = sealed(PAYLOAD, TYPE, "alice", "bob")
    refused(changed(data, lambda d: d.update(payload=base64.b64encode(PAYLOAD + b" ").decode())), 1)


def test_a_threshold_of_zero_believes_nobody() -> None:
    refused(sealed(PAYLOAD, TYPE), 0, "would believe anyone")


def test_duplicate_payload_type() -> None:
    data = sealed(PAYLOAD, TYPE, "alice").replace(b'"payloadType"', b'"payloadType":"x/y","payloadType"')
    with pytest.raises(InputError, match="occurs twice"):
        verify(data, TYPE, both(), 1)


MALFORMED: dict[str, Callable[[dict[str, Any]], object]] = {
    "scheme label": lambda d: d["signatures"][0].update(scheme="ed25519"),
    "unknown key": lambda d: d.update(extra=1),
    "no payload": lambda d: d.pop("payload"),
    "payload no string": lambda d: d.update(payload=[1]),
    "unpadded base64": lambda d: d.update(payload="eA"),
    "url-safe base64": lambda d: d.update(payload="_-8="),
    "base64 with a newline": lambda d: d.update(payload="eHh4\n"),
    "base64 with stray bits": lambda d: d.update(payload="eB=="),
    "bad base64 in a signature": lambda d: d["signatures"][0].update(sig="*"),
    "no sig": lambda d: d["signatures"][0].pop("sig"),
    "signatures no list": lambda d: d.update(signatures={}),
    "signature no table": lambda d: d.update(signatures=["x"]),
    "key id with an escape": lambda d: d["signatures"][0].update(keyid="\x1b[2J"),
    "payload type with a space": lambda d: d.update(payloadType="a b"),
    "129 signatures": lambda d: d.update(signatures=d["signatures"][:1] * 129),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_envelope_is_refused(case: str) -> None:
    data = sealed(PAYLOAD, TYPE, "alice")
    assert parse(changed(data, lambda d: None))
    with pytest.raises(InputError):
        parse(changed(data, MALFORMED[case]))


def test_trailing_bytes_and_size() -> None:
    data = sealed(PAYLOAD, TYPE, "alice")
    for bad in (data + b"{}", data + b"\0", b"\xef\xbb\xbf" + data, data[:-1]):
        with pytest.raises(InputError):
            parse(bad)
    with pytest.raises(InputError, match=f"more than the {len(data) - 1} allowed"):
        parse(data, max_bytes=len(data) - 1)


def test_adding_in_any_order_and_again_gives_the_same_holders_and_shape() -> None:
    alice, bob = (sign(PAYLOAD, TYPE, person(name)) for name in ("alice", "bob"))
    empty = render(PAYLOAD, TYPE, ())
    one = add(add(empty, alice), bob)
    other = add(add(add(empty, bob), alice), bob)
    assert one == other
    again = add(one, sign(PAYLOAD, TYPE, person("bob")))
    assert again != one, "ML-DSA and ECDSA signatures are randomised"
    assert len(parse(again).signatures) == 4
    assert verify(again, TYPE, both(), 2).payload == PAYLOAD


def test_a_signer_that_does_not_sign_as_its_holder_is_caught() -> None:
    class Impostor:
        holder = person("alice").holder

        def sign(self, algorithm: Algorithm, message: Message) -> bytes:
            return person("bob").sign(algorithm, message)

    with pytest.raises(TrustError, match="of alice does not verify with their own key"):
        sign(PAYLOAD, TYPE, Impostor())


@given(
    st.binary(max_size=60), st.lists(st.tuples(st.text("ab ", max_size=3), st.binary(max_size=9)), max_size=4)
)
def test_round_trip(payload: bytes, pairs: list[tuple[str, bytes]]) -> None:
    signatures = [Signature(*pair) for pair in pairs]
    found = parse(render(payload, TYPE, signatures))
    assert (found.payload, found.payload_type) == (payload, TYPE)
    assert sorted(found.signatures, key=repr) == sorted(signatures, key=repr)


@cache
def signed_once() -> bytes:
    return sealed(PAYLOAD, TYPE, "alice")


@given(st.integers(0, 2**20))
@settings(max_examples=100, deadline=None)
def test_no_flipped_bit_is_believed(position: int) -> None:
    """Flip one bit anywhere: the payload that verifies is the signed one, or nothing does."""
    data = bytearray(signed_once())
    position %= len(data) * 8
    data[position // 8] ^= 1 << position % 8
    with suppress(InputError, TrustError):
        assert verify(bytes(data), TYPE, both(), 1).payload == PAYLOAD


def their_keys(holder: Holder) -> list[Key]:
    """As someone without airgap has them: from the PEM blocks alone."""
    return [
        SSlibKey.from_crypto(load_pem_public_key(render_public_key(key).encode()), keyid=key.keyid)
        for key in (holder.p384, holder.mldsa87)
    ]


def test_unmodified_securesystemslib_verifies_our_envelopes() -> None:
    data = sealed(PAYLOAD, TYPE, "alice", "bob")
    keys = [key for holder in both() for key in their_keys(holder)]
    assert [key.scheme for key in keys[:2]] == [Algorithm.P384, Algorithm.MLDSA87]
    assert len(TheirEnvelope.from_dict(json.loads(data)).verify(keys, 4)) == 4
    tampered = changed(data, lambda d: d.update(payload="eHh4"))
    with pytest.raises(VerificationError):
        TheirEnvelope.from_dict(json.loads(tampered)).verify(keys, 1)


def test_we_count_what_securesystemslib_signs() -> None:
    p384, mldsa87 = ec.generate_private_key(ec.SECP384R1()), mldsa.MLDSA87PrivateKey.generate()
    holder = HolderSecret("carol", p384, mldsa87).holder
    theirs = TheirEnvelope(PAYLOAD, TYPE, {})
    theirs.sign(CryptoSigner(p384))
    assert tally(parse(canonical_json(theirs.to_dict())), [holder]).partial == ("carol",)
    theirs.sign(CryptoSigner(mldsa87))
    assert tally(parse(canonical_json(theirs.to_dict())), [holder]).signers == ("carol",)
