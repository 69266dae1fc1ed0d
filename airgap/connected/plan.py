"""`airgap plan`: what a build would fetch, need and carry, from the lock, the store and the base alone."""

from dataclasses import dataclass

from airgap.connected.base import KnownBase, counted_on, patchable
from airgap.connected.patches import SMALLEST
from airgap.lock import Lock, distinct_files
from airgap.model import Artifact
from airgap.store import Store


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact: its files and bytes, how many of those the store holds, and the other side.

    `there` is 0 without a base.
    """

    artifact: Artifact
    files: int
    size: int
    held: int
    there: int

    @property
    def to_fetch(self) -> int:
        return self.size - self.held

    @property
    def travels(self) -> int:
        return self.size - self.there


@dataclass(frozen=True, slots=True)
class Plan:
    """All rows, and totals in which a blob that several artifacts share counts once. Sizes in bytes."""

    rows: tuple[Row, ...]
    size: int
    to_fetch: int
    linked: bool
    """Whether the bundle can link to the store instead of copying it."""
    there: int = 0
    patchable: int = 0
    """Of the bytes that travel those of blobs for which `build --patch` looks for a smaller patch."""

    @property
    def travels(self) -> int:
        """Bytes of files that the bundle carries; its own documents add some kilobytes."""
        return self.size - self.there

    @property
    def disk_needed(self) -> int:
        """Bytes of free space a build needs: what is fetched, and the bundle where it cannot link."""
        return self.to_fetch + (0 if self.linked else self.travels)


def make_plan(lock: Lock, store: Store, *, linked: bool, base: KnownBase | None = None) -> Plan:
    """Judge the lock against what the store and the `base` hold; opens no connection."""
    there = counted_on(lock, base.blobs) if base else frozenset()
    held = {
        digest: file.size
        for digest, file in distinct_files(lock.artifacts).items()
        if store.holds(digest, file.size)
    }
    rows = tuple(
        Row(
            artifact,
            len(artifact.files),
            sum(file.size for file in artifact.files),
            sum(file.size for file in artifact.files if file.sha256 in held),
            sum(file.size for file in artifact.files if file.sha256 in there),
        )
        for artifact in lock.artifacts
    )
    files = distinct_files(lock.artifacts)
    size = sum(file.size for file in files.values())
    shared = sum(files[digest].size for digest in there)
    worth = [n for n in patchable(lock, there).values() if n >= SMALLEST] if base else []
    return Plan(rows, size, size - sum(held.values()), linked, shared, sum(worth))
