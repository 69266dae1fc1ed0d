"""Parts of remote files, kept on disk: what was read of a wheel once is not asked for again.

They are kept per address *and* digest. The digest alone would let one index's word on a wheel, which is
taken unproven, become evidence about another's.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from airgap.connected.http import public_url

MAX_PART = 4 * 1024 * 1024
"""Bytes of one part; larger ones are no tables, and are not kept."""

_DIGEST = hashlib.sha256().digest_size


class Kept:
    """The parts of one file. A part that is damaged, or cannot be written, is as if it were not there."""

    def __init__(self, root: Path, url: str, digest: str) -> None:
        """`digest` is the sha256 of the whole file, as an index or lock says; without one nothing is kept."""
        name = hashlib.sha256(f"{digest} {public_url(url)}".encode()).hexdigest()
        self._directory = root / name if digest else None

    def parts(self) -> Iterator[tuple[int, int, bytes]]:
        """Of each part its offset, the size of the whole file, and its bytes."""
        if self._directory is None or not self._directory.is_dir():
            return
        for path in sorted(self._directory.iterdir()):
            name = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", path.name)
            if name and (data := _read(path)) is not None:
                yield int(name[1]), int(name[2]), data

    def keep(self, begin: int, size: int, data: bytes) -> None:
        """Write `data`, which is at offset `begin` of a file of `size` bytes."""
        if self._directory is None or len(data) > MAX_PART:
            return
        path = self._directory / f"{begin}-{size}"
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
            os.replace(temporary, path)


def _read(path: Path) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            held = stream.read(_DIGEST + MAX_PART + 1)
    except OSError:
        return None
    digest, data = held[:_DIGEST], held[_DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None
