"""Plan before act: what an install would bring, share and replace, and whether it fits."""

import os
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap.errors import HostError, TrustError
from airgap.isolated.entries import Entry, Text
from airgap.isolated.generation import Member
from airgap.isolated.record import InstalledBundle, SiteRecord
from airgap.isolated.site import Site
from airgap.isolated.tree import tree_directories
from airgap.layout import digest_of
from airgap.model import Finding, Sha256
from airgap.store import host_errors
from airgap.trust.blobs import StatedBlob
from airgap.units import shortage
from airgap.verify import Contents, Signed


@dataclass(frozen=True, slots=True)
class Room:
    """Free or needed space of a file system; `inodes` is None where it has no such limit (btrfs)."""

    bytes: int
    inodes: int | None

    def beside(self, other: "Room") -> "Room":
        """What both together need."""
        return Room(self.bytes + other.bytes, (self.inodes or 0) + (other.inodes or 0))


@dataclass(frozen=True, slots=True)
class Plan:
    """What one install would do. `missing` blobs are copied, `shared` ones the site has; sizes in bytes."""

    bundles: tuple[InstalledBundle, ...]
    replaced: tuple[InstalledBundle, ...]
    before: SiteRecord
    """The site's bundles now."""
    record: SiteRecord
    """And afterwards."""
    artifacts: tuple[str, ...]
    """Names of what the bundles bring."""
    entries: tuple[Entry, ...]
    missing: dict[Sha256, StatedBlob]
    shared: dict[Sha256, StatedBlob]
    needed: Room
    free: Room
    unchanged: bool
    """The site already is what this install would make it."""
    findings: tuple[Finding, ...] = ()
    """Warnings of the judgement: sequences that the site has not seen."""

    @property
    def missing_bytes(self) -> int:
        return sum(blob.size for blob in self.missing.values())

    @property
    def shared_bytes(self) -> int:
        return sum(blob.size for blob in self.shared.values())


def describe_bundle(signed: Signed, contents: Contents, now: datetime) -> InstalledBundle:
    """The record of a bundle as a site keeps it; `now` is UTC in whole seconds."""
    stated = signed.statement
    return InstalledBundle(
        stated.name,
        stated.version,
        stated.channel,
        stated.epoch,
        stated.sequence,
        signed.judged.payload,
        signed.judged.signers,
        digest_of(signed.envelope),
        digest_of(contents.index),
        stated.lock,
        now,
    )


def make_plan(
    site: Site,
    before: SiteRecord,
    newcomers: Sequence[Member],
    entries: tuple[Entry, ...],
    in_passing: Sequence[int] = (),
    *,
    arrived: Set[Sha256] = frozenset(),
) -> Plan:
    """Compare what is signed with what the site holds. Raises HostError when the site cannot be asked.

    `in_passing` are sizes of files of which one at a time lies in staging and is not kept; `arrived` blobs
    are on the site's disk already.
    """
    stated = {digest: blob for member in newcomers for digest, blob in member.blobs.items()}
    missing = {d: b for d, b in stated.items() if not site.store.holds(d, b.size)}
    shared = {d: b for d, b in stated.items() if d not in missing}
    after = before
    for member in newcomers:
        after = after.replacing(member.bundle)
    held = [before.find(member.bundle.name) for member in newcomers]
    return Plan(
        tuple(member.bundle for member in newcomers),
        tuple(
            old for old, new in zip(held, newcomers, strict=True) if old and old.payload != new.bundle.payload
        ),
        before,
        after,
        tuple(bundled.artifact.name for member in newcomers for bundled in member.artifacts),
        entries,
        missing,
        shared,
        _needed(
            site,
            {d: b for d, b in missing.items() if d not in arrived},
            entries,
            max(in_passing, default=0),
        ),
        free_room(site.root),
        unchanged=after == before and not missing,
    )


def require_newer(before: SiteRecord, bundle: InstalledBundle) -> None:
    """Raise TrustError when the site holds a newer bundle of that name, in whatever channel."""
    held = before.find(bundle.name)
    if held and (bundle.epoch, bundle.sequence) < (held.epoch, held.sequence):
        raise TrustError(
            f"{bundle.name}: the site holds epoch {held.epoch}, sequence {held.sequence};"
            f" this is epoch {bundle.epoch}, sequence {bundle.sequence}, which is older",
            remedy="install the newest bundle; a site goes back by its generations, not by old media",
        )


def require_fit(site: Site, plan: Plan) -> None:
    """Raise HostError when the plan needs more bytes or inodes than are free."""
    require_room(site.root, plan.needed, plan.free)


def _needed(
    site: Site, missing: dict[Sha256, StatedBlob], entries: tuple[Entry, ...], in_passing: int
) -> Room:
    texts = [len(entry.data) for entry in entries if isinstance(entry, Text)]
    sizes = [*(blob.size for blob in missing.values()), *texts, in_passing]
    return needed_room(site.root, sizes, [entry.path for entry in entries])


def needed_room(where: Path, sizes: Sequence[int], paths: Sequence[str]) -> Room:
    """What files of these sizes in bytes take, and names at `paths` with their directories.

    Files are rounded up to blocks; a directory takes one, and one for every 40 names. Raises HostError.
    """
    block = _statistics(where).f_frsize
    directories = len(tree_directories(paths))
    blocks = sum(-(-size // block) for size in sizes) + directories + len(paths) // 40 + 16
    return Room(blocks * block, len(sizes) + directories + 16)


def free_room(where: Path) -> Room:
    """Of the file system that holds an existing path. Raises HostError."""
    found = _statistics(where)
    return Room(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def require_room(where: Path, needed: Room, free: Room) -> None:
    """Raise HostError when more bytes or inodes are needed than are free."""
    lacking, todo = [], []
    if needed.bytes > free.bytes:
        lacking.append(shortage(needed.bytes, free.bytes))
        todo.append("free space")
    if needed.inodes is not None and free.inodes is not None and needed.inodes > free.inodes:
        lacking.append(f"{needed.inodes} inodes needed, {free.inodes} free")
        todo.append("delete small files")
    if lacking:
        raise HostError(
            f"{where}: {'; '.join(lacking)}",
            remedy=f"{' and '.join(todo)} on that file system or use a larger one; nothing was changed",
        )


def _statistics(where: Path) -> os.statvfs_result:
    with host_errors(where):
        return os.statvfs(where)
