"""A site: the directory on the isolated side that bundles are installed into, one generation at a time.

    blobs/sha256/<hex>    every installed byte once; with oci-layout and index.json an OCI image layout
    generations/<n>/      one complete state: hard links into the blobs, site.json, receipt.json, SHA384SUMS
    current               -> generations/<n>
    receipts/<n>.json     what each change did; outlives its generation
    records/              records of smoke runs that bundles brought; they vouch for themselves
    staging/<random>/     what is not whole yet
    arrivals/<sha384>/    what has arrived of a bundle that comes in volumes
    trust/                the pinned root, the floors
    lock                  held by whoever changes the site

Ordering invariants. A blob gets its name after its bytes were hashed and fsynced. A generation gets
its number after every link and directory in it was fsynced. `current` changes last, by rename. So
whatever else lies in staging, or is a generation that never became current, may be deleted: `recover`
does, at the start of every change.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airgap.decode import MAX_DOCUMENT, read_capped
from airgap.errors import HostError, InputError, IntegrityError
from airgap.isolated.record import Receipt, SiteRecord, parse_receipt, parse_record, render_receipt
from airgap.layout import INDEX_FILE, LAYOUT_FILE, OCI_LAYOUT, RECORD_NAME, RECORDS_DIRECTORY
from airgap.media import shown
from airgap.progress import Progress, Silent
from airgap.store import FILE_MODE, Store, emptiness, fsync_directory, host_errors, write_durably

DIRECTORY_MODE = 0o755
RECORD_FILE = "site.json"
RECEIPT_FILE = "receipt.json"
SUMS_FILE = "SHA384SUMS"
LOCK_FILE = "lock"
PENDING_FILE = "rollback.json"
"""The receipt of a rollback whose switch may not have happened yet."""

POLL = 0.2
GLANCE = 0.5
"""Seconds that are always waited: `busy` holds the lock for an instant, too."""
"""Seconds between two attempts to take the lock."""


class Site:
    """Paths and state of one site. `root` may be reached through links; inside, nothing is followed."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.store = Store(self.root)
        self.blobs = self.root / "blobs" / "sha256"
        self.generations = self.root / "generations"
        self.receipts = self.root / "receipts"
        self.records = self.root / RECORDS_DIRECTORY
        self.staging = self.root / "staging"
        self.arrivals = self.root / "arrivals"
        self.trust = self.root / "trust"

    def prepare(self) -> None:
        """Create what every site has, whatever the umask; the caller holds the lock. Raises HostError."""
        for directory in (self.root, self.blobs, self.generations, self.receipts, self.trust):
            make_directory(directory)
        with host_errors(self.staging):
            self.staging.mkdir(mode=0o700, exist_ok=True)
        self._require_links()
        layout = self.root / LAYOUT_FILE
        if not layout.exists():
            write_durably(layout, OCI_LAYOUT)
        point(self.root / INDEX_FILE, f"current/{INDEX_FILE}")

    def _require_links(self) -> None:
        """Raise HostError where a generation could not be built: FAT and exFAT have no links."""
        with self.stage() as directory, host_errors(directory):
            (directory / "file").touch()
            try:
                os.link(directory / "file", directory / "hard")
                os.symlink("file", directory / "symbolic")
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                raise HostError(
                    f"{self.root}: expected a file system with hard and symbolic links, found none",
                    remedy="choose a place on ext4, xfs or btrfs; a site cannot live on FAT or exFAT",
                ) from None

    def generation(self, number: int) -> Path:
        return self.generations / str(number)

    def receipt(self, number: int) -> Path:
        return self.receipts / f"{number}.json"

    def current(self) -> int | None:
        """The number of the generation in force; None before the first install.

        Raises IntegrityError when `current` is not a link to a generation that is here.
        """
        link = self.root / "current"
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            return None
        except OSError:
            target = ""
        match = re.fullmatch(r"generations/([1-9][0-9]*)", target)
        if match is None or not self.generation(int(match[1])).is_dir():
            raise IntegrityError(
                f"{link}: expected a link to a generation, found {target or 'something else'!r}",
                remedy=f"see {self.generations} and point it at the newest whole one",
            )
        return int(match[1])

    def record(self, number: int | None = None) -> SiteRecord:
        """What is installed in a generation, the current one unless `number` says otherwise.

        Raises IntegrityError when its record is damaged or gone.
        """
        number = number or self.current()
        if number is None:
            return SiteRecord(())
        path = self.generation(number) / RECORD_FILE
        try:
            return parse_record(read_capped(path, max_bytes=MAX_DOCUMENT), str(path))
        except InputError as error:
            raise IntegrityError(
                error.message, remedy="install a bundle again, or roll back to a whole generation"
            ) from None

    def numbers(self) -> list[int]:
        """Every generation that is here, the oldest first."""
        return sorted(_numbers(self.generations, ""))

    def made_by(self, number: int) -> Receipt | None:
        """The receipt of what made a generation; None when it is damaged or gone."""
        try:
            return read_receipt(self.generation(number) / RECEIPT_FILE)
        except InputError:
            return None

    def last_receipt(self) -> Receipt | None:
        """Of the last change of the site. Raises IntegrityError when it is damaged."""
        files = self.receipt_files()
        try:
            return read_receipt(files[-1]) if files else None
        except InputError as error:
            raise IntegrityError(error.message, remedy="restore the receipts from a backup") from None

    def receipt_files(self) -> list[Path]:
        """Every receipt, oldest first."""
        return [self.receipt(number) for number in sorted(_numbers(self.receipts, ".json"))]

    def record_files(self) -> list[Path]:
        """The record of every generation that became current."""
        numbers = [n for n in sorted(_numbers(self.generations, "")) if self.receipt(n).exists()]
        return [self.generation(number) / RECORD_FILE for number in numbers]

    def ever_installed(self) -> bool:
        """Whether anything was ever activated here; receipts outlive generations."""
        return bool(_numbers(self.receipts, ".json")) or os.path.lexists(self.root / "current")

    def require_installed(self) -> None:
        """Raise InputError where nothing is, saying what the directory looks like; and as `record` does."""
        if self.record().bundles:
            return
        absent, install = emptiness(self.root), f"airgap install BUNDLE --site {shown(str(self.root))}"
        raise InputError(
            f"{self.root}: nothing is installed", remedy=f"{absent}; else: {install}" if absent else install
        )

    def next_number(self) -> int:
        """One above every number that was ever given, so that no two receipts share one."""
        numbers = [*_numbers(self.generations, ""), *_numbers(self.receipts, ".json")]
        return max(numbers, default=0) + 1

    def recover(self) -> Receipt | None:
        """Finish or remove what a killed run left; the caller holds the lock. Raises HostError.

        Returns the receipt of a rollback that had switched and was killed before it could say so.
        """
        current = self.current()
        with host_errors(self.root):
            for leftover in self.leftovers():
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
        if current is not None:
            self.write_receipt(current)
        return self._finish_rollback(current)

    def leftovers(self) -> list[Path]:
        """What a killed run left that no generation needs, blobs aside. Raises HostError.

        Staging is for the eyes of whoever installs: another user may read the rest of a site.
        """
        with host_errors(self.staging):
            staged = list(self.staging.iterdir()) if self.staging.is_dir() else []
        current = self.current() or 0
        places = [place for place in (self.root, self.trust, self.receipts, self.records) if place.is_dir()]
        never_current = [
            self.generation(number)
            for number in self.numbers()
            if number > current and not self.receipt(number).exists()
        ]
        return [
            *staged,
            *self.generations.glob("*.tmp"),
            *(path for place in places for path in _half(place)),
            *never_current,
        ]

    def switch_back(self, receipt: Receipt) -> None:
        """Make an older (or again a newer) generation the current one, with its receipt. Raises HostError.

        The receipt is durable before the switch and gets its number after it, so that a run which finds
        it there knows whether the switch happened.
        """
        write_durably(self.receipts / PENDING_FILE, render_receipt(receipt))
        self.activate(receipt.generation)
        self._publish_pending()

    def _finish_rollback(self, current: int | None) -> Receipt | None:
        pending = self.receipts / PENDING_FILE
        if not pending.exists():
            return None
        with host_errors(pending):
            receipt = read_receipt(pending)
            if receipt.generation != current:
                pending.unlink()
                return None
        self._publish_pending()
        return receipt

    def _publish_pending(self) -> None:
        pending = self.receipts / PENDING_FILE
        with host_errors(pending):
            os.rename(pending, self.receipt(self.next_number()))
            fsync_directory(self.receipts)

    def write_receipt(self, number: int) -> None:
        """Publish the receipt that a generation carries, unless it is published already. Raises HostError."""
        receipt = self.receipt(number)
        if not receipt.exists():
            carried = self.generation(number) / RECEIPT_FILE
            write_durably(receipt, read_capped(carried, max_bytes=MAX_DOCUMENT))

    def activate(self, number: int) -> None:
        """Make a whole generation the current one, in one rename. Raises HostError."""
        point(self.root / "current", f"generations/{number}")

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A private directory on the site's file system, gone afterwards. Raises HostError."""
        directory = self.staging / secrets.token_hex(8)
        with host_errors(directory):
            directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def locked(self, asked: str, *, wait: float = 0, progress: Progress | None = None) -> Iterator[None]:
        """Hold the site against every other change (flock, released by the kernel when a holder dies).

        Waits up to `wait` seconds for another holder, then raises HostError naming the process that
        holds it and what it was asked.
        """
        make_directory(self.root)
        path = self.root / LOCK_FILE
        with host_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            with host_errors(path):
                self._take(descriptor, wait, progress or Silent())
                os.ftruncate(descriptor, 0)
                os.write(
                    descriptor, f"process {os.getpid()} on {os.uname().nodename}: {asked}\n".encode()[:1000]
                )
            yield
        finally:
            os.close(descriptor)

    def busy(self) -> str:
        """Who is changing the site right now; '' when nobody is. Raises HostError."""
        path = self.root / LOCK_FILE
        with host_errors(path):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return ""
            try:
                return "" if _try_lock(descriptor, fcntl.LOCK_SH) else _holder(descriptor)
            finally:
                os.close(descriptor)

    def _take(self, descriptor: int, wait: float, progress: Progress) -> None:
        deadline = time.monotonic() + max(wait, GLANCE)
        told = ""
        while not _try_lock(descriptor):
            holder = _holder(descriptor)
            if time.monotonic() >= deadline:
                raise HostError(
                    f"{self.root}: being changed by {holder}",
                    remedy="wait until it has ended, then repeat; --wait SECONDS waits for it",
                )
            if wait and holder != told:
                progress.note(f"waiting for {holder}")
                told = holder
            time.sleep(POLL)


def _try_lock(descriptor: int, mode: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"


def read_receipt(path: Path) -> Receipt:
    """Raises InputError when it is damaged or gone."""
    return parse_receipt(read_capped(path, max_bytes=MAX_DOCUMENT), str(path))


def _half(directory: Path) -> Iterator[Path]:
    """What `write_durably` and `point` left under a temporary name."""
    document = rf"{LAYOUT_FILE}|[a-z]+\.json|[0-9]+(\.root)?\.json|{RECORD_NAME.pattern}"
    ours = rf"\.([0-9a-f]+\.link|({document})\.[0-9]+)"
    return (path for path in directory.iterdir() if re.fullmatch(ours, path.name))


def make_directory(path: Path) -> None:
    """Create a directory and its parents with mode 0755, whatever the umask. Raises HostError."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with host_errors(path):
        path.mkdir(exist_ok=True)
        path.chmod(DIRECTORY_MODE)


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, replacing an older one by rename. Raises HostError."""
    with host_errors(link):
        if link.is_symlink() and os.readlink(link) == target:
            return
        temporary = link.with_name(f".{secrets.token_hex(8)}.link")
        os.symlink(target, temporary)
        os.replace(temporary, link)
        fsync_directory(link.parent)


def _numbers(directory: Path, suffix: str) -> list[int]:
    names = os.listdir(directory) if directory.is_dir() else []
    found = [re.fullmatch(rf"([1-9][0-9]*){re.escape(suffix)}", name) for name in names]
    return [int(match[1]) for match in found if match]
