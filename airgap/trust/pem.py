"""The two files that keep a holder's keys, as PEM (RFC 7468).

`<name>.pub`: the line `airgap holder: <name>`, then two `PUBLIC KEY` blocks, P-384 first, because
openssl reads the first and ignores the rest. `<name>.key`: the same with `ENCRYPTED PRIVATE KEY`
blocks (PKCS#8, airgap.trust.pbes2), or `PRIVATE KEY` where a rehearsal needs no passphrase.
"""

import base64
import re
import textwrap

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, types
from cryptography.hazmat.primitives.serialization import load_der_private_key

from airgap.decode import parse_base64
from airgap.errors import InputError, TrustError
from airgap.trust import pbes2
from airgap.trust.keys import Algorithm, Holder, HolderSecret, PublicKey, algorithm_of, describe

MAX_KEY_FILE = 64 * 1024
"""Bytes; a `.pub` file has about 4 KiB, a `.key` file about 1 KiB."""

PUBLIC = "PUBLIC KEY"
PRIVATE = "PRIVATE KEY"
SEALED = "ENCRYPTED PRIVATE KEY"

_GREETING = "airgap holder: "
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END \1-----\n*")


def render_holder(holder: Holder) -> bytes:
    """A `.pub` file."""
    return _render(holder.name, PUBLIC, holder.p384.spki, holder.mldsa87.spki)


def parse_holder(data: bytes, what: str) -> Holder:
    """The inverse of `render_holder`. Raises InputError naming what was found instead."""
    name, label, (p384, mldsa87) = _parse(data, what)
    if label != PUBLIC:
        raise InputError(
            f"{what}: expected public keys, found a {label}",
            remedy="give the .pub file; a .key file never leaves its holder",
        )
    try:
        return Holder(name, PublicKey(Algorithm.P384, p384), PublicKey(Algorithm.MLDSA87, mldsa87))
    except InputError as error:
        raise InputError(f"{what}: {error.message}") from None


def render_secret(secret: HolderSecret, passphrase: bytes | None) -> bytes:
    """A `.key` file; `None` writes it in clear. Raises InputError for an empty passphrase."""
    p384, mldsa87 = secret.pkcs8()
    if passphrase is None:
        return _render(secret.holder.name, PRIVATE, p384, mldsa87)
    sealed = pbes2.seal(p384, passphrase), pbes2.seal(mldsa87, passphrase)
    return _render(secret.holder.name, SEALED, *sealed)


def needs_passphrase(data: bytes, what: str) -> bool:
    """Whether a `.key` file is encrypted. Raises InputError when it is no such file."""
    return _parse_secret_blocks(data, what)[1] == SEALED


def parse_secret(data: bytes, passphrase: bytes | None, what: str) -> HolderSecret:
    """The inverse of `render_secret`; a file in clear needs no passphrase and ignores one.

    Raises InputError for a malformed file or keys of other algorithms, TrustError for a wrong passphrase.
    """
    name, label, blocks = _parse_secret_blocks(data, what)
    if label == SEALED and not passphrase:
        raise TrustError(f"{what}: needs its passphrase")
    p384, mldsa87 = (_load(block, passphrase if label == SEALED else None, what) for block in blocks)
    if not isinstance(p384, ec.EllipticCurvePrivateKey) or not algorithm_of(p384):
        raise InputError(f"{what}: expected an {Algorithm.P384.label} key first, found {describe(p384)}")
    if not isinstance(mldsa87, mldsa.MLDSA87PrivateKey):
        raise InputError(
            f"{what}: expected an {Algorithm.MLDSA87.label} key second, found {describe(mldsa87)}"
        )
    try:
        return HolderSecret(name, p384, mldsa87)
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


def _parse_secret_blocks(data: bytes, what: str) -> tuple[str, str, tuple[bytes, bytes]]:
    name, label, blocks = _parse(data, what)
    if label not in (PRIVATE, SEALED):
        raise InputError(f"{what}: expected private keys, found a {label}", remedy="give the .key file")
    return name, label, blocks


def _load(block: bytes, passphrase: bytes | None, what: str) -> types.PrivateKeyTypes:
    try:
        return load_der_private_key(block, passphrase)
    except UnsupportedAlgorithm as error:
        raise InputError(f"{what}: {error}") from None
    except (ValueError, TypeError):
        # Wrong padding is all that a wrong passphrase shows (RFC 8018 section 6.2.2).
        if passphrase:
            raise TrustError(f"{what}: the passphrase does not open it") from None
        raise InputError(f"{what}: not a PKCS#8 private key") from None


def _parse(data: bytes, what: str) -> tuple[str, str, tuple[bytes, bytes]]:
    """Holder's name, the label of both blocks, and their DER. Raises InputError."""
    expected = f"expected the line '{_GREETING}<name>' and two PEM blocks"
    try:
        text = data[: MAX_KEY_FILE + 1].decode("ascii").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise InputError(f"{what}: {expected}, found bytes that are not ASCII") from None
    greeting, _, rest = text.partition("\n")
    if len(data) > MAX_KEY_FILE or not greeting.startswith(_GREETING):
        raise InputError(f"{what}: {expected}, found {greeting[:40]!r}")
    first = _BLOCK.match(rest)
    second = _BLOCK.fullmatch(rest, first.end()) if first else None
    if not first or not second or first[1] != second[1]:
        found = ", ".join(re.findall(r"-----BEGIN ([A-Z0-9 ]{1,40})-----", rest)[:5]) or "none"
        raise InputError(f"{what}: {expected} of one label, found {found}")
    p384, mldsa87 = (parse_base64(block[2].replace("\n", ""), what) for block in (first, second))
    return greeting.removeprefix(_GREETING).strip(), first[1], (p384, mldsa87)


def _render(name: str, label: str, p384: bytes, mldsa87: bytes) -> bytes:
    return f"{_GREETING}{name}\n{_pem(label, p384)}{_pem(label, mldsa87)}".encode()


def _pem(label: str, der: bytes) -> str:
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
