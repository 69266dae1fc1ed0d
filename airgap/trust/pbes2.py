"""Private keys under a passphrase: PKCS#8 EncryptedPrivateKeyInfo with PBES2 (RFC 8018 section 6.2).

Built by hand because cryptography's BestAvailableEncryption uses 2048 rounds of PBKDF2. cryptography
and, for P-384, openssl read it as it is, so nothing here decrypts.
"""

import hashlib
import os

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from airgap.errors import InputError

ROUNDS = 600_000
"""Of PBKDF2-HMAC-SHA512: above the 210 000 of OWASP's cheat sheet, 0.3 s on one core."""

_SALT = 16
_KEY = 32
_BLOCK = 16


def seal(private_key_info: bytes, passphrase: bytes) -> bytes:
    """Encrypt PKCS#8 DER under a fresh salt and IV. Raises InputError for an empty passphrase."""
    if not passphrase:
        raise InputError(
            "the passphrase is empty", remedy="choose one, or pass --no-passphrase for rehearsals"
        )
    salt, iv = os.urandom(_SALT), os.urandom(_BLOCK)
    key = hashlib.pbkdf2_hmac("sha512", passphrase, salt, ROUNDS, dklen=_KEY)
    padder = padding.PKCS7(_BLOCK * 8).padder()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    padded = padder.update(private_key_info) + padder.finalize()
    return _sequence(_algorithm(salt, iv), _octets(encryptor.update(padded) + encryptor.finalize()))


def _algorithm(salt: bytes, iv: bytes) -> bytes:
    """AlgorithmIdentifier of PBES2 with PBKDF2 and AES-256-CBC (RFC 8018 appendix A)."""
    rounds = ROUNDS.to_bytes(3, "big")
    prf = _sequence(_oid("2a864886f70d020b"), bytes.fromhex("0500"))  # hmacWithSHA512, NULL
    pbkdf2 = _sequence(
        _oid("2a864886f70d01050c"),
        _sequence(_octets(salt), _der(0x02, rounds), _der(0x02, bytes([_KEY])), prf),
    )
    aes = _sequence(_oid("60864801650304012a"), _octets(iv))
    return _sequence(_oid("2a864886f70d01050d"), _sequence(pbkdf2, aes))


def _der(tag: int, content: bytes) -> bytes:
    """One DER value; contents here are below 64 KiB."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _octets(content: bytes) -> bytes:
    return _der(0x04, content)


def _oid(encoded: str) -> bytes:
    return _der(0x06, bytes.fromhex(encoded))
