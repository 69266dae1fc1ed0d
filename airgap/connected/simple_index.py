"""The pages of a package index: which wheels a project has (PEP 503 in HTML, PEP 691 in JSON)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import PurePosixPath
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from requests.auth import AuthBase

from airgap.connected.http import HttpRefusal
from airgap.connected.transfer import Transfer
from airgap.decode import Fields, parse_json
from airgap.errors import InputError
from airgap.tags import WheelName, normalized_name

ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
MAX_PAGE = 64 * 1024 * 1024
"""Bytes; the longest pages of the public index have 20 MiB."""


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A wheel on a page: its name, where it is, its sha256 and size where the page says them.

    `uploaded` is the day, YYYY-MM-DD, where the page says it (PEP 700); `yanked` is by PEP 592.
    """

    name: WheelName
    file: str
    url: str
    sha256: str
    size: int | None
    yanked: bool = False
    uploaded: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The wheels that a page names, in its order, and the bytes that it took."""

    files: tuple[IndexFile, ...]
    traffic: int


def project_page(index: str, project: str, transfer: Transfer, auth: AuthBase | None) -> Page:
    """A project's page; no files where the index has no such project. Raises SourceError, InputError."""
    name = normalized_name(project)
    return read_page(f"{index.rstrip('/')}/{name}/", name, transfer, auth)


def read_page(url: str, what: str, transfer: Transfer, auth: AuthBase | None) -> Page:
    """Any page that links to wheels, as find-links does. Raises SourceError, InputError."""
    try:
        reply = transfer.get(
            url, what=f"index page of {what}", max_bytes=MAX_PAGE, headers={"Accept": ACCEPT}, auth=auth
        )
    except HttpRefusal as refusal:
        if refusal.status in (403, 404, 410):
            return Page((), 0)
        raise
    is_json = "json" in reply.headers.get("content-type", "")
    parse = parse_json_page if is_json else parse_html_page
    return Page(tuple(parse(reply.body, reply.url, f"index page of {what}")), len(reply.body))


def parse_json_page(data: bytes, url: str, what: str) -> Iterator[IndexFile]:
    """PEP 691; keys that airgap has no use for are passed over. Raises InputError."""
    fields = Fields(parse_json(data, what, max_bytes=MAX_PAGE, python=True))
    fields.raise_if_bad(what)
    for entry in fields.tables("files"):
        hashes = entry.table("hashes").text("sha256", default="") if entry.has("hashes") else ""
        size = entry.integer("size") if isinstance(entry.raw("size"), int) else None
        found = _wheel(entry.text("filename"), _joined(url, entry.text("url")), hashes, size)
        if found:
            # A reason, which may be empty, says that it is yanked; only `false` says that it is not.
            yanked = entry.raw("yanked") not in (None, False)
            day = re.match(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]", str(entry.raw("upload-time") or ""))
            yield replace(found, yanked=yanked, uploaded=day[0] if day else "")
    fields.raise_if_bad(what)


def parse_html_page(data: bytes, url: str, what: str) -> Iterator[IndexFile]:
    """PEP 503: anchors, with `#sha256=` where the index knows it."""
    parser = _Anchors()
    try:
        parser.feed(data.decode("utf-8", "replace"))
        parser.close()
    except AssertionError:  # html.parser on `<![`
        raise InputError(f"{what}: expected HTML, found a marked section that is none") from None
    for href, yanked in parser.links:
        address, fragment = urldefrag(_joined(_joined(url, parser.base), href))
        file = unquote(PurePosixPath(urlsplit(address).path).name)
        digest = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
        if found := _wheel(file, address, digest, None):
            yield replace(found, yanked=yanked)


def _joined(base: str, reference: str) -> str:
    """RFC 3986 §5.2; '' for a reference that is no URL, as `http://[`."""
    try:
        joined = urljoin(base, reference)
        urlsplit(joined)
    except ValueError:
        return ""
    return joined


def choose(
    files: tuple[IndexFile, ...], project: str, specifier: SpecifierSet, tags: tuple[str, ...]
) -> IndexFile | None:
    """The wheel of the newest version that matches, best for the target; where none fits, the nearest."""
    matching = [
        (version, file)
        for file in files
        if normalized_name(file.name.name) == normalized_name(project)
        and (version := version_of(file.name.version)) is not None
        and specifier.contains(version, prereleases=True)
    ]
    if not matching:
        return None

    def preference(item: tuple[Version, IndexFile]) -> tuple[bool, Version, tuple[bool, bool], int, int]:
        version, file = item
        rank = file.name.rank(tags)
        build = int(re.match(r"[0-9]*", file.name.build)[0] or 0)  # type: ignore[index]
        likeness = _likeness(file.name, tags) if rank is None else (True, True)
        return rank is not None, version, likeness, -(rank or 0), build

    return max(matching, key=preference)[1]


def _likeness(name: WheelName, tags: tuple[str, ...]) -> tuple[bool, bool]:
    """Whether a wheel is for the target's system and processor, and for its Python too, but for their age."""
    if not tags:
        return False, False
    python, _, platform = tags[0].split("-")
    ours = [
        tag for tag in name.tags if "linux" in tag and tag.endswith(f"_{platform.removeprefix('linux_')}")
    ]
    return bool(ours), any(tag.startswith((f"{python}-", "py3-")) or "-abi3-" in tag for tag in ours)


def _wheel(file: str, url: str, sha256: str, size: int | None) -> IndexFile | None:
    try:
        name = WheelName.parse(file)
    except InputError:
        return None  # an sdist, a signature, an egg
    if urlsplit(url).scheme not in ("http", "https", "file"):
        return None
    digest = sha256.lower() if re.fullmatch(r"[0-9A-Fa-f]{64}", sha256) else ""
    return IndexFile(name, file, url, digest, size)


def version_of(text: str) -> Version | None:
    """The version in a wheel's name, where '_' stands for '+'; None for one that PEP 440 does not allow."""
    try:
        return Version(text.replace("_", "+", 1) if "+" not in text and "_" in text else text)
    except ValueError:  # InvalidVersion, and a number that Python will not convert
        return None


class _Anchors(HTMLParser):
    """The targets of a page's links, whether each is yanked, and its `<base>`."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, bool]] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        href = given.get("href")
        if tag == "a" and href:
            self.links.append((href, "data-yanked" in given))
        elif tag == "base" and href:
            self.base = href
