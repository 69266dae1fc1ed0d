"""`airgap receive -`: volumes out of a pipe, one after the other, as a diode's receiver hands them on.

    <name>-<version>.<k>of<n>/bundle.dsse.json      the signed statement comes first,
    <name>-<version>.<k>of<n>/…                     then the other small documents,
    <name>-<version>.<k>of<n>/volume.json           which this one ends,
    <name>-<version>.<k>of<n>/blobs/…, parts/…      then the items, each hashed while it is written,
    <name>-<version>.<k>of<n>/SHA384SUMS            and last the list that decides about ranges of blobs.

Nothing can be asked of the sender again, so whatever is good is kept, also of a stream that breaks off, and
what it lacks is said as the list with which to send again. No byte is written twice or kept elsewhere.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from airgap.decode import MAX_DOCUMENT
from airgap.errors import InputError, TrustError
from airgap.isolated.arrival import Arrival, progressed
from airgap.isolated.identity import load_recipient
from airgap.isolated.memory import Memory, follow_roots, load_memory
from airgap.isolated.receive import Received, Reception, begin
from airgap.isolated.site import Site
from airgap.isolated.taking import Offer, Taker, Unlisted
from airgap.layout import ENVELOPE_FILE, blob_path
from airgap.media import Media
from airgap.model import Finding, Severity, Sha256, Sha384, bundle_path
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.readers.decompress import Readable
from airgap.readers.tar import Entry, EntryKind, TarStream
from airgap.store import host_errors
from airgap.trust.blobs import StatedBlob
from airgap.trust.root import Root
from airgap.trust.statement import Statement
from airgap.verify import distinct, open_signed
from airgap.verify_volumes import of_volume
from airgap.volume_reading import Reading, read_streamed
from airgap.volumes import LIST_FILE, MARK_FILE, Item, parse_list, parse_part

MAX_DOCUMENTS = 512 * 1024 * 1024
"""Bytes of all documents of one volume: they lie in staging, never in memory together."""

BATCH_BYTES = 256 * 1024 * 1024
BATCH_FILES = 256
"""After so much what was taken is made durable and named."""

SEND_AGAIN = "send it again: airgap split --tar -o - --only, as below; what is good is kept"


@dataclass(slots=True)
class _State:
    """What the run knows by now: the root in force, the site's memory, what became of each volume."""

    root: Root
    memory: Memory
    received: list[Received] = field(default_factory=list)
    touched: dict[Arrival, Statement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Member:
    """One file of the stream: `volume` is its directory, `path` its place in the volume."""

    volume: str
    path: str
    size: int


def receive_stream(
    stream: Readable, site: Site, now: datetime, *, asked: str, progress: Progress, wait: float = 0
) -> Reception:
    """Take what is good of every volume in a tar that is read forward once. `now` is UTC in whole seconds.

    Raises InputError where not even a first volume begins, HostError, TrustError when the site itself may
    not be believed. Killed anywhere, or cut off anywhere, what was taken whole is there.
    """
    with site.locked(asked, wait=wait, progress=progress):
        site.prepare()
        site.recover()
        root = trusted_root(site.root, None, None)
        state = _State(root, load_memory(site).following(root))
        tar = TarStream(stream, "the stream")
        members = _members(tar)
        member = next(members, None)
        if member is None or member.path != ENVELOPE_FILE:
            raise InputError(
                f"the stream does not begin with a volume's {ENVELOPE_FILE}",
                remedy="make it with: airgap build --tar -, or airgap split --tar -o -",
            )
        while member is not None:
            volume = _Volume(tar, members, site, now, progress)
            member = volume.receive(member, state)
        far = tuple(progressed(arrival, stated) for arrival, stated in state.touched.items())
        return Reception(tuple(state.received), far)


def _members(tar: TarStream) -> Iterator[_Member]:
    """Files alone; directories say nothing. Raises InputError for any other kind, or a path like `../x`."""
    for entry in tar:
        if entry.kind is EntryKind.DIRECTORY:
            continue
        volume, _, path = _path(entry).partition("/")
        yield _Member(volume, path, entry.size)


def _path(entry: Entry) -> str:
    path = bundle_path(entry.path)
    if entry.kind is not EntryKind.FILE or entry.sparse or "/" not in path:
        raise InputError(f"the stream: expected files of volumes, found a {entry.kind} {path!r}")
    return path


class _Volume:
    """One volume while it goes by."""

    def __init__(
        self, tar: TarStream, members: Iterator[_Member], site: Site, now: datetime, progress: Progress
    ) -> None:
        self.tar, self.members = tar, members
        self.site, self.now, self.progress = site, now, progress
        self.reading: Reading | None = None
        self.taken: list[Item] = []
        self.findings: list[Finding] = []
        self.unlisted: dict[str, Unlisted] = {}
        """Ranges that are written and hashed; the list, which comes last, decides about them."""

    def receive(self, first: _Member, state: _State) -> _Member | None:
        """Take the volume that `first` begins in; returns the first member of the next one."""
        where = Path(first.volume)
        try:
            with self.site.stage() as staging:
                self._stage_documents(first, staging)
                with Media(staging) as media:
                    reading = self.reading = self._open(media, where, state)
                    if reading is None:
                        return self._pass_by(first.volume)
                    arrival = Arrival(self.site, reading.signed.judged.payload)
                    if not begin(arrival, media, reading, state.root, state.memory.clock(self.now)):
                        state.received.append(Received(where, reading, 0, 0, reading.findings))
                        return self._pass_by(first.volume)
                    state.touched[arrival] = reading.signed.statement
                    following = self._take(arrival, media, reading, first.volume)
        except InputError as error:
            message = f"the stream ends inside of this volume: {error.message}"
            self.findings.append(_finding("volume-stream", first.volume, message))
            following = None
        size = sum(item.size for item in self.taken)
        findings = distinct(map(of_volume, self.findings))
        state.received.append(Received(where, self.reading, len(self.taken), size, findings))
        return following

    def _stage_documents(self, first: _Member, staging: Path) -> None:
        """Everything up to volume.json, as files: what comes before the first item is small."""
        total = 0
        member: _Member | None = first
        while member is not None and member.volume == first.volume:
            total += member.size
            if total > MAX_DOCUMENTS:
                raise InputError(f"{member.volume}: more than {MAX_DOCUMENTS} bytes before {MARK_FILE}")
            place = staging / member.path
            with host_errors(place):
                try:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with open(place, "xb") as out:
                        out.write(self.tar.read(MAX_DOCUMENT))
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    raise InputError(f"{member.volume}: {member.path} comes twice") from None
            if member.path == MARK_FILE:
                return
            member = next(self.members, None)
        raise InputError(f"{first.volume}: it ends without {MARK_FILE}")

    def _open(self, media: Media, where: Path, state: _State) -> Reading | None:
        """The volume's documents, judged; None, and said so, when its signatures do not hold."""
        try:
            state.root, state.memory = follow_roots(media, self.site, state.root, state.memory, keep=True)
            clock = state.memory.clock(self.now)
            signed = open_signed(media, state.root, clock, state.memory.accepted, load_recipient(self.site))
        except TrustError as error:
            state.received.append(Received(where, None, 0, 0, (), error))
            return None
        return read_streamed(media, signed)

    def _pass_by(self, volume: str) -> _Member | None:
        """Read on to the next volume."""
        return next((member for member in self.members if member.volume != volume), None)

    def _take(self, arrival: Arrival, media: Media, reading: Reading, volume: str) -> _Member | None:
        self.findings += reading.findings
        statement = reading.signed.statement
        held = arrival.held(statement)
        with self.site.stage() as staging:
            taker = Taker(arrival, reading, held, staging, self.progress)
            documents = [
                Offer(path, reading.offered[path], stated, partial(media.open, path))
                for path, stated in reading.sound_offers.items()
                if not held.covers(reading.offered[path])
            ]
            self.findings += taker.take_all(documents)
            try:
                with self.progress.task("receiving", None):
                    following = self._take_items(taker, statement, volume)
            finally:  # also of a stream that breaks off: what was taken whole stays
                taker.publish()
        self.findings += taker.assemble()
        return following

    def _take_items(self, taker: Taker, statement: Statement, volume: str) -> _Member | None:
        """Every item as it comes; returns the first member of the next volume."""
        seen: set[str] = set()
        waiting = 0
        for member in self.members:
            if member.volume != volume:
                return member
            item = _item_of(member, statement)
            if member.path == LIST_FILE:
                self._decide(taker)
            elif item is None or member.path in seen:
                message = "a file that no holder signed, or one that comes twice"
                self.findings.append(_finding("integrity-unexpected", member.path, message))
            elif not taker.held.covers(item):
                self._take_item(taker, member, item, statement)
                waiting += item.size
            seen.add(member.path)
            if waiting >= BATCH_BYTES or len(taker.copier.whole) >= BATCH_FILES:
                taker.publish()
                waiting = 0
        return None

    def _take_item(self, taker: Taker, member: _Member, item: Item, statement: Statement) -> None:
        stated = statement.travelling[item.digest]
        if not item.whole:
            offer = Offer(member.path, item, StatedBlob(Sha384(""), item.size), self._opened)
            self.unlisted[member.path] = taker.take_unlisted(offer)
            return
        finding = taker.take(Offer(member.path, item, stated, self._opened), threading.Event())
        if finding:
            self.findings.append(finding)
        else:
            self.taken.append(item)

    def _decide(self, taker: Taker) -> None:
        """The list is here: ranges that it has with the digest they had are believed, others are not."""
        data = self.tar.read(MAX_DOCUMENT)
        try:
            listed = parse_list(data)
        except InputError as error:
            self.findings.append(_finding("volume-list", LIST_FILE, error.message))
            listed = {}
        for path, unlisted in self.unlisted.items():
            if listed.get(path) == unlisted.sha384:
                taker.accept(unlisted)
                self.taken.append(unlisted.item)
            else:
                evidence = f"listed sha384 {listed.get(path, 'nothing')}, found {unlisted.sha384}"
                message = f"not the bytes that {LIST_FILE} lists"
                self.findings.append(_finding("integrity-changed", path, message, evidence))
        self.unlisted.clear()

    @contextmanager
    def _opened(self) -> Iterator[Callable[[memoryview], int]]:
        """The current member, as `Media.open` gives a file."""

        def readinto(buffer: memoryview) -> int:
            data = self.tar.chunk(len(buffer))
            buffer[: len(data)] = data
            return len(data)

        yield readinto


def _item_of(member: _Member, statement: Statement) -> Item | None:
    """The bytes of the bundle that a member holds, by its name and size; None for any other file."""
    if part := parse_part(member.path):
        digest, offset = part
        stated = statement.travelling.get(digest)
        fits = stated is not None and 0 < member.size <= stated.size - offset
        return Item(digest, offset, member.size, whole=False) if fits else None
    digest = Sha256(member.path.rpartition("/")[2])
    stated = statement.travelling.get(digest)
    # A wrong size is for the taker to find: it is this blob, damaged.
    return Item(digest, 0, stated.size, whole=True) if stated and member.path == blob_path(digest) else None


def _finding(code: str, subject: str, message: str, evidence: str = "") -> Finding:
    return Finding(code, Severity.ERROR, subject, message, evidence, SEND_AGAIN)
