"""The bytes of a zip member, unpacked step by step; copies of the state make any offset reachable.

`passing` gives them once and in order, through `isal` where it is installed, in half of zlib's time.
A shared object of 460 MB has the list of its sections at its end and what they hold in the middle.
`MemberSource` reads both without holding it: it keeps a copy of the decompressor (some 45 KB) for every
16 MiB that it passed, and starts again at the nearest.
"""

import importlib
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, Protocol

from airgap.errors import InputError, IntegrityError
from airgap.readers.source import Source, inside

STORED: Final = 0
DEFLATED: Final = 8

CHUNK = 1024 * 1024
"""Bytes that one step gives at most."""

PACKED_CHUNK = 256 * 1024
PASSING_CHUNK = 256 * 1024
"""Bytes that `passing` gives at most: what was just unpacked is still in the CPU's cache when hashed."""

EVERY = 16 * 1024 * 1024


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...
    def copy(self) -> "_Decompressor": ...


class Inflation:
    """A place among a member's bytes, `offset` of them behind it; `begin` is where in `source` they lie."""

    def __init__(self, source: Source, begin: int, packed: int, method: int, what: str) -> None:
        self.offset = 0
        self._source = source
        self._next = begin
        self._end = begin + packed
        self._decompressor: _Decompressor | None = zlib.decompressobj(-15) if method == DEFLATED else None
        self._what = what

    def step(self) -> bytes:
        """The next bytes, at most `CHUNK`; b'' at the end. Raises InputError when they do not unpack."""
        out = self._stored() if self._decompressor is None else self._deflated(self._decompressor)
        self.offset += len(out)
        return out

    def fork(self) -> "Inflation":
        """The same place again."""
        other = Inflation(self._source, self._next, self._end - self._next, STORED, self._what)
        other.offset = self.offset
        other._decompressor = self._decompressor.copy() if self._decompressor else None
        return other

    def _stored(self) -> bytes:
        data = self._source.read(self._next, min(CHUNK, self._end - self._next))
        self._next += len(data)
        return data

    def _deflated(self, decompressor: _Decompressor) -> bytes:
        while not decompressor.eof:
            packed = self._source.read(self._next, min(PACKED_CHUNK, self._end - self._next))
            try:
                out = decompressor.decompress(packed, CHUNK)
            except zlib.error as error:
                raise InputError(f"{self._what}: cannot be unpacked: {error}") from None
            # What was read and not used is read again: it is in the page cache, or the source's own.
            self._next += len(packed) - len(decompressor.unused_data or decompressor.unconsumed_tail)
            if out:
                return out
            if not packed and not decompressor.eof:
                raise InputError(f"{self._what}: its packed bytes end too early")
        if self._next != self._end:
            raise InputError(f"{self._what}: {self._end - self._next} bytes lie behind its packed bytes")
        return b""


def passing(source: Source, begin: int, packed: int, method: int, what: str) -> Iterator[bytes]:
    """A member's bytes from the first to the last, in chunks of at most `CHUNK`; see `Inflation`.

    Raises InputError when they do not unpack. `isal` gives what zlib gives, and also takes Huffman codes that
    are incomplete (RFC 1951, 3.2.7), which zlib refuses: such a member is held by its CRC-32 alone.
    """
    isal = _isal("isal.igzip_lib")
    if isal is None or method != DEFLATED:
        place = Inflation(source, begin, packed, method, what)
        while chunk := place.step():
            yield chunk
        return
    decompressor = isal.IgzipDecompressor(isal.DECOMP_DEFLATE)
    end = begin + packed
    while not decompressor.eof:
        data = b""
        if decompressor.needs_input:
            data = source.read(begin, min(PACKED_CHUNK, end - begin))
            begin += len(data)
            if not data:
                raise InputError(f"{what}: its packed bytes end too early")
        try:
            out = decompressor.decompress(data, PASSING_CHUNK)
        except isal.IsalError as error:
            raise InputError(f"{what}: cannot be unpacked: {error}") from None
        if out:
            yield out
    if behind := end - begin + len(decompressor.unused_data):
        raise InputError(f"{what}: {behind} bytes lie behind its packed bytes")


def unpacked(packed: bytes, size: int, method: int) -> bytes | None:
    """All `size` bytes of a member from all of its packed ones; None where anything is wrong with them."""
    if method != DEFLATED:
        return packed if len(packed) == size else None
    isal = _isal("isal.igzip_lib")
    one = isal.IgzipDecompressor(isal.DECOMP_DEFLATE) if isal else zlib.decompressobj(-15)
    damaged: type[Exception] = isal.IsalError if isal else zlib.error
    try:
        data: bytes = one.decompress(packed, size + 1)  # one more: the end is seen only with room behind it
    except damaged:
        return None
    return data if one.eof and not one.unused_data and len(data) == size else None


def crc32(data: bytes, before: int) -> int:
    """As zlib.crc32, at a sixth of its time where `isal` is installed."""
    isal = _isal("isal.isal_zlib")
    return int(isal.crc32(data, before)) if isal else zlib.crc32(data, before)


@cache
def _isal(module: str) -> Any:
    """One of its modules; None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        return None


class MemberSource:
    """A member as a `Source`. Its CRC-32 is checked when its last byte is passed for the first time.

    Raises InputError when it does not unpack, IntegrityError when it unpacks to something else.
    """

    digest = ""

    def __init__(self, start: Inflation, size: int, crc: int, what: str) -> None:
        self._size = size
        self._expected = crc
        self._what = what
        self._marks = [start.fork()]
        self._at = start
        self._window = (0, b"")
        self._checked, self._crc = 0, 0

    @property
    def size(self) -> int:
        return self._size

    def read(self, start: int, count: int) -> bytes:
        inside(self._size, start, count, self._what)
        self._go_to(start)
        data = bytearray()
        while len(data) < count:
            begin, chunk = self._window
            data += chunk[start + len(data) - begin :][: count - len(data)]
            if len(data) < count:
                self._advance()
        return bytes(data)

    def _go_to(self, start: int) -> None:
        """Make the window hold offset `start`, or end just before it, from the nearest place before it."""
        begin, chunk = self._window
        nearest = max((mark for mark in self._marks if mark.offset <= start), key=lambda mark: mark.offset)
        if start < begin or nearest.offset > begin + len(chunk):
            self._at = nearest.fork()
            self._window = (nearest.offset, b"")
        while self._at.offset < start:
            self._advance()

    def _advance(self) -> None:
        begin = self._at.offset
        if begin >= self._marks[-1].offset + EVERY:
            self._marks.append(self._at.fork())
        chunk = self._at.step()
        if not chunk:
            raise IntegrityError(f"{self._what}: expected {self._size} bytes, found {begin}")
        self._window = (begin, chunk)
        self._check(begin, chunk)

    def _check(self, begin: int, chunk: bytes) -> None:
        end = begin + len(chunk)
        if end <= self._checked:
            return
        self._crc = crc32(chunk[self._checked - begin :], self._crc)
        self._checked = end
        if end > self._size or (end == self._size and self._crc != self._expected):
            raise IntegrityError(
                f"{self._what}: expected {self._size} bytes with CRC-32 {self._expected:08x},"
                f" found {end} or more with {self._crc:08x}",
                remedy="fetch the archive again",
            )
