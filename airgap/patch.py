"""A patch: the bytes of a blob as ranges of blobs that the other side holds, and what none of them has.

    8 bytes      length of the header, little-endian
    header       canonical JSON: format, size of the result, sources, pieces
    the rest     literal bytes, in the order in which pieces use them

`pieces` is a flat list of source, offset, length for each piece; source 0 is the literal bytes, of which
`offset` counts from the header's end, source n the n-th of `sources`. Pieces follow each other and make up
the result. A patch is signed like any blob, and what it makes is held to the signed sha384 of the blob it
stands for, so nothing in it has to be believed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from airgap.decode import MAX_DOCUMENT, Fields, canonical_json, parse_json
from airgap.errors import InputError
from airgap.model import Sha256, sha256_hex

FORMAT = 1
LENGTH_BYTES = 8
LITERAL = 0
CHUNK = 256 * 1024
"""Bytes per read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes at `offset` of a source, or of the literal bytes where `source` is LITERAL."""

    source: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """The header. `size` is the result's; pieces name sources by their place in `sources`, from 1."""

    size: int
    sources: tuple[Sha256, ...]
    pieces: tuple[Piece, ...]

    @property
    def literal_bytes(self) -> int:
        return sum(piece.length for piece in self.pieces if piece.source == LITERAL)


def merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same with neighbours made one where the second goes on where the first ends."""
    last: Piece | None = None
    for piece in pieces:
        if last and piece.source == last.source and piece.offset == last.offset + last.length:
            last = Piece(last.source, last.offset, last.length + piece.length)
            continue
        if last:
            yield last
        last = piece
    if last:
        yield last


def render_header(recipe: Recipe) -> bytes:
    """Length and header; the literal bytes follow. Raises InputError when it is too long to be read back."""
    header = canonical_json(
        {
            "format": FORMAT,
            "size": recipe.size,
            "sources": list(recipe.sources),
            "pieces": [number for p in recipe.pieces for number in (p.source, p.offset, p.length)],
        }
    )
    if len(header) > MAX_DOCUMENT:
        raise InputError(f"a patch of {len(recipe.pieces)} pieces is more than a reader accepts")
    return len(header).to_bytes(LENGTH_BYTES, "little") + header


def read_header(stream: BinaryIO, sizes: Mapping[Sha256, int], literal_end: int) -> Recipe:
    """Read a header; afterwards `stream` stands at the literal bytes.

    `sizes` are the sources' that the statement names, `literal_end` is the patch's own size. Raises
    InputError when any piece lies outside of what it is cut from.
    """
    length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
    if not 0 < length <= min(MAX_DOCUMENT, literal_end - LENGTH_BYTES):
        raise InputError(f"a patch's header of {length} bytes, where {literal_end} are left")
    recipe = _parse(stream.read(length))
    literals = literal_end - LENGTH_BYTES - length
    for piece in recipe.pieces:
        _require_inside(piece, recipe, sizes, literals)
    if sum(piece.length for piece in recipe.pieces) != recipe.size:
        raise InputError(f"the pieces of a patch do not add up to the {recipe.size} bytes it states")
    return recipe


def apply(
    recipe: Recipe,
    read: Callable[[int, memoryview, int], int],
    write: Callable[[memoryview], None],
) -> None:
    """Write the result piece by piece.

    `read(source, buffer, offset)` fills a buffer from an offset of a source, or of the literal bytes
    (LITERAL), and returns the count; 0 before a piece is whole raises InputError.
    """
    buffer = memoryview(bytearray(CHUNK))
    for piece in recipe.pieces:
        done = 0
        while done < piece.length:
            count = read(piece.source, buffer[: piece.length - done], piece.offset + done)
            if count == 0:
                raise InputError("a source of a patch is shorter than was stated")
            write(buffer[:count])
            done += count


def _parse(data: bytes) -> Recipe:
    fields = Fields(parse_json(data, "a patch"))
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads patch format {FORMAT}")
    size = fields.integer("size")
    sources = fields.texts("sources")
    numbers = fields.integers("pieces")
    if len(numbers) % 3:
        fields.problem("pieces", "expected source, offset and length of each")
    fields.done()
    fields.raise_if_bad("a patch")
    pieces = (Piece(*numbers[start : start + 3]) for start in range(0, len(numbers), 3))
    return Recipe(size, tuple(sha256_hex(text) for text in sources), tuple(pieces))


def _require_inside(piece: Piece, recipe: Recipe, sizes: Mapping[Sha256, int], literals: int) -> None:
    if piece.source > len(recipe.sources):
        raise InputError(f"a patch names source {piece.source} of {len(recipe.sources)}")
    whole = literals if piece.source == LITERAL else sizes.get(recipe.sources[piece.source - 1], 0)
    if piece.length == 0 or piece.offset + piece.length > whole:
        raise InputError(f"a patch takes {piece.length} bytes at {piece.offset} of {whole}")
