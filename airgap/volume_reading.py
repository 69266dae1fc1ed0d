"""One volume on its medium, up to the bytes of its items: what it says of itself, and what it offers.

Nobody signed volume.json and SHA384SUMS of a volume. They are compared with what the signed statement makes
of them, and only a range of a blob is ever decided by such a list, until all ranges of the blob are here.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from airgap.decode import MAX_DOCUMENT
from airgap.errors import InputError, IntegrityError
from airgap.layout import (
    BESIDE,
    ENVELOPE_FILE,
    INDEX_FILE,
    LAYOUT_FILE,
    OCI_LAYOUT,
    RECORDS_DIRECTORY,
    ROOTS_DIRECTORY,
    blob_path,
)
from airgap.media import Entry, EntryType, Media
from airgap.model import Finding, Severity, Sha256, Sha384
from airgap.records import MAX_RECORDS
from airgap.trust.blobs import StatedBlob
from airgap.trust.checkable import HOWTO_FILE, checkable
from airgap.trust.envelope import payload_digest
from airgap.trust.statement import SUMS
from airgap.trust.succession import MAX_VERSIONS
from airgap.units import amount
from airgap.verify import (
    Signed,
    distinct,
    expected_sizes,
    read_index,
    unreadable,
)
from airgap.verify_entries import DIRECTORIES, judge_entries
from airgap.volumes import (
    LIST_FILE,
    MARK_FILE,
    MAX_MARK,
    PARTS_DIRECTORY,
    Item,
    Mark,
    company,
    cut,
    parse_list,
    parse_mark,
    parse_part,
)

MAX_BESIDE = {ROOTS_DIRECTORY: MAX_VERSIONS, RECORDS_DIRECTORY: MAX_RECORDS}
"""Names of what vouches for itself, by directory."""

BURN_AGAIN = "burn it again: airgap split --only, as below; what is good is kept"


@dataclass(frozen=True, slots=True)
class Reading:
    """A volume before its bytes are hashed: its documents, and what it offers, by path.

    `mark` is None where volume.json cannot be read or contradicts the signed statement.
    """

    signed: Signed
    mark: Mark | None
    listed: Mapping[str, Sha384]
    offered: Mapping[str, Item]
    index: bytes | None
    findings: tuple[Finding, ...]

    @property
    def sound_offers(self) -> dict[str, StatedBlob]:
        """What is worth reading: every offer's path, with the digest and the size that decide about it."""
        known_bad = {finding.subject for finding in self.findings}
        blobs = self.signed.statement.travelling
        return {
            path: blobs[item.digest] if item.whole else StatedBlob(self.listed[path], item.size)
            for path, item in self.offered.items()
            if path not in known_bad
        }


def read_volume(media: Media, signed: Signed) -> Reading:
    """Everything about a volume but the bytes of its items, each difference a finding. Raises HostError."""
    statement = signed.statement
    travelling = statement.travelling
    findings: list[Finding] = []
    listed = _read_list(media, findings)
    mark, items = _read_mark(media, signed, listed, findings)
    expected = _company_sizes(signed) | {str(item.path): item.size for item in items}
    offered = {str(item.path): item for item in items}
    offered |= {str(blob_path(d)): Item(d, 0, b.size, whole=True) for d, b in company(statement).items()}
    parts = {f"{PARTS_DIRECTORY}/{item.digest}" for item in items if not item.whole}
    directories = DIRECTORIES | parts | ({PARTS_DIRECTORY} if parts else set())
    extras: dict[str, Item] = {}

    def strangers() -> Iterator[Entry]:
        """Every name but those of bytes that belong to the bundle, though by `mark` not to this volume."""
        below = {PARTS_DIRECTORY, *(f"{PARTS_DIRECTORY}/{digest}" for digest in travelling)}
        for entry in media.entries(DIRECTORIES | below | BESIDE.keys()):
            extra = None if entry.path in expected else _belonging(travelling, entry, listed)
            if extra is not None:
                extras[entry.path] = extra
            elif entry.type is not EntryType.DIRECTORY or entry.path not in below - directories:
                yield entry

    findings += judge_entries(strangers(), expected, directories)
    findings += _too_many(media)
    index, wrong = read_index(media, signed)
    findings += wrong
    offered |= extras
    if listed:
        findings += _judge_list(media, signed, listed, {*offered, MARK_FILE})
    for path in [path for path, item in offered.items() if not item.whole and path not in listed]:
        del offered[path]
    return Reading(signed, mark, listed, offered, index, distinct(findings))


def read_streamed(media: Media, signed: Signed) -> Reading:
    """A volume of which only the documents are there: items and their list are still to come.

    It offers the documents that are blobs. Raises HostError.
    """
    findings: list[Finding] = []
    mark, _ = _read_mark(media, signed, {}, findings)
    index, wrong = read_index(media, signed)
    documents = company(signed.statement)
    offered = {str(blob_path(d)): Item(d, 0, blob.size, whole=True) for d, blob in documents.items()}
    return Reading(signed, mark, {}, offered, index, distinct([*findings, *wrong, *_too_many(media)]))


def _company_sizes(signed: Signed) -> dict[str, int | None]:
    blobs = {str(blob_path(digest)) for digest in signed.statement.travelling}
    documents = {str(blob_path(digest)) for digest in company(signed.statement)}
    sizes = expected_sizes(signed)
    own = {path: size for path, size in sizes.items() if path not in blobs - documents}
    return {**own, MARK_FILE: None, LIST_FILE: None}


def _read_list(media: Media, findings: list[Finding]) -> Mapping[str, Sha384]:
    try:
        return parse_list(media.read(LIST_FILE, max_bytes=MAX_DOCUMENT))
    except IntegrityError as error:
        findings.append(unreadable(LIST_FILE, error))
    except InputError as error:
        findings.append(_finding("volume-list", LIST_FILE, error.message.removeprefix(f"{LIST_FILE}: ")))
    return {}


def _judge_list(
    media: Media, signed: Signed, listed: Mapping[str, Sha384], offered: set[str]
) -> Iterator[Finding]:
    """Whether SHA384SUMS lists what is here, and says of it what is signed."""
    statement = signed.statement
    known = {
        ENVELOPE_FILE: payload_digest(signed.envelope),
        LAYOUT_FILE: payload_digest(OCI_LAYOUT),
        INDEX_FILE: statement.index.sha384,
        SUMS: statement.sums.sha384,
    }
    for path, data in checkable(signed.envelope, b"").items():
        known.setdefault(path, payload_digest(data))
    with suppress(IntegrityError):  # what cannot be read is a finding already
        known |= {path: payload_digest(data) for path, data in carried(media)}
    with suppress(IntegrityError):
        known[HOWTO_FILE] = payload_digest(media.read(HOWTO_FILE, max_bytes=MAX_DOCUMENT))
    known |= {
        path: blob.sha384
        for digest, blob in statement.travelling.items()
        if (path := str(blob_path(digest))) in offered
    }
    wrong = [path for path, digest in known.items() if listed.get(path) != digest]
    wrong += offered - known.keys() - listed.keys()
    wrong += listed.keys() - known.keys() - offered
    if wrong:
        count = f", and of {len(wrong) - 1} more" if len(wrong) > 1 else ""
        message = f"it does not say of {min(wrong)}{count} what is signed, or what is here"
        yield _finding("volume-list", LIST_FILE, message)


def carried(media: Media) -> Iterator[tuple[str, bytes]]:
    """What lies beside the statement and vouches for itself, by path. Raises IntegrityError, HostError."""
    for directory, (pattern, largest) in BESIDE.items():
        names = media.names(directory, at_most=MAX_BESIDE[directory])
        for name in sorted(filter(pattern.fullmatch, names)):
            yield f"{directory}/{name}", media.read(f"{directory}/{name}", max_bytes=largest)


def _too_many(media: Media) -> Iterator[Finding]:
    """A finding where more lies beside the statement than any bundle has: none of it is read then."""
    for directory, most in MAX_BESIDE.items():
        try:
            media.names(directory, at_most=most)
        except IntegrityError as error:
            message = error.message.removeprefix(f"{directory}: ")
            yield _finding("integrity-unexpected", directory, message)


def _read_mark(
    media: Media, signed: Signed, listed: Mapping[str, Sha384], findings: list[Finding]
) -> tuple[Mark | None, tuple[Item, ...]]:
    """The mark, and which items the cut puts on a volume of that number, where both make sense."""

    def wrong(message: str) -> tuple[None, tuple[()]]:
        findings.append(_finding("volume-mark", MARK_FILE, message))
        return None, ()

    try:
        data = media.read(MARK_FILE, max_bytes=MAX_MARK)
    except IntegrityError as error:
        findings.append(unreadable(MARK_FILE, error))
        return None, ()
    try:
        mark = parse_mark(data)
        if mark.payload != signed.judged.payload:
            return wrong("it is of a volume of another bundle than the statement beside it")
        volumes = cut(signed.statement, mark.medium)
    except InputError as error:
        return wrong(error.message.removeprefix(f"{MARK_FILE}: "))
    if mark.count != len(volumes):
        return wrong(
            f"it says {mark.number} of {mark.count}; so cut, this bundle makes"
            f" {amount(len(volumes), 'volume')}"
        )
    items = volumes[mark.number - 1].items
    numbers = range(len(items) + 1) if mark.only is None else mark.only
    if not set(numbers) <= set(range(len(items) + 1)):
        return wrong(f"it names items above {len(items)}, the last of volume {mark.number}")
    if MARK_FILE in listed and listed[MARK_FILE] != payload_digest(data):
        findings.append(_finding("integrity-changed", MARK_FILE, f"not the bytes that {LIST_FILE} lists"))
    return mark, tuple(items[number - 1] for number in dict.fromkeys(numbers) if number)


def _belonging(
    travelling: Mapping[Sha256, StatedBlob], entry: Entry, listed: Mapping[str, Sha384]
) -> Item | None:
    """The bytes of the bundle that a file holds by its name: good on whatever volume they lie."""
    if entry.type is not EntryType.FILE:
        return None
    part = parse_part(entry.path)
    if part is not None:
        digest, offset = part
        stated = travelling.get(digest)
        fits = stated is not None and 0 < entry.size <= stated.size - offset
        return Item(digest, offset, entry.size, whole=False) if fits and entry.path in listed else None
    digest = Sha256(entry.path.rpartition("/")[2])
    stated = travelling.get(digest)
    if stated is None or entry.path != blob_path(digest) or stated.size != entry.size:
        return None
    return Item(digest, 0, stated.size, whole=True)


def _finding(code: str, subject: str, message: str) -> Finding:
    return Finding(code, Severity.ERROR, subject, message, "", BURN_AGAIN)
