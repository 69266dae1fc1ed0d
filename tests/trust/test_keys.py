"""Keys and their files: exactly two algorithms go in, and openssl and cryptography read what comes out."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import InputError, TrustError
from airgap.trust.keys import Algorithm, Holder, Message, PublicKey, generate, shared_keys
from airgap.trust.pem import (
    needs_passphrase,
    parse_holder,
    parse_public_key,
    parse_secret,
    render_holder,
    render_public_key,
    render_secret,
)
from tests.services import need

from .people import person

OTHERS: dict[str, PrivateKeyTypes] = {
    "ECDSA secp256r1": ec.generate_private_key(ec.SECP256R1()),
    "ECDSA secp521r1": ec.generate_private_key(ec.SECP521R1()),
    "RSA 2048": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "MLDSA65": mldsa.MLDSA65PrivateKey.generate(),
}


def spki(key: PrivateKeyTypes, form: Encoding = Encoding.DER) -> bytes:
    return key.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)


def blocks(data: bytes) -> list[bytes]:
    """The PEM blocks of a key file."""
    return [b"-----BEGIN" + block for block in data.split(b"-----BEGIN")[1:]]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_of_another_algorithm_is_named_and_refused(other: str, algorithm: Algorithm) -> None:
    with pytest.raises(InputError, match=f"expected an {algorithm.label} public key, found {other}"):
        PublicKey(algorithm, spki(OTHERS[other]))


def test_the_two_algorithms_are_not_interchangeable() -> None:
    holder = person("alice").holder
    with pytest.raises(InputError, match="expected an ML-DSA-87 public key, found ECDSA secp384r1"):
        PublicKey(Algorithm.MLDSA87, holder.p384.spki)
    with pytest.raises(InputError, match="one key of each algorithm"):
        Holder("alice", holder.p384, holder.p384)


def test_a_key_has_one_spelling() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    prefix = bytes.fromhex("3046301006072a8648ce3d020106052b81040022033200")
    with pytest.raises(InputError, match="not written in its DER form"):
        PublicKey(Algorithm.P384, prefix + point)
    with pytest.raises(InputError, match="expected a SubjectPublicKeyInfo"):
        PublicKey(Algorithm.P384, spki(OTHERS["Ed25519"]) + b"\0")


@pytest.mark.parametrize("name", ["", "Alice", "../alice", "alice\n", "a" * 65, "alice bob"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="expected a holder's name"):
        generate(name)


def test_a_signature_verifies_over_its_message_alone() -> None:
    alice, message = person("alice"), Message.of(b"message")
    for key in (alice.holder.p384, alice.holder.mldsa87):
        signature = alice.sign(key.algorithm, message)
        assert key.verifies(signature, message)
        assert not key.verifies(signature, Message.of(b"messagf"))
        assert not key.verifies(signature[:-1] + bytes([signature[-1] ^ 1]), message)
        assert not key.verifies(b"", message)


def test_shared_keys_are_found() -> None:
    alice, bob = person("alice").holder, person("bob").holder
    assert shared_keys([alice, bob]) == []
    mixed = Holder("mallory", bob.p384, alice.mldsa87)
    assert len(shared_keys([alice, bob, mixed])) == 2


def test_public_files_round_trip() -> None:
    holder = person("alice").holder
    data = render_holder(holder)
    assert parse_holder(data, "alice.pub") == holder
    assert parse_holder(data.replace(b"\n", b"\r\n"), "alice.pub") == holder
    assert parse_public_key(render_public_key(holder.p384), Algorithm.P384) == holder.p384


def test_openssl_reads_the_p384_key_of_a_public_file(tmp_path: Path) -> None:
    need("openssl")
    (tmp_path / "alice.pub").write_bytes(render_holder(person("alice").holder))
    done = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", tmp_path / "alice.pub", "-outform", "DER"],
        capture_output=True,
        check=True,
    )
    assert done.stdout == person("alice").holder.p384.spki


def test_a_sealed_file_opens_with_its_passphrase_here_and_in_openssl(tmp_path: Path) -> None:
    need("openssl")
    alice = person("alice")
    data = render_secret(alice, "pass wörd".encode())
    assert needs_passphrase(data, "alice.key")
    assert parse_secret(data, "pass wörd".encode(), "alice.key").holder == alice.holder
    with pytest.raises(TrustError, match="does not open it"):
        parse_secret(data, b"password", "alice.key")
    with pytest.raises(TrustError, match="needs its passphrase"):
        parse_secret(data, None, "alice.key")
    assert (
        load_pem_private_key(data, "pass wörd".encode()).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
        == (alice.pkcs8()[0])
    )
    (tmp_path / "alice.key").write_bytes(data)
    command = ["openssl", "asn1parse", "-in", str(tmp_path / "alice.key")]
    shown = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    for part in ("PBES2", "PBKDF2", "hmacWithSHA512", "aes-256-cbc", ":0927C0"):  # 0x0927C0 = 600 000
        assert part in shown
    command = [
        "openssl",
        "pkey",
        "-in",
        str(tmp_path / "alice.key"),
        "-passin",
        "stdin",
        "-pubout",
        "-outform",
    ]
    opened = subprocess.run([*command, "DER"], input="pass wörd".encode(), capture_output=True, check=True)
    assert opened.stdout == alice.holder.p384.spki


def test_a_file_in_clear_round_trips_and_is_told_apart() -> None:
    data = render_secret(person("alice"), None)
    assert not needs_passphrase(data, "alice.key")
    assert parse_secret(data, None, "alice.key").holder == person("alice").holder
    assert parse_secret(data, b"ignored", "alice.key").holder == person("alice").holder


def test_an_empty_passphrase_seals_nothing() -> None:
    with pytest.raises(InputError, match="the passphrase is empty"):
        render_secret(person("alice"), b"")


def test_a_secret_never_shows_itself() -> None:
    assert repr(person("alice")) == "HolderSecret('alice')"


def test_public_and_private_files_are_not_confused() -> None:
    with pytest.raises(InputError, match="expected public keys, found a PRIVATE KEY") as caught:
        parse_holder(render_secret(person("alice"), None), "alice.key")
    assert "PRIVATE KEY-" not in str(caught.value)
    with pytest.raises(InputError, match="expected private keys, found a PUBLIC KEY"):
        parse_secret(render_holder(person("alice").holder), None, "alice.pub")


@pytest.mark.parametrize("other", OTHERS)
def test_a_private_key_of_another_algorithm_is_refused(other: str) -> None:
    pem = OTHERS[other].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    p384, mldsa87 = blocks(render_secret(person("alice"), None))
    with pytest.raises(InputError, match=f"expected an ECDSA P-384 key first, found {other}"):
        parse_secret(b"airgap holder: alice\n" + pem + mldsa87, None, "alice.key")
    with pytest.raises(InputError, match=f"expected an ML-DSA-87 key second, found {other}"):
        parse_secret(b"airgap holder: alice\n" + p384 + pem, None, "alice.key")


def test_a_malformed_public_file_is_refused() -> None:
    good = render_holder(person("alice").holder)
    p384, mldsa87 = blocks(good)
    greeting = b"airgap holder: alice\n"
    for bad in (
        b"",
        p384 + mldsa87,
        greeting + p384,
        greeting + mldsa87 + p384,
        greeting + p384 + mldsa87 + p384,
        greeting + p384 + b"junk\n" + mldsa87,
        good + b"junk",
        good.replace(b"alice", b"al ice"),
        good.replace(b"alice", "älice".encode()),
        good.replace(b"PUBLIC KEY", b"EC PUBLIC KEY"),
        good[:-40],
        greeting + p384.replace(b"A", b"!", 1) + mldsa87,
        good + b"\n" * 70_000,
    ):
        with pytest.raises(InputError):
            parse_holder(bad, "alice.pub")


@given(st.binary(max_size=200), st.integers(0, 3800), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_the_reader(junk: bytes, start: int, length: int) -> None:
    good = render_holder(person("alice").holder)
    spliced = good[:start] + junk + good[start + length :]
    try:
        holder = parse_holder(spliced, "alice.pub")
    except InputError:
        return
    assert render_holder(holder)[:15] == b"airgap holder: "
