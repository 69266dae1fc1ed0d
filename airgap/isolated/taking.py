"""Files of a volume into an arrival: each read once, and believed only when its bytes are right.

A range is written where it belongs in its blob, so that a blob of any size is written once and read once
more, to be hashed whole.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.isolated.arrival import Arrival
from airgap.isolated.copying import CHUNK, JOBS, Copier, Open, batches
from airgap.model import Finding, Sha256
from airgap.progress import Progress
from airgap.store import FILE_MODE, fsync_directory, host_errors
from airgap.trust.statement import StatedBlob
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

    def take_all(self, offers: Sequence[Offer]) -> list[Finding]:
        """Offers that may be opened in any order. One finding for each that is not what decides about it."""
        findings: list[Finding] = []
        self._prepare_parts({offer.item.digest for offer in offers if not offer.item.whole})
        for batch in batches(offers, lambda offer: offer.item.size):
            try:
                findings += (finding for finding in spread(self.take, batch, JOBS) if finding)
            finally:  # also when the media fail: a repeated run takes only the rest
                self.publish()
        return findings

    def take(self, offer: Offer, stop: threading.Event) -> Finding | None:
        """Read one offer once; nothing of it counts unless its bytes are right."""
        if offer.item.whole:
            return self.copier.copy(offer.path, offer.item.digest, offer.stated, offer.open, stop)
        return self._take_range(offer, stop)

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
        held, travelling = self.arrival.held(self.statement), self.statement.travelling
        whole = [
            digest
            for digest, ranges in sorted(held.ranges.items())
            if digest not in held.whole and ranges == [(0, travelling[digest].size)]
        ]
        with self.progress.task("hashing", sum(travelling[digest].size for digest in whole)):
            found = [self.arrival.assemble(digest, self.statement, self.progress) for digest in whole]
        return [finding for finding in found if finding]

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
        apart = list(self.held.gaps(item)) != [(item.offset, item.end)]
        place, begin = (self.staging / offer.path.replace("/", "."), 0) if apart else (part, item.offset)
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

    def _fill_gaps(self, source: int, item: Item, part: Path) -> None:
        with open(part, "rb+", buffering=0) as out:
            for at, end in self.held.gaps(item):
                done = at
                while done < end:
                    data = os.pread(source, min(CHUNK, end - done), done - item.offset)
                    done += os.pwrite(out.fileno(), data, done)
