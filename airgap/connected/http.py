"""One HTTP exchange: redirects, credentials, CA bundles, and the words for what went wrong.

Whether to try again is judged by the caller: `Transient` may pass, any other SourceError will not.
"""

import email.utils
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

from airgap import __version__
from airgap.errors import HostError, SourceError

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
"""Seconds without one byte."""

_LONGEST_WAIT = 30.0
"""Seconds between two tries when the server does not say."""

MAX_REDIRECTS = 10
MAX_RETRY_AFTER = 120.0
"""Seconds; a server that asks for more is asked again this soon."""

_BAD_URL = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationParseError,
)
_SECRET = re.compile(
    r"(?i)(.*[-_])?(token|password|passwd|secret|signature|credential|api[-_]?key)|sig|awsaccesskeyid"
)
"""Query parameters that let whoever has the URL in: tokens, and the signatures of object stores."""

_THEIRS = "ask who runs that server"
_DRAIN = 64 * 1024
_EVERYWHERE = frozenset({"accept", "accept-encoding", "user-agent", "range", "if-range", "connection"})
"""Request headers that carry no secret, so they may follow a redirect to another origin."""


class HttpRefusal(SourceError):
    """The server answered, with a status that trying again does not change.

    `headers` has lower-case names; `url` is where the answer came from, without credentials.
    """

    def __init__(
        self, message: str, *, status: int, url: str, headers: Mapping[str, str], remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.url = url
        self.headers = headers


class TlsFailure(SourceError):
    """No TLS with that server: its certificate is not trusted, or it speaks something else."""


class Transient(SourceError):
    """A failure that may pass; `after` is how many seconds the server asks to be left alone."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message, remedy="run the same command again: what has arrived is kept")
        self.after = after


class Patience:
    """How long to wait before each of a limited number of further tries."""

    def __init__(self, retries: int, first_wait: float) -> None:
        self._left = retries
        self._wait = first_wait

    def seconds(self, error: Transient) -> float:
        """The pause before the next try: the server's word, else doubling. Raises `error` at the end."""
        if self._left <= 0:
            raise error
        self._left -= 1
        wait, self._wait = self._wait, min(self._wait * 2, _LONGEST_WAIT)
        # Jitter keeps many clients of one server that failed from returning at the same moment.
        return error.after if error.after is not None else wait * random.uniform(0.5, 1.0)  # noqa: S311


def public_url(url: str) -> str:
    """`url` without user name and password (RFC 3986 §3.2.1), fragment, and parameters named like secrets.

    What it leaves out can change what the URL answers. Raises SourceError when it cannot be parsed.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SourceError("a URL is malformed", remedy="correct it where it is written") from None
    kept = [pair for pair in parts.query.split("&") if not _SECRET.fullmatch(unquote(pair.partition("=")[0]))]
    return urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="&".join(kept), fragment="")
    )


def shown_url(url: str) -> str:
    """`public_url` for errors and logs: the query, which may be a signature, is left out."""
    bare, mark, _ = public_url(url).partition("?")
    return f"{bare}{mark}{'…' if mark else ''}"


def lower_headers(response: requests.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """The requests hook that adds no credentials, and so keeps netrc's from replacing the caller's."""
    return request


def _stated_auth(url: str, headers: Mapping[str, str]) -> Callable[[requests.PreparedRequest], Any] | None:
    """What the caller already said about credentials; None leaves them to netrc."""
    user, password = requests.utils.get_auth_from_url(url)
    if user or password:
        return HTTPBasicAuth(user, password)
    return _unsigned if "authorization" in {name.lower() for name in headers} else None


class _Session(requests.Session):
    """A session that leaves redirects alone: requests would read their bodies whole, however long."""

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return iter(())


class Client:
    """HTTP(S) with the user's environment: proxies, netrc, REQUESTS_CA_BUNDLE, SSL_CERT_FILE.

    Safe to share between threads: it keeps no cookies, and the connection pool is urllib3's.
    """

    def __init__(self, connections: int) -> None:
        session = _Session()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers["User-Agent"] = f"airgap/{__version__}"
        session.headers["Accept-Encoding"] = "identity"
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        adapter = HTTPAdapter(pool_connections=16, pool_maxsize=connections, max_retries=0)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        self._session = session

    @contextmanager
    def open(self, request: requests.Request, where: str) -> Iterator[requests.Response]:
        """The answer after redirects, its body unread; reading it inside may raise Transient, too.

        A request with a body follows no redirect: the body may be a secret.
        Raises Transient (the network failed), SourceError (no name, no trust, a redirect that leads
        nowhere) or HostError (no CA bundle), beginning with `where`. Statuses are not judged here.
        """
        with _source_errors(where):
            request.auth = request.auth or _stated_auth(request.url, request.headers)
            response = self._follow(self._session.prepare_request(request), where)
            try:
                yield response
            finally:
                response.close()

    def _follow(self, prepared: requests.PreparedRequest, where: str) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(prepared)
            if not answer.is_redirect or prepared.body:
                return answer
            _release(answer)
            prepared = self._redirected(prepared, answer.headers["location"], where)
        raise SourceError(f"{where}: more than {MAX_REDIRECTS} redirects", remedy=_THEIRS)

    def _send(self, prepared: requests.PreparedRequest) -> requests.Response:
        settings = self._session.merge_environment_settings(prepared.url or "", {}, True, None, None)
        timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
        try:
            return self._session.send(prepared, timeout=timeout, allow_redirects=False, **settings)
        except requests.RequestException:
            raise
        except OSError as error:  # requests' only own use of it: the CA bundle is not a file
            raise HostError(
                f"TLS certificates cannot be checked: {error}",
                remedy="let REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and SSL_CERT_FILE name a file that exists",
            ) from None

    def _redirected(
        self, before: requests.PreparedRequest, location: str, where: str
    ) -> requests.PreparedRequest:
        """The request to follow with. Credentials stay with the origin they were given for."""
        old = before.url or ""
        try:
            new = urljoin(old, location)
            if urlsplit(new).scheme not in ("http", "https"):
                raise SourceError(f"{where}: redirects to something that is not HTTP", remedy=_THEIRS)
            same = _same_origin(old, new)
        except ValueError:
            raise SourceError(f"{where}: redirects to a malformed URL", remedy=_THEIRS) from None
        kept = {name: value for name, value in before.headers.items() if same or name.lower() in _EVERYWHERE}
        auth = _unsigned if same else None
        return self._session.prepare_request(requests.Request(before.method, new, headers=kept, auth=auth))


def _same_origin(old: str, new: str) -> bool:
    """RFC 6454 §5; a step from http to https on one host's default ports counts as staying."""
    ports = {"http": 80, "https": 443}
    before, after = urlsplit(old), urlsplit(new)
    ends = [(part.scheme, part.hostname, part.port or ports[part.scheme]) for part in (before, after)]
    return ends[0] == ends[1] or ends == [("http", before.hostname, 80), ("https", before.hostname, 443)]


def _release(response: requests.Response) -> None:
    """Give the connection back if the redirect's body is short; else close it."""
    response.raw.read(_DRAIN, decode_content=False)
    response.close()


def refusal(response: requests.Response, where: str) -> SourceError:
    """The error for a status that was not wanted: Transient where trying again may help."""
    status = response.status_code
    found = f"{where}: the server answered {status} {_plain(response.reason)}".rstrip()
    if status in (408, 429) or status >= 500:
        return Transient(found, after=retry_after(response.headers.get("retry-after", "")))
    remedies = {
        401: "it wants credentials: put them in ~/.netrc or the URL, or set the token for that service",
        403: "these credentials may not read it: ask its owner, or accept its terms, then run again",
        404: "check the URL; if it was withdrawn upstream, lock a version that exists",
        410: "it was withdrawn upstream: lock a version that exists",
        407: "set the proxy's credentials in HTTPS_PROXY",
    }
    return HttpRefusal(
        found,
        status=status,
        url=shown_url(response.url),
        headers=lower_headers(response),
        remedy=remedies.get(status, "check the URL in a browser on this machine"),
    )


def retry_after(value: str, now: float | None = None) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 §10.2.3: seconds or a date), capped."""
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return min(float(value), MAX_RETRY_AFTER)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    wait = moment - (time.time() if now is None else now)
    return min(max(wait, 0.0), MAX_RETRY_AFTER)


@contextmanager
def _source_errors(where: str) -> Iterator[None]:
    """Turn what requests and urllib3 raise into our errors. Their own text may hold secrets: not used."""
    try:
        yield
    except _BAD_URL:
        raise SourceError(f"{where}: not an http(s) URL", remedy="correct it where it is written") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _network_error(where, error) from None


def _network_error(where: str, error: BaseException) -> SourceError:
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return TlsFailure(
                f"{where}: its TLS certificate is not trusted: {link.verify_message}",
                remedy="point REQUESTS_CA_BUNDLE or SSL_CERT_FILE at the CA that signed it",
            )
        if isinstance(link, ssl.SSLError) and link.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return TlsFailure(
                f"{where}: expected TLS, found a server that speaks something else",
                remedy="check scheme and port: it may be plain HTTP",
            )
        if isinstance(link, socket.gaierror) and link.errno == socket.EAI_NONAME:
            return SourceError(
                f"{where}: its host name is not known here",
                remedy="check the URL, the network and the proxy settings (HTTPS_PROXY)",
            )
    for link in chain:
        if isinstance(link, urllib3.exceptions.IncompleteRead):
            return Transient(f"{where}: the connection ended {link.expected} bytes early")
        if isinstance(link, OSError) and link.strerror:
            return Transient(f"{where}: {link.strerror}")
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if any(isinstance(link, timeouts) for link in chain):
        return Transient(f"{where}: no answer in time")
    return Transient(f"{where}: the connection broke")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything it was made from: libraries nest causes in args and `reason`, too."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (*link.args, getattr(link, "reason", None), link.__cause__, link.__context__)
        waiting.extend(item for item in inner if isinstance(item, BaseException))


def _plain(reason: object) -> str:
    """A status reason a terminal can show: printable ASCII, short."""
    return re.sub(r"[^ -~]", "", str(reason or ""))[:60]
