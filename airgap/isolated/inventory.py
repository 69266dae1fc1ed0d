"""`airgap inventory`: what a site holds, so that the next bundle need not carry it again.

The base of a delta is the current generation: `gc` keeps all of it, whatever else goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from airgap.errors import InputError
from airgap.inventory import HeldBundle, Inventory
from airgap.isolated.counted import damaged_blobs, lost_blobs
from airgap.isolated.generation import load_member, stated_blobs
from airgap.isolated.identity import load_recipient
from airgap.isolated.record import InstalledBundle
from airgap.isolated.site import Site
from airgap.model import Sha256
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob


@dataclass(frozen=True, slots=True)
class Taken:
    """An inventory, and what is not in it though it was installed: blobs that are lost or damaged."""

    inventory: Inventory
    lost: Mapping[Sha256, StatedBlob]


def take_inventory(
    site: Site, generation: int | None = None, *, kept: bool = False, verify: Progress | None = None
) -> Taken:
    """What a generation needs and the site has; with `kept` also what only others need.

    It is the current one unless `generation` says otherwise.

    With `verify` every byte is hashed, else names and sizes count. Raises InputError where nothing is
    installed, IntegrityError when a bundle's own documents are damaged, HostError.
    """
    current = generation or site.current()
    if current is None:
        raise InputError(
            f"{site.root}: nothing is installed, so there is no base for a delta",
            remedy="the first bundle must be a whole one: airgap build without --base",
        )
    numbers = site.numbers() if kept else [current]
    bundles = sorted({b for n in numbers for b in site.record(n).bundles}, key=lambda b: (b.name, b.payload))
    blobs = stated_blobs(load_member(site, bundle) for bundle in bundles)
    lost = lost_blobs(site, blobs)
    if verify is not None:
        lost |= damaged_blobs(site, {d: blob for d, blob in blobs.items() if d not in lost}, verify)
    held = {digest: blob for digest, blob in sorted(blobs.items()) if digest not in lost}
    name = load_recipient(site).name
    return Taken(Inventory(name, current, tuple(map(_held, bundles)), held), lost)


def _held(bundle: InstalledBundle) -> HeldBundle:
    return HeldBundle(
        bundle.name,
        bundle.version,
        bundle.channel,
        bundle.epoch,
        bundle.sequence,
        bundle.payload,
        bundle.left_out,
    )
