"""Digests short enough for paper and telephone: eight groups of three symbols, the last two a check.

The symbols are Crockford's base32: digits and letters without I, L, O and U. Case, spaces and hyphens are
free, I and L are read as 1, O as 0. The check is the BCH code of bech32m (BIP-350, polynomial and constant),
which also covers the words that are read out with a digest, as bech32 covers its human-readable part.
It finds every mistake of up to four symbols, two neighbours swapped among them, and every single wrong
letter in the words; one in 2^30 of all other mistakes goes unseen.
"""

import re
from collections.abc import Iterable

from airgap.errors import InputError

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DIGEST_SYMBOLS = 18
"""90 bits: nobody finds another list of the same short digest by chance, and 2^90 tries buy a refusal."""

CHECK_SYMBOLS = 6
GROUP = 3

CODE = rf"[0-9A-Za-z](?:[ -]?[0-9A-Za-z]){{{DIGEST_SYMBOLS + CHECK_SYMBOLS - 1}}}"
"""What a spelled digest looks like, mistakes included."""

_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3

_VALUES = {symbol: value for value, symbol in enumerate(ALPHABET)} | {"I": 1, "L": 1, "O": 0}


def shorten(digest: str) -> str:
    """The first 90 bits of a digest of hex digits, as 18 symbols."""
    number = int(digest, 16) >> (4 * len(digest) - 5 * DIGEST_SYMBOLS)
    return "".join(ALPHABET[number >> shift & 31] for shift in range(5 * (DIGEST_SYMBOLS - 1), -1, -5))


def spell(words: str, short: str) -> str:
    """What is read out or written down for a shortened digest; `words` are ASCII and read out with it."""
    values = [_VALUES[symbol] for symbol in short]
    check = _polymod([*_expand(words), *values, *[0] * CHECK_SYMBOLS]) ^ _BECH32M
    symbols = short + "".join(
        ALPHABET[check >> shift & 31] for shift in range(5 * (CHECK_SYMBOLS - 1), -1, -5)
    )
    return "-".join(symbols[start : start + GROUP] for start in range(0, len(symbols), GROUP))


def read_spelled(words: str, text: str) -> str:
    """The shortened digest that `spell` wrote, as a person typed it. Raises InputError for a mistake."""
    symbols = re.sub(r"[\s-]", "", text).upper()
    wrong = sorted(set(symbols) - _VALUES.keys())
    if len(symbols) != DIGEST_SYMBOLS + CHECK_SYMBOLS or wrong:
        found = f"the symbol {wrong[0]!r}" if wrong else f"{len(symbols)} symbols"
        raise InputError(f"expected 8 groups of 3 symbols from {ALPHABET}, found {found}")
    values = [_VALUES[symbol] for symbol in symbols]
    if _polymod([*_expand(words), *values]) != _BECH32M:
        raise InputError(
            f"mistyped or misheard: the check of {text[:80]!r} does not fit", remedy="have it read out again"
        )
    return "".join(ALPHABET[value] for value in values[:DIGEST_SYMBOLS])


def _expand(words: str) -> list[int]:
    """BIP-173, "Checksum": the high bits of every character, a zero, the low bits."""
    return [*(ord(letter) >> 5 for letter in words), 0, *(ord(letter) & 31 for letter in words)]


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            check ^= term if top >> bit & 1 else 0
    return check
