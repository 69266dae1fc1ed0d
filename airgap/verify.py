"""A signed statement against what lies on the media: every difference is a finding, none is missed.

The order is the security argument, and `verify_bundle` reads in that order:

1. the envelope is read once, capped, and its signatures are judged over exactly those bytes;
2. the same bytes become the statement;
3. the tree is listed: what is missing, unexpected, of the wrong type or size;
4. the small documents are read once, hashed, and the same bytes are parsed;
5. every other blob is hashed with SHA-384, which decides.

`airgap install` shares steps 1 to 4 and hashes blobs while it copies them instead.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from airgap.decode import MAX_DOCUMENT
from airgap.errors import InputError, IntegrityError
from airgap.layout import (
    BESIDE,
    ENVELOPE_FILE,
    INDEX_FILE,
    LAYOUT_FILE,
    OCI_LAYOUT,
    BundledArtifact,
    blob_path,
    digest_of,
    read_layout,
)
from airgap.lock import Lock, parse_lock
from airgap.media import Media, MissingFileError, Readable, not_a_bundle
from airgap.model import Finding, Severity, Sha256
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.trust.checkable import HOWTO, HOWTO_FILE, checkable, parse_sums
from airgap.trust.decide import Accepted, Judged, Recipient, judge
from airgap.trust.envelope import MAX_ENVELOPE, payload_digest
from airgap.trust.root import Root
from airgap.trust.statement import SUMS, Statement
from airgap.verify_entries import DIRECTORIES, RECOPY, judge_entries
from airgap.workers import spread

HASH_CHUNK = 512 * 1024
"""Bytes per read: what was just read is still in the CPU's second-level cache when it is hashed."""


class ChangedError(IntegrityError):
    """A document of the bundle is missing, or is not the bytes that were signed."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A bundle whose signatures hold; nothing else of it is judged yet. `envelope` is the judged bytes."""

    envelope: bytes
    judged: Judged

    @property
    def statement(self) -> Statement:
        return self.judged.statement


@dataclass(frozen=True, slots=True)
class Contents:
    """What the small documents of a bundle say; `documents` holds the verified bytes of those read."""

    index: bytes
    lock: Lock
    artifacts: tuple[BundledArtifact, ...]
    documents: Mapping[Sha256, bytes]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was signed, what it says, and every way in which the media differs from it.

    `contents` is None when the documents are too damaged to be read; `findings` then say why.
    """

    judged: Judged
    contents: Contents | None
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


def verify_bundle(
    media: Media,
    root: Root,
    now: datetime,
    *,
    accepted: Mapping[str, Accepted] | None = None,
    recipient: Recipient | None = None,
    progress: Progress,
    jobs: int | None = None,
) -> Verification:
    """Judge a bundle whole, hashing every byte in `jobs` threads (default: one per CPU).

    `root` is the newest one known, the bundle's own included; `now` is UTC; `accepted` is a site's
    memory and `recipient` its name, where there is a site.
    Raises TrustError for signatures that do not hold, HostError for unreadable media; all else is a finding.
    """
    signed = open_signed(media, root, now, accepted, recipient)
    contents, findings = examine(media, signed, progress=progress, jobs=jobs)
    return Verification(signed.judged, contents, (*findings, *signed.judged.findings))


def examine(
    media: Media, signed: Signed, *, progress: Progress, jobs: int | None = None
) -> tuple[Contents | None, tuple[Finding, ...]]:
    """Steps 3 to 5: whether the media holds what the statement says, whoever signed it. Raises HostError."""
    contents, findings = read_documents(media, signed)
    known_bad = {finding.subject for finding in findings}
    blobs = {str(blob_path(digest)): blob for digest, blob in signed.statement.travelling.items()}
    files = {path: blob for path, blob in blobs.items() if path not in known_bad}
    findings += hash_files(media, files, progress, jobs)
    return contents, distinct(findings)


def read_documents(media: Media, signed: Signed) -> tuple[Contents | None, list[Finding]]:
    """Steps 3 and 4: the tree and the small documents, None where they are too damaged. Raises HostError."""
    findings = survey(media, signed)
    index, wrong = read_index(media, signed)
    findings += wrong
    contents: Contents | None = None
    if index is not None:
        try:
            contents = read_contents(media, signed, index)
        except ChangedError:
            pass  # step 5 hashes that blob too, and says so beside any other
        except IntegrityError as error:
            findings.append(_finding("layout-disagrees", INDEX_FILE, error.message, remedy=RECOPY))
    return contents, findings


def open_signed(
    media: Media,
    root: Root,
    now: datetime,
    accepted: Mapping[str, Accepted] | None = None,
    recipient: Recipient | None = None,
) -> Signed:
    """Steps 1 and 2. Raises TrustError, or InputError for no bundle at all."""
    try:
        envelope = media.read(ENVELOPE_FILE, max_bytes=MAX_ENVELOPE)
    except MissingFileError:
        raise not_a_bundle(media) from None
    return Signed(envelope, judge(envelope, root, now, accepted, recipient))


def survey(media: Media, signed: Signed) -> list[Finding]:
    """Step 3: names, types and sizes, without opening a file. Raises HostError."""
    return list(judge_entries(media.entries(DIRECTORIES | BESIDE.keys()), expected_sizes(signed)))


def expected_sizes(signed: Signed) -> dict[str, int | None]:
    """Every file of the bundle by its path, with its size in bytes where the envelope fixes it."""
    sizes: dict[str, int | None] = {path: len(data) for path, data in checkable(signed.envelope, b"").items()}
    blobs = {str(blob_path(digest)): blob.size for digest, blob in signed.statement.travelling.items()}
    unfixed = dict.fromkeys((INDEX_FILE, SUMS, HOWTO_FILE))
    return {**sizes, **unfixed, ENVELOPE_FILE: len(signed.envelope), LAYOUT_FILE: len(OCI_LAYOUT), **blobs}


def read_index(media: Media, signed: Signed) -> tuple[bytes | None, list[Finding]]:
    """Step 4, first half: every file that is no blob, read once; the bytes of index.json where they hold.

    SHA384SUMS is signed, so it decides about HOWTO.txt, whose text may be another version's than ours.
    """
    statement = signed.statement
    findings: list[Finding] = []

    def read(path: str, holds: Callable[[bytes], bool]) -> bytes | None:
        try:
            data = media.read(path, max_bytes=MAX_DOCUMENT)
        except IntegrityError as error:
            findings.append(unreadable(path, error))
            return None
        if holds(data):
            return data
        findings.append(_finding("integrity-changed", path, "its bytes are not what was signed", "", RECOPY))
        return None

    index = read(INDEX_FILE, lambda data: _sha384(data) == statement.index.sha384)
    sums = read(SUMS, lambda data: _sha384(data) == statement.sums.sha384)
    listed = parse_sums(sums or b"")
    read(LAYOUT_FILE, lambda data: data == OCI_LAYOUT)
    read(HOWTO_FILE, lambda data: _sha384(data) == listed.get(HOWTO_FILE, payload_digest(HOWTO)))
    for path, expected in checkable(signed.envelope, b"").items():
        if path not in (SUMS, HOWTO_FILE):
            read(path, expected.__eq__)
    if sums is not None and listed != _stated_sums(statement) | {HOWTO_FILE: listed.get(HOWTO_FILE, "")}:
        message = "the signed list and the signed statement disagree"
        findings.append(_finding("layout-disagrees", SUMS, message, "", RECOPY))
    return index, findings


def read_contents(media: Readable, signed: Signed, index: bytes) -> Contents:
    """Step 4, second half: the lock and the artifacts' manifests, each read once and hashed first.

    `index` is what `read_index` returned. Raises ChangedError when a document is not the signed bytes,
    IntegrityError when they disagree with each other.
    """
    statement = signed.statement
    documents: dict[Sha256, bytes] = {}

    def read(digest: Sha256) -> bytes:
        if digest not in documents:
            documents[digest] = _read_document(media, statement, digest)
        return documents[digest]

    try:
        lock = parse_lock(read(statement.lock), "the bundle's lock")
    except InputError as error:
        raise IntegrityError(error.message) from None
    artifacts = read_layout(index, lock, read)
    problems = list(_disagreements(statement, lock, artifacts))
    if problems:
        raise IntegrityError("\n  ".join(("the statement and the lock disagree", *problems)))
    return Contents(index, lock, artifacts, documents)


def hash_files(
    media: Media, files: Mapping[str, StatedBlob], progress: Progress, jobs: int | None = None
) -> list[Finding]:
    """Step 5: one finding for each file, by its path, that is not the stated bytes. Raises HostError.

    In `jobs` threads, or as many as the media and the CPUs are good for.
    """
    largest_first = sorted(files, key=lambda path: -files[path].size)
    own = threading.local()  # each thread's buffer: a fresh one for every small file costs page faults

    def check(path: str, stop: threading.Event) -> Finding | None:
        if not hasattr(own, "buffer"):
            own.buffer = memoryview(bytearray(HASH_CHUNK))

        def go_on(count: int) -> bool:
            progress.advance(count)
            return not stop.is_set()

        return _check_file(media, path, files[path], own.buffer, go_on)

    with progress.task("verifying", sum(file.size for file in files.values())):
        return [finding for finding in spread(check, largest_first, jobs or media.readers) if finding]


def distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding a subject and code: a blob found short while listing is found short while reading too."""
    return tuple({(finding.subject, finding.code): finding for finding in findings}.values())


def refuse(findings: Iterable[Finding], what: str) -> None:
    """Raise one IntegrityError that names every ERROR among the findings."""
    wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
    if wrong:
        lines = [f"{finding.subject}: {finding.message}" for finding in wrong]
        # A new copy mends what removing a file does; not the other way round.
        remedy = RECOPY if RECOPY in {finding.remedy for finding in wrong} else wrong[0].remedy
        raise IntegrityError("\n  ".join((f"{what} is not what was signed", *lines)), remedy=remedy)


def changed(path: str, stated: StatedBlob, size: int, found: str) -> Finding:
    """The finding for a file whose bytes are not the signed ones; `size` is how many were read."""
    if size != stated.size:
        amount = f"more than {stated.size}" if size > stated.size else f"{size}"
        message = f"expected {stated.size} bytes, read {amount}"
        return _finding("integrity-size", path, message, remedy=RECOPY)
    evidence = f"signed sha384 {stated.sha384}, found {found}"
    return _finding("integrity-changed", path, "its bytes are not what was signed", evidence, RECOPY)


def unreadable(path: str, error: IntegrityError) -> Finding:
    """The finding for a file that is missing or not a regular file by the time it is read."""
    code = "integrity-missing" if isinstance(error, MissingFileError) else "integrity-type"
    return _finding(code, path, error.message.removeprefix(f"{path}: "), remedy=RECOPY)


def _check_file(
    media: Media, path: str, stated: StatedBlob, buffer: memoryview, go_on: Callable[[int], bool]
) -> Finding | None:
    """`go_on` is told of the bytes that were read, and says whether the rest matters."""
    hasher = hashlib.sha384()
    size = 0
    try:
        with media.open(path) as readinto:
            while count := readinto(buffer[: stated.size + 1 - size]):
                size += count
                hasher.update(buffer[:count])
                if not go_on(count):
                    return None
    except IntegrityError as error:
        return unreadable(path, error)
    if (size, hasher.hexdigest()) != (stated.size, stated.sha384):
        return changed(path, stated, size, hasher.hexdigest())
    return None


def _read_document(media: Readable, statement: Statement, digest: Sha256) -> bytes:
    stated = statement.blobs.get(digest)
    if stated is None or (statement.base and digest in statement.base.blobs):
        message = f"{digest}: named by the bundle's documents and not signed to travel with them"
        raise IntegrityError(message, remedy=RECOPY)
    path = blob_path(digest)
    if stated.size > MAX_DOCUMENT:
        raise IntegrityError(f"{path}: {stated.size} bytes, more than any manifest or lock has")
    try:
        data = media.read(path, max_bytes=stated.size)
    except IntegrityError as error:
        raise ChangedError(error.message, remedy=RECOPY) from None
    if _sha384(data) != stated.sha384:
        raise ChangedError(f"{path}: its bytes are not what was signed", remedy=RECOPY)
    if digest_of(data) != digest:
        raise IntegrityError(f"{path}: its bytes are signed, and its name is not their sha256")
    return data


def _disagreements(statement: Statement, lock: Lock, artifacts: Iterable[BundledArtifact]) -> Iterator[str]:
    """Statement, lock and layout say the same thing three times; a difference is a defect or an attack."""
    for key in ("name", "version", "channel", "audience", "target"):
        if getattr(statement, key) != getattr(lock, key):
            yield f"{key}: {getattr(statement, key)} is signed, the lock has {getattr(lock, key)}"
    stated = [(a.kind, a.name, a.media_type, a.digest, a.size) for a in statement.artifacts]
    found = [(a.artifact.kind, a.artifact.name, a.media_type, a.digest, a.size) for a in artifacts]
    yield from (f"{name}: not the signed artifact" for _, name, *_ in (f for f in found if f not in stated))
    yield from (
        f"{name}: signed and not in the lock" for _, name, *_ in (s for s in stated if s not in found)
    )
    for bundled in artifacts:
        for layer in bundled.layers:
            blob = statement.blobs.get(layer.sha256)
            if blob is None or blob.size != layer.size:
                yield f"{bundled.artifact.name}: {layer.path} is not signed with its {layer.size} bytes"


def _sha384(data: bytes) -> str:
    return hashlib.sha384(data).hexdigest()


def _stated_sums(statement: Statement) -> dict[str, str]:
    blobs = {str(blob_path(digest)): str(blob.sha384) for digest, blob in statement.travelling.items()}
    return {LAYOUT_FILE: _sha384(OCI_LAYOUT), INDEX_FILE: statement.index.sha384, **blobs}


def _finding(code: str, subject: str, message: str, evidence: str = "", remedy: str = "") -> Finding:
    return Finding(code, Severity.ERROR, subject, message, evidence, remedy)
