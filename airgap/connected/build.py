"""`airgap build`: from a lock to a bundle directory that is whole under its name, or not there at all.

Ordering invariant: everything is written, read back and hashed below a temporary name beside the
destination; the statement is made from what was read back; then fsync, then rename.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event

from airgap.connected.base import KnownBase, counted_on, patchable, require_same_bytes
from airgap.connected.issued import remember
from airgap.connected.ledger import Ledger
from airgap.connected.locking import fetch
from airgap.connected.patches import make_patches
from airgap.connected.source import Context
from airgap.errors import HostError, InputError, IntegrityError
from airgap.layout import (
    ENVELOPE_FILE,
    INDEX_FILE,
    LAYOUT_FILE,
    OCI_LAYOUT,
    ROOTS_DIRECTORY,
    VERIFY_DIRECTORY,
    BundledArtifact,
    blob_path,
    digest_of,
    pack,
    render_index,
    root_name,
)
from airgap.lock import Lock, distinct_files, lock_digest
from airgap.model import Sha256, Sha384
from airgap.progress import Progress
from airgap.store import CHUNK, FILE_MODE, fsync_directory, host_errors
from airgap.trust.blobs import Base, StatedBlob
from airgap.trust.checkable import checkable, render_sums
from airgap.trust.envelope import payload_digest, sign
from airgap.trust.envelope import render as render_envelope
from airgap.trust.keys import Signer
from airgap.trust.root import Floor
from airgap.trust.statement import PAYLOAD_TYPE, Previous, StatedArtifact, Statement, Subject, render
from airgap.units import shortage
from airgap.workers import cores, spread


@dataclass(frozen=True, slots=True)
class Edition:
    """What tells two bundles of one lock apart. Equal editions of equal locks are equal bytes."""

    number: Floor
    """Epoch and sequence."""
    created_at: datetime
    expires_at: datetime
    roots: Mapping[int, bytes] = field(default_factory=dict)
    """Roots that travel along, by version."""


@dataclass(frozen=True, slots=True)
class _Contents:
    """What goes into the bundle: the lock, its exact bytes, and what its artifacts become.

    `base` says what the other side holds or makes itself, so that it does not travel.
    """

    lock: Lock
    lock_bytes: bytes
    packed: tuple[BundledArtifact, ...]
    base: Base | None

    @property
    def absent(self) -> frozenset[Sha256]:
        return self.base.blobs | self.base.patches.keys() if self.base else frozenset()

    def travelling(self, blobs: Mapping[Sha256, StatedBlob]) -> dict[Sha256, StatedBlob]:
        """What of `blobs` lies in the bundle, patches among it."""
        patches = self.base.patches.values() if self.base else ()
        whole = {digest: blob for digest, blob in blobs.items() if digest not in self.absent}
        return whole | {patch.sha256: patch.stated for patch in patches}


@dataclass(frozen=True, slots=True)
class Built:
    """A finished bundle: where it is, what was stated, its envelope, and what the run cost."""

    path: Path
    statement: Statement
    envelope: bytes
    fetched_bytes: int


def build_bundle(
    lock: Lock,
    lock_bytes: bytes,
    *,
    out: Path,
    edition: Edition,
    ledger: Ledger,
    signers: Sequence[Signer],
    replace: bool,
    context: Context,
    base: KnownBase | None = None,
    patch: bool = False,
    accept: Callable[[Path], None] | None = None,
) -> Built:
    """Fetch what the store lacks, lay the bundle out, read every byte back, state it, sign it.

    `accept` sees the whole bundle before it gets its name and number; what it raises leaves none.
    Of what a `base` holds already the bytes in the store are hashed, stated, and left out; with `patch`,
    also of what the other side can make of blobs that it holds.

    Raises SourceError, IntegrityError, HostError, or InputError when the bundle exists already.
    """
    destination = out / f"{lock.name}-{lock.version}"
    if destination.exists() and not replace:
        raise InputError(
            f"{destination} exists already",
            remedy="raise the manifest's version, choose another --out, or pass --replace",
        )
    fetched = fetch_missing(lock, context)
    packed = tuple(pack(artifact) for artifact in lock.artifacts)
    with _staging(destination) as staging:
        left = _leave(lock, base, staging, context, patch=patch) if base else None
        contents = _Contents(lock, lock_bytes, packed, left)
        places, sizes = _lay_out(contents, staging, context)
        blobs = _read_back(places, sizes, context.progress)
        if base:
            require_same_bytes(base.what, base.stated, blobs)
        index = _read(staging / INDEX_FILE)
        sums = render_sums(
            {LAYOUT_FILE: _digest(_read(staging / LAYOUT_FILE)), INDEX_FILE: _digest(index)},
            contents.travelling(blobs),
        )
        statement = _state(
            *(contents, blobs, edition, ledger.previous(edition.number)),
            index=_subject(index),
            sums=_subject(sums),
        )
        payload = render(statement)
        envelope = _sign(payload, signers)
        _write(staging / ENVELOPE_FILE, envelope)
        write_checkable(staging, envelope, sums)
        _write_roots(staging, edition.roots)
        if accept:
            accept(staging)
        ledger.record(edition.number, payload_digest(payload))
        remember(context.store, payload)
        _publish(staging, destination)
    return Built(destination, statement, envelope, fetched)


def _leave(lock: Lock, base: KnownBase, staging: Path, context: Context, *, patch: bool) -> Base | None:
    """What need not travel to a side that holds `base`; patches are written into the bundle."""
    held = counted_on(lock, base.blobs)
    targets = patchable(lock, held) if patch else {}
    patches = make_patches(targets, base, context.store, staging, context.progress)
    return Base(base.digest, held, patches) if held or patches else None


def fetch_missing(lock: Lock, context: Context) -> int:
    """Bring every blob of the lock into the store; returns the bytes that were not there before."""
    missing = [
        f for f in distinct_files(lock.artifacts).values() if not context.store.holds(f.sha256, f.size)
    ]
    total = sum(file.size for file in missing)
    _require_space(context.store.root, total)
    with context.progress.task("fetching", total):
        for artifact in lock.artifacts:
            fetch(artifact, context)
    for file in missing:
        if not context.store.holds(file.sha256, file.size):
            raise IntegrityError(f"{file.path}: fetched, and yet the store does not hold {file.sha256}")
    return total


def write_checkable(bundle: Path, envelope: bytes, sums: bytes) -> None:
    """Write `verify/` anew for this envelope: what openssl and coreutils need. Raises HostError."""
    directory = bundle / VERIFY_DIRECTORY
    files = checkable(envelope, sums)
    with host_errors(directory):
        for stale in directory.glob("*.sig"):
            if f"{VERIFY_DIRECTORY}/{stale.name}" not in files:
                stale.unlink()
        for name, data in files.items():
            _write(bundle / name, data)
        fsync_directory(directory)


def _write_roots(staging: Path, roots: Mapping[int, bytes]) -> None:
    """They vouch for themselves, so no statement lists them."""
    if not roots:
        return
    directory = staging / ROOTS_DIRECTORY
    with host_errors(directory):
        directory.mkdir()
        for version, data in roots.items():
            _write(directory / root_name(version), data)
        fsync_directory(directory)


@contextmanager
def _staging(destination: Path) -> Iterator[Path]:
    """A directory beside the destination; gone when the work fails, cleared when a kill left one."""
    staging = destination.with_name(f".{destination.name}.building")
    with host_errors(staging):
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        (staging / "blobs" / "sha256").mkdir(parents=True)
        (staging / VERIFY_DIRECTORY).mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _lay_out(
    contents: _Contents, staging: Path, context: Context
) -> tuple[dict[Sha256, Path], dict[Sha256, int]]:
    """Write oci-layout, index.json and every blob that travels.

    Returns where the bytes of each blob lie, in the store for one that does not travel, and its promised
    size.
    """
    lock_sha256 = lock_digest(contents.lock_bytes)
    sizes = {digest: file.size for digest, file in distinct_files(contents.lock.artifacts).items()}
    travelling = [digest for digest in sizes if digest not in contents.absent]
    _require_space(staging, 0 if _can_link(context, staging) else sum(sizes[d] for d in travelling))
    with host_errors(staging):
        for digest in travelling:
            _place(context.store.path(digest), staging / blob_path(digest))
    documents = {lock_sha256: contents.lock_bytes}
    for bundled in contents.packed:
        documents |= bundled.documents
    for digest, data in documents.items():
        if digest not in sizes:
            _write(staging / blob_path(digest), data)
            sizes[digest] = len(data)
    _write(staging / LAYOUT_FILE, OCI_LAYOUT)
    _write(staging / INDEX_FILE, render_index(contents.packed, lock_sha256))
    places = {digest: staging / blob_path(digest) for digest in sizes}
    return places | {digest: context.store.path(digest) for digest in contents.absent}, sizes


def _place(source: Path, destination: Path) -> None:
    """Link where the file system allows (nothing is written), else copy durably."""
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, destination)
        destination.chmod(FILE_MODE)
        with open(destination, "rb") as copy:
            os.fsync(copy.fileno())


def _read_back(
    places: Mapping[Sha256, Path], sizes: Mapping[Sha256, int], progress: Progress
) -> dict[Sha256, StatedBlob]:
    """Hash what lies on disk, once, with both algorithms. Raises IntegrityError naming each wrong blob."""

    def measure(digest: Sha256, stop: Event) -> tuple[Sha256, StatedBlob]:
        return _measure(places[digest], progress, stop)

    largest_first = sorted(sizes, key=lambda digest: (-sizes[digest], digest))
    with progress.task("reading back", sum(sizes.values())):
        found = spread(measure, largest_first, cores())
    measured = dict(zip(largest_first, found, strict=True))
    wrong = [
        f"blob {digest}: found sha256 {actual} and {blob.size} bytes, expected {sizes[digest]} bytes"
        for digest, (actual, blob) in measured.items()
        if (actual, blob.size) != (digest, sizes[digest])
    ]
    if wrong:
        raise IntegrityError(
            "\n  ".join(("what was written is not what was locked", *sorted(wrong))),
            remedy="the disk or the store is damaged: delete these blobs from the store and build again",
        )
    return {digest: measured[digest][1] for digest in sizes}


def _measure(path: Path, progress: Progress, stop: Event) -> tuple[Sha256, StatedBlob]:
    """Both digests over one buffer; cut short, and not used, once `stop` is set."""
    sha256, sha384 = hashlib.sha256(), hashlib.sha384()
    size = 0
    buffer = memoryview(bytearray(CHUNK))
    with host_errors(path), open(path, "rb", buffering=0) as stream:
        while not stop.is_set() and (count := stream.readinto(buffer)):
            sha256.update(buffer[:count])
            sha384.update(buffer[:count])
            size += count
            progress.advance(count)
    return Sha256(sha256.hexdigest()), StatedBlob(Sha384(sha384.hexdigest()), size)


def _state(
    contents: _Contents,
    blobs: Mapping[Sha256, StatedBlob],
    edition: Edition,
    previous: Previous | None,
    *,
    index: Subject,
    sums: Subject,
) -> Statement:
    """Everything that will be signed, in one value."""
    lock = contents.lock
    return Statement(
        name=lock.name,
        version=lock.version,
        channel=lock.channel,
        epoch=edition.number.epoch,
        sequence=edition.number.sequence,
        previous=previous,
        created_at=edition.created_at,
        expires_at=edition.expires_at,
        target=lock.target,
        lock=lock_digest(contents.lock_bytes),
        artifacts=tuple(
            StatedArtifact(b.artifact.kind, b.artifact.name, b.media_type, b.digest, b.size)
            for b in contents.packed
        ),
        blobs=blobs,
        index=index,
        sums=sums,
        audience=lock.audience,
        base=contents.base,
    )


def _subject(data: bytes) -> Subject:
    return Subject(digest_of(data), _digest(data))


def _digest(data: bytes) -> Sha384:
    return Sha384(hashlib.sha384(data).hexdigest())


def _read(path: Path) -> bytes:
    with host_errors(path):
        return path.read_bytes()


def _sign(payload: bytes, signers: Sequence[Signer]) -> bytes:
    signatures = [signature for signer in signers for signature in sign(payload, PAYLOAD_TYPE, signer)]
    return render_envelope(payload, PAYLOAD_TYPE, signatures)


def _publish(staging: Path, destination: Path) -> None:
    """Make the bundle durable, then give it its name; what had the name before is removed last."""
    with host_errors(destination):
        for directory in (staging / "blobs" / "sha256", staging / "blobs", staging):
            fsync_directory(directory)
        old = destination.with_name(f".{destination.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if destination.exists():
            os.rename(destination, old)
        os.rename(staging, destination)
        fsync_directory(destination.parent)
        shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with host_errors(path), open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _can_link(context: Context, staging: Path) -> bool:
    return context.store.root.stat().st_dev == staging.stat().st_dev


def _require_space(directory: Path, wanted: int) -> None:
    """Refuse up front what cannot fit. Raises HostError."""
    free = shutil.disk_usage(directory).free
    if wanted > free:
        raise HostError(
            f"{directory}: {shortage(wanted, free)}",
            remedy="free space there, or set AIRGAP_CACHE and --out to file systems with room",
        )
