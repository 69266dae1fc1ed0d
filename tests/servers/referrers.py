"""A registry that has the referrers API: a small real HTTP server before docker-registry 2.8, which has none.

It passes on what it is asked, and keeps a list of the manifests with a `subject` that went by, as the
distribution-spec v1.1 says under "Pushing Manifests with Subject" and "Listing Referrers".
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from tests.servers.registry import RunningRegistry

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Referrers:
    """What it lists, by the digest of the subject; `page` entries at a time, 0 for all."""

    registry: RunningRegistry
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    page: int = 0
    status: int = 200
    media_type: str = OCI_INDEX
    page_for_people: bytes = b""
    """In place of the list."""
    forgets: bool = False
    """It takes referrers, says so, and lists none."""
    altered: str = ""
    """The manifest by this tag or digest is answered with one byte more, without its digest."""
    asked: list[str] = field(default_factory=list)

    def note(self, body: bytes, kind: str) -> str:
        """The subject of a manifest that was stored, '' for none."""
        try:
            document = json.loads(body)
        except ValueError:
            return ""
        if not isinstance(document, dict) or "subject" not in document:
            return ""
        subject = str(document["subject"]["digest"])
        entry = {
            "mediaType": kind,
            "digest": f"sha256:{hashlib.sha256(body).hexdigest()}",
            "size": len(body),
            "artifactType": document.get("artifactType") or document["config"]["mediaType"],
            "annotations": document.get("annotations", {}),
        }
        found = self.listed.setdefault(subject, [])
        if entry not in found and not self.forgets:
            found.append(entry)
        return subject

    def answer(self, path: str) -> tuple[bytes, str]:
        """A page of the list and the Link header to the next."""
        parts = urlsplit(path)
        found = self.listed.get(parts.path.rpartition("/")[2], [])
        start = int(parse_qs(parts.query).get("last", ["0"])[0])
        end = start + self.page if self.page else len(found)
        link = f'<{parts.path}?last={end}>; rel="next"' if end < len(found) else ""
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found[start:end]}
        if self.page_for_people:
            return self.page_for_people, ""
        return json.dumps(document).encode(), link


@contextmanager
def with_referrers(registry: RunningRegistry) -> Iterator[tuple[RunningRegistry, Referrers]]:
    """The registry behind another address at which it has the API."""
    state = Referrers(registry)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.asked.append(f"{self.command} {self.path}")
            if "/referrers/" in self.path:
                data, link = state.answer(self.path)
                headers = {"Content-Type": state.media_type} | ({"Link": link} if link else {})
                self._send(state.status, headers, data)
                return
            kept = {
                k: v for k, v in self.headers.items() if k.lower() not in ("content-length", "connection")
            }
            answer = requests.request(
                *(self.command, f"http://{registry.host}{self.path}"),
                headers=kept,
                data=body,
                timeout=10,
            )
            skipped = ("content-length", "connection", "transfer-encoding", "date")
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in skipped}
            if self.command == "PUT" and "/manifests/" in self.path and answer.status_code == 201:
                subject = state.note(body, self.headers["Content-Type"])
                headers |= {"OCI-Subject": subject} if subject else {}
            if self.command == "GET" and state.altered and self.path.endswith(state.altered):
                altered = {k: v for k, v in headers.items() if k.lower() != "docker-content-digest"}
                self._send(200, altered, answer.content + b" ")
                return
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
            self._send(answer.status_code, headers, answer.content, length)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _pass

        def _send(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield replace(registry, host=f"127.0.0.1:{server.server_address[1]}"), state
    finally:
        server.shutdown()
        server.server_close()
