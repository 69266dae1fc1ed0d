"""`airgap install`: a bundle on media becomes the next generation of a site, whole or not at all."""

from dataclasses import dataclass
from datetime import datetime

from airgap.isolated.copying import copy_blobs, discard_damaged, keep
from airgap.isolated.entries import Text
from airgap.isolated.generation import Member, build, load_member, unite
from airgap.isolated.memory import Memory, load_memory, save_memory
from airgap.isolated.plan import Plan, describe_bundle, make_plan, require_fit, require_newer
from airgap.isolated.record import InstalledBundle, Receipt, SiteRecord, render_receipt, render_record
from airgap.isolated.site import RECEIPT_FILE, RECORD_FILE, Site
from airgap.media import Media
from airgap.model import BundlePath
from airgap.progress import Progress
from airgap.trust.root import Root
from airgap.verify import Contents, Signed, distinct, open_signed, read_contents, read_index, refuse, survey


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install did, or would do; `generation` is the current one afterwards.

    It is a new one unless `plan.unchanged`; None on a site where nothing was installed yet.
    """

    generation: int | None
    plan: Plan


def install(
    media: Media, site: Site, root: Root, now: datetime, *, asked: str, progress: Progress
) -> Installed:
    """Verify a bundle and make it part of the site's next generation. `now` is UTC in whole seconds.

    Each byte of the media is read once. Installing again what is installed hashes what the site holds of
    it, and brings back what was lost or damaged there. Raises TrustError, IntegrityError (naming every
    difference), PolicyError for artifacts that collide, and HostError; whatever is raised, and wherever
    the process is killed, the site is wholly the old or wholly the new generation.
    """
    with site.locked(asked):
        site.prepare()
        site.recover()
        memory = load_memory(site)
        signed, contents = _judge(media, root, memory, now)
        bundle = describe_bundle(signed, contents)
        held = site.record().find(bundle.name)
        if held and held.payload == bundle.payload:
            discard_damaged(site, [*signed.statement.blobs, bundle.envelope, bundle.index], progress)
        plan = _plan(site, signed, contents, bundle)
        require_fit(site, plan)
        if plan.unchanged:
            return Installed(site.current(), plan)
        documents = dict(contents.documents)
        keep(site, documents | {plan.bundle.envelope: signed.envelope, plan.bundle.index: contents.index})
        unread = {digest: blob for digest, blob in plan.missing.items() if digest not in documents}
        refuse(copy_blobs(media, site, unread, progress), str(media.root))
        number = site.next_number()
        build(site, number, (*plan.entries, *_own_files(site, plan, number, now, asked)))
        save_memory(site, memory.accepting(signed.judged))
        site.activate(number)
        site.write_receipt(number)
        return Installed(number, plan)


def plan_install(media: Media, site: Site, root: Root, now: datetime) -> Plan:
    """What `install` would do, from reading signatures, names, sizes and documents alone; writes nothing."""
    signed, contents = _judge(media, root, load_memory(site), now)
    return _plan(site, signed, contents, describe_bundle(signed, contents))


def _judge(media: Media, root: Root, memory: Memory, now: datetime) -> tuple[Signed, Contents]:
    signed = open_signed(media, root, memory.clock(now), memory.accepted)
    index, wrong = read_index(media, signed)
    refuse(distinct([*survey(media, signed), *wrong]), str(media.root))
    assert index is not None  # else `wrong` named it
    return signed, read_contents(media, signed, index)


def _plan(site: Site, signed: Signed, contents: Contents, bundle: InstalledBundle) -> Plan:
    before = site.record()
    require_newer(before, bundle)
    member = Member(bundle, contents.index, contents.lock, contents.artifacts)
    entries = unite(site.root, _members(site, before, member))
    return make_plan(site, before, bundle, signed.statement, entries)


def _members(site: Site, before: SiteRecord, newcomer: Member) -> list[Member]:
    """Every bundle of the next generation, by name; the installed ones are read from the site's own blobs."""
    others = [load_member(site, bundle) for bundle in before.bundles if bundle.name != newcomer.bundle.name]
    return sorted((*others, newcomer), key=lambda member: member.bundle.name)


def _own_files(site: Site, plan: Plan, number: int, now: datetime, asked: str) -> tuple[Text, Text]:
    receipt = Receipt(
        number,
        site.current(),
        now,
        asked,
        plan.bundle,
        plan.replaced,
        plan.artifacts,
        len(plan.missing),
        plan.missing_bytes,
        len(plan.shared),
        plan.shared_bytes,
    )
    return (
        Text(BundlePath(RECORD_FILE), render_record(plan.record)),
        Text(BundlePath(RECEIPT_FILE), render_receipt(receipt)),
    )
