"""The one HTTP engine of the connected side: several files at once, each byte fetched and written once.

A download goes through `partial/` under a name made from its expected sha256 (else from its URL),
is hashed as it comes and gets its own name in the store only when it is what was asked for. Whatever
stops it, the next run continues there.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial as bound
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from airgap.connected.http import (
    Client,
    HttpRefusal,
    Patience,
    Transient,
    lower_headers,
    public_url,
    refusal,
    shown_url,
)
from airgap.connected.local import open_local
from airgap.connected.partial import Partial, Validators, open_partial
from airgap.errors import HostError, IntegrityError, SourceError
from airgap.model import Sha256
from airgap.progress import Progress
from airgap.store import CHUNK, Blob, Store
from airgap.units import shortage
from airgap.workers import Stopped, run_all

__all__ = ["Download", "HttpRefusal", "Reply", "TooLarge", "Transfer", "public_url", "shown_url"]


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes wanted into the store. `label` is what a person calls them; `sha256` and `size` if known.

    `url` is http, https or file. `headers` are sent to its origin; of `auth` and of headers that could
    be secrets nothing follows a redirect to another origin.
    """

    url: str
    label: str
    sha256: Sha256 | None = None
    size: int | None = None
    auth: AuthBase | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How errors and notes name it."""
        return f"{self.label}: {shown_url(self.url)}"

    @property
    def key(self) -> str:
        """What its partial file is named by; equal keys are one download."""
        return self.sha256 or f"url-{hashlib.sha256(public_url(self.url).encode()).hexdigest()}"


class TooLarge(SourceError):
    """The server answered with more bytes than such a document may have."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A small document fetched whole: its final URL, status, headers (lower-case names) and bytes.

    After a redirect `url` may hold a signature: say `shown_url(url)` to people.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Transfer:
    """Fetches over HTTP(S) into `store`, several files at once; safe to share between threads.

    `retries` is how often in a row a download may fail before a MiB has come; `first_wait` (seconds)
    is the first pause between two tries, doubled for each that follows.
    """

    def __init__(
        self, store: Store, progress: Progress, *, jobs: int = 4, retries: int = 5, first_wait: float = 0.5
    ) -> None:
        self._store = store
        self._progress = progress
        self._jobs = jobs
        self._retries = retries
        self._first_wait = first_wait
        self._client = Client(connections=max(jobs, 4))

    def fetch(self, downloads: Sequence[Download]) -> list[Blob]:
        """Fetch all, in the order asked for; progress advances by bytes, the caller opens the task.

        What the store holds already is neither fetched nor counted, one digest is fetched once. The
        first failure stops the rest: SourceError (HttpRefusal with its status), IntegrityError or
        HostError. What was complete stays in the store, what was not continues in the next run.
        """
        self._store.prepare()
        wanted = {download.key: download for download in reversed(downloads)}
        self._check_space(list(wanted.values()))
        stop = Event()
        works = [bound(self._bring, download, stop) for download in wanted.values()]
        blobs = dict(zip(wanted, run_all(works, self._jobs, stop), strict=True))
        for download in downloads:
            if download.size not in (None, blobs[download.key].size):
                raise _wrong_bytes(download, blobs[download.key])
        return [blobs[download.key] for download in downloads]

    def get(
        self,
        url: str,
        *,
        what: str,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        auth: AuthBase | None = None,
        allow: Sequence[int] = (200,),
        method: str = "GET",
        body: bytes = b"",
    ) -> Reply:
        """A small document; a status outside `allow` is a SourceError, after retries where they help.

        `what` names it in errors; `body` goes with a POST. Raises HttpRefusal, TooLarge (more than
        `max_bytes`), SourceError or HostError.
        """
        where = f"{what}: {shown_url(url)}"
        if urlsplit(url).scheme == "file":
            return _read_local(url, where, max_bytes)
        patience = Patience(self._retries, self._first_wait)
        while True:
            try:
                request = requests.Request(method, url, dict(headers or {}), data=body, auth=auth)
                with self._client.open(request, where) as response:
                    if response.status_code not in allow:
                        raise refusal(response, where)
                    found = b"" if method == "HEAD" else _whole(response, where, max_bytes)
                    return Reply(response.url, response.status_code, lower_headers(response), found)
            except Transient as error:
                time.sleep(self._announced(patience.seconds(error), error))

    def outstanding(self, download: Download) -> int:
        """Bytes that fetching it would take, as far as is known: less those that an earlier run has left."""
        if download.size is None or self._held(download) is not None:
            return 0
        return max(0, download.size - _size_of(self._store.partial / f"{download.key}.part"))

    def _check_space(self, downloads: Sequence[Download]) -> None:
        """Refuse before the first byte what is known not to fit."""
        needed = sum(map(self.outstanding, downloads))
        free = shutil.disk_usage(self._store.partial).free
        if needed > free:
            raise _no_space(self._store.root, shortage(needed, free))

    def _held(self, download: Download) -> Blob | None:
        if download.sha256 is None or not self._store.holds(download.sha256, download.size):
            return None
        return Blob(download.sha256, _size_of(self._store.path(download.sha256)))

    def _bring(self, download: Download, stop: Event) -> Blob:
        """One download, from whatever an earlier run left to a blob in the store."""
        if held := self._held(download):
            return held
        with open_partial(self._store.partial, download.key, bound(_pause, stop)) as partial:
            if held := self._held(download):  # another process was quicker
                partial.discard()
                self._progress.advance(held.size)
                return held
            partial.recover(digest_known=download.sha256 is not None, watch=bound(self._watch, stop))
            with self._space_reported(download, partial):
                blob = self._complete(download, partial, stop)
            self._store.adopt(partial.path, blob.sha256)
            partial.forget()
            return blob

    def _complete(self, download: Download, partial: Partial, stop: Event) -> Blob:
        """Fill `partial` until it is what was asked for; bytes that are not are removed."""
        self._fill(download, partial, stop)
        if partial.stitched and not _right(download, partial):
            self._progress.note(f"{download.label}: what was continued is not whole; fetching it anew")
            self._start_over(partial)
            self._fill(download, partial, stop)
        blob = Blob(partial.sha256, partial.size)
        if not _right(download, partial):
            partial.discard()
            raise _wrong_bytes(download, blob)
        return blob

    def _fill(self, download: Download, partial: Partial, stop: Event) -> None:
        """Receive until the source has no more to give, trying again while there is patience."""
        patience = Patience(self._retries, self._first_wait)
        while not _enough(download, partial):
            before = partial.size
            try:
                if urlsplit(download.url).scheme == "file":
                    return self._copy(download, partial, stop)
                return self._receive(download, partial, stop)
            except Transient as error:
                if partial.size - before >= CHUNK:
                    patience = Patience(self._retries, self._first_wait)
                _pause(stop, self._announced(patience.seconds(error), error))
        return None

    def _receive(self, download: Download, partial: Partial, stop: Event) -> None:
        """One request: all of it, or the rest of it. Raises Transient when there is more to come."""
        headers = {**download.headers, **_range(partial)}
        request = requests.Request("GET", download.url, headers, auth=download.auth)
        with self._client.open(request, download.where) as response:
            answer = lower_headers(response)
            if response.status_code == 416 and partial.size:
                if answer.get("content-range") == f"bytes */{partial.size}":
                    return
                self._start_over(partial)
                raise Transient(f"{download.where}: has changed since it was begun", after=0.0)
            if response.status_code not in (200, 206):
                raise refusal(response, download.where)
            total = self._align(download, partial, response.status_code, answer)
            partial.begin(Validators.of(answer))
            self._append(download, partial, stop, bound(response.raw.read1, CHUNK, decode_content=False))
        open_ended = "content-length" not in answer and "chunked" not in answer.get("transfer-encoding", "")
        expected = total if total is not None else download.size if open_ended else None
        if expected is not None and partial.size < expected:
            raise Transient(f"{download.where}: the connection ended {expected - partial.size} bytes early")

    def _align(
        self, download: Download, partial: Partial, status: int, answer: Mapping[str, str]
    ) -> int | None:
        """Make `partial` end where the answer begins. The complete size when a 206 says it."""
        if status == 200:
            self._start_over(partial)
            return None
        found = re.fullmatch(
            r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", answer.get("content-range", "")
        )
        known, offered = partial.validators.etag, Validators.of(answer).etag
        if found and int(found[1]) == partial.size > 0 and (not known or not offered or known == offered):
            return None if found[2] == "*" else int(found[2])
        asked = partial.size
        self._start_over(partial)
        message = f"{download.where}: asked for the bytes from {asked} on, the server answered with others"
        if asked:
            raise Transient(message, after=0.0)
        raise SourceError(message, remedy="ask who runs that server: it breaks RFC 9110 §14")

    def _copy(self, download: Download, partial: Partial, stop: Event) -> None:
        """A `file:` URL: the rest of it."""
        with open_local(download.url, download.where) as stream:
            stream.seek(partial.size)
            partial.begin(Validators())
            self._append(download, partial, stop, bound(stream.read, CHUNK))

    def _append(self, download: Download, partial: Partial, stop: Event, read: Callable[[], bytes]) -> None:
        """Write what `read` gives, to its end or to one byte more than was asked for."""
        while chunk := read():
            if stop.is_set():
                raise Stopped
            if download.size is not None:
                chunk = chunk[: download.size + 1 - partial.size]
            partial.write(chunk)
            self._progress.advance(len(chunk))
            if download.size is not None and partial.size > download.size:
                return

    def _watch(self, stop: Event, count: int) -> None:
        if stop.is_set():
            raise Stopped
        self._progress.advance(count)

    def _announced(self, seconds: float, error: Transient) -> float:
        self._progress.note(f"{error.message}; trying again in {seconds:.1f} s")
        return seconds

    def _start_over(self, partial: Partial) -> None:
        self._progress.advance(-partial.size)
        partial.restart()

    @contextmanager
    def _space_reported(self, download: Download, partial: Partial) -> Iterator[None]:
        """Say of a full disk how much is missing."""
        try:
            yield
        except HostError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            more = f"{download.size - partial.size} more bytes" if download.size else "more space"
            reason = f"{download.where}: {partial.size} bytes are written, {more} needed"
            raise _no_space(self._store.root, reason) from cause


def _pause(stop: Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise Stopped


def _range(partial: Partial) -> dict[str, str]:
    """Ask for the rest, and for all of it where it has changed (RFC 9110 §13.1.5, §14.2)."""
    if not partial.size:
        return {}
    headers = {"Range": f"bytes={partial.size}-"}
    if partial.validators.if_range:
        headers["If-Range"] = partial.validators.if_range
    return headers


def _enough(download: Download, partial: Partial) -> bool:
    """Whether nothing more need be asked for: all bytes are there, or already too many."""
    if download.size is not None:
        return 0 < download.size <= partial.size
    return partial.size > 0 and partial.sha256 == download.sha256


def _right(download: Download, partial: Partial) -> bool:
    return download.size in (None, partial.size) and download.sha256 in (None, partial.sha256)


def _wrong_bytes(download: Download, found: Blob) -> IntegrityError:
    over = download.size is not None and found.size > download.size
    size = f"more than {download.size} bytes" if over else f"{found.size} bytes"
    actual = size if over else f"sha256 {found.sha256} and {size}"
    expected = [f"sha256 {download.sha256}"] if download.sha256 else []
    expected += [f"{download.size} bytes"] if download.size is not None else []
    return IntegrityError(
        f"{download.where}: expected {' and '.join(expected)}; found {actual}",
        remedy="the source changed or was tampered with: compare with its publisher, then lock again",
    )


def _no_space(root: Path, reason: str) -> HostError:
    return HostError(
        f"{root}: no space left: {reason}",
        remedy="free space there, or set AIRGAP_CACHE to a larger disk; what has arrived is kept",
    )


def _whole(response: requests.Response, where: str, max_bytes: int) -> bytes:
    body = bytearray()
    announced = response.headers.get("content-length", "")
    too_large = announced.isdecimal() and int(announced[:19]) > max_bytes
    while not too_large and (chunk := response.raw.read(CHUNK, decode_content=True)):
        body += chunk
        too_large = len(body) > max_bytes
    if too_large:
        raise TooLarge(f"{where}: larger than {max_bytes} bytes, which no such document is")
    return bytes(body)


def _read_local(url: str, where: str, max_bytes: int) -> Reply:
    with open_local(url, where) as stream:
        body = stream.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise SourceError(f"{where}: larger than {max_bytes} bytes, which no such document is")
    return Reply(url, 200, {}, body)


def _size_of(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
