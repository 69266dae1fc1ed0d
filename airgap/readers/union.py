"""What is left of a stack of layers: the files somebody wants, after whiteouts, replacements and links.

OCI image-spec, layer.md ("Applying Changesets", "Whiteouts"): `.wh.NAME` removes NAME of the layers below,
`.wh..wh..opq` everything below its directory, neither touches its own layer; what is not a directory
replaces whatever was there. Parents are resolved through symbolic links, inside the image's root, as
containerd does when it unpacks (`fs.RootPath`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Protocol

from airgap.errors import InputError
from airgap.readers.decompress import decompressed
from airgap.readers.passing import Passing
from airgap.readers.tar import SKIP, Entry, EntryKind, TarStream

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

PRIVILEGES = 0o6000
"""setuid and setgid."""

MAX_LINK_STEPS = 255
"""Symbolic links followed for one path (Linux allows 40)."""

MAX_DEPTH = 256
"""Names in one path; Linux' 4096 bytes would allow 2048."""

MAX_LINKS = 1_000_000
"""Symbolic links that are remembered."""

MAX_PASSING = 500
"""Files of one image that are read as they go by."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer blob; `open` gives it from its start, each time it is called."""

    digest: str
    open: Callable[[], BinaryIO]


class Entries(Protocol):
    """The entries of a layer in their order: a tar that is read, or what was kept of one."""

    @property
    def what(self) -> str: ...

    def __iter__(self) -> Iterator[Entry]: ...

    def read(self, max_bytes: int) -> bytes | None:
        """The bytes of the entry that came last; None where nobody kept them."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that was wanted: its bytes, or None where they are more than allowed, and its layer's digest.

    Of one that was only read as it went by there is `passing`, and no bytes.
    """

    path: str
    data: bytes | None
    size: int
    layer: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    passing: Passing | None = None
    capable: bool = False


def _nobody(path: str) -> None:
    """No file is read as it goes by."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to keep: paths (no leading `/`) for which `wanted` holds, and how much of it, in bytes.

    `passing` is asked first, and names who reads a file as it goes by (made from its path and size), if any.
    """

    wanted: Callable[[str], bool]
    max_file: int
    max_total: int
    passing: Callable[[str], Callable[[str, int], Passing] | None] = _nobody

    def holds(self, path: str) -> bool:
        return self.wanted(path) or self.passing(path) is not None


@dataclass(slots=True)
class _Node:
    """A name in the tree: a kept file, the target of a symbolic link, or neither. `layer` is who put it."""

    children: "dict[str, _Node]" = field(default_factory=dict)
    file: ImageFile | None = None
    link: str | None = None
    layer: int = 0


class Union:
    """The stack so far: `apply` the layers from the lowest to the highest.

    The tree has only names that lead to a wanted file or a symbolic link.
    """

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._root = _Node()
        self._layer = 0
        self._kept = 0
        self._links = 0
        self._passed = 0
        self._resolved: dict[str, list[str]] = {}
        """Directories by the paths that lead there, until a symbolic link comes or goes."""

    def apply(self, layer: Layer, what: str) -> None:
        """Put a layer on top. Raises InputError where it is damaged or no layer, and what `open` raises."""
        self._layer += 1
        lacking = self._pass(layer, what, {})
        if lacking:
            # A wanted name is a hard link to a file nobody asked for, whose bytes have gone by: once more.
            donors = {target: ImageFile(path, None, 0, layer.digest) for target, path in lacking.items()}
            self._pass(layer, what, donors)
            self._kept -= sum(len(donor.data or b"") for donor in donors.values())

    def apply_kept(self, entries: Entries, digest: str) -> None:
        """Put a layer on top of which only its entries were kept: it is read from nowhere again."""
        self._layer += 1
        self._pass_entries(entries, digest, {})

    def files(self) -> dict[str, ImageFile]:
        """Everything wanted that is there, a symbolic link under its own path with the bytes it leads to."""
        found: dict[str, ImageFile] = {}
        for path, node in _walk(self._root, ""):
            if node.file:
                found[path] = node.file
            elif node.link is not None and self._wish.holds(path):
                real = _find(self._root, self._resolve(path))
                if real and real.file:
                    found[path] = replace(real.file, path=path)
        return dict(sorted(found.items()))

    def links(self, asked: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        """Every symbolic link that is asked for, and the path that it leads to, whatever is there."""
        for path, node in _walk(self._root, ""):
            if node.link is not None and asked(path):
                yield path, "/".join(self._resolve(path))

    def find(self, path: str) -> ImageFile | None:
        """What was kept of the file that a path leads to, under its real path; None where nothing was."""
        try:
            node = _find(self._root, self._resolve(path))
        except InputError:  # links that never end
            return None
        return node.file if node else None

    def _pass(self, layer: Layer, what: str, donors: dict[str, ImageFile]) -> dict[str, str]:
        """Read a layer; `donors` are paths to keep for hard links, each under the path of one such link.

        Returns the same for targets that were not kept.
        """
        with layer.open() as stream, decompressed(stream, what) as inside:
            return self._pass_entries(TarStream(inside, what), layer.digest, donors)

    def _pass_entries(self, entries: Entries, digest: str, donors: dict[str, ImageFile]) -> dict[str, str]:
        lacking: dict[str, str] = {}
        for entry in entries:
            parts = _parts(entry.path, entries.what)
            if not parts:
                continue
            parent = self._parent(parts[:-1])
            name = parts[-1]
            if name == OPAQUE:
                self._hide(parent)
            elif name.startswith(WHITEOUT):
                self._hide([*parent, name.removeprefix(WHITEOUT)])
            else:
                self._put([*parent, name], entry, _Incoming(entries, digest, donors, lacking))
        return lacking

    def _put(self, parts: list[str], entry: Entry, incoming: "_Incoming") -> None:
        if entry.kind is EntryKind.DIRECTORY:
            node = _find(self._root, parts)
            if node:  # it merges with a directory, and replaces anything else
                self._forget(node)
            return
        path = "/".join(parts)
        self._cut(parts)
        if entry.kind is EntryKind.SYMLINK:
            self._keep(parts, None, entry.target)
        elif entry.kind is EntryKind.HARD_LINK:
            self._put_hard_link(parts, entry, incoming)
        elif entry.kind is EntryKind.FILE and self._wish.holds(path):
            self._keep(parts, self._take(path, entry, incoming), None)
        elif path in incoming.donors:
            donor = incoming.donors[path] = self._take(incoming.donors[path].path, entry, incoming)
            self._kept += len(donor.data or b"")

    def _put_hard_link(self, parts: list[str], entry: Entry, incoming: "_Incoming") -> None:
        """A second name for what an earlier entry, or a layer below, has put there."""
        path = "/".join(parts)
        target = _parts(entry.target, incoming.entries.what)
        real = [*self._parent(target[:-1]), *target[-1:]]
        node = _find(self._root, real)
        if node and node.link is not None:
            self._keep(parts, None, node.link)
        elif self._wish.holds(path):
            donor = node.file if node and node.file else incoming.donors.get("/".join(real))
            if donor is None:
                incoming.lacking["/".join(real)] = path
                donor = ImageFile(path, None, 0, incoming.layer)
            self._keep(parts, replace(_owned(donor, entry), path=path, layer=incoming.layer), None)

    def _take(self, path: str, entry: Entry, incoming: "_Incoming") -> ImageFile:
        """The entry at hand as the file `path`: its bytes, or what somebody learns as they go by."""
        file = ImageFile(
            path,
            None,
            entry.size,
            incoming.layer,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            capable=entry.capable,
        )
        if entry.sparse:
            return file
        if reader := self._wish.passing(path):
            self._passed += 1
            passing = reader(path, entry.size) if self._passed <= MAX_PASSING else None
            return replace(file, passing=passing) if passing and incoming.pass_to(passing, entry) else file
        room = min(self._wish.max_file, self._wish.max_total - self._kept)
        return replace(file, data=incoming.entries.read(room)) if entry.size <= room else file

    def _keep(self, parts: list[str], file: ImageFile | None, link: str | None) -> None:
        node = self._root
        for part in parts:
            node = node.children.setdefault(part, _Node())
        node.file, node.link, node.layer = file, link, self._layer
        self._kept += len(file.data or b"") if file else 0
        if link is not None:
            self._links += 1
            self._resolved.clear()
            if self._links > MAX_LINKS:
                raise InputError(f"more than {MAX_LINKS} symbolic links, which no image has")

    def _forget(self, node: _Node) -> None:
        self._kept -= len(node.file.data or b"") if node.file else 0
        if node.link is not None:
            self._links -= 1
            self._resolved.clear()
        node.file = node.link = None

    def _cut(self, parts: list[str]) -> None:
        """Remove a name and everything below it, whichever layer put it there."""
        parent = _find(self._root, parts[:-1])
        node = parent.children.pop(parts[-1], None) if parent else None
        for _, gone in _walk(node, "") if node else ():
            self._forget(gone)

    def _hide(self, parts: list[str]) -> None:
        """Remove what layers below this one have put at a name and below it."""
        top = _find(self._root, parts)
        for _, node in list(_walk(top, "")) if top else ():
            if node.layer < self._layer:
                self._forget(node)

    def _parent(self, parts: list[str]) -> list[str]:
        path = "/".join(parts)
        found = self._resolved.get(path)
        if found is None:
            found = self._resolved[path] = self._resolve(path)
        return found

    def _resolve(self, path: str) -> list[str]:
        """Follow every symbolic link on the way, the last name's too, never out of the root."""
        todo = path.split("/")[::-1]
        done: list[str] = []
        nodes: list[_Node | None] = [self._root]  # of the root and each name that is done
        steps = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done[-1:] = []
                nodes[1:] = nodes[1:-1]
            elif part not in ("", "."):
                above = nodes[-1]
                node = above.children.get(part) if above else None
                if node is None or node.link is None:
                    done.append(part)
                    nodes.append(node)
                    continue
                steps += 1
                if steps > MAX_LINK_STEPS:
                    raise InputError(f"{path[:200]!r}: more than {MAX_LINK_STEPS} symbolic links on the way")
                if node.link.startswith("/"):
                    done, nodes = [], nodes[:1]
                todo += node.link.split("/")[::-1]
        return done


@dataclass(frozen=True, slots=True)
class _Incoming:
    """The entry at hand's layer: where its bytes are, and what the pass has found so far."""

    entries: Entries
    layer: str
    donors: dict[str, ImageFile]
    lacking: dict[str, str]

    def pass_to(self, passing: Passing, entry: Entry) -> bool:
        """Whether the entry's bytes went by; of entries that were kept, they may not have been."""
        if isinstance(self.entries, TarStream):
            while data := self.entries.chunk(SKIP):
                passing.feed(data)
        elif (kept := self.entries.read(entry.size)) is not None:
            passing.feed(kept)
        else:
            return False
        passing.end()
        return True


def _owned(file: ImageFile, link: Entry) -> ImageFile:
    """A file by another name: engines may give it the mode and the owner that are written beside the link."""
    if not link.mode & PRIVILEGES:
        return file
    return replace(file, mode=link.mode, uid=link.uid, gid=link.gid)


def _parts(path: str, what: str) -> list[str]:
    parts = path.split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in ("", ".")]
    if ".." in parts or len(parts) > MAX_DEPTH:
        raise InputError(f"{what}: an entry named {path[:200]!r}, which leads out of the image or too deep")
    return parts


def _find(root: _Node, parts: list[str]) -> _Node | None:
    node: _Node | None = root
    for part in parts:
        if node is None:
            return None
        node = node.children.get(part)
    return node


def _walk(node: _Node, path: str) -> Iterator[tuple[str, _Node]]:
    """A node and all below it, without recursion: depth is the image's choice."""
    pending = [(path, node)]
    while pending:
        at, current = pending.pop()
        yield at, current
        pending += [(f"{at}/{name}" if at else name, child) for name, child in current.children.items()]
