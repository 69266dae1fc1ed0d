"""Holders and their keys.

One suite, no negotiation (CNSA 1.0 and 2.0): every holder has an ECDSA P-384 key, which signs with
SHA-384 (FIPS 186-5), *and* an ML-DSA-87 key (FIPS 204). No other algorithm has a name here.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa, types
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

from airgap.errors import InputError
from airgap.model import NAME_PATTERN

_DIGEST = ec.ECDSA(Prehashed(hashes.SHA384()))


class Algorithm(StrEnum):
    """The two that format 1 requires, by the names securesystemslib gives their schemes."""

    P384 = "ecdsa-sha2-nistp384"
    MLDSA87 = "ml-dsa-87/1"

    @property
    def label(self) -> str:
        """What a person calls it."""
        return "ECDSA P-384" if self is Algorithm.P384 else "ML-DSA-87"


@dataclass(frozen=True, slots=True)
class Message:
    """A pre-authentication encoding, hashed once for however many keys and signatures are tried.

    ML-DSA-87 signs `"tuf" 0x01 SHA-512(bytes)` in its pure form with an empty context, as
    securesystemslib's scheme `ml-dsa-87/1` does (TUF TAP 21).
    """

    sha384: bytes
    mldsa87: bytes

    @classmethod
    def of(cls, encoding: bytes) -> "Message":
        return cls(hashlib.sha384(encoding).digest(), b"tuf\x01" + hashlib.sha512(encoding).digest())


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of one of the two algorithms as SubjectPublicKeyInfo DER (RFC 5280 section 4.1).

    Raises InputError when the DER is of another algorithm or curve, or not the one spelling of the key.
    """

    algorithm: Algorithm
    spki: bytes

    def __post_init__(self) -> None:
        key = _load_public(self.spki)
        found = algorithm_of(key)
        if found is not self.algorithm:
            raise InputError(f"expected an {self.algorithm.label} public key, found {describe(key)}")
        if _spki(key) != self.spki:
            raise InputError(f"the {self.algorithm.label} public key is not written in its DER form")

    @property
    def keyid(self) -> str:
        """sha256 of the DER, in hex: what `openssl pkey -pubin -outform DER | sha256sum` prints."""
        return hashlib.sha256(self.spki).hexdigest()

    def verifies(self, signature: bytes, message: Message) -> bool:
        """Whether this key made `signature`: DER `Ecdsa-Sig-Value` for P-384, raw for ML-DSA-87."""
        key = _load_public(self.spki)
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message.sha384, _DIGEST)
            else:
                assert isinstance(key, mldsa.MLDSA87PublicKey)
                key.verify(signature, message.mldsa87)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Holder:
    """A person who signs: a name and one public key of each algorithm."""

    name: str
    p384: PublicKey
    mldsa87: PublicKey

    def __post_init__(self) -> None:
        require_name(self.name)
        if (self.p384.algorithm, self.mldsa87.algorithm) != (Algorithm.P384, Algorithm.MLDSA87):
            raise InputError(f"the holder {self.name} needs one key of each algorithm")

    @property
    def keyids(self) -> tuple[str, str]:
        return self.p384.keyid, self.mldsa87.keyid


def require_name(name: str) -> None:
    """Raise InputError for a holder's name that is none."""
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > 64:
        raise InputError(f"expected a holder's name such as alice, found {name[:80]!r}")


class Signer(Protocol):
    """Whoever can sign as `holder`: keys in memory, or in a token."""

    @property
    def holder(self) -> Holder: ...

    def sign(self, algorithm: Algorithm, message: Message) -> bytes:
        """The signature of one algorithm, as `PublicKey.verifies` expects it."""


class HolderSecret:
    """Both private keys of a holder, in memory. Its repr shows the holder only."""

    def __init__(self, name: str, p384: ec.EllipticCurvePrivateKey, mldsa87: mldsa.MLDSA87PrivateKey) -> None:
        self._p384 = p384
        self._mldsa87 = mldsa87
        self._holder = Holder(
            name,
            PublicKey(Algorithm.P384, _spki(p384.public_key())),
            PublicKey(Algorithm.MLDSA87, _spki(mldsa87.public_key())),
        )

    def __repr__(self) -> str:
        return f"HolderSecret({self._holder.name!r})"

    @property
    def holder(self) -> Holder:
        return self._holder

    def sign(self, algorithm: Algorithm, message: Message) -> bytes:
        if algorithm is Algorithm.P384:
            return self._p384.sign(message.sha384, _DIGEST)
        return self._mldsa87.sign(message.mldsa87)

    def pkcs8(self) -> tuple[bytes, bytes]:
        """Both private keys in clear, P-384 first (PKCS#8 PrivateKeyInfo DER, RFC 5208)."""
        p384, mldsa87 = (
            key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            for key in (self._p384, self._mldsa87)
        )
        return p384, mldsa87


def generate(name: str) -> HolderSecret:
    """New keys from the operating system's randomness. Raises InputError for a name that is none."""
    return HolderSecret(name, ec.generate_private_key(ec.SECP384R1()), mldsa.MLDSA87PrivateKey.generate())


def shared_keys(holders: Iterable[Holder]) -> list[str]:
    """Describe every key that two holders claim: it would let one person count twice."""
    owners: dict[str, str] = {}
    problems = []
    for holder in holders:
        for keyid in holder.keyids:
            other = owners.setdefault(keyid, holder.name)
            if other != holder.name:
                problems.append(f"{other} and {holder.name} share the key {keyid}")
    return problems


def algorithm_of(key: object) -> Algorithm | None:
    """Which of the two a loaded public or private key is for."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return Algorithm.P384 if isinstance(key.curve, ec.SECP384R1) else None
    return Algorithm.MLDSA87 if isinstance(key, mldsa.MLDSA87PublicKey | mldsa.MLDSA87PrivateKey) else None


def describe(key: object) -> str:
    """What a loaded key is, for an error: `ECDSA secp256r1`, `RSA 2048`, `MLDSA65`."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return f"RSA {key.key_size}"
    return re.sub(r"^_|(Public|Private)Key$", "", type(key).__name__)


def _load_public(der: bytes) -> types.PublicKeyTypes:
    try:
        return load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("expected a SubjectPublicKeyInfo in DER, found other bytes") from None


def _spki(key: types.PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
