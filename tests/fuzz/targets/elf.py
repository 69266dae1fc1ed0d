"""A shared object from a wheel, and the GPU code in it.

Invariant: only InputError escapes; no section that is used lies outside the file; who sees the bytes go by
once learns the same.
"""

import struct
from functools import cache

from airgap.readers.elf import is_elf, read_elf
from airgap.readers.fatbin import read_architectures
from airgap.readers.passing import PassingObject
from airgap.readers.source import BytesSource
from tests.fuzz.harness import accepted

IDENTITY = b"\x7fELF\x02\x01\x01" + bytes(9)


@cache
def seeds() -> dict[str, bytes]:
    """A file of no sections, and one of two: a table of names, and a fat binary of one cubin for sm_90."""
    names = b"\0.shstrtab\0.nv_fatbin\0"
    entry = struct.pack("<HHIQ12xI", 2, 0x101, 64, 64, 90).ljust(64, b"\0") + bytes(64)
    fat = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entry)) + entry
    header = struct.Struct("<16s2HI3QI6H")
    section = struct.Struct("<2I4Q2I2Q")
    begin = header.size
    table = begin + len(names) + len(fat)
    sections = (
        bytes(section.size),
        section.pack(1, 3, 0, 0, begin, len(names), 0, 0, 1, 0),
        section.pack(11, 1, 0, 0, begin + len(names), len(fat), 0, 0, 1, 0),
    )
    empty = header.pack(IDENTITY, 3, 62, 1, 0, 0, 0, 0, 64, 0, 0, 64, 0, 0)
    full = header.pack(IDENTITY, 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 1)
    return {
        "bad-short": IDENTITY,
        "empty": empty,
        "fatbin": full + names + fat + b"".join(sections),
    }


def check(data: bytes) -> bool:
    source = BytesSource(data)
    elf = accepted(lambda _: read_elf(source, "lib.so"), data)
    if elf is None:
        return False
    assert is_elf(source) and isinstance(elf.glibc, str)
    standing = accepted(lambda _: read_architectures(source, elf, "lib.so"), data)
    passing = PassingObject("lib.so", len(data))
    for start in range(0, len(data), 97):
        passing.feed(data[start : start + 97])
    passing.end()
    if passing.problem is None:
        assert standing is not None and passing.architectures == set(standing)
    return True
