"""A wheels set as a directory that pip and uv install from as it is, by --find-links or --index-url.

Sources: PEP 503 (HTML index), PEP 691 (JSON index), PEP 751 (pylock, which travels as a layer). Links
are relative, so the site can move, be bind-mounted, or be served by any static web server.
"""

import html
import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from airgap.errors import InputError
from airgap.isolated.entries import Link, Text
from airgap.layout import BundledArtifact
from airgap.model import BundlePath, LockedFile, Package, WheelsArtifact

API_VERSION = "1.0"


def place(bundled: BundledArtifact) -> Iterator[Link | Text]:
    """`wheels/<set>/`: the wheels, `pylock.<set>.toml`, `requirements.txt`, and `simple/`."""
    artifact = bundled.artifact
    assert isinstance(artifact, WheelsArtifact)
    base = f"wheels/{artifact.name}"
    for layer in bundled.layers:
        yield Link(BundlePath(f"{base}/{layer.path}"), layer.sha256)
    files = {file.path: file for file in artifact.files}
    yield Text(BundlePath(f"{base}/requirements.txt"), requirements(artifact))
    projects: dict[str, list[Package]] = {}
    for package in artifact.packages:
        projects.setdefault(package.name, []).append(package)
    yield Text(BundlePath(f"{base}/simple/index.html"), _root_html(sorted(projects)))
    yield Text(BundlePath(f"{base}/simple/index.json"), _root_json(sorted(projects)))
    for name, packages in sorted(projects.items()):
        here = f"{base}/simple/{name}"
        found = [(package, files[package.file]) for package in packages]
        yield Text(BundlePath(f"{here}/index.html"), _project_html(name, found))
        yield Text(BundlePath(f"{here}/index.json"), _project_json(name, found))


def requirements(artifact: WheelsArtifact) -> bytes:
    """The same lock in pip's older spelling, for the pip a host already has: pylock needs pip 26.3.

    Raises InputError for a package whose name or version pip could read as anything else.
    """
    files = {file.path: file for file in artifact.files}
    lines = [f"{_pin(p)} --hash=sha256:{files[p.file].sha256}\n" for p in artifact.packages]
    return "".join(lines).encode()


def _pin(package: Package) -> str:
    pin = f"{package.name}=={package.version}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*", pin):
        raise InputError(f"{package.file}: expected a package and its version, found {pin[:120]!r}")
    return pin


def _root_html(projects: Sequence[str]) -> bytes:
    return _page("Simple index", [f'<a href="{quote(name)}/">{html.escape(name)}</a>' for name in projects])


def _root_json(projects: Sequence[str]) -> bytes:
    return _json({"meta": {"api-version": API_VERSION}, "projects": [{"name": name} for name in projects]})


def _project_html(name: str, found: Sequence[tuple[Package, LockedFile]]) -> bytes:
    links = []
    for package, file in found:
        python = html.escape(package.requires_python)
        requires = f' data-requires-python="{python}"' if python else ""
        links.append(f'<a href="{_url(file)}#sha256={file.sha256}"{requires}>{html.escape(file.path)}</a>')
    return _page(f"Links for {name}", links)


def _project_json(name: str, found: Sequence[tuple[Package, LockedFile]]) -> bytes:
    files = []
    for package, file in found:
        entry: dict[str, object] = {
            "filename": file.path,
            "url": _url(file),
            "size": file.size,
            "hashes": {"sha256": file.sha256},
        }
        if package.requires_python:
            entry["requires-python"] = package.requires_python
        files.append(entry)
    return _json({"meta": {"api-version": API_VERSION}, "name": name, "files": files})


def _url(file: LockedFile) -> str:
    return f"../../{quote(file.path)}"


def _page(title: str, links: Sequence[str]) -> bytes:
    head = f'<meta name="pypi:repository-version" content="{API_VERSION}"><title>{html.escape(title)}</title>'
    lines = ["<!DOCTYPE html>", f"<html><head>{head}</head><body>"]
    lines += [f"{link}<br>" for link in links]
    return "\n".join([*lines, "</body></html>", ""]).encode()


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
