"""The packages in an rpm database: `rpmdb.sqlite` of rpm 4.16 and later, whose rows are header blobs.

The blob is rpm's header format (rpm manual, "RPM v4 file format", Header): two counts, index entries of
16 bytes, and the data that they point into, all numbers big-endian. SQLite itself reads the file, under the
guards that its authors name for hostile ones (sqlite.org/security.html).
"""

import os
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

from airgap.errors import InputError

MAX_DATABASE = 512 * 1024 * 1024
"""Bytes; that of a full desktop has some 250 MiB."""

MAX_HEADER = 32 * 1024 * 1024
"""Bytes of one package's header; kernels and fonts, with the longest lists of files, stay below 8 MiB."""

MAX_PACKAGES = 100_000
MAX_STEPS = 20_000_000
"""Instructions of SQLite's virtual machine; a row takes about five."""

MAX_ENTRIES = 0xFFFF
MAX_TEXT = 1024

_STEP = 10_000
_COUNTS, _ENTRY = struct.Struct(">2I"), struct.Struct(">4I")
_INT32, _STRING, _I18N = 4, 6, 9
_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCHITECTURE, _SOURCE = (
    1000, 1001, 1002, 1003, 1011, 1014, 1022, 1044,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RpmPackage:
    """What a header says; '' for what it does not. `epoch` is digits."""

    name: str
    epoch: str
    version: str
    release: str
    architecture: str
    license: str
    vendor: str
    source: str
    """The source package it was built from, as `bash-5.1.8-6.el9.src.rpm`."""

    @property
    def evr(self) -> str:
        """`[epoch:]version-release`, as rpm and its advisories write it."""
        return f"{f'{self.epoch}:' if self.epoch else ''}{self.version}-{self.release}"


def read_header(data: bytes, what: str) -> RpmPackage:
    """Raises InputError for what is no header, or one without name and version."""
    if len(data) < _COUNTS.size:
        raise InputError(f"{what}: expected an rpm header, found {len(data)} bytes")
    entries, size = _COUNTS.unpack_from(data)
    begin = _COUNTS.size + entries * _ENTRY.size
    if entries > MAX_ENTRIES or begin + size != len(data):
        raise InputError(
            f"{what}: expected an rpm header, found {entries} entries and {size} bytes in {len(data)}"
        )
    found: dict[int, str] = {}
    for at in range(_COUNTS.size, begin, _ENTRY.size):
        tag, kind, offset, count = _ENTRY.unpack_from(data, at)
        if tag == _EPOCH and kind == _INT32 and count and offset + 4 <= size:
            found.setdefault(tag, str(int.from_bytes(data[begin + offset :][:4], "big")))
        elif tag in _TEXTS and kind in (_STRING, _I18N) and offset < size:
            end = data.find(b"\0", begin + offset, begin + offset + MAX_TEXT)
            if end < 0:
                raise InputError(f"{what}: a text of its header has no end")
            found.setdefault(tag, data[begin + offset : end].decode("utf-8", "replace"))
    if not found.get(_NAME) or not found.get(_VERSION):
        raise InputError(f"{what}: expected a header with name and version")
    return RpmPackage(*(found.get(tag, "") for tag in _FIELDS))


_FIELDS = (_NAME, _EPOCH, _VERSION, _RELEASE, _ARCHITECTURE, _LICENSE, _VENDOR, _SOURCE)
_TEXTS = frozenset(_FIELDS) - {_EPOCH}


class PassingRpmDatabase:
    """`rpmdb.sqlite` as it goes by: written to a temporary file, which is gone after `end`.

    `packages` is what it lists, imported keys (`gpg-pubkey`) left out; `problem` says why that is not all.
    """

    def __init__(self, path: str, size: int) -> None:
        self.packages: tuple[RpmPackage, ...] = ()
        self.problem = ""
        self._path = path
        self._size = size
        self._file: tempfile._TemporaryFileWrapper[bytes] | None = None
        if size > MAX_DATABASE:
            self.problem = f"{size} bytes, more than the {MAX_DATABASE} that are read"

    def feed(self, chunk: bytes) -> None:
        if self.problem:
            return
        try:
            if self._file is None:
                self._file = tempfile.NamedTemporaryFile(prefix="airgap-rpmdb-")  # noqa: SIM115
            self._file.write(chunk)
        except OSError as error:
            self._give_up(f"no temporary copy of it can be made: {error.strerror}")

    def end(self) -> None:
        if self._file:
            try:
                self._file.flush()
                self.packages = tuple(read_database(self._file.name, self._size, f"/{self._path}"))
            except (InputError, OSError) as error:
                self._give_up(str(error))
        self._close()

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        self._close()

    def _close(self) -> None:
        if self._file:
            self._file.close()
        self._file = None


def read_database(file: str | os.PathLike[str], size: int, what: str) -> Iterator[RpmPackage]:
    """The packages of a database of `size` bytes, a private copy that nobody writes to. Raises InputError."""
    uri = f"file:{quote(os.fspath(file))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            _guard(database)
            yield from _packages(database, size, what)
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise InputError(f"{what}: SQLite cannot read it: {str(error)[:200]}") from None


def _guard(database: sqlite3.Connection) -> None:
    """Whoever made the file chose its schema too: a view in place of the table, or rows without end."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += _STEP
        return steps > MAX_STEPS

    def allow(action: int, table: str | None, *_: object) -> int:
        reading = action == sqlite3.SQLITE_READ and table == "Packages"
        return sqlite3.SQLITE_OK if reading or action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_DENY

    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_HEADER)
    database.set_progress_handler(count, _STEP)
    database.set_authorizer(allow)


def _packages(database: sqlite3.Connection, size: int, what: str) -> Iterator[RpmPackage]:
    left = size  # pages that many rows share could make them endless
    for number, (blob,) in enumerate(database.execute("SELECT blob FROM Packages")):
        if not isinstance(blob, bytes):
            raise InputError(f"{what}: expected an rpm header in every row, found {type(blob).__name__}")
        left -= len(blob)
        if number >= MAX_PACKAGES or left < 0:
            raise InputError(f"{what}: more than {MAX_PACKAGES} packages, or more bytes than it has")
        package = read_header(blob, what)
        if package.name != "gpg-pubkey":
            yield package
