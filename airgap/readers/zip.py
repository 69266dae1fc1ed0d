"""A strict reader of zip archives (PKWARE APPNOTE 6.3.10): the central directory, and members as streams.

Readers differ on archives that break the rules, and a wheel that means one thing to us and another to
the installer proves nothing. So what is ambiguous is refused: anything before the first member or behind
the end record, two end records, members that overlap, names that occur twice or lead out of the tree,
encryption, other methods than stored and deflated, and a local header that contradicts the central one.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from airgap.errors import InputError, IntegrityError
from airgap.model import BundlePath, bundle_path
from airgap.readers.inflate import DEFLATED, STORED, Inflation, MemberSource, crc32, passing, unpacked
from airgap.readers.source import Source

MAX_DIRECTORY = 16 * 1024 * 1024
"""Bytes of central directory; the largest wheels on the public index have below 3 MiB."""

MAX_MEMBERS = 100_000
MAX_RATIO = 1032
"""Deflate cannot expand further (zlib's technical notes), so a member that claims to is lying."""

MAX_TOTAL = 1 << 40
"""Bytes of all members, unpacked."""

MAX_AT_ONCE = 512 * 1024
"""Bytes of a member, packed or not, that are unpacked in one call."""

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 0xFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000
"""Traditional, strong, and hidden headers (APPNOTE 4.4.4)."""

_MAX_VERSION = 63
"""The newest version of the format that a reader may be asked for, times ten (APPNOTE 4.4.3)."""

_PATCH = 0x20
"""The data are a patch of another file (APPNOTE 4.4.4, bit 5)."""

_DESCRIPTOR = 0x8
_UTF8 = 0x800
_UNICODE_PATH = 0x7075
_UNIX = 3
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive; `offset` is that of its local header, `compressed` and `size` are bytes."""

    path: BundlePath
    method: int
    flags: int
    crc: int
    compressed: int
    size: int
    offset: int
    raw_name: bytes


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory lies, as the end record says."""

    offset: int
    size: int
    count: int


class Archive:
    """The members of one zip archive; `what` names it in errors.

    Raises InputError when the archive breaks a rule of this module, at once or when the member is read;
    IntegrityError when a member's bytes are not what its CRC-32 promised.
    """

    def __init__(self, source: Source, what: str) -> None:
        self.what = what
        self._source = source
        directory = _find_directory(source, what)
        entries = list(_read_directory(source.read(directory.offset, directory.size), directory, what))
        self._ends = _extents(entries, directory.offset, what)
        self._members = _named(entries, what)

    @property
    def digest(self) -> str:
        return self._source.digest

    def paths(self) -> tuple[BundlePath, ...]:
        return tuple(self._members)

    def members(self) -> tuple[Member, ...]:
        """Every file, in the directory's order; directories' own entries are left out."""
        return tuple(self._members.values())

    def member(self, path: str) -> Member:
        """Raises InputError when there is none."""
        if path not in self._members:
            raise InputError(f"{self.what}: expected a member {path[:200]!r}, found none of that name")
        return self._members[BundlePath(path)]

    def read(self, path: str, max_bytes: int) -> bytes:
        """A small member whole, its CRC-32 checked. Raises InputError when larger than `max_bytes`."""
        size = self.member(path).size
        if size > max_bytes:
            raise InputError(f"{self.what}: {path}: {size} bytes, more than the {max_bytes} allowed")
        return b"".join(self.open(path))

    def open(self, path: str) -> Iterator[bytes]:
        """A member's bytes in chunks of at most 1 MiB; its end comes only when size and CRC-32 are right."""
        member = self.member(path)
        begin, what = self._data_begin(member), f"{self.what}: {path}"
        size = crc = 0
        for chunk in passing(self._source, begin, member.compressed, member.method, what):
            size += len(chunk)
            crc = crc32(chunk, crc)
            yield chunk
            if size > member.size:
                break
        if (size, crc) != (member.size, member.crc):
            raise IntegrityError(
                f"{self.what}: {path}: expected {member.size} bytes with CRC-32 {member.crc:08x},"
                f" found {size} or more with {crc:08x}",
                remedy="fetch the archive again",
            )

    def whole(self, member: Member) -> bytes | None:
        """A small member at once, its CRC-32 checked; None where only `open` can say what is wrong."""
        if member.compressed > MAX_AT_ONCE or member.size > MAX_AT_ONCE:
            return None
        packed = self._source.read(self._data_begin(member), member.compressed)
        data = unpacked(packed, member.size, member.method)
        return data if data is not None and crc32(data, 0) == member.crc else None

    def source(self, path: str) -> Source:
        """A member to be read at any offset, without holding it."""
        member = self.member(path)
        return MemberSource(self._inflation(member), member.size, member.crc, f"{self.what}: {path}")

    def _inflation(self, member: Member) -> Inflation:
        what = f"{self.what}: {member.path}"
        return Inflation(self._source, self._data_begin(member), member.compressed, member.method, what)

    def _data_begin(self, member: Member) -> int:
        """The offset of a member's data, once its local header agrees with the directory."""
        fixed = _LOCAL.size + len(member.raw_name)
        header = self._source.read(member.offset, fixed)
        signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack_from(
            header
        )
        begin = int(member.offset + fixed + extra_length)
        same = (
            (signature, header[_LOCAL.size :], name_length)
            == (b"PK\x03\x04", member.raw_name, len(member.raw_name))
            and (flags, method) == (member.flags, member.method)
            and begin + member.compressed <= self._ends[member.offset]
        )
        if same:
            if _FULL_32 in (size, packed):
                extra = self._source.read(member.offset + fixed, extra_length)
                size, packed = _zip64(extra, (size, packed), self.what)
            said, true = (crc, packed, size), (member.crc, member.compressed, member.size)
            same = said == true or bool(
                flags & _DESCRIPTOR  # then they follow the data (APPNOTE 4.3.9)
                and all(one in (0, other) for one, other in zip(said, true, strict=True))
            )
        if not same:
            raise InputError(
                f"{self.what}: {member.path}: its local header and the central directory disagree",
                remedy="fetch the archive again; if it is as published, report it to its publisher",
            )
        return begin


def _find_directory(source: Source, what: str) -> _Directory:
    """Read the end record, which must be the one thing at the archive's end (APPNOTE 4.3.16)."""
    tail_begin = max(0, source.size - _END.size - _MAX_COMMENT)
    tail = source.read(tail_begin, source.size - tail_begin)
    found = [at for at in _positions(tail, b"PK\x05\x06") if _ends_with(tail, at)]
    if not found:
        raise InputError(
            f"{what}: expected a zip archive that ends with its end record, found none there",
            remedy="fetch it again: it is cut off, something was appended, or it is no zip archive",
        )
    if len(found) > 1:
        raise InputError(f"{what}: expected one end record, found {len(found)} that could be it")
    [at] = found
    _, disk, directory_disk, here, count, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_begin + at
    if _FULL_16 in (here, count) or _FULL_32 in (size, offset) or _locator_before(tail, at):
        end, (here, count, size, offset) = _read_zip64_end(source, end, (here, count, size, offset), what)
    if disk or directory_disk or here != count:
        raise InputError(f"{what}: an archive of several volumes")
    if offset + size != end:
        raise InputError(
            f"{what}: expected the central directory to end at byte {end}, found {offset} + {size}",
            remedy="fetch it again: something was put before it or into it",
        )
    if size > MAX_DIRECTORY or count > MAX_MEMBERS:
        raise InputError(
            f"{what}: {count} members in a directory of {size} bytes; allowed are {MAX_MEMBERS} in"
            f" {MAX_DIRECTORY}"
        )
    return _Directory(offset, size, count)


def _positions(data: bytes, signature: bytes) -> Iterator[int]:
    at = data.find(signature)
    while at >= 0:
        yield at
        at = data.find(signature, at + 1)


def _ends_with(tail: bytes, at: int) -> bool:
    """Whether an end record at `at` reaches, with its comment, exactly to the end."""
    return len(tail) - at >= _END.size and at + _END.size + _END.unpack_from(tail, at)[7] == len(tail)


def _locator_before(tail: bytes, at: int) -> bool:
    return at >= _LOCATOR_64.size and tail[at - _LOCATOR_64.size :].startswith(b"PK\x06\x07")


def _read_zip64_end(
    source: Source, end: int, short: Sequence[int], what: str
) -> tuple[int, tuple[int, int, int, int]]:
    """The zip64 end record (APPNOTE 4.3.14) before the end record at `end`; `short` is what that one says."""
    at = end - _LOCATOR_64.size - _END_64.size
    if at < 0:
        raise InputError(f"{what}: expected a zip64 end record, found no room for one")
    data = source.read(at, _END_64.size + _LOCATOR_64.size)
    signature, size, _, _, disk, directory_disk, *values = _END_64.unpack_from(data)
    locator, locator_disk, place, disks = _LOCATOR_64.unpack_from(data, _END_64.size)
    agrees = all(
        known in (value, full)
        for known, value, full in zip(short, values, (_FULL_16, _FULL_16, _FULL_32, _FULL_32), strict=True)
    )
    if (signature, size, locator, place) != (b"PK\x06\x06", 44, b"PK\x06\x07", at) or not agrees:
        raise InputError(f"{what}: the zip64 end record is malformed, or the end record contradicts it")
    if disk or directory_disk or locator_disk or disks != 1:
        raise InputError(f"{what}: an archive of several volumes")
    here, count, directory_size, offset = values
    return at, (here, count, directory_size, offset)


def _read_directory(data: bytes, directory: _Directory, what: str) -> Iterator[Member]:
    at = 0
    for number in range(directory.count):
        if len(data) - at < _CENTRAL.size or not data.startswith(b"PK\x01\x02", at):
            raise InputError(
                f"{what}: expected entry {number} of the central directory, found something else"
            )
        fields = _CENTRAL.unpack_from(data, at)
        name_end = at + _CENTRAL.size + fields[10]
        end = name_end + fields[11] + fields[12]
        if end > len(data):
            raise InputError(f"{what}: entry {number} of the central directory is cut off")
        extra = data[name_end : name_end + fields[11]]
        yield _member(fields, data[at + _CENTRAL.size : name_end], extra, what)
        at = end
    if at != len(data):
        raise InputError(f"{what}: {len(data) - at} bytes behind the central directory's last entry")


def _member(fields: Sequence[int], raw_name: bytes, extra: bytes, what: str) -> Member:
    _, made_by, needed, flags, method, _, _, crc, packed, size, *_, attributes, offset = fields
    size, packed, offset = _zip64(extra, (size, packed, offset), what)
    path = _path(raw_name, flags, extra, what)
    kind = attributes >> 28 if made_by >> 8 == _UNIX else 0
    wrong = ""
    if flags & _ENCRYPTED:
        wrong = "is encrypted"
    elif flags & _PATCH or needed & 0xFF > _MAX_VERSION:
        wrong = "needs a feature that readers of wheels do not have"
    elif method not in (STORED, DEFLATED):
        wrong = f"has compression method {method}; expected stored or deflated"
    elif kind not in (0, 0x8, 0x4 if raw_name.endswith(b"/") else 0x8):
        wrong = "is a link or a device; expected a regular file"
    elif size > packed * MAX_RATIO or (method == STORED and size != packed):
        wrong = f"claims {size} bytes in {packed} packed ones, which its method cannot hold"
    elif raw_name.endswith(b"/") and size:
        wrong = "is a directory with content"
    if wrong:
        raise InputError(f"{what}: {path}: {wrong}")
    return Member(path, method, flags, crc, packed, size, offset, raw_name)


def _path(raw_name: bytes, flags: int, extra: bytes, what: str) -> BundlePath:
    try:
        name = raw_name.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise InputError(
            f"{what}: the name {raw_name[:80]!r} is not in the encoding it declares: readers would differ"
        ) from None
    if any(kind == _UNICODE_PATH for kind, _ in _extras(extra, what)):
        raise InputError(f"{what}: {name[:80]!r} has a second name in an extra field: readers would differ")
    try:
        return bundle_path(name.removesuffix("/"))
    except InputError as error:
        raise InputError(f"{what}: {error.message}") from None


def _extras(extra: bytes, what: str) -> Iterator[tuple[int, bytes]]:
    """Extra fields (APPNOTE 4.5.1). A rest too short for a header is padding, as zipalign writes it."""
    at = 0
    while len(extra) - at >= 4:
        kind, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra):
            raise InputError(f"{what}: an extra field is cut off")
        yield kind, extra[at + 4 : at + 4 + length]
        at += 4 + length


def _zip64(extra: bytes, values: tuple[int, ...], what: str) -> tuple[int, ...]:
    """Replace each value of 2^32-1 by the zip64 field's next (APPNOTE 4.5.3)."""
    if _FULL_32 not in values:
        return values
    wide = [data for kind, data in _extras(extra, what) if kind == 1]
    needed = values.count(_FULL_32)
    if len(wide) != 1 or len(wide[0]) < 8 * needed:
        raise InputError(f"{what}: expected a zip64 extra field with {needed} values")
    following = iter(struct.unpack_from(f"<{needed}Q", wide[0]))
    return tuple(next(following) if value == _FULL_32 else value for value in values)


def _extents(entries: Sequence[Member], directory: int, what: str) -> dict[int, int]:
    """Where each member must have ended, by its offset. Raises InputError when two overlap."""
    ordered = sorted(entries, key=lambda member: member.offset)
    begins = [*(member.offset for member in ordered), directory]
    if begins[0] != 0:
        raise InputError(
            f"{what}: {begins[0]} bytes before its first member; expected none",
            remedy="if it is a program with an archive behind it, name the archive itself",
        )
    for member, end in zip(ordered, begins[1:], strict=True):
        if member.offset + _LOCAL.size + len(member.raw_name) + member.compressed > end:
            raise InputError(f"{what}: {member.path} overlaps what follows it")
    if sum(member.size for member in entries) > MAX_TOTAL:
        raise InputError(f"{what}: its members are more than {MAX_TOTAL} bytes unpacked")
    return dict(pairwise(begins))


def _named(entries: Sequence[Member], what: str) -> dict[BundlePath, Member]:
    """The files by path. Raises InputError for a path that occurs twice, or is also a parent."""
    seen: set[str] = set()
    files = {member.path: member for member in entries if not member.raw_name.endswith(b"/")}
    parents: set[str] = set()
    for member in entries:
        if member.path in seen:
            raise InputError(f"{what}: {member.path} occurs twice")
        seen.add(member.path)
        directory = member.path.rpartition("/")[0]
        if directory in parents:
            continue
        parents.add(directory)
        parts = member.path.split("/")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if parent in files:
                raise InputError(f"{what}: {parent} is a file and also the parent of {member.path}")
    return files
