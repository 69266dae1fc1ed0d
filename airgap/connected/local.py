"""`file:` URLs, which indexes and manifests may hold."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from airgap.errors import SourceError


@contextmanager
def open_local(url: str, where: str) -> Iterator[BinaryIO]:
    """The regular file a `file:` URL names (RFC 8089). Raises SourceError."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(f"{where}: a file URL of another host", remedy="write it as file:///path")
    try:
        # A FIFO without a writer would block for ever.
        descriptor = os.open(unquote(parts.path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{where}: cannot be read: {error.strerror}", remedy="check the path") from None
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SourceError(f"{where}: not a regular file", remedy="check the path")
        yield stream
