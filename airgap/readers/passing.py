"""Files that are too large to hold, read while they go by in a stream: shared objects."""

from typing import Protocol

from airgap.errors import InputError
from airgap.readers.elf import Elf, read_elf
from airgap.readers.fatbin import Architecture, PassingGpuCode
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.source import inside

HEAD = 4 * 1024 * 1024
"""Bytes that are kept of the beginning, where linkers put the names of libraries."""

TAIL = 24 * 1024 * 1024
"""Bytes that are kept of the end: the list of sections, and tables that patchelf moved there when a wheel was
repaired. Those of vLLM 0.19's largest module, of 462 MB, begin 4.6 MB before its end.
"""

MAX_NEEDED = 200


class Passing(Protocol):
    """Somebody who looks at a file's bytes as they go by, once and in order, and keeps what he learns."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises nothing: what is wrong with them is a thing to remember."""

    def end(self) -> None:
        """There are no more."""


class Noticed:
    """A file that nobody reads, and that is worth mentioning."""

    def __init__(self, path: str, size: int) -> None:
        """Which file it was, its `ImageFile` says."""

    def feed(self, chunk: bytes) -> None:
        """Lets it pass."""

    def end(self) -> None:
        """Nothing was learned."""


class PassingObject:
    """The libraries that a shared object needs, and the architectures of the GPU code in it.

    `problem` says why they are not known; else they are, after `end`. Holds `HEAD` and `TAIL` until then.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.needed: tuple[str, ...] = ()
        self.architectures: frozenset[Architecture] = frozenset()
        self.problem: NotUnderstood | None = None
        self._ends: _Ends | None = _Ends(path, size)
        self._code: PassingGpuCode | None = PassingGpuCode(path)

    def feed(self, chunk: bytes) -> None:
        if self._ends and self._code:
            self._ends.feed(chunk)
            try:
                self._code.feed(chunk)
            except InputError as error:
                self._give_up(error)

    def end(self) -> None:
        if self._ends and self._code:
            try:
                elf = read_elf(self._ends, self.path)
                self.architectures = frozenset(self._code.architectures(elf))
                self.needed = _needed(elf)
            except InputError as error:
                self._give_up(error)
        self._ends = self._code = None

    def _give_up(self, error: InputError) -> None:
        self.problem = NotUnderstood(self.path, 0, error.message)
        self._ends = self._code = None


def _needed(elf: Elf) -> tuple[str, ...]:
    """Library names, of which a hostile object has many and long ones."""
    return tuple(name[:255] for name in elf.needed[:MAX_NEEDED])


class _Ends:
    """A `Source` of which only the beginning and the end were kept."""

    digest = ""

    def __init__(self, what: str, size: int) -> None:
        self._what = what
        self._size = size
        self._head, self._tail = bytearray(), bytearray()
        self._tail_begin = max(HEAD, size - TAIL)
        self._at = 0

    @property
    def size(self) -> int:
        return self._size

    def feed(self, chunk: bytes) -> None:
        self._head += chunk[: max(0, HEAD - self._at)]
        self._tail += chunk[max(0, self._tail_begin - self._at) :]
        self._at += len(chunk)

    def read(self, start: int, count: int) -> bytes:
        inside(self._size, start, count, self._what)
        if start + count <= len(self._head):
            return bytes(self._head[start : start + count])
        if start >= self._tail_begin:
            return bytes(self._tail[start - self._tail_begin :][:count])
        if self._tail_begin == len(self._head):  # small enough that nothing is missing between the two
            return bytes((self._head + self._tail)[start : start + count])
        raise InputError(
            f"{self._what}: a table at byte {start}, in the middle of {self._size}, has gone by unread"
        )
