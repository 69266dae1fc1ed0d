"""What is inside a compressed stream, whoever wrote it, step by step and never more in memory than a step."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from airgap.audit.streams import CHUNK, Chunks
from airgap.errors import InputError
from airgap.readers.decompress import decompressed
from airgap.readers.source import Readable

COMPRESSED = frozenset({"gzip", "zstd", "xz", "bzip2", "zlib"})
"""Types, as `airgap.audit.types` has them, that are one stream of something else."""

_LZMA_MEMORY = 128 * 1024 * 1024


@contextmanager
def opened(stream: Readable, kind: str, what: str) -> Iterator[Readable]:
    """The bytes inside a stream whose `kind` is one of `COMPRESSED`. Reading raises InputError for damage."""
    if kind in ("gzip", "zstd"):
        with decompressed(cast(BinaryIO, stream), what) as inner:  # it reads forward alone
            yield inner
    elif kind == "zlib":
        yield Chunks(_zlib(stream, what))
    else:
        yield Chunks(_steps(stream, kind, what))


def _steps(stream: Readable, kind: str, what: str) -> Iterator[bytes]:
    """xz and bzip2, step by step; several streams behind each other are one."""
    data = stream.read(CHUNK)
    while data:
        one = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY) if kind == "xz" else bz2.BZ2Decompressor()
        while not one.eof:
            try:
                out = one.decompress(data, CHUNK)
            except (lzma.LZMAError, OSError, ValueError) as error:
                raise InputError(f"{what}: the compressed data is damaged: {error}") from None
            if out:
                yield out
            data = stream.read(CHUNK) if one.needs_input else b""
            if not data and one.needs_input and not one.eof:
                raise InputError(f"{what}: the compressed data ends early")
        data = one.unused_data.lstrip(b"\0") or stream.read(CHUNK)


def _zlib(stream: Readable, what: str) -> Iterator[bytes]:
    """One stream of zlib, step by step."""
    one = zlib.decompressobj()
    while not one.eof:
        data = one.unconsumed_tail or stream.read(CHUNK)
        try:
            out = one.decompress(data, CHUNK)
        except zlib.error as error:
            raise InputError(f"{what}: the compressed data is damaged: {error}") from None
        if out:
            yield out
        elif not data:
            raise InputError(f"{what}: the compressed data ends early")
