"""The GPU code in a shared object: which architectures its fat binaries hold.

NVIDIA does not document the container. What is read of it (kind at byte 0 of an entry, its sizes at 4 and
8, the architecture at 28, flags at 40) was found by comparison with cuobjdump on real wheels, which
tests/readers/test_fatbin.py repeats.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from airgap.errors import InputError
from airgap.readers.elf import Elf
from airgap.readers.source import Source

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
MAX_ENTRIES = 1_000_000
MAX_ARCHITECTURES = 1000

_MAGIC = 0xBA55ED50
_HEADER = struct.Struct("<I2HQ")
_ENTRY_SIZE = 64
_VARIANTS = {0: "", 0x100000: "a", 0x200000: "f"}
"""By the two bits of the flags that cuobjdump turns into the letter behind the number."""

_WORD = 8


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


def read_architectures(source: Source, elf: Elf, what: str) -> Counter[Architecture]:
    """How many entries there are of each architecture; none for an object without GPU code.

    Reads 64 bytes of each entry and steps over its code. Raises InputError for a malformed container.
    """
    found: Counter[Architecture] = Counter()
    number = 0
    for section in elf.sections:
        if section.name in SECTIONS:
            for entry in _entries(source, section.offset, section.offset + section.size, what):
                found[entry] += 1
                number += 1
                if number > MAX_ENTRIES or len(found) > MAX_ARCHITECTURES:
                    raise InputError(f"{what}: {number} entries of GPU code for {len(found)} architectures")
    return found


def _entries(source: Source, begin: int, end: int, what: str) -> Iterator[Architecture]:
    """The entries of every container between two offsets; containers are padded to 8 bytes with zeros."""
    at = begin
    while end - at >= _HEADER.size:
        header = source.read(at, _HEADER.size)
        magic, _, header_size, size = _HEADER.unpack(header)
        if magic == 0 and header[:_WORD] == bytes(_WORD):
            at += _WORD
            continue
        if magic != _MAGIC or header_size < _HEADER.size or at + header_size + size > end:
            raise InputError(f"{what}: expected a fat binary at byte {at}, found something else")
        yield from _container(source, at + header_size, at + header_size + size, what)
        at += header_size + size
        at += -at % _WORD


def _container(source: Source, at: int, end: int, what: str) -> Iterator[Architecture]:
    while at < end:
        if end - at < _ENTRY_SIZE:
            raise InputError(f"{what}: an entry of GPU code at byte {at} is cut off")
        data = source.read(at, _ENTRY_SIZE)
        kind, _, header_size, size = struct.unpack_from("<2HIQ", data)
        (sm,) = struct.unpack_from("<I", data, 28)
        (flags,) = struct.unpack_from("<Q", data, 40)
        variant = _VARIANTS.get(flags & 0x300000)
        if (
            header_size < _ENTRY_SIZE
            or at + header_size + size > end
            or kind not in (1, 2)
            or variant is None
        ):
            raise InputError(f"{what}: an entry of GPU code at byte {at} is malformed")
        yield Architecture(sm, variant, CodeKind.PTX if kind == 1 else CodeKind.CUBIN)
        at += header_size + size
