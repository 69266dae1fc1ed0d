"""What has arrived of a bundle that comes in volumes: durable for weeks, through reboots and kills.

    arrivals/<sha384 of the statement's payload>/
      bundle/                     the bundle as it grows, laid out as every bundle is
      parts/<hex>                 a blob whose ranges arrive, each written where it belongs in it
      ranges/<hex>.<offset>.<end>.<number>   an empty file: those bytes are there, from that volume
      seen/<capacity>.<file limit>.<number>  an empty file: such a volume was here

Ordering invariants. A blob gets its name in `bundle` by rename, after its bytes were hashed against what is
signed and fsynced. A range is named in `ranges` after its bytes were hashed against its volume's list and
fsynced; that list is not signed, so a blob out of ranges is hashed whole before it gets its name. An
arrival appears by rename with all its documents, and disappears by rename into `staging`. So whatever
else lies in it may be overwritten, and nothing but `receive --forget` and an install removes it.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from airgap.errors import MissingPartError
from airgap.isolated.copying import JOBS
from airgap.isolated.site import Site, make_directory
from airgap.layout import ENVELOPE_FILE, INDEX_FILE, LAYOUT_FILE, OCI_LAYOUT, RECORDS_DIRECTORY
from airgap.media import Media
from airgap.model import Finding, Severity, Sha256, Sha384
from airgap.progress import Progress
from airgap.store import CHUNK, FILE_MODE, fsync_directory, host_errors, pour, write_durably
from airgap.trust.blobs import StatedBlob
from airgap.trust.checkable import HOWTO_FILE, checkable
from airgap.trust.decide import survey
from airgap.trust.envelope import MAX_ENVELOPE
from airgap.trust.statement import SUMS, Statement
from airgap.units import human_bytes
from airgap.verify_volumes import common_medium, missing_bytes
from airgap.volumes import PARTS_DIRECTORY, Item, Mark, Medium
from airgap.wanted import Held, lacking, render_only
from airgap.workers import spread

_RANGE = re.compile(r"([0-9a-f]{64})\.([0-9]{1,15})\.([0-9]{1,15})\.([0-9]{1,4})")
_SEEN = re.compile(r"([0-9]{1,16})\.([0-9]{1,16})\.([0-9]{1,4})")


class ArrivedMedia(Media):
    """The bundle of an arrival: its blobs were hashed as they came, and are linked, not copied."""

    def __init__(self, arrival: "Arrival") -> None:
        super().__init__(arrival.bundle)
        self.arrival = arrival

    def finish(self, progress: Progress) -> list[Finding]:
        """What a receive that was killed at its end left to do: blobs of whose ranges all are there.

        Raises InputError, IntegrityError or HostError.
        """
        return self.arrival.assemble(survey(self.arrival.envelope()).statement, progress)

    def require_assembled(self) -> None:
        """Raise MissingPartError where `finish` has something to do, for whom nothing may be written."""
        statement = survey(self.arrival.envelope()).statement
        if pending := self.arrival.pending(statement):
            raise MissingPartError(
                f"{statement.name} {statement.version}: all of it has arrived, and {len(pending)} blobs"
                " of it are not yet put together of their ranges",
                remedy="airgap install begins with that; a --dry-run, which writes nothing, cannot",
            )

    def link(self, blobs: Mapping[Sha256, StatedBlob]) -> None:
        """Give blobs their names in the site, too; the arrival stays whole. Raises HostError."""
        site = self.arrival.site
        with host_errors(site.blobs):
            with site.stage() as staging:  # by rename, for a damaged blob of another size may have the name
                for digest in blobs:
                    os.link(self.arrival.blobs / digest, staging / digest, follow_symlinks=False)
                    os.rename(staging / digest, site.store.path(digest))
            if blobs:
                fsync_directory(site.blobs)

    def require(self, statement: Statement) -> None:
        """Raise MissingPartError unless every blob is there."""
        found = progressed(self.arrival, statement)
        if not found.complete:
            only = f" --only {render_only(found.wanted)}" if found.wanted else ""
            lacking = human_bytes(found.missing_bytes)
            raise MissingPartError(
                f"{statement.name} {statement.version}: {lacking} not arrived yet",
                remedy=f"bring the volumes that hold them once more, or ask for airgap split{only}",
            )


@dataclass(frozen=True, slots=True)
class Arrival:
    """One bundle on its way in; `payload` names its statement. The caller holds the site to change it."""

    site: Site
    payload: Sha384

    @property
    def top(self) -> Path:
        return self.site.arrivals / self.payload

    @property
    def bundle(self) -> Path:
        return self.top / "bundle"

    @property
    def blobs(self) -> Path:
        return self.bundle / "blobs" / "sha256"

    @property
    def parts(self) -> Path:
        return self.top / PARTS_DIRECTORY

    @property
    def ranges(self) -> Path:
        return self.top / "ranges"

    @property
    def seen(self) -> Path:
        return self.top / "seen"

    @property
    def exists(self) -> bool:
        return self.top.is_dir()

    def begin(self, documents: Mapping[str, bytes]) -> None:
        """Make the arrival, or renew its documents where they differ. Raises HostError."""
        if self.exists:
            self._renew(documents)
            return
        make_directory(self.site.arrivals)
        with host_errors(self.top), self.site.stage() as staging:
            made = staging / self.payload
            for directory in ("bundle/blobs/sha256", "bundle/verify", PARTS_DIRECTORY, "ranges", "seen"):
                make_directory(made / directory)
            for path, data in documents.items():
                make_directory((made / "bundle" / path).parent)
                write_durably(made / "bundle" / path, data)
            for directory, _, _ in os.walk(made, topdown=False):
                fsync_directory(Path(directory))
            os.rename(made, self.top)
            fsync_directory(self.site.arrivals)

    def _renew(self, documents: Mapping[str, bytes]) -> None:
        """The envelope first: a kill leaves a `verify/` that the next volume's arrival mends."""
        for path in sorted(documents, key=lambda path: path != ENVELOPE_FILE):
            place = self.bundle / path
            with host_errors(place):
                make_directory(place.parent)
                if place.exists() and place.read_bytes() == documents[path]:
                    continue
                with self.site.stage() as staging:  # nothing but its documents may lie in the bundle
                    write_durably(staging / place.name, documents[path])
                    os.rename(staging / place.name, place)
                    fsync_directory(place.parent)
        with host_errors(self.bundle):
            for stale in (self.bundle / "verify").glob("*.sig"):
                if f"verify/{stale.name}" not in documents:
                    stale.unlink()

    def envelope(self) -> bytes:
        """Raises IntegrityError or HostError."""
        with Media(self.bundle) as media:
            return media.read(ENVELOPE_FILE, max_bytes=MAX_ENVELOPE)

    def records(self) -> set[str]:
        """Paths of the records of smoke runs that volumes brought. Raises HostError."""
        place = self.bundle / RECORDS_DIRECTORY
        with host_errors(place):
            return {f"{RECORDS_DIRECTORY}/{name}" for name in os.listdir(place)} if place.is_dir() else set()

    def held(self, statement: Statement) -> Held:
        """What is there of the blobs that travel. Raises HostError."""
        held = Held()
        with host_errors(self.top):
            if not self.exists:
                return held
            travelling = statement.travelling
            with os.scandir(self.blobs) as found:
                for entry in found:
                    blob = travelling.get(Sha256(entry.name))
                    if blob and entry.is_file(follow_symlinks=False) and entry.stat().st_size == blob.size:
                        held.whole.add(Sha256(entry.name))
            for digest, begin, end, _ in self._ranges():
                blob = travelling.get(digest)
                if blob and end <= blob.size and (self.parts / digest).is_file():
                    held.add(Item(digest, begin, end - begin, whole=False))
        return held

    def marks(self) -> list[Mark]:
        """The volumes that were here, as far as they said which they were. Raises HostError."""
        with host_errors(self.seen):
            names = sorted(os.listdir(self.seen)) if self.exists else []
        found = [match for name in names if (match := _SEEN.fullmatch(name))]
        return [Mark(self.payload, Medium(int(m[1]), int(m[2])), int(m[3]), 9999) for m in found]

    def note(self, mark: Mark) -> None:
        """Remember that a volume was here, and so how the bundle was cut. Raises HostError."""
        _touch(self.seen / f"{mark.medium.capacity}.{mark.medium.file_limit}.{mark.number}")

    def note_range(self, item: Item, number: int) -> None:
        """Its bytes are hashed and durable. Raises HostError."""
        _touch(self.ranges / f"{item.digest}.{item.offset}.{item.end}.{number}")

    def pending(self, statement: Statement) -> list[Sha256]:
        """Blobs of which all ranges are there, and which have no name yet. Raises HostError."""
        return self.held(statement).complete(statement.travelling)

    def assemble(self, statement: Statement, progress: Progress) -> list[Finding]:
        """Make blobs of ranges that are all there; findings of those that lied. Raises HostError."""
        travelling, whole = statement.travelling, self.pending(statement)
        if not whole:
            return []
        with progress.task("hashing", sum(travelling[digest].size for digest in whole)):
            found = spread(partial(self._assemble, statement, progress), whole, JOBS)
        return [finding for finding in found if finding]

    def _assemble(
        self, statement: Statement, progress: Progress, digest: Sha256, stop: Event
    ) -> Finding | None:
        """Give a blob whose ranges are all there its name, once it is the signed bytes; else forget them.

        Raises HostError.
        """
        part, stated = self.parts / digest, statement.travelling[digest]
        hasher = hashlib.sha384()

        def go_on(count: int) -> bool:
            progress.advance(count)
            return not stop.is_set()

        with host_errors(part), open(part, "rb+", buffering=0) as stream:
            buffer = memoryview(bytearray(CHUNK))
            size = pour(stream.readinto, stated.size + 1, buffer, hashers=[hasher], out=None, go_on=go_on)
            if stop.is_set():
                return None
            right = (size, hasher.hexdigest()) == (stated.size, stated.sha384)
            if right:
                os.fchmod(stream.fileno(), FILE_MODE)
                os.fsync(stream.fileno())
                os.rename(part, self.blobs / digest)
                fsync_directory(self.blobs)
        numbers = self.drop_ranges(digest)
        if right:
            return None
        return Finding(
            "volume-ranges",
            Severity.ERROR,
            f"{PARTS_DIRECTORY}/{digest}",
            "its ranges were as their volumes listed them, and together are not the signed bytes",
            f"taken from volumes {', '.join(map(str, numbers))}",
            "one of these volumes was made from other bytes: burn them again, and ask who made them",
        )

    def drop_ranges(self, digest: Sha256) -> list[int]:
        """Forget what arrived of a blob in ranges; returns the numbers of their volumes. Raises HostError."""
        numbers = set()
        with host_errors(self.ranges):
            for name, found in [(n, _RANGE.fullmatch(n)) for n in os.listdir(self.ranges)]:
                if found and found[1] == digest:
                    numbers.add(int(found[4]))
                    os.unlink(self.ranges / name)
            fsync_directory(self.ranges)
            (self.parts / digest).unlink(missing_ok=True)
        return sorted(numbers)

    def discard(self, digests: set[Sha256]) -> None:
        """Remove blobs whose bytes are no longer what they were. Raises HostError."""
        with host_errors(self.blobs):
            for digest in digests:
                (self.blobs / digest).unlink(missing_ok=True)

    def end(self) -> None:
        """Remove the arrival: out of sight at once, then its bytes. Raises HostError."""
        with host_errors(self.top), self.site.stage() as staging:
            os.rename(self.top, staging / secrets.token_hex(8))
            fsync_directory(self.site.arrivals)

    def _ranges(self) -> Iterator[tuple[Sha256, int, int, int]]:
        for name in sorted(os.listdir(self.ranges)):
            if match := _RANGE.fullmatch(name):
                yield Sha256(match[1]), int(match[2]), int(match[3]), int(match[4])


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far an arrival is. `wanted` is None when no volume said how it was cut, empty when all is here."""

    arrival: Arrival
    statement: Statement
    missing_bytes: int
    medium: Medium | None
    wanted: Mapping[int, tuple[int, ...] | None] | None

    @property
    def complete(self) -> bool:
        return self.missing_bytes == 0 and not self.wanted


def progressed(
    arrival: Arrival, statement: Statement, held: Held | None = None, marks: Sequence[Mark | None] = ()
) -> Progressed:
    """Compare what is there, or `held`, with what is stated; `marks` are of further volumes.

    Raises HostError.
    """
    held = held or arrival.held(statement)
    medium = common_medium((*arrival.marks(), *marks))
    missing = missing_bytes(statement, held)
    complete = statement.travelling.keys() <= held.whole
    wanted = {} if complete else lacking(statement, medium, held) if medium else None
    return Progressed(arrival, statement, missing, medium, wanted)


def arrivals(site: Site) -> list[Arrival]:
    """Every bundle on its way in. Raises HostError."""
    with host_errors(site.arrivals):
        names = sorted(os.listdir(site.arrivals)) if site.arrivals.is_dir() else []
    return [Arrival(site, Sha384(name)) for name in names if re.fullmatch(r"[0-9a-f]{96}", name)]


def documents_of(envelope: bytes, index: bytes, sums: bytes, howto: bytes) -> dict[str, bytes]:
    """What a bundle holds beside its blobs, by path."""
    own = {ENVELOPE_FILE: envelope, INDEX_FILE: index, LAYOUT_FILE: OCI_LAYOUT}
    return own | checkable(envelope, sums) | {SUMS: sums, HOWTO_FILE: howto}


def _touch(path: Path) -> None:
    """An empty file that is there after a power cut. Raises HostError."""
    with host_errors(path):
        if path.exists():
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        os.close(descriptor)
        fsync_directory(path.parent)
