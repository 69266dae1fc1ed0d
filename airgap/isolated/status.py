"""`airgap status`: what is installed, by whom it was vouched for, and what the site could go back to."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from airgap.errors import AirgapError, HostError, IntegrityError
from airgap.isolated.arrival import Arrival, Progressed
from airgap.isolated.catalogue import Catalogue, read_catalogue
from airgap.isolated.gc import find_garbage
from airgap.isolated.generation import load_member
from airgap.isolated.plan import Room, free_room
from airgap.isolated.receive import arrived
from airgap.isolated.record import InstalledBundle, Receipt
from airgap.isolated.site import Site


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation that is here. `made` and `asked` are None and empty where its receipt is damaged."""

    number: int
    bundles: tuple[InstalledBundle, ...]
    made: datetime | None
    asked: str


@dataclass(frozen=True, slots=True)
class Status:
    """`current` is None before the first install; `changed` is the receipt of the last change.

    `unused_bytes` belong to no generation, as what a killed install copied; None when a generation is
    damaged, so that nobody can say. `busy` names who is changing the site, else ''.
    """

    current: int | None
    artifacts: Mapping[str, tuple[str, ...]]
    """By bundle, `kind name` each; a bundle whose documents are damaged is absent."""
    generations: tuple[Generation, ...]
    changed: Receipt | None
    free: Room
    unused_bytes: int | None
    busy: str
    arriving: tuple[tuple[Arrival, Progressed | None], ...] = ()
    """What came in volumes and is not installed yet; None where it is damaged."""
    catalogue: Catalogue | None = None
    """Of models, where the site feeds one."""

    @property
    def bundles(self) -> tuple[InstalledBundle, ...]:
        return next((g.bundles for g in self.generations if g.number == self.current), ())


def read_status(site: Site) -> Status:
    """Reads records and receipts, no artifacts; takes no lock. Raises IntegrityError or HostError."""
    return Status(
        site.current(),
        _artifacts(site),
        tuple(_generation(site, number) for number in site.numbers()),
        site.last_receipt(),
        free_room(site.root),
        _unused(site),
        _busy(site),
        tuple(arrived(site)),
        read_catalogue(site),
    )


def _generation(site: Site, number: int) -> Generation:
    receipt = site.made_by(number)
    made, asked = (receipt.at, receipt.asked) if receipt else (None, "")
    try:
        bundles = site.record(number).bundles
    except IntegrityError:
        if number == site.current():
            raise
        bundles = ()
    return Generation(number, bundles, made, asked)


def _artifacts(site: Site) -> dict[str, tuple[str, ...]]:
    found = {}
    for bundle in site.record().bundles:
        with suppress(IntegrityError):
            artifacts = [bundled.artifact for bundled in load_member(site, bundle).artifacts]
            found[bundle.name] = tuple(f"{artifact.kind} {artifact.name}" for artifact in artifacts)
    return found


def _unused(site: Site) -> int | None:
    try:
        return find_garbage(site, len(site.numbers()) or 1).bytes
    except AirgapError:
        return None


def _busy(site: Site) -> str:
    """Who changes the site; '' also for a user who may read the site and not its lock."""
    try:
        return site.busy()
    except HostError:
        return ""
