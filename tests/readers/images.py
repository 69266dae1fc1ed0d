"""Layers made with the standard library's tarfile, so that ours is compared with another's work."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from airgap.readers.union import Layer

SITE = "usr/lib/python3.11/site-packages"


@dataclass(frozen=True)
class Link:
    target: str
    hard: bool = False


DIRECTORY: Literal["directory"] = "directory"
FIFO: Literal["fifo"] = "fifo"

Content = bytes | Link | Literal["directory", "fifo"]
Member = tuple[str, Content]


def tar(members: Iterable[Member], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, encoding="utf-8") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, Link):
                info.type, info.linkname = (
                    tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE,
                    content.target,
                )
            elif content == "directory":
                info.type = tarfile.DIRTYPE
            elif content == "fifo":
                info.type = tarfile.FIFOTYPE
            else:
                assert isinstance(content, bytes)
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def blob(data: bytes) -> Layer:
    return Layer(hashlib.sha256(data).hexdigest(), lambda: io.BytesIO(data))


def layer(*members: Member) -> Layer:
    return blob(gzip.compress(tar(members), 1))


def package(name: str, version: str, site: str = SITE) -> list[Member]:
    """What an installer leaves of a distribution."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: x>=1\n\nLong text.\n"
    module = name.replace("-", "_")
    return [
        (f"{site}/{module}/__init__.py", f"__version__ = {version!r}\n".encode()),
        (f"{site}/{module}-{version}.dist-info/METADATA", metadata.encode()),
    ]


def gone(path: str) -> Member:
    """A whiteout of `path`."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/.wh.{name}", b""
