"""The blobs that a delta counts on: whether the site holds them, decided before anything is touched."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.errors import MissingPartError
from airgap.inventory import inventory_id
from airgap.isolated.site import Site
from airgap.layout import BundledArtifact, blob_path
from airgap.media import Media
from airgap.model import Sha256
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.trust.statement import Statement
from airgap.units import amount, human_bytes
from airgap.verify import hash_files

MAX_LISTED = 10
"""Lacking blobs that are named one by one."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Blobs that a delta counts on and the site has not. `uses` names what they are, artifact by artifact."""

    where: Path
    statement: Statement
    blobs: Mapping[Sha256, StatedBlob]
    uses: Mapping[Sha256, str]

    @property
    def total_bytes(self) -> int:
        return sum(blob.size for blob in self.blobs.values())

    def lines(self) -> Iterator[str]:
        """The first of them, the largest first; sizes in bytes."""
        largest_first = sorted(self.blobs.items(), key=lambda item: (-item[1].size, item[0]))
        for digest, blob in largest_first[:MAX_LISTED]:
            yield f"{self.uses.get(digest, 'a blob')}: {human_bytes(blob.size)}, sha256 {digest}"
        if len(largest_first) > MAX_LISTED:
            yield f"and {len(largest_first) - MAX_LISTED} more"


def counted_by(stated: Statement, site: Site) -> dict[Sha256, StatedBlob]:
    """What a delta needs of this site: sources of patches only where what they make is not here yet."""
    if stated.base is None:
        return {}
    made = {d for d in stated.base.patches if site.store.holds(d, stated.blobs[d].size)}
    sources = {
        source: blob
        for digest, patch in stated.base.patches.items()
        if digest not in made
        for source, blob in patch.sources.items()
    }
    return {digest: stated.blobs[digest] for digest in stated.base.blobs} | sources


def lost_blobs(site: Site, blobs: Mapping[Sha256, StatedBlob]) -> dict[Sha256, StatedBlob]:
    """Those that the site has not, or not in their size."""
    return {digest: blob for digest, blob in blobs.items() if not site.store.holds(digest, blob.size)}


def damaged_blobs(
    site: Site, blobs: Mapping[Sha256, StatedBlob], progress: Progress
) -> dict[Sha256, StatedBlob]:
    """Those whose bytes in the site are not the stated ones; every byte is hashed. Raises HostError."""
    if not blobs:
        return {}
    files = {str(blob_path(digest)): digest for digest in blobs}
    with Media(site.root) as opened:
        stated = {path: blobs[digest] for path, digest in files.items()}
        found = hash_files(opened, stated, progress)
    return {files[finding.subject]: stated[finding.subject] for finding in found}


def uses_of(artifacts: Sequence[BundledArtifact], stated: Statement) -> dict[Sha256, str]:
    """What a person knows a blob by: `model tiny: config.json`; a container's layers have no names.

    What patches are made of is known by what it becomes.
    """
    uses = {
        layer.sha256: f"{bundled.artifact.kind} {bundled.artifact.name}"
        + ("" if layer.path == blob_path(layer.sha256) else f": {layer.path}")
        for bundled in reversed(artifacts)
        for layer in bundled.layers
    }
    for digest, patch in stated.base.patches.items() if stated.base else ():
        for source in patch.sources:
            uses.setdefault(source, f"what a patch makes into {uses.get(digest, 'a blob')}")
    return uses


def require_base(lacking: Sequence[Lacking], site: Site) -> None:
    """Raise one MissingPartError that lists everything, when anything is lacking."""
    wanted = [one for one in lacking if one.blobs]
    if not wanted:
        return
    lines = []
    for one in wanted:
        counted = one.statement.counted_on
        lines.append(
            f"{one.where} is a delta that counts on {amount(len(counted), 'blob')}; this site lacks"
            f" {len(one.blobs)} of them, {human_bytes(one.total_bytes)}:"
        )
        lines += [f"  {line}" for line in one.lines()]
    base = wanted[0].statement.base
    assert base is not None  # else nothing could be lacking
    raise MissingPartError(
        "\n  ".join(lines),
        remedy=f"install first what it was made against (inventory {inventory_id(base.inventory)}), or ask"
        f" for a whole bundle, or for a delta against: airgap inventory --site {site.root}",
    )
