"""Volumes on their media against the statement that each carries: what is good, what is damaged, what lacks.

Each volume is judged by itself, in the order of `airgap.verify`: signatures first, then names and sizes,
then the documents, then every byte. A whole blob is decided by its signed sha384, on whatever volume it
lies. So are ranges together, once all of a blob are here: they are read once, and what they make is what was
signed. Only where it is not, or where some lack, does a volume's own list, which nobody signed, decide about
each range.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from airgap.errors import IntegrityError
from airgap.media import Media, MissingFileError
from airgap.model import Finding, Severity, Sha256
from airgap.progress import Progress
from airgap.store import pour
from airgap.trust.statement import Statement
from airgap.verify import (
    HASH_CHUNK,
    ChangedError,
    Contents,
    Signed,
    distinct,
    hash_files,
    read_contents,
)
from airgap.verify_entries import RECOPY
from airgap.volume_reading import BURN_AGAIN, Reading
from airgap.volumes import (
    LIST_FILE,
    PARTS_DIRECTORY,
    Item,
    Mark,
    Medium,
    parse_part,
)
from airgap.wanted import Held, lacking
from airgap.workers import spread


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes of a blob, which begin at byte `start` of a file of a volume."""

    media: Media
    path: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """One volume: where it lies, what it is, and the items on it whose bytes are good."""

    where: Path
    reading: Reading
    good: tuple[Item, ...]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Collection:
    """All volumes of one bundle that are here. `findings` are about them together.

    `wanted` is what must still be burnt (`airgap.volumes.lacking`): empty when every byte is here, and
    None when no volume says how the bundle was cut.
    """

    signed: Signed
    judgements: tuple[Judgement, ...]
    medium: Medium | None
    contents: Contents | None
    missing_bytes: int
    wanted: Mapping[int, tuple[int, ...] | None] | None
    findings: tuple[Finding, ...] = field(default=())

    @property
    def sound(self) -> bool:
        together = any(finding.severity is Severity.ERROR for finding in self.findings)
        return not together and all(judgement.sound for judgement in self.judgements)

    @property
    def complete(self) -> bool:
        return self.missing_bytes == 0 and not self.wanted and self.contents is not None


def judge_volume(
    media: Media,
    reading: Reading,
    *,
    proven: Set[str] = frozenset(),
    progress: Progress,
    jobs: int | None = None,
) -> Judgement:
    """Judge one volume whole, hashing every byte that is there but of files that are `proven`.

    Raises HostError.
    """
    files = reading.sound_offers
    unproven = {path: stated for path, stated in files.items() if path not in proven}
    hashed = hash_files(media, unproven, progress, jobs)
    wrong = [of_volume(finding) for finding in hashed]
    bad = {finding.subject for finding in wrong}
    good = tuple(reading.offered[path] for path in files if path not in bad)
    findings = distinct((*map(of_volume, reading.findings), *wrong))
    return Judgement(media.root, reading, good, (*findings, *reading.signed.judged.findings))


def judge_together(
    readings: Sequence[tuple[Media, Reading]], *, progress: Progress, jobs: int | None = None
) -> Collection:
    """Volumes of one statement, each by itself, then together. Raises HostError."""
    whole, proven = _whole_by_ranges(readings, progress, jobs)
    judged = [
        (media, judge_volume(media, one, proven=proven[media], progress=progress, jobs=jobs))
        for media, one in readings
    ]
    return gather(judged, progress, whole)


def of_volume(finding: Finding) -> Finding:
    """A finding about a file, in the words of a volume: nobody signed a range, and items are burnt again."""
    if parse_part(finding.subject) and finding.code == "integrity-changed":
        evidence = finding.evidence.replace("signed", "listed", 1)
        return replace(
            finding, message=f"not the bytes that {LIST_FILE} lists", evidence=evidence, remedy=BURN_AGAIN
        )
    return replace(finding, remedy=BURN_AGAIN) if finding.remedy == RECOPY else finding


def gather(
    judged: Sequence[tuple[Media, Judgement]], progress: Progress, proven: Iterable[Sha256] = ()
) -> Collection:
    """What volumes of one statement are together; ranges are read again where they make a blob whole.

    But for blobs that are `proven`. Raises HostError when the media cannot be read.
    """
    signed = judged[0][1].reading.signed
    statement = signed.statement
    held = Held()
    places: dict[Item, Media] = {}
    for media, judgement in judged:
        for item in judgement.good:
            held.add(item)
            places.setdefault(item, media)
    held.whole.update(proven)
    findings = _prove_ranges(statement, held, places, progress)
    marks = [judgement.reading.mark for _, judgement in judged]
    findings += _twice(marks)
    medium = common_medium(marks)
    missing = missing_bytes(statement, held)
    contents = None
    index = next((j.reading.index for _, j in judged if j.reading.index is not None), None)
    if index is not None:
        try:
            contents = read_contents(_Together(places), signed, index)
        except ChangedError:
            pass  # a document is not here yet, or is damaged, which its volume's findings say
        except IntegrityError as error:
            findings.append(
                Finding("layout-disagrees", Severity.ERROR, statement.name, error.message, "", RECOPY)
            )
    wanted = lacking(statement, medium, held) if medium else None
    return Collection(signed, tuple(j for _, j in judged), medium, contents, missing, wanted, tuple(findings))


def missing_bytes(statement: Statement, held: Held) -> int:
    """Bytes of the blobs of a bundle that are not there."""
    blobs = (Item(digest, 0, blob.size, whole=True) for digest, blob in statement.travelling.items())
    return sum(end - begin for item in blobs for begin, end in held.gaps(item))


def common_medium(marks: Iterable[Mark | None]) -> Medium | None:
    """For which medium most of the volumes were cut; None when no mark is legible."""
    media = [mark.medium for mark in marks if mark is not None]
    return max(media, key=media.count) if media else None


def hash_ranges(pieces: Sequence[Piece], progress: Progress, stop: Event) -> str:
    """The sha384 of bytes that lie in several files; of no use once `stop` is set.

    Raises IntegrityError when one of them ends early, HostError.
    """
    hasher = hashlib.sha384()
    buffer = memoryview(bytearray(HASH_CHUNK))

    def go_on(count: int) -> bool:
        progress.advance(count)
        return not stop.is_set()

    for piece in pieces:
        with piece.media.open(piece.path, piece.start) as readinto:
            done = pour(readinto, piece.size, buffer, hashers=[hasher], out=None, go_on=go_on)
            if done != piece.size and go_on(0):
                raise IntegrityError(f"{piece.path}: ends before byte {piece.start + piece.size}")
    return hasher.hexdigest()


def _twice(marks: Sequence[Mark | None]) -> Iterator[Finding]:
    numbers = [mark.number for mark in marks if mark and mark.only is None]
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        message = f"{numbers.count(number)} of them are here; one is enough"
        yield Finding("volume-twice", Severity.INFO, f"volume {number}", message)


class _Together:
    """Whole blobs, wherever among the volumes they lie."""

    def __init__(self, places: Mapping[Item, Media]) -> None:
        self._media = {str(item.path): media for item, media in places.items()}

    def read(self, path: str, *, max_bytes: int) -> bytes:
        if path not in self._media:
            raise MissingFileError(f"{path}: missing")
        return self._media[path].read(path, max_bytes=max_bytes)


def joined(ranges: Iterable[tuple[Item, Piece]], size: int) -> tuple[Piece, ...]:
    """Pieces that make `size` bytes without a gap; none where there is one."""
    pieces: list[Piece] = []
    done = 0
    for item, piece in sorted(ranges, key=lambda one: (one[0].offset, one[0].size)):
        if item.offset > done:
            return ()
        if item.end > done:
            pieces.append(replace(piece, start=piece.start + done - item.offset, size=item.end - done))
            done = item.end
    return tuple(pieces) if done == size else ()


def proven_files(readings: Sequence[tuple[Media, Reading]], proven: Iterable[Piece]) -> dict[Media, set[str]]:
    """Files, by their volume, of which every byte is a part of what is signed."""
    files: dict[Media, set[str]] = {media: set() for media, _ in readings}
    of = dict(readings)
    for piece in proven:
        if (piece.start, piece.size) == (0, of[piece.media].offered[piece.path].size):
            files[piece.media].add(piece.path)
    return files


def _pieces(
    statement: Statement, held: Held, places: Mapping[Item, Media]
) -> dict[Sha256, tuple[Piece, ...]]:
    """Where every byte lies, once, of the blobs that ranges make whole."""
    ranges: dict[Sha256, list[tuple[Item, Piece]]] = {}
    for item, media in places.items():
        if not item.whole:
            ranges.setdefault(item.digest, []).append((item, Piece(media, str(item.path), 0, item.size)))
    travelling = statement.travelling
    return {digest: joined(ranges[digest], travelling[digest].size) for digest in held.complete(travelling)}


def _whole_by_ranges(
    readings: Sequence[tuple[Media, Reading]], progress: Progress, jobs: int | None
) -> tuple[set[Sha256], dict[Media, set[str]]]:
    """Blobs that the ranges offered make as they were signed, and the files so proven, by their volume."""
    statement = readings[0][1].signed.statement
    held = Held()
    places: dict[Item, Media] = {}
    for media, reading in readings:
        for path in reading.sound_offers:
            held.add(reading.offered[path])
            places.setdefault(reading.offered[path], media)
    complete = _pieces(statement, held, places)
    right = _signed_together(statement, complete, progress, jobs)
    return right, proven_files(readings, (piece for digest in right for piece in complete[digest]))


def _signed_together(
    statement: Statement, complete: Mapping[Sha256, Sequence[Piece]], progress: Progress, jobs: int | None
) -> set[Sha256]:
    """Which blobs are, piece after piece, the signed bytes. Raises HostError."""
    travelling = statement.travelling

    def prove(digest: Sha256, stop: Event) -> bool:
        try:
            return hash_ranges(complete[digest], progress, stop) == travelling[digest].sha384
        except IntegrityError:
            return False  # one that changed since it was listed: judged by itself it is a finding

    media = {piece.media for pieces in complete.values() for piece in pieces}
    readers = min((one.readers for one in media), default=1)
    with progress.task("verifying ranges together", sum(travelling[digest].size for digest in complete)):
        proven = spread(prove, complete, jobs or readers)
    return {digest for digest, right in zip(complete, proven, strict=True) if right}


def _prove_ranges(
    statement: Statement, held: Held, places: Mapping[Item, Media], progress: Progress
) -> list[Finding]:
    """Where ranges make a blob whole, hash it; those that are not the signed bytes are held no more."""
    findings = []
    complete = _pieces(statement, held, places)
    right = _signed_together(statement, complete, progress, None)
    for digest, pieces in complete.items():
        if digest in right:
            held.whole.add(digest)
            continue
        del held.ranges[digest]
        volumes = ", ".join(dict.fromkeys(str(piece.media.root) for piece in pieces))
        findings.append(
            Finding(
                "volume-ranges",
                Severity.ERROR,
                f"{PARTS_DIRECTORY}/{digest}",
                "its ranges are as their volumes list them, and together not the signed bytes",
                f"taken from {volumes}",
                "one of these volumes was made from other bytes: burn them again, and ask who made them",
            )
        )
    return findings
