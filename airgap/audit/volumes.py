"""A bundle in volumes as an audit reads it: every blob from wherever among them it lies, whole or in ranges.

What several volumes hold is read from the first; whether each volume is good is for `airgap verify` to say.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from airgap.audit import findings
from airgap.audit.evidence import Audit, Subject, SubjectKind
from airgap.audit.reading import Reading as BlobReading
from airgap.audit.reading import read_blobs
from airgap.audit.run import Judge, Part, conclude, counted_on, judge_envelope, wanted_of
from airgap.errors import InputError, IntegrityError
from airgap.layout import ENVELOPE_FILE, INDEX_FILE, blob_path
from airgap.media import Media, MissingFileError
from airgap.model import Finding, Sha256
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.trust.decide import Judged, survey
from airgap.trust.envelope import MAX_ENVELOPE
from airgap.trust.statement import Statement
from airgap.units import amount, human_bytes
from airgap.verify import Contents, Signed, read_contents
from airgap.verify_volumes import Collection, Piece, gather, joined, judge_volume, of_volume, proven_files
from airgap.volume_reading import Reading, read_volume
from airgap.volumes import Item


class Together:
    """The blobs of a bundle by their paths in it, each in the pieces that it lies in."""

    def __init__(self, pieces: Mapping[str, Sequence[Piece]]) -> None:
        self._pieces = pieces

    @property
    def readers(self) -> int:
        """As `Media.readers`: of the slowest to seek."""
        media = {piece.media for pieces in self._pieces.values() for piece in pieces}
        return min((one.readers for one in media), default=1)

    def holds(self, digest: Sha256) -> bool:
        return str(blob_path(digest)) in self._pieces

    def pieces(self, digest: Sha256) -> Sequence[Piece]:
        """Where it lies; none where it lacks."""
        return self._pieces.get(str(blob_path(digest)), ())

    def read(self, path: str, *, max_bytes: int) -> bytes:
        with self.open_at(path) as read_at:
            return read_at(0, max_bytes + 1)

    @contextmanager
    def open(self, path: str) -> Iterator[Callable[[memoryview], int]]:
        """As `Media.open`."""
        with self.open_at(path) as read_at:
            at = 0

            def readinto(buffer: memoryview) -> int:
                nonlocal at
                data = read_at(at, len(buffer))
                buffer[: len(data)] = data
                at += len(data)
                return len(data)

            yield readinto

    @contextmanager
    def open_at(self, path: str) -> Iterator[Callable[[int, int], bytes]]:
        """As `Media.open_at`."""
        if path not in self._pieces:
            raise MissingFileError(f"{path}: missing")
        with ExitStack() as stack:
            opened = [
                (piece, stack.enter_context(piece.media.open_at(piece.path))) for piece in self._pieces[path]
            ]

            def read_at(start: int, count: int) -> bytes:
                parts: list[bytes] = []
                begin = 0
                for piece, read in opened:
                    low, high = max(start, begin), min(start + count, begin + piece.size)
                    if low < high:
                        parts.append(read(piece.start + low - begin, high - low))
                    begin += piece.size
                return b"".join(parts)

            yield read_at


def audit_volumes(
    media: Sequence[Media], where: str, judging: Judge, *, progress: Progress, jobs: int | None = None
) -> Audit:
    """Audit what is here of a bundle in volumes. What lacks is a finding, as all that is wrong.

    Raises InputError for volumes of several bundles, HostError when the media cannot be read.
    """
    envelopes = [_envelope(one) for one in media]
    if len({survey(envelope).payload for envelope in envelopes}) != 1:
        raise InputError(
            "these are volumes of several bundles",
            remedy="audit each bundle by itself, all its volumes at once",
        )
    readings = _readings(media)
    here = arranged(readings)
    return _look_into(readings, here, where, judging, progress=progress, jobs=jobs)[0]


def audit_judged(
    readings: Sequence[tuple[Media, Reading]],
    blobs: Together,
    where: str,
    judging: Judge,
    *,
    progress: Progress,
    jobs: int | None = None,
) -> tuple[Audit, Collection]:
    """The audit of volumes of one statement that holds, and what `airgap verify` says of the same bytes.

    `blobs` is `arranged` of the same readings. A byte is read once for both, but where something is not as
    signed, or lies on several volumes. Raises HostError.
    """
    audit, seen = _look_into(readings, blobs, where, judging, progress=progress, jobs=jobs)
    proven = proven_files(readings, (piece for digest in seen.contents for piece in blobs.pieces(digest)))
    judged = [
        (media, judge_volume(media, reading, proven=proven[media], progress=progress, jobs=jobs))
        for media, reading in readings
    ]
    return audit, gather(judged, progress, seen.contents)


def _look_into(
    readings: Sequence[tuple[Media, Reading]],
    here: Together,
    where: str,
    judging: Judge,
    *,
    progress: Progress,
    jobs: int | None,
) -> tuple[Audit, BlobReading]:
    media, first = readings[0]
    signed, stated = first.signed, first.signed.statement
    fact, found = judge_envelope(signed.envelope, judging, media)
    found += [of_volume(finding) for _, reading in readings for finding in reading.findings]
    contents = _contents(here, signed, readings, found)
    part = Part(fact, contents.artifacts if contents else (), contents.documents if contents else {})
    blobs = {digest: blob for digest, blob in stated.travelling.items() if here.holds(digest)}
    found += _lacking(stated, blobs)
    wanted = wanted_of([part], blobs)
    seen = read_blobs(here, wanted, progress, jobs)
    subject = Subject(SubjectKind.VOLUMES, where, (fact,))
    return conclude(subject, [part], seen, found, now=judging.now, blobs=stated.travelling), seen


def together(media: Sequence[Media]) -> Together:
    """The blobs of volumes of one bundle, before anybody judged their bytes. Raises InputError, HostError."""
    return arranged(_readings(media))


def arranged(readings: Sequence[tuple[Media, Reading]], kept: Iterable[tuple[Item, Piece]] = ()) -> Together:
    """The blobs of volumes of one statement, from wherever each is read first: what is `kept`, if it is."""
    statement = readings[0][1].signed.statement
    offered = [
        (item := reading.offered[path], Piece(media, path, 0, item.size))
        for media, reading in readings
        for path in reading.sound_offers
    ]
    found = _pieces(statement, [*kept, *offered])
    return Together({path: pieces for path, pieces in found if pieces})


def _readings(media: Sequence[Media]) -> list[tuple[Media, Reading]]:
    return [(one, read_volume(one, _signed(_envelope(one)))) for one in media]


def _envelope(media: Media) -> bytes:
    try:
        return media.read(ENVELOPE_FILE, max_bytes=MAX_ENVELOPE)
    except IntegrityError as error:
        raise InputError(f"{media.root}: not a volume: {error.message}") from None


def _signed(envelope: bytes) -> Signed:
    """An envelope as the readers of volumes want it, whoever signed it: that is judged before."""
    surveyed = survey(envelope)
    return Signed(envelope, Judged(surveyed.statement, surveyed.payload, (), ()))


def _pieces(
    stated: Statement, offered: Iterable[tuple[Item, Piece]]
) -> Iterator[tuple[str, tuple[Piece, ...]]]:
    """Every blob's place: the first file that has it whole, else the ranges that make it so, else none."""
    whole: dict[Sha256, Piece] = {}
    ranges: dict[Sha256, list[tuple[Item, Piece]]] = {}
    for item, piece in offered:
        if item.whole:
            whole.setdefault(item.digest, piece)
        else:
            ranges.setdefault(item.digest, []).append((item, piece))
    for digest, blob in stated.travelling.items():
        one = whole.get(digest)
        yield str(blob_path(digest)), (one,) if one else joined(ranges.get(digest, []), blob.size)


def _contents(
    blobs: Together, signed: Signed, readings: Sequence[tuple[Media, Reading]], found: list[Finding]
) -> Contents | None:
    index = next((reading.index for _, reading in readings if reading.index is not None), None)
    if index is None:
        return None  # every volume has one, so each has a finding that says why not
    try:
        return read_contents(blobs, signed, index)
    except IntegrityError as error:
        found.append(_not_here(INDEX_FILE, f"its documents cannot be read: {error.message}"))
        return None


def _lacking(stated: Statement, here: Mapping[Sha256, StatedBlob]) -> Iterator[Finding]:
    lacking = [blob.size for digest, blob in stated.travelling.items() if digest not in here]
    if lacking:
        size = f"{amount(len(lacking), 'blob')}, {human_bytes(sum(lacking))}"
        message = f"not, or not whole, on the volumes given: {size}"
        yield _not_here(stated.name, message)
    if stated.base:
        yield counted_on(stated)


def _not_here(subject: str, message: str) -> Finding:
    return replace(findings.NOT_LOOKED.at(subject, message), remedy="name all volumes of the bundle at once")
