"""A fake registry: a small real HTTP server that takes uploads as the spec says, and fails as told.

It is for what docker-registry cannot be made to do: to drop a connection in the middle of a body and
remember what came, to refuse large bodies, to send uploads elsewhere.
"""

import hashlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BLOCK = 16 * 1024


@dataclass
class UploadServer:
    """What it holds, what it was asked, and its faults; each fault list is used up from the front."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    elsewhere: dict[str, bytes] = field(default_factory=dict)
    """Blobs of another repository, which can be mounted."""
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path, bytes of body read."""
    authorizations: list[str] = field(default_factory=list)
    """The Authorization headers that came, '' for none."""
    drop_after: list[int] = field(default_factory=list)
    """Reset the connection after so many bytes of the next upload bodies that are longer, keeping them."""
    forgets: bool = False
    """Uploads that broke are unknown afterwards."""
    limit: int = 0
    """A body above it is answered with 413."""
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answer the next requests with these, having read their bodies."""
    location: str = ""
    """Where uploads are sent to, in place of here."""
    mangle: bool = False
    """Give manifests back with one byte more."""
    host: str = ""

    def __post_init__(self) -> None:
        self.uploads: dict[str, bytearray] = {}
        self.lock = threading.Lock()

    def count(self, method: str) -> int:
        return sum(1 for one, *_ in self.seen if one == method)

    @contextmanager
    def running(self) -> Iterator["UploadServer"]:
        outer = self

        class Handler(_Handler):
            state = outer

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: UploadServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._handle()

    do_GET = do_POST = do_PATCH = do_PUT = do_HEAD

    def _handle(self) -> None:
        state = self.state
        parts = urlsplit(self.path)
        state.authorizations.append(self.headers.get("Authorization", ""))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        upload = re.search(r"/blobs/uploads/([0-9]+)$", parts.path)
        data = self._read(upload.group(1) if upload else "")
        if data is None:
            return
        with state.lock:
            state.seen.append((self.command, self.path, len(data)))
            status = state.statuses.pop(0) if state.statuses else None
        if status:
            return self._answer(status[0], headers=status[1])
        if upload:
            return self._upload(upload.group(1), data, query)
        if parts.path.endswith("/blobs/uploads/"):
            return self._begin(query)
        name = parts.path.rpartition("/")[2]
        if "/manifests/" in parts.path:
            return self._manifest(name, data)
        return self._answer(200 if name in state.blobs else 404)

    def _read(self, upload: str) -> bytes | None:
        """The body; None when the connection was reset or the body refused."""
        state = self.state
        size = int(self.headers.get("Content-Length", 0))
        with state.lock:
            drops = upload and state.drop_after and size > state.drop_after[0]
            drop = state.drop_after.pop(0) if drops else None
        if upload and state.limit and size > state.limit:
            self.close_connection = True
            with state.lock:
                state.seen.append((self.command, self.path, 0))
            self._answer(413)
            return None
        data = bytearray()
        while len(data) < (size if drop is None else min(drop, size)):
            chunk = self.rfile.read(min(BLOCK, size - len(data)))
            if not chunk:
                break
            data += chunk
        if len(data) == size:
            return bytes(data)
        with state.lock:
            if upload:
                state.uploads[upload] += data
                if state.forgets:
                    del state.uploads[upload]
            state.seen.append((self.command, self.path, len(data)))
        self.close_connection = True
        # So that the client sees a reset, not an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        return None

    def _begin(self, query: dict[str, str]) -> None:
        state = self.state
        if query.get("mount") in state.elsewhere:
            state.blobs[query["mount"]] = state.elsewhere[query["mount"]]
            return self._answer(201)
        with state.lock:
            number = str(len(state.uploads) + 1)
            state.uploads[number] = bytearray()
        return self._answer(202, headers={"Location": state.location or f"/v2/a/b/blobs/uploads/{number}"})

    def _upload(self, number: str, data: bytes, query: dict[str, str]) -> None:
        state = self.state
        held = state.uploads.get(number)
        if held is None:
            return self._answer(404)
        place = {"Location": f"/v2/a/b/blobs/uploads/{number}"}
        if self.command == "GET":
            return self._answer(204, headers={**place, "Range": f"0-{max(0, len(held) - 1)}"})
        begins = re.match(r"([0-9]+)-", self.headers.get("Content-Range", ""))
        if begins and int(begins[1]) != len(held):
            return self._answer(416)
        held += data
        if self.command == "PATCH":
            return self._answer(202, headers={**place, "Range": f"0-{len(held) - 1}"})
        if query["digest"] != f"sha256:{hashlib.sha256(held).hexdigest()}":
            return self._answer(400)
        state.blobs[query["digest"]] = bytes(held)
        return self._answer(201)

    def _manifest(self, name: str, data: bytes) -> None:
        state = self.state
        if self.command == "PUT":
            state.manifests[name] = data + (b" " if state.mangle else b"")
            return self._answer(201)
        if name not in state.manifests:
            return self._answer(404)
        held = state.manifests[name]
        digest = f"sha256:{hashlib.sha256(held).hexdigest()}"
        return self._answer(200, held, {"Docker-Content-Digest": digest})

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
