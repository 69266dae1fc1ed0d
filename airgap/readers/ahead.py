"""A stream that is read ahead of whoever uses it, in a thread of its own: decompressors release the GIL."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from airgap.readers.source import Readable

SMALL = 1024 * 1024
"""Bytes that pass before a thread is worth it."""

CHUNK = 256 * 1024
"""Bytes that are read at once, and at most lost to the reader before damage: decompressors keep them back."""

DEPTH = 16
"""Chunks that may be ahead."""


class Ahead:
    """`inner` read `DEPTH` chunks ahead once `SMALL` bytes have passed.

    What `inner` raises, `read` raises where those bytes would be. Nobody else may use `inner` meanwhile.
    """

    def __init__(self, inner: Readable) -> None:
        self._inner = inner
        self._passed = 0
        self._thread: ThreadPoolExecutor | None = None
        self._coming: deque[Future[bytes]] = deque()
        self._chunk = b""
        self._at = 0

    def read(self, count: int, /) -> bytes:
        if self._at == len(self._chunk):
            self._chunk, self._at = self._next(), 0
        begin = self._at
        data = self._chunk[begin : begin + count]
        self._at += len(data)
        return data

    def _next(self) -> bytes:
        if self._thread is None:
            data = self._inner.read(CHUNK)
            self._passed += len(data)
            if self._passed >= SMALL:
                self._thread = ThreadPoolExecutor(1, "ahead")
                self._coming.extend(self._thread.submit(self._inner.read, CHUNK) for _ in range(DEPTH))
            return data
        if data := self._coming[0].result():
            self._coming.popleft()
            self._coming.append(self._thread.submit(self._inner.read, CHUNK))
        return data

    def close(self) -> None:
        """Nothing is read any more when this returns."""
        if self._thread:
            self._thread.shutdown(cancel_futures=True)


@contextmanager
def ahead(inner: Readable) -> Iterator[Readable]:
    """`inner`, read ahead until the block ends."""
    stream = Ahead(inner)
    try:
        yield stream
    finally:
        stream.close()
