"""Files on servers, read at an offset by range requests (RFC 9110 §14) before anybody has fetched them."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from urllib.parse import urlsplit, urlunsplit

from requests.auth import AuthBase

from airgap.connected.kept import Kept
from airgap.connected.transfer import HttpRefusal, Reply, TooLarge, Transfer, shown_url
from airgap.errors import IntegrityError, SourceError
from airgap.model import Sha256
from airgap.readers.source import inside

BLOCK = 16 * 1024
"""Bytes that are fetched at least: a request costs as much time as some of these."""

TAIL = 64 * 1024
"""Bytes of the end that the first request brings where the size is not known: a zip's directory is there."""

CACHE = 32 * 1024 * 1024
"""Bytes that are kept; more than the members that any rule reads of one wheel."""

MAX_REQUEST = 8 * 1024 * 1024
MAX_WHOLE = 16 * 1024 * 1024
"""Bytes of a file that is taken whole from a server without range requests."""

MAX_METADATA = 4 * 1024 * 1024


class RemoteSource:
    """A file at `url`, of which only the blocks that are asked for are fetched, each once.

    `size` is asked of the server unless given; `digest` is what an index or lock says, not proven here.
    `kept` is what earlier runs fetched of it. `traffic` and `requests` count body bytes and requests.
    Raises SourceError where the server answers with other bytes than asked for, or has no ranges and the
    file is above `MAX_WHOLE`.
    """

    def __init__(
        self,
        url: str,
        transfer: Transfer,
        auth: AuthBase | None = None,
        *,
        size: int | None = None,
        digest: str = "",
        kept: Kept | None = None,
    ) -> None:
        self.digest = digest
        self.traffic = 0
        self.requests = 0
        self._url = url
        self._transfer = transfer
        self._auth = auth
        self._where = f"part of {urlsplit(url).path.rpartition('/')[2]}"
        self._validator = ""
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._whole: bytes | None = None
        self._lock = Lock()
        self._kept = kept
        known = self._recall(size)
        self._size = known if known is not None else self._ask_size()

    @property
    def size(self) -> int:
        return self._size

    def read(self, start: int, count: int) -> bytes:
        inside(self._size, start, count, shown_url(self._url))
        with self._lock:
            data = bytearray()
            for begin in range(start, start + count, MAX_REQUEST):
                data += self._read(begin, min(MAX_REQUEST, start + count - begin))
        return bytes(data)

    def _read(self, start: int, count: int) -> bytes:
        numbers = range(start // BLOCK, -(-(start + count) // BLOCK))
        held = {number: self._blocks[number] for number in numbers if number in self._blocks}
        missing = [number for number in numbers if number not in held]
        if missing and self._whole is None:
            # One request for all between the first and the last that is missing.
            held |= self._fetch(missing[0] * BLOCK, min((missing[-1] + 1) * BLOCK, self._size))
        if self._whole is not None:
            return self._whole[start : start + count]
        self._keep(held)
        data = b"".join(held[number] for number in numbers)
        return data[start - numbers.start * BLOCK :][:count]

    def _fetch(self, begin: int, end: int) -> dict[int, bytes]:
        reply = self._get(f"bytes={begin}-{end - 1}", end - begin)
        if reply.status == 200:
            self._take_whole(reply)
            return {}
        found = _content_range(reply)
        if found != (begin, end, self._size) or len(reply.body) != end - begin:
            raise self._broken(f"bytes {begin} to {end} of {self._size}", found, len(reply.body))
        if self._kept:
            self._kept.keep(begin, self._size, reply.body)
        return _cut(reply.body, begin)

    def _recall(self, size: int | None) -> int | None:
        """Take over what is kept; the file's size where that, or the caller, says it."""
        for begin, whole, data in self._kept.parts() if self._kept else ():
            end = begin + len(data)
            fits = size in (None, whole) and begin % BLOCK == 0 and (end % BLOCK == 0 or end == whole)
            if fits and end <= whole:
                size = whole
                self._keep(_cut(data, begin))
        return size

    def _ask_size(self) -> int:
        """Read the end, which says how much there is before it (RFC 9110 §14.1.2, suffix-range)."""
        reply = self._get(f"bytes=-{TAIL}", TAIL)
        if reply.status == 200:
            self._take_whole(reply)
            return len(reply.body)
        found = _content_range(reply)
        if found is None or found[1] != found[2] or len(reply.body) != found[1] - found[0]:
            raise self._broken(f"the last {TAIL} bytes", found, len(reply.body))
        begin, _, size = found
        first = -(-begin // BLOCK) * BLOCK
        self._keep(_cut(reply.body[first - begin :], first))
        if self._kept:
            self._kept.keep(first, size, reply.body[first - begin :])
        return size

    def _get(self, wanted: str, count: int) -> Reply:
        headers = {"Range": wanted}
        if self._validator:
            headers["If-Range"] = self._validator
        try:
            reply = self._transfer.get(
                self._url,
                what=self._where,
                max_bytes=max(count, MAX_WHOLE),
                headers=headers,
                auth=self._auth,
                allow=(200, 206),
            )
        except TooLarge:
            raise SourceError(
                f"{self._where}: {shown_url(self._url)}: expected {count} bytes as asked for, found a server"
                f" that ignores ranges and sends all, which is more than {MAX_WHOLE}",
                remedy="fetch the file with 'airgap build' first: then it is read from the store",
            ) from None
        self.requests += 1
        self.traffic += len(reply.body)
        self._check_unchanged(reply)
        return reply

    def _check_unchanged(self, reply: Reply) -> None:
        """Two ranges of two versions of a file would make a third that never was."""
        etag = reply.headers.get("etag", "")
        if etag.startswith("W/"):
            etag = ""
        if self._validator and etag != self._validator:
            raise SourceError(
                f"{self._where}: {shown_url(self._url)}: changed while it was read", remedy="run again"
            )
        self._validator = etag

    def _take_whole(self, reply: Reply) -> None:
        """A server without ranges sent all of it."""
        known = getattr(self, "_size", len(reply.body))
        if len(reply.body) != known:
            raise self._broken(f"{known} bytes", None, len(reply.body))
        self._whole = reply.body

    def _keep(self, blocks: Mapping[int, bytes]) -> None:
        for number, block in blocks.items():
            self._blocks[number] = block
            self._blocks.move_to_end(number)
        while len(self._blocks) * BLOCK > CACHE:
            self._blocks.popitem(last=False)

    def _broken(self, wanted: str, found: tuple[int, int, int] | None, length: int) -> SourceError:
        said = f"bytes {found[0]} to {found[1]} of {found[2]}" if found else "no Content-Range"
        return SourceError(
            f"{self._where}: {shown_url(self._url)}: expected {wanted}, found {said} and {length} bytes",
            remedy="ask who runs that server: it breaks RFC 9110 §14, or the file there has changed",
        )


def fetch_metadata(
    url: str, transfer: Transfer, auth: AuthBase | None = None, *, sha256: Sha256 | None = None
) -> bytes | None:
    """A wheel's METADATA as its index offers it apart (PEP 658); None where it does not.

    Raises IntegrityError when `sha256`, the index's word on it, is not met; SourceError as the engine does.
    """
    parts = urlsplit(url)
    beside = urlunsplit(parts._replace(path=f"{parts.path}.metadata", fragment=""))
    what = f"metadata of {parts.path.rpartition('/')[2]}"
    try:
        reply = transfer.get(beside, what=what, max_bytes=MAX_METADATA, auth=auth)
    except HttpRefusal as refusal:
        # Object stores answer 403 for what is not there.
        if refusal.status in (403, 404, 410) and sha256 is None:
            return None
        raise
    found = hashlib.sha256(reply.body).hexdigest()
    if sha256 not in (None, found):
        raise IntegrityError(f"{what}: expected sha256 {sha256}, as the index says; found {found}")
    return reply.body


def _content_range(reply: Reply) -> tuple[int, int, int] | None:
    """Begin, end (exclusive) and complete size of a 206 (RFC 9110 §14.4)."""
    match = re.fullmatch(
        r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", reply.headers.get("content-range", "")
    )
    return (int(match[1]), int(match[2]) + 1, int(match[3])) if match else None


def _cut(data: bytes, begin: int) -> dict[int, bytes]:
    """Whole blocks of `data`, which begins at a block's beginning and ends at one's or the file's end."""
    return {(begin + at) // BLOCK: data[at : at + BLOCK] for at in range(0, len(data), BLOCK)}
