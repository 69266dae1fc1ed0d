"""A file on its way into the store: locked, hashed as it comes, and continued by a later run.

`partial/<key>.part` holds the bytes so far, `partial/<key>.json` what the server called them.
Ordering invariant: the validators are in place before the first byte they vouch for.
"""

import email.utils
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from airgap.decode import Fields, canonical_json, read_capped, read_document
from airgap.errors import InputError
from airgap.model import Sha256
from airgap.store import CHUNK, host_errors

_STRONG_ETAG = r'"[\x21\x23-\x7e]*"'
"""RFC 9110 §8.8.3, ASCII only; `W/` marks a weak one, which If-Range forbids (§13.1.5)."""

_HTTP_DATE = r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
"""IMF-fixdate, RFC 9110 §5.6.7."""

_MAX_SIDECAR = 16 * 1024
_POLL = 0.2
"""Seconds between two tries for a lock that another process holds."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What makes the bytes of two answers the same representation; each '' when unknown.

    `boot` is the boot of this machine in which the bytes were written: a power cut can lose bytes
    and keep the length of the file, and without an expected digest nothing would notice.
    """

    etag: str = ""
    last_modified: str = ""
    boot: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Validators":
        """From an answer's headers (lower-case names). Weak ones are left out."""
        etag = headers.get("etag", "")
        modified = headers.get("last-modified", "")
        strong = re.fullmatch(_HTTP_DATE, modified) and _settled(modified, headers.get("date", ""))
        return cls(etag if re.fullmatch(_STRONG_ETAG, etag) else "", modified if strong else "", _boot())

    @property
    def if_range(self) -> str:
        return self.etag or self.last_modified


def _settled(modified: str, date: str) -> bool:
    """Whether Last-Modified is a strong validator: a second or more older than Date (RFC 9110 §8.8.2.2)."""
    try:
        return email.utils.parsedate_to_datetime(modified) < email.utils.parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return False


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read_validators(fields: Fields) -> Validators:
    return Validators(
        fields.text("etag", pattern=rf"(?:{_STRONG_ETAG})?", expected="a strong ETag"),
        fields.text("last_modified", pattern=rf"(?:{_HTTP_DATE})?", expected="an HTTP date"),
        fields.text("boot", pattern=r"[0-9a-f-]{0,36}", expected="a boot id"),
    )


class Partial:
    """The bytes so far, under an exclusive lock; `open_partial` makes one.

    `size` bytes are written and hashed. `stitched` says that they came in more than one answer.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = 0
        self.stitched = False
        self.validators = Validators()
        self._sidecar = path.with_suffix(".json")
        self._descriptor = descriptor
        self._hasher = hashlib.sha256()

    @property
    def sha256(self) -> Sha256:
        return Sha256(self._hasher.hexdigest())

    def recover(self, *, digest_known: bool, watch: Callable[[int], None]) -> None:
        """Hash what an earlier run left, telling `watch` of each chunk; what cannot be continued is dropped.

        Raises HostError.
        """
        try:
            data = read_capped(self._sidecar, max_bytes=_MAX_SIDECAR)
            self.validators = read_document(data, str(self._sidecar), _read_validators)
        except InputError:
            return self.restart()
        unbroken = self.validators.if_range and self.validators.boot and self.validators.boot == _boot()
        if not (digest_known or unbroken):
            return self.restart()
        with host_errors(self.path):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while chunk := os.read(self._descriptor, CHUNK):
                self._hasher.update(chunk)
                self.size += len(chunk)
                watch(len(chunk))
        self.stitched = self.size > 0
        return None

    def begin(self, validators: Validators) -> None:
        """Another answer follows: remember what it was called before any byte of it. Raises HostError."""
        self.stitched = self.size > 0
        self.validators = validators
        fresh = self._sidecar.with_suffix(".new")
        with host_errors(self._sidecar):
            fresh.write_bytes(canonical_json(asdict(validators)))
            os.replace(fresh, self._sidecar)

    def write(self, data: bytes) -> None:
        """Append and hash. Raises HostError; a later run finds whatever was written before it."""
        self._hasher.update(data)
        view = memoryview(data)
        with host_errors(self.path):
            while view:
                view = view[os.write(self._descriptor, view) :]
        self.size += len(data)

    def restart(self) -> None:
        """Drop every byte. Raises HostError."""
        with host_errors(self.path):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size = 0
        self.stitched = False
        self.validators = Validators()
        self._hasher = hashlib.sha256()

    def discard(self) -> None:
        """Remove the bytes and the sidecar. Raises HostError."""
        with host_errors(self.path):
            self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Remove the sidecar of bytes that are whole and named. Raises HostError."""
        with host_errors(self._sidecar):
            self._sidecar.unlink(missing_ok=True)


@contextmanager
def open_partial(directory: Path, key: str, pause: Callable[[float], None]) -> Iterator[Partial]:
    """The partial named `key`, ours alone while the context lasts.

    While another process or thread holds it, `pause(seconds)` is called between tries and may raise.
    Raises HostError.
    """
    path = directory / f"{key}.part"
    while (descriptor := _try_lock(path)) is None:
        pause(_POLL)
    try:
        yield Partial(path, descriptor)
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    with host_errors(path):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may have renamed it into the store or removed it: then ours is not it.
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None
