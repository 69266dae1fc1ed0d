"""`airgap rollback`: another generation of a site becomes the current one, by one rename.

Nothing is forgotten: the floors stay, so what the site has accepted since is still the least it accepts.
"""

from dataclasses import dataclass
from datetime import datetime

from airgap.errors import InputError, TrustError
from airgap.isolated.drift import survey_generation
from airgap.isolated.feeding import Feed, plan_feed, require_feed_fits, settle, stage
from airgap.isolated.generation import load_member
from airgap.isolated.plan import Room
from airgap.isolated.record import Action, InstalledBundle, Receipt, difference
from airgap.isolated.site import Site
from airgap.progress import Progress
from airgap.trust.root import Root
from airgap.verify import refuse


@dataclass(frozen=True, slots=True)
class Rollback:
    """The generation in force afterwards and the one before, and the bundles by which they differ.

    `finished` when a run that was killed had switched already, and only its receipt was missing. `feed` is
    what the site's catalogue of models needs for it, where the site feeds one.
    """

    generation: int
    before: int
    added: tuple[InstalledBundle, ...]
    removed: tuple[InstalledBundle, ...]
    finished: bool = False
    feed: Feed | None = None

    @property
    def unchanged(self) -> bool:
        return self.generation == self.before


def rollback(
    site: Site,
    number: int | None,
    root: Root,
    now: datetime,
    *,
    asked: str,
    progress: Progress,
    wait: float = 0,
) -> Rollback:
    """Make generation `number` current; None means the one before. `now` is UTC in whole seconds.

    Raises InputError when there is no such generation, IntegrityError when it is not whole, TrustError
    when `root` revokes a bundle of it, HostError; the site is then what it was.
    """
    with site.locked(asked, wait=wait, progress=progress):
        finished = site.recover()
        if finished and finished.previous and number in (None, finished.generation):
            feed = _plan_feed(site, finished.generation)
            settle(stage(site, feed, progress))
            return Rollback(
                finished.generation, finished.previous, finished.added, finished.removed, True, feed
            )
        plan = plan_rollback(site, number, root)
        require_feed_fits(site, plan.feed, Room(0, 0))
        feed = stage(site, plan.feed, progress)
        if not plan.unchanged:
            site.switch_back(
                Receipt(Action.ROLLBACK, plan.generation, plan.before, now, asked, plan.added, plan.removed)
            )
        settle(feed)
        return plan


def plan_rollback(site: Site, number: int | None, root: Root) -> Rollback:
    """What `rollback` would do; writes nothing and raises the same."""
    current = site.current()
    if current is None:
        raise InputError(f"{site.root}: nothing was ever installed here")
    target = _before(site, current) if number is None else number
    if target not in site.numbers():
        here = ", ".join(map(str, site.numbers()))
        raise InputError(f"{site.root}: no generation {target}; here are {here}")
    if target == current:
        return Rollback(current, current, (), (), feed=_plan_feed(site, current))
    refuse(survey_generation(site, target).findings, f"generation {target}")
    record = site.record(target)
    for bundle in record.bundles:
        if bundle.payload in root.revoked_bundles:
            raise TrustError(
                f"generation {target} holds {bundle}, which root version {root.version} revokes",
                remedy="choose another generation, or install a newer bundle",
            )
    added, removed = difference(site.record(current), record)
    return Rollback(target, current, added, removed, feed=_plan_feed(site, target))


def _plan_feed(site: Site, number: int) -> Feed | None:
    return plan_feed(site, [load_member(site, bundle) for bundle in site.record(number).bundles])


def _before(site: Site, current: int) -> int:
    older = [number for number in site.numbers() if number < current]
    if not older:
        raise InputError(
            f"{site.root}: generation {current} is the oldest here, there is none before it",
            remedy="airgap status --site DIR lists them; a newer one is named by its number",
        )
    return max(older)
