"""The GPU code in a shared object: which architectures its fat binaries hold.

NVIDIA does not document the container. What is read of it (kind at byte 0 of an entry, its sizes at 4 and
8, the architecture at 28, flags at 40) was found by comparison with cuobjdump on real wheels, which
tests/readers/test_fatbin.py repeats.

`read_architectures` steps through a file that lies somewhere; `PassingGpuCode` finds the same in one that
goes by once, whose sections are known only at its end.
"""

import heapq
import struct
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum

from airgap.errors import InputError
from airgap.readers.elf import Elf
from airgap.readers.source import Source

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
MAX_ENTRIES = 1_000_000
MAX_ARCHITECTURES = 1000

MAX_PADDING = 4096
"""Bytes of zeros between two containers; linkers align them to 8."""

MAX_CONTAINERS = 20_000
"""Of one object that goes by; those of the largest wheels have below 2000."""

MAX_STEPS = 300_000
"""Headers of containers and entries of one object that goes by."""

_MAGIC = 0xBA55ED50
_HEADER = struct.Struct("<I2HQ")
_ENTRY_SIZE = 64
_VARIANTS = {0: "", 0x100000: "a", 0x200000: "f"}
"""By the two bits of the flags that cuobjdump turns into the letter behind the number."""

_WORD = 8
_MARK = struct.pack("<I", _MAGIC)


class CodeKind(StrEnum):
    """CUBIN runs as it is; PTX is compiled by the driver, for this architecture and newer ones."""

    PTX = "ptx"
    CUBIN = "cubin"


@dataclass(frozen=True, slots=True, order=True)
class Architecture:
    """`sm` is ten times the compute capability.

    `variant` is 'a' for code that runs on exactly that one, 'f' on its family (10.0 and 10.3, say), else ''.
    """

    sm: int
    variant: str
    kind: CodeKind

    def __str__(self) -> str:
        return f"{'sm' if self.kind is CodeKind.CUBIN else 'compute'}_{self.sm}{self.variant}"


@dataclass(frozen=True, slots=True)
class _Container:
    """One fat binary: where it ends, where behind its padding other bytes begin, and what is in it."""

    end: int
    following: int
    architectures: Counter[Architecture]


_Walk = Generator[tuple[int, int], bytes, _Container]
"""Asks for bytes, by offset and count, ever further on; fewer come only where the file ends."""


def read_architectures(source: Source, elf: Elf, what: str) -> Counter[Architecture]:
    """How many entries there are of each architecture; none for an object without GPU code.

    Reads 64 bytes of each entry and steps over its code. Raises InputError for a malformed container.
    """

    def container(at: int) -> _Container:
        walk = _container(at, what)
        try:
            place, count = next(walk)
            while True:
                here = min(place, source.size)
                place, count = walk.send(source.read(here, min(count, source.size - here)))
        except StopIteration as done:
            found: _Container = done.value
            return found

    return _in_sections(elf, container, what)


class PassingGpuCode:
    """The containers of an object whose bytes are fed in order, in any pieces, and never seen again.

    Wherever the mark of a container passes, one is followed; which of them count, and that they fill their
    sections without a gap, is judged when the sections are known. Holds no more than their numbers.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._end = 0
        self._kept = b""
        self._searched = 0
        self._waiting: list[tuple[int, int, int, int, _Walk]] = []
        """Offset and count that each walk waits for, in the order of its offset, and where it began."""
        self._found: dict[int, _Container] = {}
        self._started = self._steps = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises InputError where the object has more containers than any real one."""
        data = self._kept + chunk
        base = self._end - len(self._kept)
        self._end += len(chunk)
        self._look_for_marks(data, base)
        self._serve(data, base, last=False)
        self._kept = data[-MAX_PADDING:]

    def architectures(self, elf: Elf) -> Counter[Architecture]:
        """As `read_architectures`, once all bytes were fed. Raises InputError."""
        self._serve(self._kept, self._end - len(self._kept), last=True)

        def container(at: int) -> _Container:
            if at not in self._found:
                raise InputError(f"{self._what}: expected a fat binary at byte {at}, found something else")
            return self._found[at]

        return _in_sections(elf, container, self._what)

    def _look_for_marks(self, data: bytes, base: int) -> None:
        at = data.find(_MARK, self._searched - base)
        while at >= 0:
            self._started += 1
            if self._started > MAX_CONTAINERS:
                raise InputError(f"{self._what}: more than {MAX_CONTAINERS} containers of GPU code")
            self._ask(base + at, _container(base + at, self._what), None)
            at = data.find(_MARK, at + 1)
        self._searched = max(self._searched, base + len(data) - len(_MARK) + 1)

    def _ask(self, begin: int, walk: _Walk, answer: bytes | None) -> None:
        """Let a walk go on; what it found is kept, and a mark that was no container is forgotten."""
        try:
            place, count = next(walk) if answer is None else walk.send(answer)
        except StopIteration as done:
            self._found[begin] = done.value
        except InputError:
            pass
        else:
            heapq.heappush(self._waiting, (place, self._steps, begin, count, walk))
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise InputError(f"{self._what}: more than {MAX_STEPS} entries of GPU code")

    def _serve(self, data: bytes, base: int, *, last: bool) -> None:
        while self._waiting:
            place, _, begin, count, walk = self._waiting[0]
            if not last and place + count > base + len(data):
                return
            heapq.heappop(self._waiting)
            self._ask(begin, walk, data[place - base :][:count] if place >= base else b"")


def _in_sections(elf: Elf, container: Callable[[int], _Container], what: str) -> Counter[Architecture]:
    """The sum over the containers that fill the sections of GPU code, one behind the other."""
    found: Counter[Architecture] = Counter()
    for section in elf.sections:
        if section.name not in SECTIONS:
            continue
        at, end = section.offset, section.offset + section.size
        while end - at >= _HEADER.size:
            one = container(at)
            if one.end > end:
                raise InputError(f"{what}: expected a fat binary at byte {at}, found one that leads outside")
            found.update(one.architectures)
            if found.total() > MAX_ENTRIES or len(found) > MAX_ARCHITECTURES:
                raise InputError(
                    f"{what}: {found.total()} entries of GPU code for {len(found)} architectures"
                )
            at = one.following
    return found


def _container(begin: int, what: str) -> _Walk:
    """One container; it is padded to 8 bytes, and to whatever follows, with zeros."""
    header = yield begin, _HEADER.size
    if len(header) < _HEADER.size or header[:4] != _MARK:
        raise InputError(f"{what}: expected a fat binary at byte {begin}, found something else")
    _, _, header_size, size = _HEADER.unpack(header)
    if header_size < _HEADER.size:
        raise InputError(f"{what}: expected a fat binary at byte {begin}, found something else")
    found: Counter[Architecture] = Counter()
    at, end = begin + header_size, begin + header_size + size
    while at < end:
        entry = b"" if end - at < _ENTRY_SIZE else (yield at, _ENTRY_SIZE)
        if len(entry) < _ENTRY_SIZE:
            raise InputError(f"{what}: an entry of GPU code at byte {at} is cut off")
        architecture, length = _entry(entry, at, what)
        if at + length > end:
            raise InputError(f"{what}: an entry of GPU code at byte {at} is malformed")
        found[architecture] += 1
        if len(found) > MAX_ARCHITECTURES:
            raise InputError(f"{what}: {found.total()} entries of GPU code for {len(found)} architectures")
        at += length
    padded = end + -end % _WORD
    padding = yield padded, MAX_PADDING
    zeros = len(padding) - len(padding.lstrip(b"\0"))
    return _Container(end, padded + zeros // _WORD * _WORD, found)


def _entry(data: bytes, at: int, what: str) -> tuple[Architecture, int]:
    """What one entry's code is for, and its bytes from header to end."""
    kind, _, header_size, size = struct.unpack_from("<2HIQ", data)
    (sm,) = struct.unpack_from("<I", data, 28)
    (flags,) = struct.unpack_from("<Q", data, 40)
    variant = _VARIANTS.get(flags & 0x300000)
    if header_size < _ENTRY_SIZE or kind not in (1, 2) or variant is None:
        raise InputError(f"{what}: an entry of GPU code at byte {at} is malformed")
    return Architecture(sm, variant, CodeKind.PTX if kind == 1 else CodeKind.CUBIN), header_size + size
