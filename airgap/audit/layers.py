"""What is kept of an image's layer while it passes, so that the image can be put together afterwards."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airgap.audit import debian_copyright
from airgap.audit.debian_copyright import is_copyright
from airgap.readers.image import EVIDENCE, MAX_FILE, MAX_TOTAL, is_evidence
from airgap.readers.tar import Entry, EntryKind
from airgap.readers.union import PRIVILEGES

ACCOUNTS = "etc/passwd"


def is_startup(path: str) -> bool:
    """A `.pth` file where Python looks for them."""
    if not path.endswith(".pth"):
        return False
    return path.rpartition("/")[0].endswith(("/site-packages", "/dist-packages"))


_AT_START = re.compile(
    r"(?:.*/)?(?:(?:site|dist)-packages|[Ll]ib(?:64)?/python[^/]*)/"
    r"(?:site|user)customize(?:/__init__)?(?:\.[\w-]+)*\.(?:py|pyc|so)"
)


def is_imported_at_start(path: str) -> bool:
    """A module of the two that site.py imports, where Python looks for them."""
    return "customize" in path and _AT_START.fullmatch(path) is not None


def wanted(path: str) -> bool:
    """Whether an audit reads this file of an image, and says so where it cannot."""
    return path == ACCOUNTS or is_evidence(path) or is_startup(path)


_SOUGHT = (ACCOUNTS, *EVIDENCE)
_SOUGHT_IN = (
    ("/site-packages", "/x.pth"),
    ("/dist-packages", "/x.pth"),
    (".dist-info", "/METADATA"),
    (".egg-info", "/PKG-INFO"),
    (".egg", "/EGG-INFO/PKG-INFO"),
)


def sought_below(path: str) -> Iterator[str]:
    """What stands behind `path` in the paths of files that an audit reads, '' where it is one itself."""
    if wanted(path):
        yield ""
    for one in _SOUGHT:
        if one.startswith(f"{path}/"):
            yield one.removeprefix(path)
    for end, rest in _SOUGHT_IN:
        if path.endswith(end):
            yield rest


MAX_COPYRIGHTS = 4 * 1024 * 1024
"""Bytes kept of what a layer's copyright files say: some fifty thousand of them."""


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """Every entry of a layer, and the bytes of those that are evidence; of copyright files their licences."""

    what: str
    entries: tuple[Entry, ...]
    kept: tuple[bytes | None, ...]


def privileged_names(layers: Iterable[KeptLayer]) -> frozenset[str]:
    """The last names of files with setuid or setgid, and of hard links to them, in layers or below."""
    names: set[str] = set()
    for layer in layers:
        for entry in layer.entries:
            linked = entry.kind is EntryKind.HARD_LINK and _last(entry.target) in names
            if linked or is_privileged(entry):
                names.add(_last(entry.path))
    return frozenset(names)


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def is_privileged(entry: Entry) -> bool:
    """A hard link, too, brings a mode: docker gives it to the file."""
    named = entry.kind in (EntryKind.FILE, EntryKind.HARD_LINK)
    return named and (bool(entry.mode & PRIVILEGES) or entry.capable)


class Replay:
    """A kept layer as `Union` reads one: its entries in order, `read` giving what was kept of the last."""

    def __init__(self, layer: KeptLayer) -> None:
        self.what = layer.what
        self._layer = layer
        self._at = 0

    def __iter__(self) -> Iterator[Entry]:
        for at, entry in enumerate(self._layer.entries):
            self._at = at
            yield entry

    def read(self, max_bytes: int) -> bytes | None:
        data = self._layer.kept[self._at]
        return data if data is not None and len(data) <= max_bytes else None


def _plain(path: str) -> str:
    if path.startswith((".", "/")) or path.endswith("/") or "//" in path or "/." in path:
        return "/".join(part for part in path.split("/") if part not in ("", "."))
    return path


class LayerKeeper:
    """Collects a layer as it passes."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries: list[Entry] = []
        self._kept: list[bytes | None] = []
        self._room = MAX_TOTAL
        self._copyrights = MAX_COPYRIGHTS

    def wants(self, entry: Entry) -> bool:
        path = _plain(entry.path)
        if is_copyright(path):
            return entry.size <= debian_copyright.MAX_FILE and self._copyrights > 0 and not entry.sparse
        return wanted(path) and entry.size <= min(MAX_FILE, self._room) and not entry.sparse

    def add(self, entry: Entry, data: bytes | None) -> None:
        self._entries.append(entry)
        if data is not None and is_copyright(_plain(entry.path)):
            # Read at once: a thousand of them would leave no room for what must be read.
            data = debian_copyright.condense(data)
            self._copyrights -= len(data)
        else:
            self._room -= len(data or b"")
        self._kept.append(data)

    def layer(self) -> KeptLayer:
        return KeptLayer(self._what, tuple(self._entries), tuple(self._kept))
