"""The uncompressed tar of an image layer, as a stream: gzip, zstd, or as it is.

The bytes decide, not the media type: builders disagree on it, and engines look at the bytes, too.
gzip goes through `isal` where it is installed (about twice as fast); zstd needs Python 3.14 or `zstandard`.
"""

import gzip
import importlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import BinaryIO, cast

from airgap.errors import InputError
from airgap.readers.ahead import ahead
from airgap.readers.source import Readable

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

ZSTD_REMEDY = "pip install 'airgap[images]', which brings zstandard"


class UnreadableLayer(InputError):
    """A layer in a compression that cannot be read here."""


@contextmanager
def decompressed(stream: BinaryIO, what: str) -> Iterator[Readable]:
    """The tar inside `stream`, a layer blob from its start. A large one is unpacked in a thread of its own.

    Raises UnreadableLayer for a compression that is not available, InputError when the data is damaged,
    also from `read`.
    """
    if isinstance(stream, io.BufferedReader):  # a file, which decompressors read without a copy on the way
        whole, head = stream, stream.peek(4)[:4]
    else:
        head = stream.read(4)
        whole = io.BufferedReader(_Rejoined(head, stream), 1 << 17)
    if head.startswith(GZIP):
        packed = _open_gzip(whole)
    elif head == ZSTD:
        packed = _open_zstd(whole, what)
    else:
        yield whole
        return
    with ahead(_Guarded(packed, what)) as inside:
        yield inside


class _Rejoined(io.RawIOBase):
    """A stream with the bytes that were looked at put back."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        super().__init__()
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # the buffer protocol has no type before 3.12
        data = self._head[: len(view)] or self._stream.read(len(view))
        self._head = self._head[len(data) :] if self._head else b""
        view[: len(data)] = data
        return len(data)


class _Guarded:
    """Turns what decompressors raise into InputError."""

    def __init__(self, inner: Readable, what: str) -> None:
        self._inner = inner
        self._what = what
        self._errors: tuple[type[Exception], ...] = (
            EOFError,
            zlib.error,
            gzip.BadGzipFile,
            *_others_errors(),
        )

    def read(self, count: int, /) -> bytes:
        try:
            return self._inner.read(count)
        except self._errors as error:
            raise InputError(
                f"{self._what}: the compressed data is damaged: {error}",
                remedy="fetch the image again, or run: airgap verify",
            ) from None


def reads_zstd() -> bool:
    """Whether a layer in zstd can be read here."""
    try:
        _open_zstd(io.BytesIO(), "")
    except UnreadableLayer:
        return False
    return True


def _open_gzip(stream: BinaryIO) -> Readable:
    try:
        return cast(Readable, importlib.import_module("isal.igzip").open(stream))
    except ModuleNotFoundError:
        return gzip.GzipFile(fileobj=stream)


def _open_zstd(stream: BinaryIO, what: str) -> Readable:
    try:
        return cast(Readable, importlib.import_module("compression.zstd").open(stream))
    except ModuleNotFoundError:
        pass
    try:
        zstandard = importlib.import_module("zstandard")
    except ModuleNotFoundError:
        raise UnreadableLayer(f"{what}: compressed with zstd", remedy=ZSTD_REMEDY) from None
    reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    return cast(Readable, reader)


@cache  # a module that is not there is searched for each time it is asked for
def _others_errors() -> tuple[type[Exception], ...]:
    """What the decompressors that are installed raise."""
    names = {"compression.zstd": "ZstdError", "zstandard": "ZstdError", "isal.igzip_lib": "IsalError"}
    found: list[type[Exception]] = []
    for module, name in names.items():
        try:
            found.append(getattr(importlib.import_module(module), name))
        except ModuleNotFoundError:
            continue
    return tuple(found)
