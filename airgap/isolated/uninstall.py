"""`airgap uninstall`: a new generation without some bundles or artifacts. The bytes stay until `gc`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from airgap.errors import InputError
from airgap.isolated.feeding import Feed, plan_feed, require_feed_fits, settle, stage
from airgap.isolated.generation import Member, build, load_member, own_files, unite
from airgap.isolated.plan import Room
from airgap.isolated.record import Action, InstalledBundle, Receipt, SiteRecord, difference
from airgap.isolated.site import Site
from airgap.progress import Progress


@dataclass(frozen=True, slots=True)
class Uninstall:
    """What is taken away: whole bundles, and artifacts as `bundle/artifact`; `record` is what remains.

    `feed` is what the site's catalogue of models needs for that, where the site feeds one.
    """

    bundles: tuple[InstalledBundle, ...]
    artifacts: tuple[str, ...]
    record: SiteRecord
    feed: Feed | None


def uninstall(
    site: Site, names: Sequence[str], now: datetime, *, asked: str, progress: Progress, wait: float = 0
) -> tuple[Uninstall, int]:
    """Make a generation without `names` current; returns its number too. `now` is UTC in whole seconds.

    Raises InputError for a name that is not installed, IntegrityError when the site's own documents are
    damaged, HostError; the site is then what it was.
    """
    with site.locked(asked, wait=wait, progress=progress):
        site.recover()
        plan = plan_uninstall(site, names)
        members = [load_member(site, bundle) for bundle in plan.record.bundles]
        entries = unite(site.root, members)
        number = site.next_number()
        added, removed = difference(site.record(), plan.record)
        gone = (*(bundle.name for bundle in plan.bundles), *plan.artifacts)
        receipt = Receipt(
            Action.UNINSTALL, number, site.current(), now, asked, added, removed, artifacts=gone
        )
        require_feed_fits(site, plan.feed, Room(0, 0))
        build(site, number, (*entries, *own_files(members, entries, receipt)))
        feed = stage(site, plan.feed, progress)
        site.activate(number)
        site.write_receipt(number)
        settle(feed)
        return plan, number


def plan_uninstall(site: Site, names: Sequence[str]) -> Uninstall:
    """What `uninstall` would take away; writes nothing and raises the same.

    A name is that of a bundle, of an artifact in whatever bundles bring it, or `bundle/artifact`.
    """
    members = [load_member(site, bundle) for bundle in site.record().bundles]
    chosen = {(bundle, artifact) for name in names for bundle, artifact in _chosen(members, name)}
    remaining, bundles, artifacts = [], [], []
    for member in members:
        own = member.bundle
        there = {bundled.artifact.name for bundled in member.artifacts}
        out = sorted(name for name in there if {(own.name, ""), (own.name, name)} & chosen)
        if len(out) == len(there):
            bundles.append(own)
            continue
        artifacts += [f"{own.name}/{name}" for name in out]
        remaining.append(replace(own, left_out=tuple(sorted({*own.left_out, *out}))))
    record = SiteRecord(tuple(remaining))
    feed = plan_feed(site, [load_member(site, bundle) for bundle in record.bundles])
    return Uninstall(tuple(bundles), tuple(artifacts), record, feed)


def _chosen(members: Sequence[Member], name: str) -> Collection[tuple[str, str]]:
    """Pairs of bundle and artifact that a name stands for; ('bundle', '') is the whole bundle."""
    bundles = {member.bundle.name for member in members}
    held = {(m.bundle.name, bundled.artifact.name) for m in members for bundled in m.artifacts}
    of_bundle, _, of_artifact = name.rpartition("/")
    found = {pair for pair in held if pair[1] == of_artifact and of_bundle in ("", pair[0])}
    if name in bundles and any(pair[0] != name for pair in found):
        spelled = ", ".join("/".join(pair) for pair in sorted(found))
        raise InputError(
            f"{name!r} is a bundle, and an artifact of another one",
            remedy=f"write {spelled} for the artifact; to remove the bundle, name each of its artifacts so",
        )
    if name in bundles:
        return {(name, "")}
    if not found:
        there = ", ".join(sorted({*bundles, *("/".join(pair) for pair in held)})) or "nothing"
        raise InputError(f"{name!r} is not installed; installed: {there}")
    return found
