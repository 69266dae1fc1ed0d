"""`airgap install`: bundles on media become the next generation of a site, whole or not at all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from airgap.errors import InputError
from airgap.isolated.arrival import Arrival, ArrivedMedia
from airgap.isolated.copying import copy_blobs, discard_damaged, keep
from airgap.isolated.counted import Lacking, counted_by, damaged_blobs, lost_blobs, require_base, uses_of
from airgap.isolated.drift import verify_generation
from airgap.isolated.feeding import Feed, plan_feed, require_feed_fits, settle, stage
from airgap.isolated.generation import (
    Member,
    build,
    load_member,
    own_files,
    require_same,
    stated_blobs,
    unite,
    vouched_blobs,
)
from airgap.isolated.identity import load_recipient
from airgap.isolated.memory import Memory, follow_roots, load_memory, save_memory
from airgap.isolated.patching import make_blobs
from airgap.isolated.plan import Plan, describe_bundle, make_plan, require_fit, require_newer
from airgap.isolated.rate import Rate, measure
from airgap.isolated.record import Action, Amount, InstalledBundle, Receipt, difference
from airgap.isolated.site import Site, make_directory
from airgap.layout import record_name
from airgap.media import Media
from airgap.model import Sha256
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.records import Record, carried_records, record_findings
from airgap.store import write_durably
from airgap.trust.blobs import Patch, StatedBlob
from airgap.trust.root import Root
from airgap.verify import Contents, Signed, distinct, open_signed, read_contents, read_index, refuse, survey


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install did, or would do; `generation` is the current one afterwards.

    None on a site where nothing was installed yet.
    """

    generation: int | None
    plan: Plan
    built: bool
    """Whether it is a new one: the site lacked something, or something in it was damaged."""
    feed: Feed | None = None
    """What the site's catalogue of models needed, where it feeds one."""
    rate: Rate | None = None
    """Of a plan: how fast some of what it would copy was just read."""


@dataclass(frozen=True, slots=True)
class Brought:
    """One bundle on its media, judged."""

    media: Media
    signed: Signed
    contents: Contents
    bundle: InstalledBundle
    records: tuple[Record, ...]


Approval = Callable[[Sequence[Member]], None]
"""Sees bundles, and raises what ends the install."""


def install(
    media: Sequence[Media],
    site: Site,
    now: datetime,
    *,
    asked: str,
    progress: Progress,
    wait: float = 0,
    approve: Approval | None = None,
    accept: Approval | None = None,
    models_dir: Path | None = None,
) -> Installed:
    """Verify bundles and make them part of the site's one next generation. `now` is UTC in whole seconds.

    `approve` sees every bundle of that generation before a byte is copied; `accept` sees those that are
    brought once the site's store holds all their bytes, and before anything of them is in force. What it
    refuses stays in the store, where `gc` finds it.

    Each byte of the media is read once. A delta that counts on what the site lacks is refused before
    anything is touched (MissingPartError, which lists it). Installing again what is installed hashes what
    the site holds of it, and brings back what was lost or damaged there, in a new generation. Waits up to
    `wait` seconds for another change of the site to end. Raises TrustError, IntegrityError (naming every
    difference), PolicyError for artifacts that collide, and HostError; whatever is raised, and wherever
    the process is killed, the site is wholly the old or wholly the new generation. Newer roots are kept once
    they are proven, whatever becomes of the bundles. `models_dir` becomes the catalogue that it feeds.
    """
    with site.locked(asked, wait=wait, progress=progress):
        site.prepare()
        site.recover()
        _finish_arrivals(media, progress)
        memory, brought = _judge(media, site, now, keep=True)
        _settle(site, brought, progress)
        members, plan = _plan(site, brought)
        if approve:
            approve(members)
        feed = plan_feed(site, members, models_dir, checking=progress if plan.unchanged else None)
        require_fit(site, plan)
        require_feed_fits(site, feed, plan.needed)
        _keep_records(site, brought)
        current = site.current()
        newcomers = [member for member in members if member.bundle in plan.bundles]
        if plan.unchanged and current and not verify_generation(site, current, progress):
            if accept:
                accept(newcomers)
            settle(stage(site, feed, progress))
            _end_arrivals(site, brought)
            return Installed(current, plan, built=False, feed=feed)
        _copy(site, brought, plan, progress)
        if accept:
            accept(newcomers)
        number = site.next_number()
        receipt = _receipt(site, plan, number, now, asked)
        build(site, number, (*plan.entries, *own_files(members, plan.entries, receipt)))
        staged = stage(site, feed, progress)
        save_memory(site, memory)
        site.activate(number)
        site.write_receipt(number)
        settle(staged)
        _end_arrivals(site, brought)
        return Installed(number, plan, built=True, feed=feed)


def _finish_arrivals(media: Sequence[Media], progress: Progress) -> None:
    """What a receive that was killed left to do. Raises IntegrityError or HostError."""
    for one in media:
        if isinstance(one, ArrivedMedia):
            refuse(one.finish(progress), str(one.root))


def plan_install(
    media: Sequence[Media],
    site: Site,
    now: datetime,
    *,
    approve: Approval | None = None,
    look: Callable[[Sequence[Brought]], None] | None = None,
    models_dir: Path | None = None,
) -> Installed:
    """What `install` would do; writes nothing.

    From signatures, names, sizes and documents alone; a little of the blobs is read to see how fast that is.
    `look` is given what was brought, and may read all of it.
    """
    for one in media:
        if isinstance(one, ArrivedMedia):
            one.require_assembled()
    _, brought = _judge(media, site, now, keep=False)
    require_base([_lacking(one, site, brought) for one in brought], site)
    members, plan = _plan(site, brought)
    if approve:
        approve(members)
    feed = plan_feed(site, members, models_dir)
    rate = measure([one.media for one in brought], plan.missing)
    if look:
        look(brought)
    return Installed(site.current(), plan, built=False, feed=feed, rate=rate)


def _judge(
    media: Iterable[Media], site: Site, now: datetime, *, keep: bool
) -> tuple[Memory, tuple[Brought, ...]]:
    """Every bundle's statement and documents, and what the site will remember once it has them.

    All media's roots come first: what the newest one revokes is revoked on the others too.
    """
    root = trusted_root(site.root, None, None)
    memory = load_memory(site).following(root)
    opened = tuple(media)
    for one in opened:
        root, memory = follow_roots(one, site, root, memory, keep=keep)
    brought: dict[str, Brought] = {}
    for one in opened:
        signed, contents = _read(one, site, root, memory, now)
        records = carried_records(one, root, memory.clock(now))
        found = Brought(one, signed, contents, describe_bundle(signed, contents, now), records)
        first = brought.setdefault(found.bundle.name, found)
        if first.bundle.payload != found.bundle.payload:
            raise InputError(
                f"{first.media.root} holds {first.bundle} and {one.root} holds {found.bundle}",
                remedy="name the newer one alone: a site has one bundle of a name",
            )
        memory = memory.accepting(signed.judged)
    return memory, tuple(brought.values())


def _read(media: Media, site: Site, root: Root, memory: Memory, now: datetime) -> tuple[Signed, Contents]:
    signed = open_signed(media, root, memory.clock(now), memory.accepted, load_recipient(site))
    index, wrong = read_index(media, signed)
    refuse(distinct([*survey(media, signed), *wrong]), str(media.root))
    assert index is not None  # else `wrong` named it
    return signed, read_contents(media, signed, index)


def _settle(site: Site, brought: Sequence[Brought], progress: Progress) -> None:
    """See that the site holds what deltas count on; then remove what it holds and is not what is stated.

    What a generation vouches for is believed, except when the bundle is installed again to repair it.
    """
    before, vouched = site.record(), vouched_blobs(site)
    suspects = []
    lacking = []
    for one in brought:
        stated = {**one.signed.statement.blobs, **one.signed.statement.counted_on}
        require_same(one.bundle, stated, vouched)
        held = before.find(one.bundle.name)
        again = held is not None and held.payload == one.bundle.payload
        suspect = {digest: blob for digest, blob in stated.items() if again or digest not in vouched}
        lacking.append(_lacking(one, site, brought, suspect, progress))
        suspects.append(suspect)
    require_base(lacking, site)
    remade = []
    for one, suspect in zip(brought, suspects, strict=True):
        counted = one.signed.statement.counted_on
        doubted = {d: b for d, b in suspect.items() if d not in counted}
        damaged = discard_damaged(site, doubted, progress)
        if damaged & _patches_of(one).keys():  # what they are made of is needed again
            remade.append(_lacking(one, site, brought, suspect, progress))
        if isinstance(one.media, ArrivedMedia):  # the same bytes by another name
            one.media.arrival.discard(damaged)
            one.media.require(one.signed.statement)
    require_base(remade, site)


def _lacking(
    one: Brought,
    site: Site,
    brought: Iterable[Brought],
    suspect: Mapping[Sha256, StatedBlob] | None = None,
    progress: Progress | None = None,
) -> Lacking:
    """What a bundle counts on and neither the site holds nor another of the bundles brings.

    Of the `suspect` blobs the bytes are hashed.
    """
    stated = one.signed.statement
    beside = {digest for other in brought for digest in other.signed.statement.travelling}
    counted = {digest: blob for digest, blob in counted_by(stated, site).items() if digest not in beside}
    lost = lost_blobs(site, counted)
    if suspect and progress:
        doubted = {d: blob for d, blob in counted.items() if d in suspect and d not in lost}
        lost |= damaged_blobs(site, doubted, progress)
    return Lacking(one.media.root, stated, lost, uses_of(one.contents.artifacts, stated))


def _plan(site: Site, brought: Sequence[Brought]) -> tuple[list[Member], Plan]:
    before = site.record()
    newcomers = []
    for one in brought:
        require_newer(before, one.bundle)
        held = before.find(one.bundle.name)
        same = held is not None and held.payload == one.bundle.payload and not held.left_out
        bundle = held if same and held else one.bundle
        contents = one.contents
        stated = one.signed.statement.blobs
        newcomers.append(Member.of(bundle, contents.index, contents.lock, contents.artifacts, stated))
    names = {member.bundle.name for member in newcomers}
    others = [load_member(site, bundle) for bundle in before.bundles if bundle.name not in names]
    members = sorted((*others, *newcomers), key=lambda member: member.bundle.name)
    stated_blobs(members)
    in_passing = [patch.stated.size for one in brought for patch in _patches_of(one).values()]
    arrived = [one.signed.statement for one in brought if isinstance(one.media, ArrivedMedia)]
    here = {digest for stated in arrived for digest in stated.travelling}
    plan = make_plan(site, before, newcomers, unite(site.root, members), in_passing, arrived=here)
    findings = tuple(
        finding for one in brought for finding in (*one.signed.judged.findings, *record_findings(one.records))
    )
    return members, replace(plan, findings=findings)


def _keep_records(site: Site, brought: Iterable[Brought]) -> None:
    """Records that may be believed stay at the site, whatever generation comes after."""
    for record in (record for one in brought for record in one.records if record.attested):
        make_directory(site.records)
        path = site.records / record_name(record.data)
        if not path.exists():
            write_durably(path, record.data)


def _patches_of(one: Brought) -> Mapping[Sha256, Patch]:
    """All patches of a bundle, by the blob that each makes."""
    base = one.signed.statement.base
    return base.patches if base else {}


def _copy(site: Site, brought: Sequence[Brought], plan: Plan, progress: Progress) -> None:
    """Bring every missing blob, and keep the documents whose bytes were verified in memory."""
    read: dict[Sha256, bytes] = {}
    findings = []
    for one in brought:
        own = {one.bundle.envelope: one.signed.envelope, one.bundle.index: one.contents.index}
        read |= {**one.contents.documents, **own}
        keep(site, {**one.contents.documents, **own})
        travelling = one.signed.statement.travelling
        wanted = {d: b for d, b in travelling.items() if d in plan.missing and d not in read}
        unread = {d: b for d, b in wanted.items() if not site.store.holds(d, b.size)}
        if isinstance(one.media, ArrivedMedia):
            one.media.link(unread)
        else:
            findings.append((one.media, copy_blobs(one.media, site, unread, progress)))
    for one in brought:  # after the copying, for one bundle may bring what another's patch is made of
        findings.append((one.media, make_blobs(one.media, site, _patches(one, site, plan), progress)))
    for media, found in findings:
        refuse(found, str(media.root))


def _patches(one: Brought, site: Site, plan: Plan) -> dict[Sha256, tuple[Patch, StatedBlob]]:
    """The bundle's patches whose blobs the site lacks, each with what is stated of its blob."""
    stated = one.signed.statement
    if stated.base is None:
        return {}
    return {
        digest: (patch, stated.blobs[digest])
        for digest, patch in stated.base.patches.items()
        if digest in plan.missing and not site.store.holds(digest, stated.blobs[digest].size)
    }


def _end_arrivals(site: Site, brought: Iterable[Brought]) -> None:
    """What is installed arrives no more, from whatever media it came at last."""
    for one in brought:
        arrival = Arrival(site, one.bundle.payload)
        if arrival.exists:
            arrival.end()


def _receipt(site: Site, plan: Plan, number: int, now: datetime, asked: str) -> Receipt:
    added, removed = difference(plan.before, plan.record)
    copied = Amount(len(plan.missing), plan.missing_bytes)
    shared = Amount(len(plan.shared), plan.shared_bytes)
    return Receipt(
        Action.INSTALL, number, site.current(), now, asked, added, removed, plan.artifacts, copied, shared
    )
