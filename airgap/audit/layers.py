"""What is kept of an image's layer while it passes, so that the image can be put together afterwards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airgap.readers.image import MAX_FILE, MAX_TOTAL, is_evidence
from airgap.readers.tar import Entry, EntryKind

ACCOUNTS = "etc/passwd"
PRIVILEGES = 0o6000
"""setuid and setgid."""


def is_startup(path: str) -> bool:
    """A `.pth` file where Python looks for them."""
    if not path.endswith(".pth"):
        return False
    return path.rpartition("/")[0].endswith(("/site-packages", "/dist-packages"))


def wanted(path: str) -> bool:
    """Whether an audit reads this file of an image."""
    return path == ACCOUNTS or is_evidence(path) or is_startup(path)


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """Every entry of a layer, and the bytes of those that are evidence."""

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
    return entry.kind is EntryKind.FILE and (bool(entry.mode & PRIVILEGES) or entry.capable)


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


class LayerKeeper:
    """Collects a layer as it passes."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries: list[Entry] = []
        self._kept: list[bytes | None] = []
        self._room = MAX_TOTAL

    def wants(self, entry: Entry) -> bool:
        path = entry.path
        if path.startswith((".", "/")) or path.endswith("/") or "//" in path or "/." in path:
            path = "/".join(part for part in path.split("/") if part not in ("", "."))
        return wanted(path) and entry.size <= min(MAX_FILE, self._room) and not entry.sparse

    def add(self, entry: Entry, data: bytes | None) -> None:
        self._entries.append(entry)
        self._kept.append(data)
        self._room -= len(data or b"")

    def layer(self) -> KeptLayer:
        return KeptLayer(self._what, tuple(self._entries), tuple(self._kept))
