"""The bytes of one blob, read from its media once and hashed in order while they are looked at.

`Forward` gives them one after another, for what can be read so. A zip archive cannot: its directory is at
its end. `Seeking` reads that first, keeps it, and gives the kept bytes again when their turn comes to be
hashed: so the bytes that were parsed are the bytes that were hashed, and none is read twice.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator

from airgap.errors import InputError
from airgap.readers.source import Readable, inside

CHUNK = 1024 * 1024

STEP = 256 * 1024
"""Bytes that pass at once: what was just read or unpacked is still in the CPU's cache when it is hashed."""

MAX_PEEKED = 32 * 1024 * 1024
"""Bytes kept that were read before their turn: a zip's directory, and the documents of a wheel."""

WINDOW = 2 * 1024 * 1024
"""Bytes kept behind: a decompressor gives back what it did not use."""


class BombError(InputError):
    """Something unpacks to more than anything honest does."""


class Budget:
    """What one blob may unpack to, in bytes and in names, however deeply it is nested.

    Deflate alone reaches a thousandfold; source text and weights of zeros stay below `RATIO`.
    """

    RATIO = 200
    FREE = 64 * 1024 * 1024
    NAMES = 1_000_000

    def __init__(self, size: int) -> None:
        self.allowed = max(self.FREE, size * self.RATIO)
        self.unpacked = 0
        self.names = 0

    def spend(self, count: int) -> None:
        """Raises BombError."""
        self.unpacked += count
        if self.unpacked > self.allowed:
            raise BombError(f"unpacks to more than {self.allowed} bytes, the most that is read of it")

    def name(self) -> None:
        """Raises BombError."""
        self.names += 1
        if self.names > self.NAMES:
            raise BombError(f"holds more than {self.NAMES} names")


class Peeking:
    """A stream of which the first bytes can be seen before they are read, told to `see` as they pass."""

    _least = 0
    """Bytes that are read at least, of which nobody has asked for the last ones yet."""

    def __init__(self, inner: Readable, see: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._see = see
        self._ahead = b""
        self.size = 0

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        while (missing := count - len(self._ahead)) > 0:
            data = self._inner.read(max(missing, self._least))
            if not data:
                break
            self._pass(data)
            self._ahead = self._ahead + data if self._ahead else data
        return self._ahead[:count]

    def read(self, count: int, /) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead[:count], self._ahead[count:]
            return data
        data = self._inner.read(count)
        self._pass(data)
        return data

    def drain(self) -> None:
        """Let the rest pass."""
        self._ahead = b""
        while data := self._inner.read(STEP):
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        self.size += len(data)
        self._see(data)


class Hashed(Peeking):
    """A file inside of something: its sha256, and its share of the budget."""

    _least = STEP

    def __init__(self, inner: Readable, budget: Budget) -> None:
        self._hasher = hashlib.sha256()
        self._budget = budget
        super().__init__(inner, self._hasher.update)

    @property
    def sha256(self) -> str:
        return self._hasher.hexdigest()

    def _pass(self, data: bytes) -> None:
        self.size += len(data)
        self._budget.spend(len(data))
        self._see(data)


class Chunks:
    """An iterator of bytes as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, count: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        data, self._rest = self._rest[:count], self._rest[count:]
        return data


class Forward:
    """A blob from its start; `readinto` fills `buffer` from the media, and `see` is told what it gave."""

    def __init__(
        self,
        readinto: Callable[[memoryview], int],
        see: Callable[[bytes | memoryview], None],
        buffer: memoryview,
    ) -> None:
        self._readinto = readinto
        self._see = see
        self._buffer = buffer

    def read(self, count: int, /) -> bytes:
        data = bytes(self._buffer[: self._readinto(self._buffer[:count])])
        self._see(data)
        return data

    def drain(self) -> None:
        """Hash the rest."""
        while count := self._readinto(self._buffer):
            self._see(self._buffer[:count])


class Seeking:
    """A blob of `size` bytes as a `Source`: what is read before `begin` is kept, then all passes in order.

    `read_at` gives the bytes asked for, or fewer where the file ends; `see` is told each byte once. `head` is
    what was read of its start already.
    """

    digest = ""

    def __init__(
        self,
        read_at: Callable[[int, int], bytes],
        size: int,
        see: Callable[[bytes], None],
        what: str,
        head: bytes = b"",
    ) -> None:
        self.size = size
        self._read_at = read_at
        self._see = see
        self._what = what
        self._kept: list[tuple[int, bytes]] = [(0, head)]
        self._passed = 0
        self._window: deque[tuple[int, bytes]] = deque()
        self._begun = False

    def begin(self) -> None:
        """From here on everything is hashed as it is read."""
        self._begun = True

    def read(self, start: int, count: int) -> bytes:
        if self._window:
            begin, data = self._window[-1]
            if begin <= start <= start + count <= begin + len(data):
                return data[start - begin : start - begin + count]
        inside(self.size, start, count, self._what)
        for begin, data in self._kept:
            if begin <= start and start + count <= begin + len(data):
                return data[start - begin : start - begin + count]
        if not self._begun:
            return self._keep(start, count)
        while self._passed < start + count:
            self._advance()
        if not self._window or start < self._window[0][0]:  # further back than anything is kept
            return self._exactly(start, count)
        return b"".join(
            data[max(0, start - begin) : start + count - begin]
            for begin, data in self._window
            if begin < start + count and start < begin + len(data)
        )

    def finish(self) -> None:
        """Let the rest pass."""
        self._begun = True
        while self._passed < self.size:
            self._advance()

    def _keep(self, start: int, count: int) -> bytes:
        end = start + count
        before = next((k[start - b :] for b, k in self._kept if b <= start < b + len(k)), b"")
        after = next((k[: end - b] for b, k in self._kept if start < b < end <= b + len(k)), b"")
        middle = max(0, count - len(before) - len(after))
        data = before + self._exactly(start + len(before), middle)
        data += after[len(after) - (count - len(data)) :]
        if sum(len(kept) for _, kept in self._kept) + count > MAX_PEEKED:
            raise InputError(f"{self._what}: more than {MAX_PEEKED} bytes of directory and documents")
        self._kept.append((start, data))
        return data

    def _advance(self) -> None:
        """Let the next bytes pass, those that are kept from there."""
        at = self._passed
        data = next((k[at - b :] for b, k in self._kept if b <= at < b + len(k)), b"")
        if not data:
            ahead = [begin - at for begin, _ in self._kept if begin > at]
            data = self._exactly(at, min([CHUNK, self.size - at, *ahead]))
        self._see(data)
        self._passed += len(data)
        self._window.append((at, data))
        while self._passed - self._window[0][0] - len(self._window[0][1]) > WINDOW:
            self._window.popleft()

    def _exactly(self, start: int, count: int) -> bytes:
        data = self._read_at(start, count)
        if len(data) < count:
            raise InputError(f"{self._what}: ends before byte {start + count}")
        return data
