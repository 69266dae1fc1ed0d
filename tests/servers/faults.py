"""A small real HTTP server on loopback that serves given bytes, and fails in the ways it is told to.

It is HTTP/1.1 over sockets, with Range and If-Range as RFC 9110 has them; only its faults are made up.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.servers.ending import EndingServer

BLOCK = 16 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; the default is nothing. Offsets are in the whole file."""

    status: int = 0
    """Answer with this status and no body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to the answer, over its own."""
    redirect: str = ""
    """302 to this URL; with `extra`, and a body of so many bytes."""
    drop_after: int | None = None
    """Reset the connection after so many bytes of this answer's body."""
    flip_at: int | None = None
    """Flip every bit of the byte at this offset."""
    extra: int = 0
    """So many bytes too many, announced as if they belonged."""
    announced: int = 0
    """Added to Content-Length only."""
    rate: int = 0
    """Bytes per second."""
    ignore_range: bool = False
    ignore_if_range: bool = False
    shift: int = 0
    """Answer 206, asked or not, and begin so many bytes later than asked."""
    open_ended: bool = False
    """No Content-Length: the end of the connection is the end of the body."""
    chunked: bool = False
    silent: float = 0.0
    """Seconds before the first byte of the answer."""


@dataclass
class Seen:
    """One request as it came (header names lower-case), and how many body bytes went back."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    sent: int = 0


@dataclass
class Served:
    """A file and its validators; '' is not sent. `always` befalls requests no scripted fault is left for."""

    body: bytes
    etag: str = '"v1"'
    last_modified: str = formatdate(1_700_000_000, usegmt=True)
    script: list[Fault] = field(default_factory=list)
    always: Fault = field(default_factory=Fault)


class FaultServer:
    """Files by path, and every request seen. `url` and `other_url` are two origins of it."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.faults = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def other_url(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"

    def use_tls(self, certificate: Path, key: Path) -> None:
        """Speak TLS on connections from now on; `url` still says http."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(
            self._http.socket, server_side=True, do_handshake_on_connect=False
        )

    def serve(self, path: str, body: bytes, *script: Fault, always: Fault | None = None) -> Served:
        """Serve `body` at `path`; each fault of `script` befalls one request, in order."""
        served = self.files[path] = Served(body, script=list(script), always=always or Fault())
        return served

    def requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def close(self) -> None:
        """No answer that is still to come comes any more."""
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def note(self, seen: Seen) -> tuple[Served | None, Fault]:
        with self._lock:
            self.seen.append(seen)
            served = self.files.get(seen.path)
            if served is None:
                return None, Fault()
            return served, served.script.pop(0) if served.script else served.always


@contextlib.contextmanager
def fault_server() -> Iterator[FaultServer]:
    server = FaultServer()
    try:
        yield server
    finally:
        server.close()


class _Server(EndingServer):
    """Closing it ends its threads, too."""

    daemon_threads = False  # those are not joined
    faults: FaultServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, self.rfile.read(length))
        served, fault = self.server.faults.note(seen)
        if self.server.faults.closing.wait(fault.silent):
            self.close_connection = True
        elif served is None:
            self._empty(404, fault)
        elif fault.redirect:
            headers = {"Location": fault.redirect, "Content-Length": str(fault.extra)}
            self._empty(302, Fault(headers=headers))
            self._send(b"+" * fault.extra, fault, seen)
        elif fault.status:
            self._empty(fault.status, fault)
        else:
            self._answer(served, fault, seen)

    do_HEAD = do_GET
    do_POST = do_GET

    def _empty(self, status: int, fault: Fault) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **fault.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, served: Served, fault: Fault, seen: Seen) -> None:
        found = self._range(served, fault)
        total = len(served.body)
        start, end = found or (None, total)
        if start is not None and start >= total:
            return self._empty(416, Fault(headers={"Content-Range": f"bytes */{total}"}))
        first = (start or 0) + (fault.shift if start is not None else 0)
        body = bytearray(served.body[first:end] + b"+" * fault.extra)
        if fault.flip_at is not None and fault.flip_at >= first:
            body[fault.flip_at - first] ^= 0xFF
        headers = {"ETag": served.etag, "Last-Modified": served.last_modified}
        if start is not None:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{total}"
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif fault.open_ended:
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(len(body) + fault.announced)
        self.send_response(200 if start is None else 206)
        for name, value in (headers | dict(fault.headers)).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if seen.method != "HEAD":
            self._send(bytes(body), fault, seen)
        return None

    def _range(self, served: Served, fault: Fault) -> tuple[int, int] | None:
        """Where a 206 would begin and end (RFC 9110 §13.2.2, §14.2); None means a 200."""
        total = len(served.body)
        wanted = self.headers.get("range", "")
        condition = self.headers.get("if-range", "")
        if not wanted:
            return (0, total) if fault.shift else None
        if fault.ignore_range:
            return None
        if condition and condition not in (served.etag, served.last_modified) and not fault.ignore_if_range:
            return None
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, total - int(last)), total
        return int(first), min(int(last) + 1, total) if last else total

    def _send(self, body: bytes, fault: Fault, seen: Seen) -> None:
        end = len(body) if fault.drop_after is None else min(fault.drop_after, len(body))
        for begin in range(0, end, BLOCK):
            block = body[begin : min(begin + BLOCK, end)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if fault.chunked else block)
            seen.sent += len(block)
            if fault.rate and self.server.faults.closing.wait(len(block) / fault.rate):
                self.close_connection = True
                return
        if fault.drop_after is not None:
            self._reset()
        elif fault.chunked:
            self.wfile.write(b"0\r\n\r\n")
        if fault.open_ended or fault.announced > 0:
            self.close_connection = True

    def _reset(self) -> None:
        """Close so that the other side sees a reset, once it has had what was sent."""
        time.sleep(0.02)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
