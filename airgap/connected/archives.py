"""Files by name in an uncompressed tar or below a directory, read in place and never extracted.

A tar is walked once for its headers (POSIX.1-2008 pax, ustar, GNU); bytes are then read by offset.
"""

import hashlib
import io
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from airgap.errors import InputError
from airgap.model import Local, Sha256
from airgap.progress import Progress
from airgap.store import CHUNK

MAX_MEMBERS = 100_000
"""Far beyond an image's blobs; a bound on what a hostile archive can make us remember."""

MAX_HEADER = 1024 * 1024
"""Bytes of one tar header read; PAX records of an image archive are below 1 KiB."""

MAX_LINKS = 8

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"\x28\xb5\x2f\xfd": "unzstd", b"\xfd7zXZ": "unxz", b"BZh": "bunzip2"}


class Files(Protocol):
    """Regular files by relative name: the members of a tar, or what lies below a directory."""

    label: str

    def holds(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def open(self, name: str) -> BinaryIO: ...

    def origin(self, name: str) -> Local: ...


def read_small(files: Files, name: str, max_bytes: int) -> bytes:
    """A document whole. Raises InputError when it is absent or larger than `max_bytes`."""
    if not files.holds(name):
        raise InputError(f"{files.label}: expected a regular file {name!r}, found none")
    if files.size(name) > max_bytes:
        raise InputError(
            f"{files.label}: {name!r} is larger than {max_bytes} bytes, which no such document is"
        )
    with files.open(name) as stream:
        return stream.read(max_bytes)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a regular member's bytes lie in an uncompressed tar."""

    offset: int
    size: int


class TarFiles:
    """The regular members of a tar on disk, links between them resolved. Raises InputError."""

    def __init__(self, path: Path, text: str) -> None:
        self.label = text
        self.path = path
        self._text = text
        try:
            with open(path, "rb") as stream:
                self._spans = _walk(stream, text)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None

    def holds(self, name: str) -> bool:
        return name in self._spans

    def size(self, name: str) -> int:
        return self._spans[name].size

    def span(self, name: str) -> Span:
        return self._spans[name]

    def open(self, name: str) -> BinaryIO:
        return self.open_span(self._spans[name])

    def open_span(self, span: Span) -> BinaryIO:
        return io.BufferedReader(_SpanReader(open(self.path, "rb"), span), CHUNK)

    def origin(self, name: str) -> Local:
        return Local(self._text, name)


class _SpanReader(io.RawIOBase):
    """The bytes of one span as a file of their own; closing it closes the file beneath."""

    def __init__(self, stream: BinaryIO, span: Span) -> None:
        self._stream = stream
        self._left = span.size
        stream.seek(span.offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._left)
        data = self._stream.read(wanted)
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


class DirectoryFiles:
    """What lies below an OCI layout directory; links and special files count as absent."""

    def __init__(self, path: Path, text: str) -> None:
        self.label = text
        self._path = path
        self._text = text

    def holds(self, name: str) -> bool:
        try:
            return stat.S_ISREG(os.lstat(self._path / name).st_mode)
        except OSError:
            return False

    def size(self, name: str) -> int:
        return os.lstat(self._path / name).st_size

    def open(self, name: str) -> BinaryIO:
        path = self._path / name
        try:
            return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None

    def origin(self, name: str) -> Local:
        return Local(posixpath.join(self._text, name))


class _HeaderReader(io.RawIOBase):
    """What tarfile reads while it walks: headers only, so a read beyond MAX_HEADER is an attack."""

    def __init__(self, stream: BinaryIO, label: str) -> None:
        self._stream = stream
        self._label = label

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise InputError(
                f"{self._label}: a tar header claims {size} bytes; at most {MAX_HEADER} are read"
            )
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _walk(stream: BinaryIO, label: str) -> dict[str, Span]:
    magic = stream.read(8)
    for prefix, program in _COMPRESSED.items():
        if magic.startswith(prefix):
            raise InputError(
                f"{label}: expected an uncompressed tar, found a compressed file",
                remedy=f"run '{program}' on it and name the result: layers are read in place",
            )
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    spans: dict[str, Span] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=_HeaderReader(stream, label), mode="r:") as tar:
            for count, member in enumerate(tar):
                if count >= MAX_MEMBERS:
                    raise InputError(f"{label}: more than {MAX_MEMBERS} members, which no image archive has")
                _note_member(member, spans, links, label, end)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise InputError(f"{label}: not a tar archive: {error}") from None
    for name in links:
        found = _follow(name, spans, links)
        if found is not None:
            spans[name] = found
    return spans


def _note_member(
    member: tarfile.TarInfo, spans: dict[str, Span], links: dict[str, str], label: str, end: int
) -> None:
    name = posixpath.normpath(member.name)
    if member.isdir():
        return
    if name in spans or name in links:
        raise InputError(f"{label}: the member {name[:200]!r} occurs twice, so readers would differ")
    if member.isreg() and not member.issparse():
        if member.offset_data + member.size > end:
            raise InputError(f"{label}: cut short inside {name[:200]!r}", remedy="copy the archive again")
        spans[name] = Span(member.offset_data, member.size)
    elif member.issym():
        links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
    elif member.islnk():
        links[name] = posixpath.normpath(member.linkname)


def _follow(name: str, spans: Mapping[str, Span], links: Mapping[str, str]) -> Span | None:
    """A link's target among the archive's own members (docker save before 25 links equal layers)."""
    for _ in range(MAX_LINKS):
        if name not in links:
            return spans.get(name)
        name = links[name]
    return None


def hash_members(path: Path, spans: Iterable[Span], progress: Progress) -> tuple[Sha256, dict[Span, Sha256]]:
    """sha256 of the whole archive and of each span, in one pass over it."""
    whole = hashlib.sha256()
    found: dict[Span, Sha256] = {}
    with open(path, "rb") as stream:
        for span in sorted(set(spans), key=lambda s: (s.offset, s.size)):
            for chunk in _chunks(stream, span.offset - stream.tell(), progress):
                whole.update(chunk)
            member = hashlib.sha256()
            for chunk in _chunks(stream, span.size, progress):
                whole.update(chunk)
                member.update(chunk)
            found[span] = Sha256(member.hexdigest())
        rest = os.fstat(stream.fileno()).st_size - stream.tell()
        for chunk in _chunks(stream, rest, progress):
            whole.update(chunk)
    return Sha256(whole.hexdigest()), found


def _chunks(stream: BinaryIO, count: int, progress: Progress) -> Iterator[bytes]:
    while count > 0:
        chunk = stream.read(min(CHUNK, count))
        if not chunk:
            return
        count -= len(chunk)
        progress.advance(len(chunk))
        yield chunk
