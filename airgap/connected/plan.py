"""`airgap plan`: what a build would fetch and need, from the lock and the store alone."""

from dataclasses import dataclass

from airgap.lock import Lock, distinct_files
from airgap.model import Artifact
from airgap.store import Store


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact: its files and bytes, and how many of those bytes the store holds already."""

    artifact: Artifact
    files: int
    size: int
    held: int

    @property
    def to_fetch(self) -> int:
        return self.size - self.held


@dataclass(frozen=True, slots=True)
class Plan:
    """All rows, and totals in which a blob that several artifacts share counts once. Sizes in bytes."""

    rows: tuple[Row, ...]
    size: int
    to_fetch: int
    linked: bool
    """Whether the bundle can link to the store instead of copying it."""

    @property
    def disk_needed(self) -> int:
        """Bytes of free space a build needs: what is fetched, and the bundle where it cannot link."""
        return self.to_fetch + (0 if self.linked else self.size)


def make_plan(lock: Lock, store: Store, *, linked: bool) -> Plan:
    """Judge the lock against what the store holds; opens no connection."""
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
        )
        for artifact in lock.artifacts
    )
    size = sum(file.size for file in distinct_files(lock.artifacts).values())
    return Plan(rows, size, size - sum(held.values()), linked)
