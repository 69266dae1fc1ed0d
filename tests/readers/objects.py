"""Shared objects made by hand, laid out as the System V gABI says, and fat binaries to put into them."""

import struct
from collections.abc import Sequence

Part = tuple[str, int, bytes, int]
"""A section: its name, type, bytes, and the number of the section it links to."""


def elf(parts: Sequence[Part], *, order: str = "<", wide: bool = True, machine: int = 62) -> bytes:
    """An ELF file; section 0 is the null section, the last one holds the names."""
    names = bytearray(b"\0")
    placed: list[tuple[int, int, int, int, int]] = [(0, 0, 0, 0, 0)]
    header = 64 if wide else 52
    body = bytearray()
    for name, kind, data, link in [*parts, (".shstrtab", 3, b"", 0)]:
        at = len(names)
        names += name.encode() + b"\0"
        content = bytes(names) if name == ".shstrtab" else data
        placed.append((at, kind, header + len(body), len(content), link))
        body += content + b"\0" * (-len(content) % 8)
    section = f"{order}{'2I4Q2I2Q' if wide else '10I'}"
    table = b"".join(
        struct.pack(section, at, kind, 0, 0, begin, size, link, 0, 1, 0)
        for at, kind, begin, size, link in placed
    )
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    fields = (3, machine, 1, 0, 0, header + len(body), 0, header, 0, 0, struct.calcsize(section))
    head = struct.pack(
        f"{order}16s2HI{'3Q' if wide else '3I'}I6H", ident, *fields, len(placed), len(placed) - 1
    )
    return head + bytes(body) + table


def dynamic(entries: Sequence[tuple[int, int]], order: str = "<", wide: bool = True) -> bytes:
    return b"".join(struct.pack(f"{order}{'qQ' if wide else 'iI'}", *entry) for entry in [*entries, (0, 0)])


def needed_versions(libraries: Sequence[tuple[int, Sequence[int]]], order: str = "<") -> bytes:
    """`.gnu.version_r`: offsets of a library's name and of the names of its versions."""
    out = bytearray()
    for number, (library, versions) in enumerate(libraries):
        size = 16 + 16 * len(versions)
        following = size if number + 1 < len(libraries) else 0
        out += struct.pack(f"{order}2H3I", 1, len(versions), library, 16, following)
        for index, version in enumerate(versions):
            step = 16 if index + 1 < len(versions) else 0
            out += struct.pack(f"{order}I2H2I", 0, 0, 2, version, step)
    return bytes(out)


def gpu_code(*entries: tuple[int, int, int], header: int = 64, code: bytes = b"\xed\xba" * 4) -> bytes:
    """One fat binary; an entry is its kind (1 PTX, 2 cubin), architecture and flags, and has this code."""
    body = b""
    for kind, architecture, flags in entries:
        entry = bytearray(header)
        struct.pack_into("<2HIQ", entry, 0, kind, 0x101, header, len(code))
        struct.pack_into("<I", entry, 28, architecture)
        struct.pack_into("<Q", entry, 40, flags)
        body += bytes(entry) + code
    return struct.pack("<I2HQ", 0xBA55ED50, 1, 16, len(body)) + body
