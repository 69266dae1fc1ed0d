"""`airgap gc`: old generations, the blobs that only they used, and what killed runs left."""

import os
import re
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airgap.isolated.feeding import sweep, unused_places
from airgap.isolated.generation import load_member
from airgap.isolated.site import Site
from airgap.model import Sha256
from airgap.progress import Progress
from airgap.store import fsync_directory, host_errors


@dataclass(frozen=True, slots=True)
class Garbage:
    """What goes and what it frees: `bytes` counts each blob once, and the small files of generations."""

    keep: tuple[int, ...]
    generations: tuple[int, ...]
    blobs: tuple[Sha256, ...]
    leftovers: tuple[Path, ...]
    """Of killed runs, and models that were replaced in the catalogue."""
    bytes: int

    @property
    def nothing(self) -> bool:
        return not (self.generations or self.blobs or self.leftovers)


def collect(site: Site, keep: int, *, asked: str, progress: Progress, wait: float = 0) -> Garbage:
    """Remove all but the current generation and the newest others, `keep` in all. `keep` is at least 1.

    Generations lose their numbers, durably, before a blob is touched: whatever happens, a generation that
    is still there is whole. Raises IntegrityError when a generation that stays cannot be read, since what
    it needs is then unknown; HostError.
    """
    with site.locked(asked, wait=wait, progress=progress):
        garbage = find_garbage(site, keep)
        site.recover()
        sweep(site)
        with host_errors(site.root):
            condemned = []
            for number in garbage.generations:
                condemned.append(site.generations / f"{number}.tmp")
                os.rename(site.generation(number), condemned[-1])
            if condemned:
                fsync_directory(site.generations)
            for directory in condemned:
                shutil.rmtree(directory)
            for digest in garbage.blobs:
                os.unlink(site.store.path(digest))
            if garbage.blobs:
                fsync_directory(site.blobs)
        return garbage


def find_garbage(site: Site, keep: int) -> Garbage:
    """What `collect` would remove; writes nothing and raises the same."""
    leftovers = (*site.leftovers(), *unused_places(site))
    numbers = [number for number in site.numbers() if site.generation(number) not in leftovers]
    current = site.current()
    others = [number for number in numbers if number != current]
    room = keep - (current is not None)
    kept = sorted([*([current] if current else []), *(others[-room:] if room else [])])
    removed = tuple(number for number in numbers if number not in kept)
    needed = _needed(site, kept)
    unused = {name: size for name, size in _blobs(site) if name not in needed}
    small = sum(_own_bytes(path) for path in (*map(site.generation, removed), *leftovers))
    return Garbage(tuple(kept), removed, tuple(sorted(unused)), leftovers, small + sum(unused.values()))


def _needed(site: Site, numbers: Iterable[int]) -> set[Sha256]:
    """The blobs that these generations need; every document is read back and hashed on the way."""
    needed: set[Sha256] = set()
    for bundle in {bundle for number in numbers for bundle in site.record(number).bundles}:
        needed |= {*load_member(site, bundle).needed, bundle.envelope, bundle.index}
    return needed


def _blobs(site: Site) -> list[tuple[Sha256, int]]:
    """Every blob with its size in bytes. What is not named as one is left to `status --verify`."""
    if not site.blobs.is_dir():
        return []
    with host_errors(site.blobs), os.scandir(site.blobs) as found:
        named = [item for item in found if re.fullmatch(r"[0-9a-f]{64}", item.name)]
        return [(Sha256(item.name), item.stat(follow_symlinks=False).st_size) for item in named]


def _own_bytes(top: Path) -> int:
    """Bytes of the files below `top` that have no other link, `top` included."""
    with host_errors(top):
        found = os.lstat(top)
        if stat.S_ISDIR(found.st_mode):
            return sum(_own_bytes(path) for path in top.iterdir())
        return found.st_size if found.st_nlink == 1 else 0
