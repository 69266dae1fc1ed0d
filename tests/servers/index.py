"""A small package index on loopback (PEP 503, 691, 592, 700, 740). It stands in for private indexes.

Real pip and real uv work against it. It serves wheels and sdists that the test makes.

    with Index() as index:
        index.add(*make_wheel("one", "1.0", requires=["two>=2"]))
        index.add(*make_wheel("two", "2.0"), yanked="broken")
        subprocess.run([..., "--index-url", index.url])
"""

import base64
import hashlib
import html
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

JSON = "application/vnd.pypi.simple.v1+json"


def make_wheel(
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    build: str = "",
    requires: Sequence[str] = (),
    requires_python: str = "",
    licence: str = "",
) -> tuple[str, bytes]:
    """The file name and bytes of a real, installable wheel of one empty package; the same ones each time."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
    metadata += [f"License: {licence}"] if licence else []
    members = {
        f"{module}/__init__.py": b"",
        f"{info}/METADATA": ("\n".join(metadata) + "\n").encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{path},sha256={_b64(data)},{len(data)}\n" for path, data in members.items())
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in members.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    number = f"-{build}" if build else ""
    return f"{module}-{version}{number}-{tag}.whl", out.getvalue()


def make_provenance(file: str, data: bytes) -> bytes:
    """A provenance object (PEP 740) of one attestation, as the public index writes it, but unsigned."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": file, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}],
        "predicateType": "https://docs.pypi.org/attestations/publish/v1",
        "predicate": None,
    }
    attestation = {
        "version": 1,
        "verification_material": {"certificate": "MIIC", "transparency_entries": [{"logIndex": "1"}]},
        "envelope": {
            "statement": base64.b64encode(json.dumps(statement).encode()).decode(),
            "signature": base64.b64encode(b"signature").decode(),
        },
    }
    publisher = {"kind": "GitHub", "claims": None, "repository": "org/one", "workflow": "release.yml"}
    bundle = {"publisher": publisher, "attestations": [attestation]}
    return json.dumps({"version": 1, "attestation_bundles": [bundle]}).encode()


def make_sdist(name: str, version: str, *, extension: bool = False) -> tuple[str, bytes]:
    """An sdist whose own build backend needs nothing but the standard library, and writes the time down.

    With `extension` its wheel is for one platform, as that of a compiled package is.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    tag = "cp312-cp312-linux_x86_64" if extension else "py3-none-any"
    members = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "backend.py": _BACKEND.format(name=name, version=version, stem=stem, tag=tag),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in members.items():
            member = tarfile.TarInfo(f"{stem}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{stem}.tar.gz", out.getvalue()


_BACKEND = """
import os, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    file = "{stem}-{tag}.whl"
    built = os.environ.get("SOURCE_DATE_EPOCH") or str(time.time_ns())
    members = {{
        "{name}/__init__.py": "BUILT = " + built,
        "{stem}.dist-info/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n",
        "{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n",
        "{stem}.dist-info/RECORD": "",
    }}
    with zipfile.ZipFile(os.path.join(directory, file), "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return file
"""


@dataclass
class Published:
    """One file of the index. `digest` says whether pages give its sha256, of `says` if that is another's."""

    data: bytes
    yanked: str | None = None
    digest: bool = True
    requires_python: str = ""
    says: bytes = b""
    provenance: bytes | None = None
    """Its attestations (PEP 740); empty for ones that the page names and the index does not have."""
    provenance_url: str = ""
    """Where the page says that they are, if not here."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.says or self.data).hexdigest()


@dataclass
class Index:
    """`pages` is `json`, `html` or `both`; `login` is a `user:password` every request must carry."""

    pages: str = "both"
    login: str = ""
    sizes: bool = True
    ranges: bool = True
    """Whether files can be read in part, as pip does to see METADATA alone."""
    status: int = 0
    """When set, every project page answers so."""
    page: bytes = b""
    """When set, every project page is this JSON."""
    files: dict[str, dict[str, Published]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of every request, in order."""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"index": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple"

    @property
    def url_with_login(self) -> str:
        return self.url.replace("://", f"://{self.login}@")

    def add(self, file: str, data: bytes, **about: Any) -> None:
        project = re.sub(r"[-_.]+", "-", re.split(r"-\d", file, maxsplit=1)[0]).lower()
        self.files.setdefault(project, {})[file] = Published(data, **about)


class _Handler(BaseHTTPRequestHandler):
    index: Index
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.index.asked.append(f"{self.command} {self.path}")
        expected = "Basic " + base64.b64encode(self.index.login.encode()).decode()
        if self.index.login and self.headers.get("Authorization") != expected:
            self._send(401, b"", "text/plain", {"WWW-Authenticate": 'Basic realm="index"'})
            return
        match unquote(self.path).strip("/").split("/"):
            case ["simple", project] if self.index.status:
                self._send(self.index.status, b"", "text/plain")
            case ["simple", project] if project in self.index.files:
                self._page(project)
            case ["integrity", project, file] if self.index.files[project][file].provenance:
                self._send(200, self.index.files[project][file].provenance or b"", "application/json")
            case ["files", project, file] if file in self.index.files.get(project, {}):
                self._file(self.index.files[project][file].data)
            case _:
                self._send(404, b"", "text/plain")

    def _file(self, data: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not self.index.ranges:
            self._send(200, data, "application/octet-stream")
        elif wanted:
            start, end = int(wanted[1]), int(wanted[2])
            where = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
            self._send(206, data[start : end + 1], "application/octet-stream", where)
        else:
            self._send(200, data, "application/octet-stream", {"Accept-Ranges": "bytes"})

    def _page(self, project: str) -> None:
        wants_json = JSON in self.headers.get("Accept", "")
        if self.index.page:
            self._send(200, self.index.page, JSON)
        elif self.index.pages == "json" or (wants_json and self.index.pages == "both"):
            self._send(200, json.dumps(self._json(project)).encode(), JSON)
        else:
            self._send(200, self._html(project).encode(), "text/html")

    def _json(self, project: str) -> dict[str, Any]:
        files = []
        for name, file in self.index.files[project].items():
            entry: dict[str, Any] = {"filename": name, "url": f"../../files/{project}/{name}", "hashes": {}}
            if file.digest:
                entry["hashes"] = {"sha256": file.sha256}
            if self.index.sizes:
                entry["size"] = len(file.data)
            if file.requires_python:
                entry["requires-python"] = file.requires_python
            if file.provenance is not None or file.provenance_url:
                own = f"{self.index.url}/../integrity/{project}/{name}"
                entry["provenance"] = file.provenance_url or own
            entry["yanked"] = file.yanked if file.yanked is not None else False
            files.append(entry)
        version = "1.1" if self.index.sizes else "1.0"
        return {"meta": {"api-version": version}, "name": project, "files": files, "versions": []}

    def _html(self, project: str) -> str:
        links = []
        for name, file in self.index.files[project].items():
            digest = f"#sha256={file.sha256}" if file.digest else ""
            about = f' data-yanked="{html.escape(file.yanked)}"' if file.yanked is not None else ""
            if file.requires_python:
                about += f' data-requires-python="{html.escape(file.requires_python)}"'
            links.append(f'<a href="../../files/{project}/{name}{digest}"{about}>{name}</a><br>')
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
