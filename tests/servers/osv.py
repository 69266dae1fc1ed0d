"""A vulnerability service on loopback that speaks the query of api.osv.dev. No real one is reachable here.

It judges nothing: it answers with every advisory of an export whose `versions` list the version that was
asked for, letter by letter. `pip-audit --vulnerability-service osv --osv-url URL` works against it.
"""

import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Osv:
    """Serves an export (`tests.audit.advisories.export`) while the context lasts."""

    def __init__(self, export: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(export)) as archive:
            self._advisories = [json.loads(archive.read(name)) for name in archive.namelist()]
        self.asked: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.service = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1/query"

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        package, version = query["package"], query["version"]
        self.asked.append((package["name"], version))
        found = [
            advisory
            for advisory in self._advisories
            for affected in advisory["affected"]
            if affected["package"] == {"ecosystem": package["ecosystem"], "name": package["name"]}
            and version in affected["versions"]
        ]
        return {"vulns": found} if found else {}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service: Osv = self.server.service  # type: ignore[attr-defined]
        body = json.dumps(service.answer(query)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
