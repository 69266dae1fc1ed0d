"""The header of a patch: which ranges of which blobs a site copies.

Invariant: only InputError escapes; every piece of a header that is accepted lies inside of its source, and
they add up to the stated size.
"""

import io
from functools import cache

from airgap.model import Sha256
from airgap.patch import LITERAL, Piece, Recipe, read_header, render_header
from tests.fuzz.harness import accepted

SOURCES = {Sha256("1" * 64): 1000, Sha256("2" * 64): 10}


@cache
def seeds() -> dict[str, bytes]:
    pieces = (Piece(1, 0, 600), Piece(LITERAL, 0, 4), Piece(2, 9, 1))
    whole = render_header(Recipe(605, tuple(SOURCES), pieces)) + b"text"
    return {
        "patch": whole,
        "literals": render_header(Recipe(4, (), (Piece(LITERAL, 0, 4),))) + b"text",
        "bad-outside": render_header(Recipe(605, tuple(SOURCES), pieces)) + b"tex",
        "bad-length": b"\xff" * 8 + whole[8:],
    }


def check(data: bytes) -> bool:
    recipe = accepted(lambda found: read_header(io.BytesIO(found), SOURCES, len(found)), data)
    if recipe is None:
        return False
    literals = len(data) - 8 - int.from_bytes(data[:8], "little")
    for piece in recipe.pieces:
        whole = literals if piece.source == LITERAL else SOURCES[recipe.sources[piece.source - 1]]
        assert 0 <= piece.offset < piece.offset + piece.length <= whole
    assert sum(piece.length for piece in recipe.pieces) == recipe.size
    return True
