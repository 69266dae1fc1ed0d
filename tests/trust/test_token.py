"""How a key in a token is named, and how the token's answers are read: no token needed."""

import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import InputError, TrustError
from airgap.trust.pem import needs_passphrase, parse_holder, parse_secret, render_secret
from airgap.trust.token import (
    KeyUri,
    TokenReference,
    TokenSecret,
    der_signature,
    generate_beside,
    p384_from_point,
    parse_uri,
)

from .people import person

REFERENCE = TokenReference(KeyUri(token="vault", object="alice", id=b"\x01"), "/usr/lib/p11.so")


def words(limit: int) -> st.SearchStrategy[str]:
    """Printable text of up to `limit` bytes."""
    texts = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=limit)
    return texts.filter(lambda text: len(text.encode()) <= limit)


def in_token() -> TokenSecret:
    return generate_beside("alice", REFERENCE, person("alice").holder.p384)


@given(words(32), words(32), words(16), words(16), words(255), st.binary(max_size=255))
@settings(max_examples=150, deadline=None)
def test_a_uri_round_trips(
    token: str, maker: str, model: str, serial: str, label: str, identity: bytes
) -> None:
    try:
        uri = KeyUri(token, maker, model, serial, label, identity)
    except InputError:
        assert not (token or serial) or not (label or identity)
        return
    assert parse_uri(str(uri)) == uri
    assert str(uri).isascii()


def test_a_uri_as_other_tools_print_it_is_read() -> None:
    """Attributes in the order of p11tool."""
    text = (
        "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=bbc88c6dbb009c40;"
        "token=air%20gap;id=%DF%c5;object=alice;type=private"
    )
    assert parse_uri(text) == KeyUri(
        "air gap", "SoftHSM project", "SoftHSM v2", "bbc88c6dbb009c40", "alice", b"\xdf\xc5"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begin with pkcs11:"),
        ("PKCS11:token=a;object=b", "begin with pkcs11:"),
        ("pkcs11:", "no 'name=value'"),
        ("pkcs11:token=a", "object= or id="),
        ("pkcs11:object=a", "token= or serial="),
        ("pkcs11:token=a;object=b;", "no 'name=value'"),
        ("pkcs11:token=a;token=a;object=b", "token occurs twice"),
        ("pkcs11:token=;object=b", "token is empty"),
        ("pkcs11:token=a b;object=b", "token is empty or holds"),
        ("pkcs11:token=a/b;object=b", "token is empty or holds"),
        ("pkcs11:token=%4;object=b", "token is empty or holds"),
        ("pkcs11:token=%FF;object=b", "not UTF-8"),
        ("pkcs11:token=a%00;object=b", "control character"),
        ("pkcs11:token=a%E2%80%AEb;object=b", "control character"),
        (f"pkcs11:token={'a' * 33};object=b", "33 bytes, more than the 32"),
        ("pkcs11:token=a;object=b;type=public", "expected type=private"),
        ("pkcs11:token=a;object=b;slot-id=3", "found 'slot-id'"),
        ("pkcs11:token=a;object=b?module-path=/x.so", "expected no query"),
    ],
)
def test_a_uri_that_is_none_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=re.escape(complaint)):
        parse_uri(text)


@pytest.mark.parametrize("text", ["pkcs11:9876", "pkcs11:token=a;object=b?pin-value=9876", "pkcs11:pin=9876"])
def test_a_pin_in_a_uri_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_uri(text)
    assert "9876" not in caught.value.message + caught.value.remedy


@pytest.mark.parametrize(
    "module", ["", "lib.so", "./lib.so", "/lib\n.so", "/lib.so ", "/bibliothèque.so", "/"]
)
def test_a_module_is_an_absolute_path(module: str) -> None:
    with pytest.raises(InputError, match="absolute path of a PKCS#11 module"):
        TokenReference(REFERENCE.uri, module)


def test_a_key_file_with_a_token_round_trips() -> None:
    alice = in_token()
    for passphrase in (None, b"open"):
        data = render_secret(alice, passphrase)
        assert needs_passphrase(data, "alice.key") == (passphrase is not None)
        read = parse_secret(data, passphrase, "alice.key")
        assert isinstance(read, TokenSecret)
        assert (read.holder, read.reference) == (alice.holder, REFERENCE)
    with pytest.raises(TrustError, match="does not open it"):
        parse_secret(data, b"shut", "alice.key")
    with pytest.raises(InputError, match=r"give the \.pub file|expected public keys"):
        parse_holder(data, "alice.key")


def test_a_secret_in_a_token_never_shows_itself() -> None:
    assert "mldsa87=" not in repr(in_token())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"PKCS#11 module: /usr/lib/p11.so\n", b""),
        (b"PKCS#11 module: /usr", b"PKCS#11 module: usr"),
        (b"PKCS#11 module: ", b"Module: "),
        (b"token=vault;", b""),
        (b"type=private", b"type=private?pin-value=1234"),
        (b"P-384 key in token: ", b"Token: "),
        (b"BEGIN PUBLIC KEY-----\n", b"BEGIN PUBLIC KEY-----\nAAAA"),
        (b"-----BEGIN PRIVATE", b"PIN: 1234\n-----BEGIN PRIVATE"),
        (b" PUBLIC KEY", b" PRIVATE KEY"),
        (b" PRIVATE KEY", b" PUBLIC KEY"),
    ],
)
def test_a_damaged_key_file_with_a_token_is_refused(old: bytes, new: bytes) -> None:
    good = render_secret(in_token(), None)
    assert old in good
    with pytest.raises(InputError, match=r"^alice\.key: "):
        parse_secret(good.replace(old, new), None, "alice.key")


def test_a_public_block_is_no_private_key_without_a_token() -> None:
    lines = render_secret(in_token(), None).splitlines(keepends=True)
    with pytest.raises(InputError, match="of one label"):
        parse_secret(b"".join(lines[:1] + lines[3:]), None, "alice.key")


@given(st.binary(max_size=80), st.integers(0, 700), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_the_reader(junk: bytes, start: int, length: int) -> None:
    good = render_secret(in_token(), None)
    try:
        parse_secret(good[:start] + junk + good[start + length :], None, "alice.key")
    except InputError:
        return


@pytest.mark.parametrize("form", [PublicFormat.UncompressedPoint, PublicFormat.CompressedPoint])
def test_a_point_is_read_wrapped_or_bare(form: PublicFormat) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    point = key.public_bytes(Encoding.X962, form)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert p384_from_point(point).spki == spki
    assert p384_from_point(bytes([4, len(point)]) + point).spki == spki


@given(st.binary(max_size=110))
@settings(deadline=None)
def test_other_points_are_refused(point: bytes) -> None:
    with pytest.raises(InputError, match="expected a point on P-384"):
        p384_from_point(point)


@given(st.integers(0, 2**384 - 1), st.integers(0, 2**384 - 1))
def test_signatures_become_der(r: int, s: int) -> None:
    assert decode_dss_signature(der_signature(r.to_bytes(48) + s.to_bytes(48))) == (r, s)


@pytest.mark.parametrize("size", [0, 95, 97, 104])
def test_a_signature_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(TrustError, match="expected a signature of 96 bytes"):
        der_signature(bytes(size))
