"""A tar archive read forward once, entry by entry; nothing is written and nothing is held.

POSIX ustar and PAX (pax(1), "pax Header Block"), and of GNU's format long names, binary numbers and, by
size alone, sparse files. Everything is capped before it is read: whoever made the archive chose its numbers.
Readers differ where headers contradict each other. What counts here is what Go's archive/tar makes of them,
because every engine unpacks layers with it.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from airgap.errors import InputError
from airgap.readers.source import Readable

BLOCK = 512
SKIP = 1024 * 1024
"""Bytes read at once of what nobody wants."""

MAX_EXTENDED = 1024 * 1024
"""Bytes of a PAX header or a GNU long name; the longest path Linux takes has 4096."""

MAX_ENTRIES = 10_000_000


class EntryKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"
    SPECIAL = "device or FIFO"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member; `size` is the number of its bytes in the archive, `target` of a link as it is written."""

    path: str
    kind: EntryKind
    size: int = 0
    target: str = ""
    sparse: bool = False
    """Its bytes in the archive are pieces of the file, not the file."""
    mode: int = 0
    """Permission bits, setuid, setgid and sticky among them."""
    uid: int = 0
    gid: int = 0
    capable: bool = False
    """It has file capabilities (capabilities(7)), as builders write them into PAX headers."""


_EXTENSIONS = frozenset({b"L", b"K", b"x", b"g"})
_CAPABILITY = frozenset(f"{who}.xattr.security.capability" for who in ("SCHILY", "LIBARCHIVE"))

_LONG_NAME, _LONG_LINK = "=path", "=linkpath"
"""Under which GNU's long names are kept beside PAX records, whose keys have no `=`."""

_LONG = {b"L": _LONG_NAME, b"K": _LONG_LINK}

_KINDS = {
    **dict.fromkeys((b"0", b"\0", b"7", b"S"), EntryKind.FILE),
    b"1": EntryKind.HARD_LINK,
    b"2": EntryKind.SYMLINK,
    **dict.fromkeys((b"3", b"4", b"6"), EntryKind.SPECIAL),
    b"5": EntryKind.DIRECTORY,
}


class TarStream:
    """Iterate over it once; `read` gives the bytes of the entry that came last.

    Iterating and reading raise InputError for what is no tar, is cut off, or breaks a cap. `ahead` is how
    many bytes may be read from `stream` before anybody wants them, behind the archive's end, too: small
    entries cost less then.
    """

    def __init__(self, stream: Readable, what: str, *, ahead: int = 0) -> None:
        self._stream = stream
        self.what = what
        self._ahead = ahead
        self._held, self._at = b"", 0
        """Bytes that were read ahead, and how many of them are used up."""
        self._left = 0
        self._padding = 0
        self.marked = False
        """Whether the archive's end was marked, as pax(1) asks; else the stream just ended."""

    def __iter__(self) -> Iterator[Entry]:
        extended: dict[str, str] = {}
        for _ in range(MAX_ENTRIES):
            if rest := self._left + self._padding:
                self._skip(rest)
            header = self._block()
            if header is None:
                return
            kind = header[156:157]
            size = self._number(header[124:136], "size")
            if kind in _EXTENSIONS:
                self._begin(size)
                extended = self._extension(kind, size, extended)
                continue
            entry = self._entry(header, kind, size, extended)
            if extended:
                extended = {}
            # A link has no data, whatever its header says (pax(1), "ustar Interchange Format").
            self._begin(entry.size)
            yield entry
        raise InputError(f"{self.what}: more than {MAX_ENTRIES} entries")

    def read(self, max_bytes: int) -> bytes:
        """The current entry whole. Raises InputError when it is larger."""
        if self._left > max_bytes:
            raise InputError(f"{self.what}: an entry of {self._left} bytes, more than {max_bytes}")
        data = self._exactly(self._left)
        self._left = 0
        return data

    def chunk(self, count: int) -> bytes:
        """The next bytes of the current entry, at most `count`; b'' at its end."""
        wanted = min(count, self._left)
        data = self._next(wanted) if wanted else b""
        if wanted and not data:
            raise self._cut_off()
        self._left -= len(data)
        return data

    def behind(self, count: int) -> bytes:
        """The next bytes behind the archive's end, at most `count`; b'' at the end of the stream."""
        return self._next(count)

    def held(self) -> memoryview | None:
        """The current entry whole, where all of it was read ahead already; else None, and nothing is read.

        It is not copied: what was read ahead stays in memory as long as somebody holds a part of it.
        """
        end = self._at + self._left
        if end > len(self._held):
            return None
        data = memoryview(self._held)[self._at : end]
        self._at, self._left = end, 0
        return data

    def _begin(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _block(self) -> bytes | None:
        """The next header; None at the end, which two empty blocks or the end of the stream mark."""
        header = self._read(BLOCK)
        if not header or (header[0] == 0 and not header.strip(b"\0")):
            self.marked = bool(header)
            return None
        if len(header) < BLOCK:
            raise self._cut_off()
        # The lower half of Adler-32 is a sum plus one, and of 256 bytes below its modulus (RFC 1950).
        whole = (zlib.adler32(header[:256]) & 0xFFFF) + (zlib.adler32(header[256:]) & 0xFFFF) - 2
        if whole != _checked(header[148:156]):
            raise InputError(
                f"{self.what}: expected a tar header, found other bytes",
                remedy="fetch the image again; a layer must be a tar archive",
            )
        return header

    def _entry(self, header: bytes, kind: bytes, size: int, extended: dict[str, str]) -> Entry:
        sparse = kind == b"S" or (bool(extended) and _is_sparse(extended))
        path = (extended and _named(extended, sparse)) or _path(header)
        found = _KINDS.get(kind)
        if found is None:
            raise InputError(f"{self.what}: {path[:200]!r} is of type {kind!r}, which layers do not have")
        if kind == b"\0" and path.endswith("/"):
            found = EntryKind.DIRECTORY  # how tar wrote directories before it had a type for them
        mode, uid, gid = _owned(header[100:124])
        if found is not EntryKind.FILE:
            target = extended.get(_LONG_LINK) or extended.get("linkpath") or _text(header[157:257])
            return Entry(path, found, 0, target, mode=mode, uid=uid, gid=gid)
        if "size" in extended:
            size = self._decimal(extended["size"])
        if kind == b"S":
            self._skip_sparse_map(header)
        capable = not _CAPABILITY.isdisjoint(extended)
        return Entry(path, found, size, "", sparse, mode, uid, gid, capable)

    def _extension(self, kind: bytes, size: int, before: dict[str, str]) -> dict[str, str]:
        """What the headers up to this one say of the next entry."""
        if size > MAX_EXTENDED:
            raise InputError(f"{self.what}: an extended header of {size} bytes, more than {MAX_EXTENDED}")
        data = self.read(MAX_EXTENDED)
        if kind in _LONG:
            return before | {_LONG[kind]: _text(data)}
        if kind == b"g":  # values for all entries that follow: engines apply none, and drop those before
            self._pax(data)
            return {}
        return {key: value for key, value in before.items() if key in _LONG.values()} | self._pax(data)

    def _pax(self, data: bytes) -> dict[str, str]:
        """Records `<length> <key>=<value>\\n`, the length counting itself."""
        records: dict[str, str] = {}
        at = 0
        while at < len(data):
            space = data.find(b" ", at, at + 20)
            digits = data[at:space] if space > 0 else b""
            end = at + int(digits) if digits.isdigit() else 0
            if end <= space or end > len(data) or data[end - 1 : end] != b"\n":
                raise InputError(f"{self.what}: a PAX header whose records do not fit it")
            key, _, value = data[space + 1 : end - 1].partition(b"=")
            records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
            at = end
        return records

    def _skip_sparse_map(self, header: bytes) -> None:
        """GNU's old sparse format continues its map in blocks of their own before the data."""
        more = header[482]
        for _ in range(MAX_ENTRIES):
            if not more:
                return
            more = self._exactly(BLOCK)[504]

    def _number(self, field: bytes, name: str) -> int:
        """Octal digits, or with the first bit set a binary number (GNU)."""
        if field[0] == 0x80:
            return self._capped(int.from_bytes(field[1:], "big"))
        digits = field.strip(b"\0 ")
        if digits.strip(b"01234567"):  # not as nearly all writers have it
            digits = digits.split(b"\0", 1)[0].strip()
            if digits.strip(b"01234567"):
                raise InputError(f"{self.what}: a tar header whose {name} is {field!r}, no number")
        return int(digits or b"0", 8)  # of twelve digits at most

    def _decimal(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise InputError(f"{self.what}: a PAX size of {text[:40]!r}, no number")
        return self._capped(int(text))

    def _capped(self, value: int) -> int:
        if value > 2**60:
            raise InputError(f"{self.what}: a tar entry of {value} bytes, which no file has")
        return value

    def _read(self, count: int) -> bytes:
        """`count` bytes, fewer at the end of the stream."""
        end = self._at + count
        if end <= len(self._held):
            data = self._held[self._at : end]
            self._at = end
            return data
        data = self._next(count)
        while 0 < len(data) < count and (more := self._next(count - len(data))):
            data += more
        return data

    def _next(self, count: int) -> bytes:
        """At most `count` bytes, at least one but at the end of the stream."""
        if data := self._held[self._at : self._at + count]:
            self._at += len(data)
            return data
        if count >= self._ahead:
            return self._stream.read(count)
        self._held, self._at = self._stream.read(self._ahead), count
        return self._held[:count]

    def _exactly(self, count: int) -> bytes:
        data = self._read(count)
        if len(data) < count:
            raise self._cut_off()
        return data

    def _skip(self, count: int) -> None:
        if self._at + count <= len(self._held):
            self._at += count
            return
        while count:
            got = len(self._next(min(count, SKIP)))
            if not got:
                raise self._cut_off()
            count -= got

    def _cut_off(self) -> InputError:
        return InputError(f"{self.what}: the archive ends early", remedy="fetch the image again")


@lru_cache(maxsize=4096)
def _checked(field: bytes) -> int:
    """What a header's bytes add up to by its checksum, which they count as eight spaces themselves."""
    return _lenient(field) - 8 * 32 + sum(field)


@lru_cache  # of which a layer has few
def _owned(fields: bytes) -> tuple[int, int, int]:
    """Permission bits, user and group, which lie behind one another."""
    return _lenient(fields[:8]) & 0o7777, max(0, _lenient(fields[8:16])), max(0, _lenient(fields[16:24]))


def _lenient(field: bytes) -> int:
    """Mode, user or group; 0 for what is no number, as builders write for an owner they do not know."""
    if field[0] & 0x80:  # binary, in two's complement behind the first bit (GNU)
        width = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << width) - 1)
        return value - (1 << width) if field[0] & 0x40 else value
    digits = field.strip(b"\0 ").split(b"\0", 1)[0].strip()
    return int(digits or b"0", 8) if not digits.strip(b"01234567") else 0


def _is_sparse(extended: dict[str, str]) -> bool:
    """Whether PAX records make a sparse file of an entry: those of versions 0.0, 0.1 and 1.0 of GNU's."""
    version = extended.get("GNU.sparse.major", ""), extended.get("GNU.sparse.minor", "")
    mapped = extended.get("GNU.sparse.map") or extended.get("GNU.sparse.offset")
    return version in _SPARSE or (version == ("", "") and bool(mapped))


_SPARSE = (("0", "0"), ("0", "1"), ("1", "0"))


def _named(extended: dict[str, str], sparse: bool) -> str:
    """The name that extended headers give; '' where they give none."""
    own = extended.get("GNU.sparse.name") if sparse else ""
    return own or extended.get(_LONG_NAME) or extended.get("path") or ""


def _path(header: bytes) -> str:
    name = _text(header[:100])
    if header[345] == 0 or header[257:263] != b"ustar\0":
        return name
    # star keeps times behind a shorter prefix.
    prefix = _text(header[345 : 476 if header[508:] == b"tar\0" else 500])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
