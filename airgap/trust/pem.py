"""The two files that keep a holder's keys, as PEM (RFC 7468).

`<name>.pub`: the line `airgap holder: <name>`, then two `PUBLIC KEY` blocks, P-384 first, because
openssl reads the first and ignores the rest. `<name>.key`: the same with `ENCRYPTED PRIVATE KEY`
blocks (PKCS#8, airgap.trust.pbes2), or `PRIVATE KEY` where a rehearsal needs no passphrase.

Where the P-384 key is in a token, two lines before the blocks say which (RFC 7512) and by which module,
and the first block is its `PUBLIC KEY`.
"""

import base64
import re
import textwrap
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, types
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from airgap.decode import parse_base64
from airgap.errors import InputError, TrustError
from airgap.trust import pbes2
from airgap.trust.keys import Algorithm, Holder, HolderSecret, PublicKey, algorithm_of, describe
from airgap.trust.token import TokenReference, TokenSecret, parse_uri

MAX_KEY_FILE = 64 * 1024
"""Bytes; a `.pub` file has about 4 KiB, a `.key` file about 1 KiB."""

PUBLIC = "PUBLIC KEY"
PRIVATE = "PRIVATE KEY"
SEALED = "ENCRYPTED PRIVATE KEY"

_GREETING = "airgap holder: "
_REFERENCE = "P-384 key in token: "
_MODULE = "PKCS#11 module: "
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END \1-----\n*")


def render_holder(holder: Holder) -> bytes:
    """A `.pub` file."""
    return _render(holder.name, PUBLIC, holder.p384.spki, holder.mldsa87.spki)


def parse_holder(data: bytes, what: str) -> Holder:
    """The inverse of `render_holder`. Raises InputError naming what was found instead."""
    parsed = _parse(data, what)
    if parsed.reference or parsed.labels != (PUBLIC, PUBLIC):
        raise InputError(
            f"{what}: expected public keys, found a {parsed.labels[1]}",
            remedy="give the .pub file; a .key file never leaves its holder",
        )
    p384, mldsa87 = parsed.blocks
    try:
        return Holder(parsed.name, PublicKey(Algorithm.P384, p384), PublicKey(Algorithm.MLDSA87, mldsa87))
    except InputError as error:
        raise InputError(f"{what}: {error.message}") from None


def render_secret(secret: HolderSecret | TokenSecret, passphrase: bytes | None) -> bytes:
    """A `.key` file; `None` writes it in clear. Raises InputError for an empty passphrase."""
    label = PRIVATE if passphrase is None else SEALED

    def sealed(der: bytes) -> bytes:
        return der if passphrase is None else pbes2.seal(der, passphrase)

    if isinstance(secret, HolderSecret):
        p384, mldsa87 = secret.pkcs8()
        return _render(secret.holder.name, label, sealed(p384), sealed(mldsa87))
    reference = f"{_REFERENCE}{secret.reference.uri}\n{_MODULE}{secret.reference.module}\n"
    mldsa87 = secret.mldsa87.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    blocks = _pem(PUBLIC, secret.p384.spki) + _pem(label, sealed(mldsa87))
    return f"{_GREETING}{secret.name}\n{reference}{blocks}".encode()


def needs_passphrase(data: bytes, what: str) -> bool:
    """Whether a `.key` file is encrypted. Raises InputError when it is no such file."""
    return _parse_secret_file(data, what).labels[1] == SEALED


def parse_secret(data: bytes, passphrase: bytes | None, what: str) -> HolderSecret | TokenSecret:
    """The inverse of `render_secret`; a file in clear needs no passphrase and ignores one.

    Raises InputError for a malformed file or keys of other algorithms, TrustError for a wrong passphrase.
    """
    parsed = _parse_secret_file(data, what)
    if SEALED not in parsed.labels:
        passphrase = None
    elif not passphrase:
        raise TrustError(f"{what}: needs its passphrase")
    first, second = parsed.blocks
    try:
        if parsed.reference:
            p384 = PublicKey(Algorithm.P384, first)
            return TokenSecret(parsed.name, parsed.reference, p384, _load_mldsa87(second, passphrase, what))
        private = _load(first, passphrase, what)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not algorithm_of(private):
            raise InputError(f"expected an {Algorithm.P384.label} key first, found {describe(private)}")
        return HolderSecret(parsed.name, private, _load_mldsa87(second, passphrase, what))
    except InputError as error:
        raise InputError(f"{what}: {error.message}") from None


def render_public_key(key: PublicKey) -> str:
    """One PEM block, as root documents hold it."""
    return _pem(PUBLIC, key.spki)


def parse_public_key(text: str, algorithm: Algorithm) -> PublicKey:
    """The inverse of `render_public_key`, in that spelling only. Raises InputError."""
    match = _BLOCK.fullmatch(text)
    if not match or match[1] != PUBLIC:
        raise InputError(f"expected one PEM block labelled {PUBLIC}")
    key = PublicKey(algorithm, parse_base64(match[2].replace("\n", ""), PUBLIC))
    if render_public_key(key) != text:
        raise InputError("expected PEM in lines of 64 characters with one newline at the end")
    return key


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A key file's parts: labels and DER of its two blocks, P-384 first."""

    name: str
    reference: TokenReference | None
    labels: tuple[str, str]
    blocks: tuple[bytes, bytes]


def _parse_secret_file(data: bytes, what: str) -> _Parsed:
    parsed = _parse(data, what)
    if parsed.labels[1] not in (PRIVATE, SEALED):
        raise InputError(
            f"{what}: expected private keys, found a {parsed.labels[1]}", remedy="give the .key file"
        )
    return parsed


def _load_mldsa87(block: bytes, passphrase: bytes | None, what: str) -> mldsa.MLDSA87PrivateKey:
    key = _load(block, passphrase, what)
    if not isinstance(key, mldsa.MLDSA87PrivateKey):
        raise InputError(f"expected an {Algorithm.MLDSA87.label} key second, found {describe(key)}")
    return key


def _load(block: bytes, passphrase: bytes | None, what: str) -> types.PrivateKeyTypes:
    try:
        return load_der_private_key(block, passphrase)
    except UnsupportedAlgorithm as error:
        raise InputError(str(error)) from None
    except (ValueError, TypeError):
        # Wrong padding is all that a wrong passphrase shows (RFC 8018 section 6.2.2).
        if passphrase:
            raise TrustError(f"{what}: the passphrase does not open it") from None
        raise InputError("not a PKCS#8 private key") from None


def _parse(data: bytes, what: str) -> _Parsed:
    """The parts of a `.pub` or `.key` file, whose labels fit together. Raises InputError."""
    expected = f"expected the line '{_GREETING}<name>' and two PEM blocks"
    try:
        text = data[: MAX_KEY_FILE + 1].decode("ascii").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise InputError(f"{what}: {expected}, found bytes that are not ASCII") from None
    greeting, _, rest = text.partition("\n")
    if len(data) > MAX_KEY_FILE or not greeting.startswith(_GREETING):
        raise InputError(f"{what}: {expected}, found {greeting[:40]!r}")
    reference, rest = _take_reference(rest, what)
    first = _BLOCK.match(rest)
    second = _BLOCK.fullmatch(rest, first.end()) if first else None
    labels = (first[1], second[1]) if first and second else None
    if reference and (not labels or labels[0] != PUBLIC or labels[1] not in (PRIVATE, SEALED)):
        raise InputError(f"{what}: expected a {PUBLIC} and a private key behind the token's lines")
    if not first or not second or not labels or (not reference and labels[0] != labels[1]):
        found = ", ".join(re.findall(r"-----BEGIN ([A-Z0-9 ]{1,40})-----", rest)[:5]) or "none"
        raise InputError(f"{what}: {expected} of one label, found {found}")
    p384, mldsa87 = (parse_base64(block[2].replace("\n", ""), what) for block in (first, second))
    return _Parsed(greeting.removeprefix(_GREETING).strip(), reference, labels, (p384, mldsa87))


def _take_reference(text: str, what: str) -> tuple[TokenReference | None, str]:
    """Where the P-384 key is, when the next two lines say so, and the text behind them."""
    if not text.startswith(_REFERENCE):
        return None, text
    token, module, rest = (*text.split("\n", 2), "", "")[:3]
    if not module.startswith(_MODULE):
        raise InputError(f"{what}: expected the line '{_MODULE}<path>' behind '{_REFERENCE}…'")
    try:
        uri = parse_uri(token.removeprefix(_REFERENCE))
        return TokenReference(uri, module.removeprefix(_MODULE)), rest
    except InputError as error:
        raise InputError(f"{what}: {error.message}", remedy=error.remedy) from None


def _render(name: str, label: str, p384: bytes, mldsa87: bytes) -> bytes:
    return f"{_GREETING}{name}\n{_pem(label, p384)}{_pem(label, mldsa87)}".encode()


def _pem(label: str, der: bytes) -> str:
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
