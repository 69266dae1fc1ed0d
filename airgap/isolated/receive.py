"""`airgap receive`: volumes, one by one, into what has arrived of their bundle.

Each volume is judged as `airgap verify` judges it, except that its items are hashed while they are copied,
so that the medium is read once. What is good of a volume is kept, whatever else is wrong with it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path

from airgap.decode import MAX_DOCUMENT
from airgap.errors import AirgapError, HostError, InputError, IntegrityError, TrustError
from airgap.isolated.arrival import Arrival, Progressed, arrivals, documents_of, progressed
from airgap.isolated.generation import vouched_blobs
from airgap.isolated.identity import load_recipient
from airgap.isolated.memory import follow_roots, load_memory
from airgap.isolated.plan import free_room
from airgap.isolated.site import Site
from airgap.isolated.taking import Offer, Taker
from airgap.media import Media
from airgap.model import Finding, Severity, Sha256
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.records import MAX_RECORDS, carried_records
from airgap.store import fsync_directory, host_errors
from airgap.trust.checkable import HOWTO_FILE
from airgap.trust.decide import survey
from airgap.trust.envelope import payload_digest
from airgap.trust.root import Root
from airgap.trust.statement import SUMS, Statement
from airgap.units import shortage
from airgap.verify import Signed, distinct, open_signed
from airgap.verify_volumes import missing_bytes, of_volume
from airgap.volume_reading import Reading, read_volume
from airgap.volumes import Mark
from airgap.wanted import Held

MARGIN = 16 * 1024 * 1024
"""Bytes left free of what a bundle still lacks: for documents, directories and the generation after it."""


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one volume: how much of it was taken, and what is wrong with it.

    `reading` is None for a volume whose statement is missing or may not be believed; `refused` says why.
    """

    where: Path
    reading: Reading | None
    items: int
    bytes: int
    findings: tuple[Finding, ...]
    refused: AirgapError | None = None

    @property
    def sound(self) -> bool:
        return self.refused is None and not any(
            finding.severity is Severity.ERROR for finding in self.findings
        )


@dataclass(frozen=True, slots=True)
class Reception:
    """Every volume of one run, and how far the bundles are that they belong to."""

    volumes: tuple[Received, ...]
    progressed: tuple[Progressed, ...]

    @property
    def complete(self) -> bool:
        """Whether every bundle is whole, and every volume one that may be believed; damage aside."""
        doubtful = any(isinstance(received.refused, TrustError) for received in self.volumes)
        return bool(self.progressed) and not doubtful and all(far.complete for far in self.progressed)


def receive(
    volumes: Sequence[Media], site: Site, now: datetime, *, asked: str, progress: Progress, wait: float = 0
) -> Reception:
    """Take what is good of each volume and lacks so far. `now` is UTC in whole seconds.

    What the site holds of a bundle already is not read from the media. Raises HostError, also when the
    site has no room for what the bundle still lacks; TrustError when the site itself may not be believed.
    Killed anywhere, what was taken whole is there, and the same command goes on.
    """
    with site.locked(asked, wait=wait, progress=progress):
        site.prepare()
        site.recover()
        root = trusted_root(site.root, None, None)
        memory = load_memory(site).following(root)
        received: list[Received] = []
        touched: dict[Arrival, Statement] = {}
        for media in volumes:
            try:
                root, memory = follow_roots(media, site, root, memory, keep=True)
                signed = open_signed(media, root, memory.clock(now), memory.accepted, load_recipient(site))
            except (TrustError, InputError, IntegrityError) as error:
                received.append(Received(media.root, None, 0, 0, (), error))
                continue
            reading = read_volume(media, signed)
            arrival = Arrival(site, signed.judged.payload)
            if not begin(arrival, media, reading, root, memory.clock(now)):
                received.append(Received(media.root, reading, 0, 0, reading.findings))
                continue
            touched[arrival] = signed.statement
            received.append(_take(arrival, media, reading, progress))
        return Reception(tuple(received), tuple(progressed(a, stated) for a, stated in touched.items()))


def arrived(site: Site) -> list[tuple[Arrival, Progressed | None]]:
    """Every bundle on its way in, and how far it is: None where what has arrived cannot be read.

    Signatures are not judged: for display. Raises HostError.
    """
    found: list[tuple[Arrival, Progressed | None]] = []
    for arrival in arrivals(site):
        try:
            found.append((arrival, progressed(arrival, survey(arrival.envelope()).statement)))
        except (InputError, IntegrityError):
            found.append((arrival, None))
    return found


def plan_reception(volumes: Sequence[Media], site: Site, now: datetime) -> Reception:
    """What `receive` would take, as names, sizes and documents say; writes nothing and hashes no item."""
    root = trusted_root(site.root, None, None)
    memory = load_memory(site).following(root)
    received: list[Received] = []
    known: dict[Arrival, tuple[Statement, Held]] = {}
    marks: dict[Arrival, list[Mark | None]] = {}
    for media in volumes:
        try:
            root, memory = follow_roots(media, site, root, memory, keep=False)
            signed = open_signed(media, root, memory.clock(now), memory.accepted, load_recipient(site))
        except TrustError as error:
            received.append(Received(media.root, None, 0, 0, (), error))
            continue
        reading = read_volume(media, signed)
        arrival = Arrival(site, signed.judged.payload)
        if arrival not in known:
            known[arrival] = signed.statement, _would_hold(arrival, signed.statement)
        held = known[arrival][1]
        marks.setdefault(arrival, []).append(reading.mark)
        items = [item for path in reading.sound_offers if not held.covers(item := reading.offered[path])]
        for item in items:
            held.add(item)
        findings = tuple(map(of_volume, reading.findings))
        received.append(Received(media.root, reading, len(items), sum(i.size for i in items), findings))
    far = [progressed(arrival, *found, marks[arrival]) for arrival, found in known.items()]
    return Reception(tuple(received), tuple(far))


def forget(
    site: Site, words: Sequence[str], *, asked: str, wait: float = 0, dry_run: bool = False
) -> list[Arrival]:
    """Remove arrivals, each named by its bundle or by the begin of its digest.

    Raises InputError for a word that names none or several, HostError.
    """
    if dry_run:
        return _find(site, words)
    with site.locked(asked, wait=wait):
        site.prepare()
        site.recover()
        chosen = _find(site, words)
        for arrival in chosen:
            arrival.end()
        return chosen


def _find(site: Site, words: Sequence[str]) -> list[Arrival]:
    known = [(arrival, far.statement.name if far else "") for arrival, far in arrived(site)]
    chosen: dict[Arrival, None] = {}
    for word in words:
        matching = [one for one, name in known if word and (word == name or one.payload.startswith(word))]
        if len(matching) != 1:
            raise InputError(
                f"{word!r}: expected one bundle that is arriving, found {len(matching)}",
                remedy="airgap status --site DIR lists them",
            )
        chosen[matching[0]] = None
    return list(chosen)


def begin(arrival: Arrival, media: Media, reading: Reading, root: Root, now: datetime) -> bool:
    """See that the documents of the arrival are there, and that there is room for the rest.

    False where they are not, since the first volume to come has them damaged.
    """
    documents = _documents(arrival, media, reading, root)
    if documents is None and not arrival.exists:
        return False
    if documents is not None:
        arrival.begin(documents | _records(arrival, media, root, now))
    _link_held(arrival, reading.signed.statement)
    _require_room(arrival, reading.signed.statement)
    if reading.mark is not None:
        arrival.note(reading.mark)
    return True


def _records(arrival: Arrival, media: Media, root: Root, now: datetime) -> dict[str, bytes]:
    """Records that may be believed, by path; not more than one bundle brings, from whatever many volumes."""
    try:
        found = carried_records(media, root, now)
    except IntegrityError:  # a finding already
        return {}
    here = arrival.records()
    new = {one.source: one.data for one in found if one.attested and one.source not in here}
    return dict(islice(new.items(), MAX_RECORDS - len(here)))


def _documents(arrival: Arrival, media: Media, reading: Reading, root: Root) -> dict[str, bytes] | None:
    """What the bundle holds beside its blobs, each as it is signed; None where one of them is damaged."""
    statement = reading.signed.statement
    try:
        sums, howto = (media.read(path, max_bytes=MAX_DOCUMENT) for path in (SUMS, HOWTO_FILE))
    except IntegrityError:
        return None
    listed = f"{payload_digest(howto)}  {HOWTO_FILE}\n".encode() in sums
    if reading.index is None or payload_digest(sums) != statement.sums.sha384 or not listed:
        return None
    return documents_of(_envelope(arrival, reading.signed, root), reading.index, sums, howto)


def _envelope(arrival: Arrival, signed: Signed, root: Root) -> bytes:
    """The envelope that came first stays, while enough holders of its signatures are still trusted."""
    try:
        kept = arrival.envelope() if arrival.exists else b""
        surveyed = survey(kept, root)
    except (InputError, IntegrityError):
        return signed.envelope
    enough = surveyed.tally is not None and surveyed.tally.met(surveyed.threshold)
    return kept if enough and surveyed.payload == arrival.payload else signed.envelope


def _held_by_site(arrival: Arrival, statement: Statement) -> list[Sha256]:
    """Blobs that travel, and that a generation of the site vouches for with the same sha384."""
    store, vouched = arrival.site.store, vouched_blobs(arrival.site)
    return [
        digest
        for digest, stated in statement.travelling.items()
        if digest in vouched and vouched[digest][0] == stated and store.holds(digest, stated.size)
    ]


def _would_hold(arrival: Arrival, statement: Statement) -> Held:
    held = arrival.held(statement)
    held.whole.update(_held_by_site(arrival, statement))
    return held


def _link_held(arrival: Arrival, statement: Statement) -> None:
    """What the site holds need not be read again; linked, so that `gc` does not take it away."""
    with host_errors(arrival.blobs):
        here = set(os.listdir(arrival.blobs))
        lacking = [digest for digest in _held_by_site(arrival, statement) if digest not in here]
        for digest in lacking:
            os.link(arrival.site.store.path(digest), arrival.blobs / digest, follow_symlinks=False)
        if lacking:
            fsync_directory(arrival.blobs)


def _require_room(arrival: Arrival, statement: Statement) -> None:
    missing = missing_bytes(statement, arrival.held(statement))
    lacking, free = missing + MARGIN, free_room(arrival.site.root).bytes
    if missing and lacking > free:
        raise HostError(
            f"{arrival.site.root}: for what {statement.name} {statement.version} still lacks"
            f" {shortage(lacking, free)}",
            remedy="free space there first: airgap gc; what has arrived is kept",
        )


def _take(arrival: Arrival, media: Media, reading: Reading, progress: Progress) -> Received:
    held = arrival.held(reading.signed.statement)
    offers = [
        Offer(path, reading.offered[path], stated, partial(media.open, path))
        for path, stated in reading.sound_offers.items()
        if not held.covers(reading.offered[path])
    ]
    offers.sort(key=lambda offer: (-offer.item.size, offer.path))
    with arrival.site.stage() as staging:
        taker = Taker(arrival, reading, held, staging, progress)
        with progress.task("receiving", sum(offer.item.size for offer in offers)):
            wrong = taker.take_all(offers, media.readers)
    bad = {finding.subject for finding in wrong}
    taken = [offer.item for offer in offers if offer.path not in bad]
    findings = distinct((*map(of_volume, (*reading.findings, *wrong)), *taker.assemble()))
    size = sum(item.size for item in taken)
    return Received(media.root, reading, len(taken), size, (*findings, *reading.signed.judged.findings))
