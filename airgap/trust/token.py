"""A holder's P-384 key in a PKCS#11 token: how it is named, and what the token says of it.

Nothing here talks to a token; airgap.pkcs11 does.
"""

import re
from dataclasses import dataclass, field, fields
from urllib.parse import quote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airgap.errors import InputError, TrustError
from airgap.trust.keys import Algorithm, Holder, PublicKey

SCHEME = "pkcs11:"

P384_PARAMETERS = bytes.fromhex("06052b81040022")
"""CKA_EC_PARAMS of P-384: the DER of its object identifier (RFC 5480 section 2.1.1.1)."""

COORDINATE = 48
"""Bytes of each of r and s over P-384."""

_LIMITS = {"token": 32, "manufacturer": 32, "model": 16, "serial": 16, "object": 255, "id": 255}
"""Bytes; those of a token as CK_TOKEN_INFO has them."""

_TYPE = "private"
_UNESCAPED = ":[]@!$'()*+,=&"
"""pk11-path-res-avail of RFC 7512 section 2.3."""

_VALUE = re.compile(rf"(?:[A-Za-z0-9\-._~{re.escape(_UNESCAPED)}]|%[0-9A-Fa-f]{{2}})+")


@dataclass(frozen=True, slots=True)
class KeyUri:
    """Which key of which token, as a PKCS#11 URI names it (RFC 7512); '' matches any.

    Raises InputError unless it names a token (by `token` or `serial`) and a key (by `object` or `id`).
    """

    token: str = ""
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    object: str = ""
    id: bytes = b""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            size = len(value if isinstance(value, bytes) else value.encode())
            if size > limit:
                raise InputError(f"PKCS#11 URI: {name} has {size} bytes, more than the {limit} of PKCS#11")
            if isinstance(value, str) and not value.isprintable():
                raise InputError(f"PKCS#11 URI: {name} holds a control character")
        if not (self.token or self.serial) or not (self.object or self.id):
            raise InputError(
                "PKCS#11 URI: expected token= or serial=, and object= or id=",
                remedy='write it as "pkcs11:token=LABEL;object=KEY"',
            )

    def __str__(self) -> str:
        parts = [f"{f.name}={_escape(value)}" for f in fields(self) if (value := getattr(self, f.name))]
        return SCHEME + ";".join((*parts, f"type={_TYPE}"))

    @property
    def label(self) -> str:
        """What a person calls the token."""
        return self.token or self.serial


def parse_uri(text: str) -> KeyUri:
    """Read a PKCS#11 URI (RFC 7512 section 2.3) that has no query: its PIN and module come another way.

    Raises InputError; no message repeats a value, as somebody may have written a PIN into it.
    """
    if not text.startswith(SCHEME):
        raise InputError(f"PKCS#11 URI: expected it to begin with {SCHEME}")
    path, question, _ = text.removeprefix(SCHEME).partition("?")
    if question:
        raise InputError(
            "PKCS#11 URI: expected no query, found one behind '?'",
            remedy="the PIN is asked for or read as passphrases are; the module is given with --module",
        )
    found: dict[str, bytes] = {}
    for part in path.split(";"):
        name, equals, value = part.partition("=")
        if not equals or name not in (*_LIMITS, "type"):
            shown = repr(name[:40]) if equals else "no 'name=value'"
            raise InputError(f"PKCS#11 URI: expected one of {', '.join(_LIMITS)}, type; found {shown}")
        if name in found:
            raise InputError(f"PKCS#11 URI: {name} occurs twice")
        if not _VALUE.fullmatch(value):
            raise InputError(
                f"PKCS#11 URI: {name} is empty or holds a character that RFC 7512 wants as %XX",
                remedy="a space is %20, a slash %2F, a semicolon %3B",
            )
        found[name] = unquote_to_bytes(value)
    if found.pop("type", _TYPE.encode()) != _TYPE.encode():
        raise InputError(f"PKCS#11 URI: expected type={_TYPE}, found another type")
    try:
        texts = {name: value.decode() for name, value in found.items() if name != "id"}
    except UnicodeDecodeError:
        raise InputError("PKCS#11 URI: a value is not UTF-8") from None
    return KeyUri(**texts, id=found.get("id", b""))


@dataclass(frozen=True, slots=True)
class TokenReference:
    """Where a key is: its URI, and the absolute path of the token's PKCS#11 module."""

    uri: KeyUri
    module: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"/[!-~][ -~]{0,4093}", self.module) or self.module.endswith(" "):
            raise InputError(
                f"expected the absolute path of a PKCS#11 module in ASCII, found {self.module[:80]!r}",
                remedy="give it as --module /usr/lib/softhsm/libsofthsm2.so",
            )


@dataclass(frozen=True, slots=True)
class TokenSecret:
    """What the holder of a token keeps in a file: the ML-DSA-87 key, and which P-384 key is where.

    Raises InputError for a name that is none.
    """

    name: str
    reference: TokenReference
    p384: PublicKey
    mldsa87: mldsa.MLDSA87PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _ = self.holder  # judged here, where it is born

    @property
    def holder(self) -> Holder:
        der = self.mldsa87.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Holder(self.name, self.p384, PublicKey(Algorithm.MLDSA87, der))


def generate_beside(name: str, reference: TokenReference, p384: PublicKey) -> TokenSecret:
    """With a new ML-DSA-87 key for the holder of a P-384 key in a token. Raises InputError for a bad name."""
    return TokenSecret(name, reference, p384, mldsa.MLDSA87PrivateKey.generate())


def p384_from_point(point: bytes) -> PublicKey:
    """The public key in a CKA_EC_POINT: a DER OCTET STRING of an X9.62 point (PKCS#11 v3.0 section 2.3.3).

    Some tokens give the bare point, which has another length. Raises InputError for anything else.
    """
    if len(point) in (COORDINATE + 3, 2 * COORDINATE + 3) and point[:2] == bytes([4, len(point) - 2]):
        point = point[2:]
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
    except ValueError:
        raise InputError(
            f"expected a point on P-384 as the token's public key, found {len(point)} other bytes"
        ) from None
    return PublicKey(Algorithm.P384, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def der_signature(raw: bytes) -> bytes:
    """CKM_ECDSA's r || s as the DER Ecdsa-Sig-Value (RFC 3279 section 2.2.3). Raises TrustError."""
    if len(raw) != 2 * COORDINATE:
        raise TrustError(f"expected a signature of {2 * COORDINATE} bytes from the token, found {len(raw)}")
    r, s = (int.from_bytes(half) for half in (raw[:COORDINATE], raw[COORDINATE:]))
    return encode_dss_signature(r, s)


def _escape(value: str | bytes) -> str:
    if isinstance(value, bytes):
        return "".join(f"%{octet:02X}" for octet in value)
    return quote(value, safe=_UNESCAPED)
