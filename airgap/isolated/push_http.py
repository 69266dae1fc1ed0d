"""HTTP/1.1 for `airgap push`, on the standard library: the one place of the isolated side that has a network.

Imported by nothing but push, and push by nothing but its own verb. Statuses are the caller's to judge;
here is what happens below them: connections, TLS, time-outs, bodies that are streamed.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airgap import __version__
from airgap.errors import HostError, SourceError
from airgap.oci import MAX_MANIFEST
from airgap.registry_protocol import bare_url, origin
from airgap.store import CHUNK

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""Without one byte moved in either direction."""

COMMIT_SECONDS = 900.0
"""For the answer to a large body: a registry on object storage copies a large blob before it answers."""

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

Origin = tuple[str, str, int]


class TransientError(SourceError):
    """A failure that may pass; `after` is how many seconds the registry asks to be left alone."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message, remedy="run the same command again: what has arrived is not sent twice")
        self.after = after


@dataclass(frozen=True, slots=True)
class Body:
    """`size` bytes that `chunks` yields; called anew for each attempt. What it raises ends the request."""

    size: int
    chunks: Callable[[], Iterator[bytes | memoryview]]


EMPTY = Body(0, lambda: iter(()))


def whole(data: bytes) -> Body:
    return Body(len(data), lambda: iter((data,)))


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers with lower-case names, and at most 4 MiB of body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Client:
    """One connection for each thread and origin. Follows no redirect, keeps no cookie, uses no proxy."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ` may name a CA bundle, trusted beside the system's; HostError when it is unusable."""
        self._tls = _trust(environ)
        self._own = threading.local()
        self._all: list[http.client.HTTPConnection] = []

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None = None, *, what: str
    ) -> Answer:
        """One exchange. `what` names it in errors; a body that raises leaves the request incomplete.

        Raises TransientError where trying again may help, SourceError where not: a name that is not
        known, a certificate that is not trusted, an answer that is not HTTP.
        """
        where = f"{what}: {bare_url(url)}"
        connection = self._connection(origin(url))
        parts = urlsplit(url)
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        try:
            with _network_errors(where):
                _connect(connection)
                return _exchange(connection, method, target, headers, body)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _connection(self, where: Origin) -> http.client.HTTPConnection:
        held: http.client.HTTPConnection | None = getattr(self._own, str(where), None)
        if held is None:
            scheme, host, port = where
            if scheme == "https":
                held = http.client.HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=self._tls)
            else:
                held = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
            setattr(self._own, str(where), held)
            self._all.append(held)
        return held


def _connect(connection: http.client.HTTPConnection) -> None:
    if connection.sock is None:
        connection.timeout = CONNECT_SECONDS
        connection.connect()
        assert connection.sock is not None
        # Each write is a whole header or a large chunk: waiting to fill a packet only costs round trips.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: Body | None,
) -> Answer:
    assert connection.sock is not None  # `_connect` saw to it
    connection.sock.settimeout(SILENT_SECONDS)
    connection.putrequest(method, target, skip_accept_encoding=True)
    connection.putheader("User-Agent", f"airgap/{__version__}")
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(body.size))
    connection.endheaders()
    # A registry that refuses may close before it read all; its answer is then still to be read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for chunk in body.chunks() if body is not None else ():
            connection.send(chunk)
    connection.sock.settimeout(COMMIT_SECONDS if body is not None and body.size > CHUNK else SILENT_SECONDS)
    response = connection.getresponse()
    data = response.read(MAX_MANIFEST + 1)
    if len(data) > MAX_MANIFEST:
        raise http.client.HTTPException(f"an answer of more than {MAX_MANIFEST} bytes")
    if not response.isclosed():
        response.read()
    if response.will_close:
        connection.close()
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, data)


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for variable in CA_VARIABLES:
        path = environ.get(variable)
        if not path:
            continue
        try:
            context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise HostError(
                f"{variable} names {path}, which cannot be used as a CA bundle: {error.strerror or error}",
                remedy="let it name a PEM file of CA certificates",
            ) from None
        break
    return context


@contextlib.contextmanager
def _network_errors(where: str) -> Iterator[None]:
    """What the standard library raises, in words; its own may hold what was sent."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise SourceError(
            f"{where}: its TLS certificate is not trusted: {error.verify_message}",
            remedy="point SSL_CERT_FILE at the CA that signed it; --plain-http only where there is no TLS",
        ) from None
    except ssl.SSLError as error:
        raise SourceError(
            f"{where}: no TLS with that registry: {error.reason or 'the handshake failed'}",
            remedy="check host and port; a registry that speaks plain HTTP needs --plain-http",
        ) from None
    except socket.gaierror:
        raise SourceError(
            f"{where}: its host name is not known here", remedy="check the reference and this host's DNS"
        ) from None
    except TimeoutError:
        raise TransientError(f"{where}: no answer in time") from None
    except (http.client.RemoteDisconnected, http.client.IncompleteRead):
        raise TransientError(f"{where}: the connection was closed without a whole answer") from None
    except ConnectionRefusedError:
        raise SourceError(
            f"{where}: nothing listens there", remedy="check host and port, and that the registry runs"
        ) from None
    except (http.client.HTTPException, ValueError):
        raise SourceError(
            f"{where}: the answer is not HTTP", remedy="check host, port and whether it speaks TLS"
        ) from None
    except OSError as error:
        raise TransientError(f"{where}: {error.strerror or 'the connection broke'}") from None
