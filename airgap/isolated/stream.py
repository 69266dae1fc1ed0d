"""`airgap receive -`: volumes out of a pipe, one after the other, as a diode's receiver hands them on.

    <name>-<version>.<k>of<n>/bundle.dsse.json      the signed statement comes first,
    <name>-<version>.<k>of<n>/…                     then the other small documents,
    <name>-<version>.<k>of<n>/volume.json           which this one ends,
    <name>-<version>.<k>of<n>/blobs/…, parts/…      then the items, each hashed while it is written,
    <name>-<version>.<k>of<n>/SHA384SUMS            and last the list that decides about ranges of blobs.

Nothing can be asked of the sender again, so whatever is good is kept, also of a stream that breaks off, and
what it lacks is said as the list with which to send again. No byte is written twice or kept elsewhere.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from airgap.decode import MAX_DOCUMENT
from airgap.errors import AirgapError, InputError, IntegrityError, TrustError
from airgap.isolated.arrival import Arrival, progressed
from airgap.isolated.identity import load_recipient
from airgap.isolated.memory import Memory, follow_roots, load_memory
from airgap.isolated.receive import Received, Reception, begin
from airgap.isolated.site import Site
from airgap.isolated.taking import Offer, Taker, Unlisted
from airgap.layout import (
    BESIDE,
    ENVELOPE_FILE,
    INDEX_FILE,
    LAYOUT_FILE,
    VERIFY_DIRECTORY,
    blob_path,
)
from airgap.media import Media
from airgap.model import Finding, Severity, Sha256, Sha384, bundle_path
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.readers.source import Readable
from airgap.readers.tar import EntryKind, TarStream
from airgap.store import host_errors
from airgap.trust.blobs import StatedBlob
from airgap.trust.root import Root
from airgap.trust.statement import Statement
from airgap.verify import distinct, open_signed
from airgap.verify_entries import MAX_SUPERFLUOUS
from airgap.verify_volumes import of_volume
from airgap.volume_reading import Reading, read_streamed
from airgap.volumes import LIST_FILE, MARK_FILE, Item, parse_list, parse_part

MAX_DOCUMENTS = 512 * 1024 * 1024
MAX_DOCUMENT_FILES = 100_000
"""Bytes and files of all documents of one volume: they lie in staging, never in memory together."""

MAX_RANGES = MAX_DOCUMENT // 180
"""Of one volume: more than its list has lines for."""

_NAMES = (
    *map(re.escape, (ENVELOPE_FILE, INDEX_FILE, LAYOUT_FILE, MARK_FILE)),
    r"blobs/sha256/[0-9a-f]{64}",
    rf"{VERIFY_DIRECTORY}/[^/]+",
    *(rf"{directory}/{pattern.pattern}" for directory, (pattern, _) in BESIDE.items()),
)
_DOCUMENT = re.compile("|".join(_NAMES))
"""What may come before the first item."""

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


ALONE = "the tar"
"""How the only volume of a tar is called whose files have no directory to name it."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One file of the stream: `volume` is its directory, `path` its place in the volume."""

    volume: str
    path: str
    size: int


class BrokenStreamError(InputError):
    """The stream ends early, or goes on as no tar of files does: what follows cannot be told apart."""


@contextmanager
def _unbroken() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise BrokenStreamError(error.message) from None


class _Pipe:
    """A stream whose failures are the host's, in the words of this house."""

    def __init__(self, stream: Readable) -> None:
        self.stream = stream

    def read(self, count: int, /) -> bytes:
        with host_errors(Path("-")):
            return self.stream.read(count)


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
        tar = TarStream(_Pipe(stream), "the stream")
        members = _members(tar)
        member: _Member | None = _first(members)
        while member is not None:
            volume = _Volume(tar, members, site, now, progress)
            member = volume.receive(member, state)
        far = tuple(progressed(arrival, stated) for arrival, stated in state.touched.items())
        return Reception(tuple(state.received), far)


def _first(members: Iterator[_Member]) -> _Member:
    """Where the first volume begins. Raises InputError for whatever is no stream of volumes."""
    remedy = "make it with: airgap build --tar -, or airgap split --tar -o -"
    try:
        member = next(members, None)
    except InputError as error:
        raise InputError(f"expected volumes as a tar: {error.message}", remedy=remedy) from None
    if member is None:
        raise InputError("nothing came: the stream is empty", remedy="see what the sender said")
    if member.path != ENVELOPE_FILE:
        raise InputError(f"the stream does not begin with a volume's {ENVELOPE_FILE}", remedy=remedy)
    return member


def _members(tar: TarStream) -> Iterator[_Member]:
    """Files alone; directories say nothing. Raises BrokenStreamError for others, or a path like `../x`.

    A tar that begins with the statement itself, as `split --tar -o DIR` writes each volume, is one volume.
    """
    entries = iter(tar)
    alone: bool | None = None
    while True:
        with _unbroken():
            entry = next(entries, None)
            if entry is None:
                return
            if entry.kind is EntryKind.DIRECTORY:
                continue
            path = bundle_path(entry.path)
            alone = path == ENVELOPE_FILE if alone is None else alone
            if entry.kind is not EntryKind.FILE or entry.sparse or not (alone or "/" in path):
                raise InputError(f"the stream: expected files of volumes, found a {entry.kind} {path!r}")
        volume, _, below = (ALONE, "", path) if alone else path.partition("/")
        yield _Member(volume, below, entry.size)


class _Volume:
    """One volume while it goes by."""

    def __init__(
        self, tar: TarStream, members: Iterator[_Member], site: Site, now: datetime, progress: Progress
    ) -> None:
        self.tar, self.members = tar, members
        self.site, self.now, self.progress = site, now, progress
        self.reading: Reading | None = None
        self.refused: AirgapError | None = None
        self.taken: list[Item] = []
        self.findings: list[Finding] = []
        self.strangers = 0
        self.unlisted: dict[str, Unlisted] = {}
        """Ranges that are written and hashed; the list, which comes last, decides about them."""

    def receive(self, first: _Member, state: _State) -> _Member | None:
        """Take the volume that `first` begins in; returns the first member of the next one."""
        following = None
        try:
            following = self._receive(first, state)
        except BrokenStreamError as error:
            self._broken(first.volume, error)
        if self.strangers > MAX_SUPERFLUOUS:
            message = f"{self.strangers - MAX_SUPERFLUOUS} more files that no holder signed"
            self.findings.append(_finding("integrity-unexpected", ".", message))
        size = sum(item.size for item in self.taken)
        findings = distinct(map(of_volume, self.findings))
        state.received.append(
            Received(Path(first.volume), self.reading, len(self.taken), size, findings, self.refused)
        )
        return following

    def _receive(self, first: _Member, state: _State) -> _Member | None:
        try:
            with self.site.stage() as staging:
                self._stage_documents(first, staging)
                with Media(staging) as media:
                    reading = self.reading = self._open(media, state)
                    self.findings += reading.findings
                    arrival = Arrival(self.site, reading.signed.judged.payload)
                    if begin(arrival, media, reading, state.root, state.memory.clock(self.now)):
                        state.touched[arrival] = reading.signed.statement
                        return self._take(arrival, media, reading, first.volume)
        except BrokenStreamError:
            raise
        except (TrustError, InputError, IntegrityError) as error:  # of this volume: others may be good
            self.refused = error
        return self._pass_by(first.volume)

    def _broken(self, volume: str, error: BrokenStreamError) -> None:
        message = f"the stream ends inside of this volume: {error.message}"
        self.findings.append(_finding("volume-stream", volume, message))

    def _stranger(self, path: str) -> None:
        self.strangers += 1
        if self.strangers <= MAX_SUPERFLUOUS:
            message = "a file that no holder signed, or one that comes twice"
            self.findings.append(_finding("integrity-unexpected", path, message))

    def _stage_documents(self, first: _Member, staging: Path) -> None:
        """Everything up to volume.json, as files: what comes before the first item is small."""
        size = count = 0
        member: _Member | None = first
        while member is not None and member.volume == first.volume:
            if not _DOCUMENT.fullmatch(member.path):
                self._stranger(member.path)
                member = next(self.members, None)
                continue
            size, count = size + member.size, count + 1
            if size > MAX_DOCUMENTS or count > MAX_DOCUMENT_FILES:
                raise InputError(f"more than {size - 1} bytes or {count - 1} files before {MARK_FILE}")
            self._stage_document(member, staging / member.path)
            if member.path == MARK_FILE:
                return
            member = next(self.members, None)
        raise BrokenStreamError(f"it ends without {MARK_FILE}")

    def _stage_document(self, member: _Member, place: Path) -> None:
        data = self._read(member)
        if place.exists():
            self._stranger(member.path)
            return
        with host_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)

    def _open(self, media: Media, state: _State) -> Reading:
        """The volume's documents, judged. Raises TrustError, InputError, IntegrityError, HostError."""
        state.root, state.memory = follow_roots(media, self.site, state.root, state.memory, keep=True)
        clock = state.memory.clock(self.now)
        signed = open_signed(media, state.root, clock, state.memory.accepted, load_recipient(self.site))
        return read_streamed(media, signed)

    def _pass_by(self, volume: str) -> _Member | None:
        """Read on to the next volume."""
        return next((member for member in self.members if member.volume != volume), None)

    def _take(self, arrival: Arrival, media: Media, reading: Reading, volume: str) -> _Member | None:
        statement = reading.signed.statement
        held = arrival.held(statement)
        following = None
        with self.site.stage() as staging:
            taker = Taker(arrival, reading, held, staging, self.progress)
            documents = [
                Offer(path, reading.offered[path], stated, partial(media.open, path))
                for path, stated in reading.sound_offers.items()
                if not held.covers(reading.offered[path])
            ]
            self.findings += taker.take_all(documents, media.readers)
            try:
                with self.progress.task("receiving", None):
                    following = self._take_items(taker, statement, volume)
            except BrokenStreamError as error:
                self._broken(volume, error)
            finally:  # what was taken whole stays
                taker.publish()
        self.findings += taker.assemble()
        return following

    def _take_items(self, taker: Taker, statement: Statement, volume: str) -> _Member | None:
        """Every item as it comes; returns the first member of the next volume."""
        seen: set[str] = set()
        waiting = 0
        following = None
        for member in self.members:
            if member.volume != volume:
                following = member
                break
            item = _item_of(member, statement)
            if member.path in seen or (item is None and member.path != LIST_FILE):
                self._stranger(member.path)
                continue
            seen.add(member.path)
            if item is None:
                self._decide(taker, member)
            elif not taker.held.covers(item):
                self._take_item(taker, member, item, statement)
                waiting += item.size
            if waiting >= BATCH_BYTES or len(taker.copier.whole) >= BATCH_FILES:
                taker.publish()
                waiting = 0
        if LIST_FILE not in seen:
            message = f"missing; {len(self.unlisted)} ranges of blobs cannot be judged without it"
            self.findings.append(_finding("integrity-missing", LIST_FILE, message))
        return following

    def _take_item(self, taker: Taker, member: _Member, item: Item, statement: Statement) -> None:
        stated = statement.travelling[item.digest]
        if not item.whole and len(self.unlisted) == MAX_RANGES:
            self._stranger(member.path)
            return
        if not item.whole:
            offer = Offer(member.path, item, StatedBlob(Sha384(""), item.size), self._opened)
            self.unlisted[member.path] = taker.take_unlisted(offer)
            return
        finding = taker.take(Offer(member.path, item, stated, self._opened), threading.Event())
        if finding:
            self.findings.append(finding)
        else:
            self.taken.append(item)

    def _decide(self, taker: Taker, member: _Member) -> None:
        """The list is here: ranges that it has with the digest they had are believed, others are not."""
        try:
            listed = parse_list(self._read(member))
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

    def _read(self, member: _Member) -> bytes:
        if member.size > MAX_DOCUMENT:
            raise InputError(f"{member.path}: {member.size} bytes, more than any document has")
        with _unbroken():
            return self.tar.read(MAX_DOCUMENT)

    @contextmanager
    def _opened(self) -> Iterator[Callable[[memoryview], int]]:
        """The current member, as `Media.open` gives a file."""

        def readinto(buffer: memoryview) -> int:
            with _unbroken():
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
