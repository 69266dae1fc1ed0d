"""A site: the directory on the isolated side that bundles are installed into, one generation at a time.

    blobs/sha256/<hex>    every installed byte once; with oci-layout and index.json an OCI image layout
    generations/<n>/      one complete state: hard links into the blobs, site.json, receipt.json
    current               -> generations/<n>
    receipts/<n>.json     what each install changed; outlives its generation
    staging/<random>/     what is not whole yet
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airgap.decode import MAX_DOCUMENT, read_capped
from airgap.errors import HostError, IntegrityError
from airgap.isolated.record import SiteRecord, parse_record
from airgap.layout import INDEX_FILE, LAYOUT_FILE, OCI_LAYOUT
from airgap.store import FILE_MODE, Store, fsync_directory, host_errors, write_durably

DIRECTORY_MODE = 0o755
RECORD_FILE = "site.json"
RECEIPT_FILE = "receipt.json"


class Site:
    """Paths and state of one site. `root` may be reached through links; inside, nothing is followed."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.store = Store(self.root)
        self.blobs = self.root / "blobs" / "sha256"
        self.generations = self.root / "generations"
        self.receipts = self.root / "receipts"
        self.staging = self.root / "staging"
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

    def record(self) -> SiteRecord:
        """What is installed now. Raises IntegrityError or InputError when the record is damaged."""
        number = self.current()
        if number is None:
            return SiteRecord(())
        path = self.generation(number) / RECORD_FILE
        return parse_record(read_capped(path, max_bytes=MAX_DOCUMENT), str(path))

    def ever_installed(self) -> bool:
        """Whether anything was ever activated here; receipts outlive generations."""
        return bool(_numbers(self.receipts, ".json")) or os.path.lexists(self.root / "current")

    def next_number(self) -> int:
        """One above every number that was ever given, so that no two receipts share one."""
        numbers = [*_numbers(self.generations, ""), *_numbers(self.receipts, ".json")]
        return max(numbers, default=0) + 1

    def recover(self) -> None:
        """Finish or remove what a killed run left; the caller holds the lock. Raises HostError."""
        current = self.current()
        with host_errors(self.root):
            for leftover in (*self.staging.iterdir(), *self.generations.glob("*.tmp")):
                shutil.rmtree(leftover)
            for leftover in (
                path for place in (self.root, self.trust, self.receipts) for path in _half(place)
            ):
                leftover.unlink()
            for number in _numbers(self.generations, ""):
                if number > (current or 0) and not self.receipt(number).exists():
                    shutil.rmtree(self.generation(number))
        if current is not None:
            self.write_receipt(current)

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
    def locked(self, asked: str) -> Iterator[None]:
        """Hold the site against every other installer (flock, released by the kernel when a holder dies).

        Raises HostError naming the process that holds it and what it was asked.
        """
        make_directory(self.root)
        path = self.root / "lock"
        with host_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            with host_errors(path):
                self._take(descriptor, asked)
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, asked: str) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip() or "another process"
            raise HostError(
                f"{self.root}: being changed by {holder}", remedy="wait until it has ended, then repeat"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}: {asked}\n".encode()[:1000])


def _half(directory: Path) -> Iterator[Path]:
    """What `write_durably` and `point` left under a temporary name; a root being pinned is not ours."""
    ours = rf"\.([0-9a-f]+\.link|({LAYOUT_FILE}|accepted\.json|[0-9]+\.json)\.[0-9]+)"
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
