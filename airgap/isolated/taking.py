"""Files of a volume into an arrival: each read once, and believed only when its bytes are right.

A range is written where it belongs in its blob, so that a blob of any size is written once and read once
more, to be hashed whole.
"""

import hashlib
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.isolated.arrival import Arrival
from airgap.isolated.copying import CHUNK, JOBS, Copier, Open, batches
from airgap.model import Finding, Sha256, Sha384
from airgap.progress import Progress
from airgap.store import FILE_MODE, fsync_directory, host_errors, pour
from airgap.trust.blobs import StatedBlob
from airgap.volume_reading import Reading
from airgap.volumes import Item
from airgap.wanted import Held
from airgap.workers import spread


@dataclass(frozen=True, slots=True)
class Offer:
    """A file that may hold what lacks: `stated` decides about its bytes, `open` reads them from their begin.

    Offers of a directory are taken by several threads; those of a stream one by one, in its order.
    """

    path: str
    item: Item
    stated: StatedBlob
    open: Open


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A range that is written and not believed yet, by a detour `apart` where some of it was there."""

    item: Item
    apart: Path | None
    sha384: Sha384


class Taker:
    """Takes offers into an arrival; `take` is called from several threads, an offer in each."""

    def __init__(
        self, arrival: Arrival, reading: Reading, held: Held, staging: Path, progress: Progress
    ) -> None:
        self.arrival, self.statement, self.held = arrival, reading.signed.statement, held
        self.number = reading.mark.number if reading.mark else 0
        self.staging, self.progress = staging, progress
        self.copier = Copier(arrival.blobs, staging, progress)
        self.ranges: list[Item] = []
        """Hashed, and not durable yet."""

    def take_all(self, offers: Sequence[Offer], readers: int) -> list[Finding]:
        """Offers that may be opened in any order, `readers` at once at most.

        One finding for each that is not what decides about it.
        """
        jobs = min(JOBS, readers)
        findings: list[Finding] = []
        self._prepare_parts({offer.item.digest for offer in offers if not offer.item.whole})
        for batch in batches(offers, lambda offer: offer.item.size):
            try:
                findings += (finding for finding in spread(self.take, batch, jobs) if finding)
            finally:  # also when the media fail: a repeated run takes only the rest
                self.publish()
        return findings

    def take(self, offer: Offer, stop: threading.Event) -> Finding | None:
        """Read one offer once; nothing of it counts unless its bytes are right."""
        if offer.item.whole:
            return self.copier.copy(offer.path, offer.item.digest, offer.stated, offer.open, stop)
        return self._take_range(offer, stop)

    def take_unlisted(self, offer: Offer) -> Unlisted:
        """Write a range whose digest is still to come; nothing of it counts before `accept`."""
        item = offer.item
        self._prepare_parts({item.digest})
        apart = self._apart(offer)
        place, begin = (apart, 0) if apart else (self.arrival.parts / item.digest, item.offset)
        hasher = hashlib.sha384()

        def go_on(count: int) -> bool:
            self.progress.advance(count)
            return True

        with (
            host_errors(place),
            open(place, "xb" if apart else "rb+", buffering=0) as out,
            offer.open() as read,
        ):
            out.seek(begin)
            buffer = memoryview(bytearray(CHUNK))
            pour(read, item.size, buffer, hashers=[hasher], out=out.fileno(), go_on=go_on, begin=begin)
        return Unlisted(item, apart, Sha384(hasher.hexdigest()))

    def accept(self, unlisted: Unlisted) -> None:
        """Its digest was right: it counts once it is durable. Raises HostError."""
        if unlisted.apart:
            with host_errors(unlisted.apart), open(unlisted.apart, "rb", buffering=0) as source:
                self._fill_gaps(source.fileno(), unlisted.item, self.arrival.parts / unlisted.item.digest)
        self.ranges.append(unlisted.item)

    def publish(self) -> None:
        """Make what was taken durable, and only then say that it is there. Raises HostError."""
        self.copier.publish()
        for digest in {item.digest for item in self.ranges}:
            part = self.arrival.parts / digest
            with host_errors(part), open(part, "rb") as stream:
                os.fsync(stream.fileno())
        for item in self.ranges:
            self.arrival.note_range(item, self.number)
        self.ranges.clear()

    def assemble(self) -> list[Finding]:
        """Make blobs of the ranges that are all there now. Raises HostError."""
        return self.arrival.assemble(self.statement, self.progress)

    def _prepare_parts(self, digests: Iterable[Sha256]) -> None:
        for digest in digests:
            part = self.arrival.parts / digest
            if not part.exists():
                self.arrival.drop_ranges(digest)  # of a part that was removed: a new one has none
                with host_errors(part), open(part, "xb"):
                    pass
        with host_errors(self.arrival.parts):
            fsync_directory(self.arrival.parts)

    def _take_range(self, offer: Offer, stop: threading.Event) -> Finding | None:
        """Straight to its place in the blob; by a detour where some of it is there already, and good."""
        item, part = offer.item, self.arrival.parts / offer.item.digest
        apart = self._apart(offer)
        place, begin = (apart, 0) if apart else (part, item.offset)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with host_errors(place):
            out = os.open(place, flags, FILE_MODE)
            try:
                os.lseek(out, begin, os.SEEK_SET)
                finding = self.copier.pour(offer.path, offer.stated, offer.open, stop, out=out, begin=begin)
                if finding is None and not stop.is_set():
                    if apart:
                        self._fill_gaps(out, item, part)
                    self.ranges.append(item)
            finally:
                os.close(out)
        return finding

    def _apart(self, offer: Offer) -> Path | None:
        """Where a range is written of which some bytes are there already, and good; None: to its place."""
        item = offer.item
        whole = list(self.held.gaps(item)) == [(item.offset, item.end)]
        return None if whole else self.staging / offer.path.replace("/", ".")

    def _fill_gaps(self, source: int, item: Item, part: Path) -> None:
        with open(part, "rb+", buffering=0) as out:
            for at, end in self.held.gaps(item):
                done = at
                while done < end:
                    data = os.pread(source, min(CHUNK, end - done), done - item.offset)
                    done += os.pwrite(out.fileno(), data, done)
