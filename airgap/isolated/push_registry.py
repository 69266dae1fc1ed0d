"""One repository of one registry: the push half of the OCI distribution spec.

Source: OCI distribution-spec v1.1, "Push": "Pushing blobs", "Mounting a blob", "Pushing Manifests".
"""

import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from airgap.errors import IntegrityError, SourceError
from airgap.isolated.push_auth import Auth
from airgap.isolated.push_http import EMPTY, Answer, Body, Client, TransientError, whole
from airgap.isolated.push_source import BlobReader
from airgap.model import Sha256
from airgap.oci import INDEXES, MANIFESTS, OCI_INDEX, Descriptor, Reference
from airgap.registry_protocol import api_host, error_words, origin, refused
from airgap.workers import Stopped

CHUNKS = (16 << 20, 4 << 20, 1 << 20)
"""Bytes of a chunk, tried in turn where whole blobs are refused: 1 MiB is nginx's client_max_body_size."""

MAX_WAIT = 120.0
_LONGEST_PAUSE = 30.0

_OCTETS = {"Content-Type": "application/octet-stream"}
_RETRIED = (408, 425, 429)
_ACCEPT = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}

T = TypeVar("T")


class _LostError(TransientError):
    """The registry no longer knows an upload, or not as we do: it is to begin anew."""


class Registry:
    """Asks and fills one repository; safe to share between the threads of one push.

    `retries` is how often in a row one thing may fail, `first_wait` (seconds) the pause before the second
    try, doubled for each that follows. `note` tells a person of each.
    """

    def __init__(
        self,
        reference: Reference,
        client: Client,
        environ: Mapping[str, str],
        *,
        plain_http: bool,
        note: Callable[[str], None],
        mount_from: str = "",
        retries: int = 5,
        first_wait: float = 0.5,
    ) -> None:
        self.reference = reference
        self._client = client
        self._note = note
        self._mount_from = mount_from
        self._retries = retries
        self._first_wait = first_wait
        self._stop = threading.Event()
        scheme = "http" if plain_http else "https"
        self._api = f"{scheme}://{api_host(reference.registry)}/v2/{reference.repository}/"
        scope = f"repository:{reference.repository}:pull,push"
        if mount_from:
            scope += f" repository:{mount_from}:pull"
        self._auth = Auth(
            *(reference.registry, reference.repository, client, environ), scope=scope, plain_http=plain_http
        )
        self._chunk: int | None = None
        """Bytes of a chunk; None while the registry takes whole blobs."""

    def has_blob(self, digest: Sha256) -> bool:
        """Raises SourceError."""
        return self._patiently(lambda: self._has_blob(digest), self._stop)

    def find_manifest(self, wanted: str) -> Sha256 | None:
        """The digest that a tag or digest names in the registry's own words; None when it says none."""
        answer = self._ask("HEAD", f"manifests/{wanted}", _ACCEPT, what="the manifest", allow=(200, 404))
        found = answer.headers.get("docker-content-digest", "")
        known = answer.status == 200 and re.fullmatch(r"sha256:[0-9a-f]{64}", found)
        return Sha256(found[7:]) if known else None

    def manifest(self, wanted: str) -> bytes:
        """Raises SourceError."""
        return self._ask("GET", f"manifests/{wanted}", _ACCEPT, what="the manifest", allow=(200,)).body

    def lists_referrer(self, image: Sha256, referrer: Sha256) -> bool:
        """Whether the registry's referrers API lists a manifest for an image; False where it has no such API.

        Raises SourceError where it has one, and that does not list what was stored.
        """
        path, accept = f"referrers/sha256:{image}", {"Accept": OCI_INDEX}
        # What has no such API may take its path for anything else (distribution-spec, "Listing Referrers").
        answer = self._ask("GET", path, accept, what="what refers to it", allow=(200, 400, 404, 405, 406))
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        if answer.status != 200 or kind != OCI_INDEX:
            return False
        if f"sha256:{referrer}".encode() not in answer.body and 'rel="next"' not in answer.headers.get(
            "link", ""
        ):
            raise SourceError(
                f"registry {self.reference.registry} stored sha256:{referrer}, and does not list it as one of"
                f" sha256:{image}",
                remedy="ask the registry's operator",
            )
        return True

    def put_manifest(self, wanted: str, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest or index under a tag or digest. Raises SourceError or IntegrityError."""
        kind = {"Content-Type": descriptor.media_type}
        what = f"manifest {wanted}"
        answer = self._ask("PUT", f"manifests/{wanted}", kind, whole(data), what=what, allow=(201,))
        said = answer.headers.get("docker-content-digest", "")
        if said.startswith("sha256:") and said != f"sha256:{descriptor.digest}":
            raise IntegrityError(
                f"registry {self.reference.registry} stored {what} as {said[:80]},"
                f" expected sha256:{descriptor.digest}",
                remedy="a proxy or the registry altered it: ask its operator",
            )

    def upload(
        self,
        blob: Descriptor,
        reader: BlobReader,
        report: Callable[[int], None],
        stop: threading.Event,
    ) -> bool:
        """Bring one blob; False when the registry had it in the repository to mount from.

        What broke is continued where the registry says it stands, or begun anew. `report` is told how
        many bytes are there. Raises SourceError, and what `reader` raises.
        """
        location, offset, begun = "", 0, False

        def attempt() -> bool:
            nonlocal location, offset, begun
            if begun and self._has_blob(blob.digest):
                return True  # it was the answer that got lost
            if location:
                location, offset = self._standing(location)
            if not location:
                location, offset = self._begin(blob), 0
                if not location:
                    return False
            begun = True
            try:
                self._send(blob, location, offset, reader, report)
            except _LostError:
                location = ""
                raise
            return True

        return self._patiently(attempt, stop)

    # -------------------------------------------------------------- blobs

    def _has_blob(self, digest: Sha256) -> bool:
        path = f"blobs/sha256:{digest}"
        answer = self._once("HEAD", self._api + path, {}, None, f"blob {digest[:12]}")
        # A registry on object storage looks a blob up before it redirects to where its bytes are.
        self._judge(answer, f"blob {digest[:12]}", (200, 302, 307, 404))
        return answer.status != 404

    def _begin(self, blob: Descriptor) -> str:
        """Where to send a blob to; '' when it could be mounted."""
        query = f"?mount=sha256:{blob.digest}&from={self._mount_from}" if self._mount_from else ""
        what = f"an upload of blob {blob.digest[:12]}"
        answer = self._once("POST", f"{self._api}blobs/uploads/{query}", {}, EMPTY, what)
        self._judge(answer, what, (202, 201) if query else (202,))
        return "" if answer.status == 201 else self._location(answer, self._api)

    def _standing(self, location: str) -> tuple[str, int]:
        """Where an upload continues, and at which byte; ('', 0) when the registry has dropped it."""
        answer = self._once("GET", location, {}, None, "the state of an upload")
        found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("range", ""))
        if answer.status != 204 or not found:
            return "", 0
        # `0-0` is one byte, and what some registries say of none: a blob of one byte is soon sent again.
        offset = int(found[1]) + 1
        return (self._location(answer, location), offset) if offset > 1 else ("", 0)

    def _send(
        self,
        blob: Descriptor,
        location: str,
        offset: int,
        reader: BlobReader,
        report: Callable[[int], None],
    ) -> None:
        what = f"blob {blob.digest[:12]}"
        if offset > blob.size:
            raise _LostError(f"{what}: the registry has {offset} bytes of {blob.size}", after=0.0)
        chunk = self._chunk
        while chunk is not None and offset < blob.size:
            end = min(offset + chunk, blob.size)
            headers = {**_OCTETS, "Content-Range": f"{offset}-{end - 1}"}
            answer = self._once("PATCH", location, headers, _body(reader, offset, end, report), what)
            if answer.status == 413 and chunk > CHUNKS[-1]:
                chunk = self._cut(chunk)
                continue
            self._judge(answer, what, (202,), lost=(404, 416))
            location, offset = self._location(answer, location), end
        query = f"{'&' if urlsplit(location).query else '?'}digest=sha256:{blob.digest}"
        middle = 0 < offset < blob.size
        headers = _OCTETS | ({"Content-Range": f"{offset}-{blob.size - 1}"} if middle else {})
        body = EMPTY if chunk else _body(reader, offset, blob.size, report)
        answer = self._once("PUT", location + query, headers, body, what)
        if answer.status == 413 and chunk is None:
            self._cut(None)
            raise _LostError(f"{what}: too large in one piece", after=0.0)
        self._judge(answer, what, (201,), lost=(400, 404, 416) if middle else (404, 416))

    def _cut(self, refused: int | None) -> int:
        """The size of chunk to try after one (None: a whole blob) was too large for the registry."""
        chunk = next(size for size in CHUNKS if refused is None or size < refused)
        self._chunk = min(chunk, self._chunk or chunk)
        self._note(f"registry {self.reference.registry} refuses large bodies: sending {chunk >> 20} MiB each")
        return chunk

    def _location(self, answer: Answer, before: str) -> str:
        given = answer.headers.get("location", "")
        return upload_location(given, before, self._api, self.reference.registry)

    # -------------------------------------------------------------- asking

    def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        what: str,
        allow: Sequence[int],
    ) -> Answer:
        def attempt() -> Answer:
            answer = self._once(method, self._api + path, headers, body, what)
            self._judge(answer, what, allow)
            return answer

        return self._patiently(attempt, self._stop)

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, what: str
    ) -> Answer:
        """One request, twice where the first was met with a challenge. Credentials stay with the registry."""
        ours = origin(url) == origin(self._api)
        sent = self._auth.headers if ours else {}
        answer = self._client.send(method, url, {**headers, **sent}, body, what=what)
        if answer.status == 401 and ours and self._auth.renew(answer, sent):
            answer = self._client.send(method, url, {**headers, **self._auth.headers}, body, what=what)
        if answer.status in _RETRIED or answer.status >= 500:
            raise TransientError(self._refusal(answer, what), after=_retry_after(answer))
        return answer

    def _judge(self, answer: Answer, what: str, allow: Sequence[int], lost: Sequence[int] = ()) -> None:
        """Raise what a status outside `allow` means; one in `lost`, that the upload is to begin anew."""
        if answer.status in allow:
            return
        host, said = self.reference.registry, self._refusal(answer, what)
        if answer.status in lost:
            raise _LostError(said)
        if answer.status in (401, 403):
            raise refused(host, answer.status, f"{what}{error_words(answer.body)}", right="push to")
        remedies = {
            404: f"check the name, and create {self.reference.repository!r} or its project there",
            405: "it takes no pushes: it may be a mirror, or read-only",
            413: "let its proxy pass on larger bodies (nginx: client_max_body_size 0)",
        }
        raise SourceError(said, remedy=remedies.get(answer.status, "ask the registry's operator"))

    def _refusal(self, answer: Answer, what: str) -> str:
        words = error_words(answer.body)
        return f"registry {self.reference.registry} answered {answer.status} for {what}{words}"

    def _patiently(self, attempt: Callable[[], T], stop: threading.Event) -> T:
        left, wait = self._retries, self._first_wait
        while True:
            try:
                return attempt()
            except TransientError as error:
                if not left:
                    raise
                # Jitter keeps clients that failed together from returning together.
                pause = wait * random.uniform(0.5, 1.0) if error.after is None else error.after  # noqa: S311
                left, wait = left - 1, min(wait * 2, _LONGEST_PAUSE)
                if pause:
                    self._note(f"{error.message}; trying again in {pause:.1f} s")
                if stop.wait(pause):
                    raise Stopped("stopped") from None


def upload_location(given: str, before: str, api: str, registry: str) -> str:
    """Where a registry sends an upload next, `given` being relative to the URL `before`.

    Raises SourceError for no place, and for one that gives up the TLS that `api` is reached by.
    """
    try:
        location = urljoin(before, given)
        sound = bool(given) and origin(location)[0] in ("https", origin(api)[0])
    except ValueError:
        sound = False
    if not sound:
        raise SourceError(
            f"registry {registry}: expected the place of an upload, found {given.partition('?')[0][:200]!r}",
            remedy="a proxy before it must pass on the scheme: X-Forwarded-Proto, or the registry's own"
            " setting for its external URL",
        )
    return location


def _body(reader: BlobReader, start: int, end: int, report: Callable[[int], None]) -> Body:
    def counted() -> Iterator[bytes]:
        position = start
        report(position)
        for chunk in reader.chunks(start, end):
            yield chunk
            position += len(chunk)
            report(position)

    return Body(end - start, counted)


def _retry_after(answer: Answer) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 §10.2.3), capped; a date is left to our own pace."""
    value = answer.headers.get("retry-after", "").strip()
    return min(float(value), MAX_WAIT) if re.fullmatch(r"[0-9]{1,9}", value) else None
