"""Repositories as tests/servers/hub.py serves them: files as git and LFS name them, commits, who may read."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

Access = Literal["granted", "pending", "rejected"]


@dataclass(frozen=True)
class File:
    """One file at one commit, as git and LFS name it."""

    content: bytes | Path
    size: int
    sha256: str
    blob_id: str
    lfs: bool

    @classmethod
    def of(cls, content: bytes | Path, lfs: bool) -> Self:
        sha256, size = _digest(content)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        in_git = pointer if lfs else content if isinstance(content, bytes) else content.read_bytes()
        blob_id = hashlib.sha1(b"blob %d\0" % len(in_git) + in_git).hexdigest()
        return cls(content, size, sha256, blob_id, lfs)

    @property
    def etag(self) -> str:
        return f'"{self.sha256 if self.lfs else self.blob_id}"'

    def read(self, start: int, count: int) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[start : start + count]
        with open(self.content, "rb") as stream:
            stream.seek(start)
            return stream.read(count)


@dataclass
class Repo:
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    gated: str = ""
    hidden: bool = False
    """Whether the gate also closes the API, as for a private repository."""
    access: dict[str, Access] = field(default_factory=dict)

    def resolve(self, revision: str) -> str | None:
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


def _digest(content: bytes | Path) -> tuple[str, int]:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    with open(content, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), content.stat().st_size


def sibling(path: str, file: File, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": path}
    if blobs:
        entry |= {"size": file.size, "blobId": file.blob_id}
        if file.lfs:
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
    return entry


def tree_entry(path: str, file: File) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": file.blob_id, "size": file.size}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry
