"""`airgap split`: a bundle as volumes that fit on media, each whole under its name or not there at all.

Ordering invariant, as for `airgap build`: a volume is written below a temporary name beside its place,
every byte hashed against what is signed on its way; then fsync, then rename. Nothing in a volume depends
on when or where it is made: the same bundle, split twice for the same medium, gives the same bytes.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airgap.connected.volume_forms import Sink
from airgap.errors import InputError, IntegrityError
from airgap.layout import (
    ENVELOPE_FILE,
    INDEX_FILE,
    LAYOUT_FILE,
    blob_path,
    read_envelope,
)
from airgap.media import Media
from airgap.model import Sha256, Sha384
from airgap.progress import Progress
from airgap.store import host_errors, pour
from airgap.trust.checkable import HOWTO_FILE, checkable
from airgap.trust.decide import Judged, survey
from airgap.trust.envelope import MAX_ENVELOPE, payload_digest
from airgap.trust.statement import SUMS, Statement
from airgap.verify import HASH_CHUNK, Signed, read_index, refuse
from airgap.verify import survey as survey_tree
from airgap.volume_reading import carried
from airgap.volumes import (
    LIST_FILE,
    MARK_FILE,
    Item,
    Mark,
    Medium,
    Volume,
    company,
    cut,
    render_list,
    render_mark,
    volume_name,
)
from airgap.wanted import Wanted
from airgap.workers import spread


@dataclass(frozen=True, slots=True)
class Selected:
    """A volume to write, and where not all of it, the numbers of the items: 0 is none."""

    volume: Volume
    only: tuple[int, ...] | None

    @property
    def items(self) -> tuple[Item, ...]:
        if self.only is None:
            return self.volume.items
        return tuple(self.volume.items[number - 1] for number in self.only if number)


@dataclass(frozen=True, slots=True)
class Splitting:
    """A bundle whose tree and documents are as its statement says, and how it is cut.

    `documents` lie on every volume, by path. Who signed it is not judged: the isolated side does that.
    """

    media: Media
    statement: Statement
    payload: Sha384
    medium: Medium
    volumes: tuple[Volume, ...]
    documents: Mapping[str, bytes]
    whole: dict[Sha256, "_Whole"] = field(default_factory=dict)
    """Of each blob that is cut, how far its signed sha384 was followed."""

    def name(self, volume: Volume) -> str:
        return volume_name(self.statement, volume.number, len(self.volumes))

    def mark(self, one: Selected) -> Mark:
        """What its volume.json says."""
        return Mark(self.payload, self.medium, one.volume.number, len(self.volumes), one.only)

    def select(self, wanted: Wanted | None) -> list[Selected]:
        """The volumes to write, in order. Raises InputError for any that the cut does not give."""
        if wanted is None:
            return [Selected(volume, None) for volume in self.volumes]
        problems = [
            f"volume {number}: there are {len(self.volumes)}"
            for number in wanted
            if not 1 <= number <= len(self.volumes)
        ]
        problems += [
            f"volume {number} has items 1 to {len(self.volumes[number - 1].items)}, not {max(items)}"
            for number, items in wanted.items()
            if items and 1 <= number <= len(self.volumes) and max(items) > len(self.volumes[number - 1].items)
        ]
        if problems:
            raise InputError(
                "no such volume or item",
                problems=problems,
                remedy="give the --size and --file-limit with which the volumes were cut",
            )
        return [Selected(self.volumes[number - 1], items) for number, items in sorted(wanted.items())]


class _Whole:
    """A running sha384 over a blob that is written in ranges, one after the other."""

    def __init__(self) -> None:
        self.hasher = hashlib.sha384()
        self.position = 0


def open_bundle(media: Media, medium: Medium) -> Splitting:
    """Read what lies on every volume, and cut. Raises InputError, IntegrityError or HostError."""
    envelope = read_envelope(media)
    surveyed = survey(envelope)
    signed = Signed(envelope, Judged(surveyed.statement, surveyed.payload, (), ()))
    index, wrong = read_index(media, signed)
    refuse([*survey_tree(media, signed), *wrong], str(media.root))
    assert index is not None  # else `wrong` named it
    sums = _read(media, SUMS)
    documents = checkable(envelope, sums) | {HOWTO_FILE: _read(media, HOWTO_FILE)}
    documents[LAYOUT_FILE] = _read(media, LAYOUT_FILE)
    documents |= dict(carried(media)) | {ENVELOPE_FILE: envelope, INDEX_FILE: index}
    for digest, blob in company(surveyed.statement).items():
        data = media.read(blob_path(digest), max_bytes=blob.size)
        if payload_digest(data) != blob.sha384:
            raise _damaged([f"{blob_path(digest)}: its bytes are not what was signed"], media.root)
        documents[blob_path(digest)] = data
    volumes = cut(surveyed.statement, medium)
    splitting = Splitting(media, surveyed.statement, surveyed.payload, medium, volumes, documents)
    _require_company_fits(splitting)
    return splitting


def write_volume(splitting: Splitting, one: Selected, sink: Sink, progress: Progress) -> None:
    """Put a volume into a sink: the statement first, the list of digests last, as a stream needs them.

    Raises IntegrityError naming each blob that is not the signed bytes, HostError.
    """
    documents = {**splitting.documents, MARK_FILE: render_mark(splitting.mark(one))}
    for path in sorted(documents, key=lambda path: (path != ENVELOPE_FILE, path)):
        sink.write(path, documents[path])
    digests = _write_items(splitting, one.items, sink, progress)
    listed = [(str(item.path), digests[item]) for item in one.items]
    listed += [(path, payload_digest(data)) for path, data in sorted(documents.items())]
    sink.write(LIST_FILE, render_list(listed))


def finish(splitting: Splitting, progress: Progress) -> None:
    """Follow the blobs of which ranges were written to their ends. Raises IntegrityError, HostError."""
    blobs = splitting.statement.travelling

    def go_on(count: int) -> bool:
        progress.advance(count)
        return True

    left = sum(blobs[digest].size - whole.position for digest, whole in splitting.whole.items())
    with progress.task("reading cut blobs to their ends", left):
        for digest, whole in splitting.whole.items():
            _follow(splitting, digest, whole, blobs[digest].size, go_on)
            _require_signed(splitting, digest, whole)


def _write_items(
    splitting: Splitting, items: Sequence[Item], sink: Sink, progress: Progress
) -> dict[Item, Sha384]:
    """Ranges of one blob are written in order, by one thread: its own sha384 is followed meanwhile."""
    together: dict[Sha256, list[Item]] = {}
    for item in items:
        together.setdefault(item.digest, []).append(item)
    own = threading.local()

    def write(group: list[Item], stop: threading.Event) -> list[tuple[Item, Sha384]]:
        if not hasattr(own, "buffer"):
            own.buffer = memoryview(bytearray(HASH_CHUNK))

        def go_on(count: int) -> bool:
            progress.advance(count)
            return not stop.is_set()

        return [(item, _write_item(splitting, item, sink, own.buffer, go_on)) for item in group]

    with progress.task("writing", sum(item.size for item in items)):
        written = dict(pair for pairs in spread(write, together.values(), sink.jobs) for pair in pairs)
    blobs = splitting.statement.travelling
    wrong = [
        f"{item.path}: its bytes are not what was signed"
        for item in items
        if item.whole and written[item] != blobs[item.digest].sha384
    ]
    if wrong:
        raise _damaged(wrong, splitting.media.root)
    return written


def _write_item(
    splitting: Splitting, item: Item, sink: Sink, buffer: memoryview, go_on: Callable[[int], bool]
) -> Sha384:
    """Write one file of a volume; returns the sha384 of its bytes."""
    hasher = hashlib.sha384()
    hashers = [hasher]
    source = blob_path(item.digest)
    if not item.whole:
        whole = splitting.whole.setdefault(item.digest, _Whole())
        _follow(splitting, item.digest, whole, item.offset, go_on)
        # The first range begins as its blob does: one hash is that of both so far.
        hashers = [hasher, whole.hasher] if whole.position else [whole.hasher]
    path = splitting.media.root / source
    with splitting.media.open(source, item.offset) as readinto:
        if item.whole and sink.link(item.path, path):
            done = pour(readinto, item.size + 1, buffer, hashers=hashers, out=None, go_on=go_on)
        else:
            with sink.file(item.path, path, item.offset, item.size) as out, host_errors(path):
                done = pour(readinto, item.size, buffer, hashers=hashers, out=out, go_on=go_on)
    if done != item.size and go_on(0):
        raise _damaged(
            [f"{source}: expected {item.end} bytes, found {item.offset + done}"], splitting.media.root
        )
    if not item.whole:
        if hasher not in hashers:
            hasher = whole.hasher.copy()
        whole.position = item.offset + done
        if whole.position == splitting.statement.travelling[item.digest].size:
            _require_signed(splitting, item.digest, whole)
    return Sha384(hasher.hexdigest())


def _require_signed(splitting: Splitting, digest: Sha256, whole: _Whole) -> None:
    if whole.hasher.hexdigest() != splitting.statement.travelling[digest].sha384:
        names = [splitting.name(v) for v in splitting.volumes if digest in {item.digest for item in v.items}]
        raise IntegrityError(
            f"{splitting.media.root}: {blob_path(digest)}: its bytes are not what was signed",
            remedy=f"build it again, and discard what was written of {', '.join(names)}",
        )


def _follow(
    splitting: Splitting, digest: Sha256, whole: _Whole, until: int, go_on: Callable[[int], bool]
) -> None:
    """Hash what lies before the next range: another run writes it, or none again."""
    if whole.position >= until:
        return
    buffer = memoryview(bytearray(HASH_CHUNK))
    with splitting.media.open(blob_path(digest), whole.position) as readinto:
        pour(readinto, until - whole.position, buffer, hashers=[whole.hasher], out=None, go_on=go_on)
    whole.position = until


def _require_company_fits(splitting: Splitting) -> None:
    """The cut keeps room for what lies on every volume; many signatures or roots could be more than that."""
    medium = splitting.medium
    sizes = [*map(len, splitting.documents.values()), 1024]
    for volume in splitting.volumes:
        listed = 180 * (len(volume.items) + len(sizes))
        taken = sum(map(medium.takes, (*sizes, listed, *(item.size for item in volume.items))))
        if taken > medium.capacity:
            raise InputError(
                f"{splitting.name(volume)} would take {taken} bytes of {medium.capacity}: signatures and"
                " roots are larger than the room that is kept for them",
                remedy="give a larger --size",
            )


def _read(media: Media, path: str) -> bytes:
    return media.read(path, max_bytes=MAX_ENVELOPE)


def _damaged(problems: Sequence[str], bundle: Path) -> IntegrityError:
    return IntegrityError(
        "\n  ".join((f"{bundle} is not what was signed", *problems)),
        remedy="build it again",
    )
