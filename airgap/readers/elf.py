"""What a shared object needs of its host: libraries and symbol versions (System V gABI, ELF64 and ELF32).

Everything is found by the section headers, as `readelf -d -V` does; nothing is mapped or loaded.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airgap.errors import InputError
from airgap.readers.source import Source

MAX_SECTIONS = 4096
MAX_TABLE = 32 * 1024 * 1024
"""Bytes of one string, dynamic or version table; those of the largest wheels are below 10 MiB."""

MAX_NAMES = 10_000

_DYNAMIC, _STRINGS, _NEEDED_VERSIONS = 6, 3, 0x6FFFFFFE
_NOBITS = 8
_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 14, 15, 29
_MACHINES = {
    3: "i686",
    22: "s390x",
    21: "ppc64le",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
}


@dataclass(frozen=True, slots=True)
class Section:
    """`offset` and `size` are bytes in the file; `link` is the index of the section it refers to."""

    name: str
    kind: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class Elf:
    """One ELF file. `versions` maps a library to the symbol versions that are needed of it."""

    machine: str
    """As `uname -m` has it; '' for one that no wheel is for."""
    needed: tuple[str, ...]
    soname: str
    search_path: tuple[str, ...]
    """DT_RPATH and DT_RUNPATH, as written."""
    versions: Mapping[str, tuple[str, ...]]
    sections: tuple[Section, ...]

    @property
    def glibc(self) -> str:
        """The newest GLIBC_x.y it needs, as `2.34`; '' when none."""
        named = [name for names in self.versions.values() for name in names]
        found = [
            match
            for match in (re.fullmatch(r"GLIBC_([0-9]{1,4})\.([0-9]{1,4})(\.[0-9]+)?", n) for n in named)
            if match
        ]
        return "{}.{}".format(*max((int(match[1]), int(match[2])) for match in found)) if found else ""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Byte order and width of one file."""

    order: str
    wide: bool

    @property
    def header(self) -> struct.Struct:
        return struct.Struct(f"{self.order}16s2HI{'3Q' if self.wide else '3I'}I6H")

    @property
    def section(self) -> struct.Struct:
        return struct.Struct(f"{self.order}{'2I4Q2I2Q' if self.wide else '10I'}")

    @property
    def dynamic(self) -> struct.Struct:
        return struct.Struct(f"{self.order}{'qQ' if self.wide else 'iI'}")


def is_elf(source: Source) -> bool:
    return source.size >= 4 and source.read(0, 4) == b"\x7fELF"


def read_elf(source: Source, what: str) -> Elf:
    """Raises InputError for what is no ELF file, or one whose tables lead outside of it."""
    if not is_elf(source) or source.size < 64:
        raise InputError(f"{what}: expected an ELF file, found something else")
    layout, machine, place = _read_header(source, what)
    sections = _read_sections(source, layout, place, what)
    needed, soname, search_path = _read_dynamic(source, layout, sections, what)
    versions = _read_versions(source, layout, sections, what)
    return Elf(machine, needed, soname, search_path, versions, sections)


def _read_header(source: Source, what: str) -> tuple[_Layout, str, tuple[int, int, int]]:
    """The layout, the machine, and where the section headers are: offset, count, index of their names."""
    ident = source.read(0, 16)
    if ident[4] not in (1, 2) or ident[5] not in (1, 2):
        raise InputError(f"{what}: expected ELF class and data 1 or 2, found {ident[4]} and {ident[5]}")
    layout = _Layout("<" if ident[5] == 1 else ">", ident[4] == 2)
    fields = layout.header.unpack(source.read(0, layout.header.size))
    machine, offset, entry, count, names = fields[2], fields[6], fields[11], fields[12], fields[13]
    if count and entry != layout.section.size:
        raise InputError(f"{what}: expected section headers of {layout.section.size} bytes, found {entry}")
    if count > MAX_SECTIONS:
        raise InputError(f"{what}: {count} sections, more than the {MAX_SECTIONS} allowed")
    return layout, _MACHINES.get(machine, ""), (offset, count, names)


def _read_sections(
    source: Source, layout: _Layout, place: tuple[int, int, int], what: str
) -> tuple[Section, ...]:
    offset, count, names_index = place
    table = source.read(offset, count * layout.section.size)
    headers = [tuple(map(int, fields)) for fields in layout.section.iter_unpack(table)]
    raw = [Section("", kind, begin, size, link) for _, kind, _, _, begin, size, link, *_ in headers]
    for section in raw:
        if section.kind != _NOBITS and section.offset + section.size > source.size:
            raise InputError(f"{what}: a section at byte {section.offset} leads outside of the file")
    names = _table(source, raw[names_index], what) if names_index < len(raw) else b""
    return tuple(
        Section(_text(names, header[0], what), s.kind, s.offset, s.size, s.link)
        for header, s in zip(headers, raw, strict=True)
    )


def _read_dynamic(
    source: Source, layout: _Layout, sections: tuple[Section, ...], what: str
) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    found: dict[int, list[str]] = {}
    for section in sections:
        if section.kind != _DYNAMIC:
            continue
        strings = _linked(source, sections, section, what)
        data = _table(source, section, what)
        for tag, value in layout.dynamic.iter_unpack(
            data[: len(data) // layout.dynamic.size * layout.dynamic.size]
        ):
            if tag == 0:
                break
            if tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH):
                if sum(map(len, found.values())) > MAX_NAMES:
                    raise InputError(f"{what}: more than {MAX_NAMES} libraries and paths")
                found.setdefault(tag, []).append(_text(strings, value, what))
    paths = [*found.get(_DT_RPATH, ()), *found.get(_DT_RUNPATH, ())]
    return tuple(found.get(_DT_NEEDED, ())), "".join(found.get(_DT_SONAME, ())[:1]), tuple(paths)


def _read_versions(
    source: Source, layout: _Layout, sections: tuple[Section, ...], what: str
) -> dict[str, tuple[str, ...]]:
    """`.gnu.version_r` (Linux Standard Base, symbol versioning): lists of Verneed and their Vernaux."""
    found: dict[str, list[str]] = {}
    for section in sections:
        if section.kind == _NEEDED_VERSIONS:
            strings = _linked(source, sections, section, what)
            for library, version in _needed_versions(_table(source, section, what), layout.order, what):
                found.setdefault(_text(strings, library, what), []).append(_text(strings, version, what))
    return {library: tuple(names) for library, names in found.items()}


def _needed_versions(data: bytes, order: str, what: str) -> Iterator[tuple[int, int]]:
    """Offsets of the names of a library and of one version of it."""
    at, left = 0, MAX_NAMES
    while True:
        _, count, library, first, following = _unpack(f"{order}2H3I", data, at, what)
        place = at + first
        for _ in range(count):
            _, _, _, name, step = _unpack(f"{order}I2H2I", data, place, what)
            left -= 1
            if left < 0:
                raise InputError(f"{what}: more than {MAX_NAMES} symbol versions")
            yield library, name
            place += step
        if not following:
            return
        at += following


def _unpack(form: str, data: bytes, at: int, what: str) -> tuple[int, ...]:
    if at + struct.calcsize(form) > len(data):
        raise InputError(f"{what}: its symbol versions lead outside of their section")
    return struct.unpack_from(form, data, at)


def _linked(source: Source, sections: tuple[Section, ...], section: Section, what: str) -> bytes:
    """The string table a section's names are in."""
    if section.link >= len(sections) or sections[section.link].kind != _STRINGS:
        raise InputError(
            f"{what}: {section.name or 'a section'}: expected a string table behind it, found none"
        )
    return _table(source, sections[section.link], what)


def _table(source: Source, section: Section, what: str) -> bytes:
    if section.size > MAX_TABLE:
        raise InputError(f"{what}: a table of {section.size} bytes, more than the {MAX_TABLE} allowed")
    return source.read(section.offset, section.size)


def _text(strings: bytes, offset: int, what: str) -> str:
    end = strings.find(b"\0", offset)
    if offset > len(strings) or (end < 0 and strings):
        raise InputError(f"{what}: a name leads outside of its table")
    return strings[offset:end].decode("utf-8", "replace")[:4096]
