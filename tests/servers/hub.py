"""A small Hugging Face hub on loopback. It stands in for the hub, because none can run here.

The real huggingface_hub client works against it: model_info, hf_hub_download, snapshot_download and
`hf download`. Two servers share one world: the hub on 127.0.0.1, and on `localhost`, so that it is
another host to any client, the CDN to which files in LFS may be redirected.

    with Hub() as hub:
        commit = hub.add("org/name", {"config.json": b"{}", "model.safetensors": Path("big")})
        hub.gate("org/name", {"hf_reader": "granted"})
        hub.drop("model.safetensors", after=1000)
"""

import hashlib
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.servers.ending import EndingServer
from tests.servers.hub_files import Access, File, Repo, sibling, tree_entry

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names in lower case."""

    server: Literal["hub", "cdn"]
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Fault:
    """What goes wrong for the next `times` requests whose path ends in `suffix`."""

    kind: Literal["drop", "corrupt", "status"]
    suffix: str
    times: int
    at: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


class Hub:
    """The world of the two servers, and the handle a test holds."""

    def __init__(
        self,
        *,
        redirect_lfs: bool = False,
        bytes_per_second: float = 0,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """`tls` is a certificate for 127.0.0.1 and its key: then the hub, not the CDN, speaks TLS alone."""
        self.redirect_lfs = redirect_lfs
        self.bytes_per_second = bytes_per_second
        self.requests: list[Seen] = []
        self._repos: dict[str, Repo] = {}
        self._faults: list[Fault] = []
        self._answers: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._servers = [_Server("hub", self), _Server("cdn", self)]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            listening = self._servers[0].socket
            self._servers[0].socket = context.wrap_socket(
                listening, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._servers[0].server_port}"
        self.cdn_url = f"http://localhost:{self._servers[1].server_port}"

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        lfs: Collection[str] | None = None,
        revision: str = "main",
        card: Mapping[str, Any] | None = None,
    ) -> str:
        """Commit `files` as the whole tree of `revision`, those in `lfs` in LFS; returns the commit."""
        kept = [p for p in files if re.search(r"\.(safetensors|bin|pth|gguf)$", p)] if lfs is None else lfs
        tree = {path: File.of(content, path in kept) for path, content in files.items()}
        listing = repr(sorted((path, file.blob_id) for path, file in tree.items()))
        commit = hashlib.sha1(f"{repo}\n{listing}".encode()).hexdigest()
        stored = self._repos.setdefault(repo, Repo())
        stored.refs[revision] = commit
        stored.commits[commit] = tree
        stored.card.update(card or {})
        return commit

    def gate(
        self,
        repo: str,
        access: Mapping[str, Access] | None = None,
        *,
        kind: str = "manual",
        hidden: bool = False,
    ) -> None:
        """Demand a token whose `access` is granted; the API stays open unless `hidden`, as on the hub."""
        stored = self._repos[repo]
        stored.gated, stored.hidden, stored.access = kind, hidden, dict(access or {})

    def drop(self, suffix: str, *, after: int, times: int = 1) -> None:
        """Close the connection after `after` bytes of the body."""
        self._faults.append(Fault("drop", suffix, times, at=after))

    def corrupt(self, suffix: str, *, at: int = 0, times: int = 1) -> None:
        """Flip the byte `at` of the file."""
        self._faults.append(Fault("corrupt", suffix, times, at=at))

    def fail(
        self, suffix: str, status: int, *, times: int = 1, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with `status`: 429 with Retry-After is how the hub throttles."""
        self._faults.append(Fault("status", suffix, times, status=status, headers=headers or {}))

    def answer(self, suffix: str, body: bytes) -> None:
        """Answer requests whose path ends in `suffix` with this JSON, or what claims to be it."""
        self._answers[suffix] = body

    def answered(self, path: str) -> bytes | None:
        return next((body for suffix, body in self._answers.items() if path.endswith(suffix)), None)

    def repo(self, name: str) -> Repo | None:
        return self._repos.get(name)

    def fault(self, path: str, *kinds: str) -> Fault | None:
        """Take one use of a fault of these kinds that is armed for `path`."""
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.kind in kinds and path.endswith(fault.suffix):
                    fault.times -= 1
                    return fault
        return None

    def bodies(self, suffix: str) -> list[Seen]:
        """The GET requests for files whose path ends in `suffix`, from both servers, in order."""
        return [seen for seen in self.requests if seen.method == "GET" and seen.path.endswith(suffix)]


class _Server(EndingServer):
    def __init__(self, role: Literal["hub", "cdn"], hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.role = role
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of the server's; anything else is, and is printed."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        hub = self.server.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Seen(self.server.role, self.command, path, headers))
        if fault := hub.fault(path, "status"):
            return self._refuse(fault.status, "", "", fault.headers)
        if (given := hub.answered(path)) is not None:
            return self._answer(200, given, {"Content-Type": "application/json"})
        routes: tuple[tuple[str, Callable[..., None]], ...] = (
            (r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", self._info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"/api/models/([^/]+/[^/]+)", self._info),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
            (r"/cdn/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", self._cdn),
        )
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, address.path):
                return answer(*(unquote(group) for group in match.groups()))
        return self._refuse(404, "", "Not Found")

    do_HEAD = do_GET

    def _info(self, name: str, revision: str = "main") -> None:
        found = self._commit(name, revision, api=True)
        if not found:
            return
        repo, commit = found
        blobs = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = [sibling(path, file, blobs) for path, file in repo.commits[commit].items()]
        self._json(
            {
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repo.hidden,
                "gated": repo.gated or False,
                "tags": [],
                "cardData": repo.card,
                "siblings": siblings,
            }
        )

    def _tree(self, name: str, revision: str) -> None:
        found = self._commit(name, revision, api=True)
        if not found:
            return
        repo, commit = found
        self._json([tree_entry(path, file) for path, file in repo.commits[commit].items()])

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._commit(name, revision, api=False)
        if not found:
            return
        repo, commit = found
        file = repo.commits[commit].get(path)
        if file is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit}
        if file.lfs:
            headers |= {"X-Linked-ETag": file.etag, "X-Linked-Size": str(file.size)}
        if file.lfs and self.server.hub.redirect_lfs:
            location = f"{self.server.hub.cdn_url}/cdn/{name}/{commit}/{quote(path)}"
            return self._answer(302, b"", {**headers, "ETag": file.etag, "Location": location})
        return self._file(file, path, headers)

    def _cdn(self, name: str, commit: str, path: str) -> None:
        repo = self.server.hub.repo(name)
        if repo is None or self.server.role != "cdn":
            return self._refuse(404, "", "Not Found")
        return self._file(repo.commits[commit][path], path, {})

    def _commit(self, name: str, revision: str, *, api: bool) -> tuple[Repo, str] | None:
        """The repository and commit a request may see, or None after it was refused."""
        repo = self.server.hub.repo(name)
        if repo is None or (api and repo.hidden and not repo.gated):
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
            return None
        if repo.gated and (repo.hidden or not api) and not self._admitted(name, repo):
            return None
        commit = repo.resolve(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo, commit

    def _admitted(self, name: str, repo: Repo) -> bool:
        """The hub's own words, as far as they tell the cases apart."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        access = repo.access.get(token) if scheme == "Bearer" else None
        if access == "granted":
            return True
        if not token:
            message = (
                f"Access to model {name} is restricted. You must have access to it and be authenticated"
                " to access it. Please log in."
            )
            self._refuse(401, "GatedRepo", message)
        elif token.startswith("expired"):
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif access == "pending":
            self._refuse(
                403,
                "GatedRepo",
                f"Your request to access model {name} is awaiting a review from the repo authors.",
            )
        elif access == "rejected":
            self._refuse(
                403,
                "GatedRepo",
                f"Your request to access model {name} has been rejected by the repo's authors.",
            )
        else:
            message = (
                f"Access to model {name} is restricted and you are not in the authorized list."
                f" Visit {self.server.hub.url}/{name} to ask for access."
            )
            self._refuse(403, "GatedRepo", message)
        return False

    def _file(self, file: File, path: str, headers: Mapping[str, str]) -> None:
        start, end, status = 0, file.size, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range", file.etag) == file.etag:
            start, status = int(asked[1]), 206
            end = min(end, int(asked[2]) + 1) if asked[2] else end
            if start >= file.size:
                return self._answer(416, b"", {"Content-Range": f"bytes */{file.size}"})
        self.send_response(status)
        for name, value in {**headers, "ETag": file.etag, "Accept-Ranges": "bytes"}.items():
            self.send_header(name, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{file.size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            self._body(file, path, start, end)

    def _body(self, file: File, path: str, start: int, end: int) -> None:
        fault = self.server.hub.fault(path, "drop", "corrupt")
        if not fault and isinstance(file.content, Path) and not self.server.hub.bytes_per_second:
            with open(file.content, "rb") as stream:
                self.wfile.flush()
                self.connection.sendfile(stream, start, (end - start) or None)
            return
        end = min(end, start + fault.at) if fault and fault.kind == "drop" else end
        while start < end:
            chunk = bytearray(file.read(start, min(CHUNK, end - start)))
            if fault and fault.kind == "corrupt" and start <= fault.at < start + len(chunk):
                chunk[fault.at - start] ^= 0xFF
            self.wfile.write(chunk)
            start += len(chunk)
            if self.server.hub.bytes_per_second:
                time.sleep(len(chunk) / self.server.hub.bytes_per_second)
        if fault and fault.kind == "drop":
            self.close_connection = True

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._answer(status, b"", {name: value for name, value in named.items() if value})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
