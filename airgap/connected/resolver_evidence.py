"""What pip sees while it resolves and then forgets: pages, links, sizes, and its own words on a conflict."""

import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from pip._internal.exceptions import NetworkConnectionError
from pip._internal.index import collector
from pip._internal.index.package_finder import LinkEvaluator, PackageFinder
from pip._internal.models.link import Link
from pip._internal.models.target_python import TargetPython
from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet
from pip._vendor.packaging.utils import (
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from pip._vendor.packaging.version import Version

from airgap.connected.http import public_url
from airgap.connected.index import strip_logins
from airgap.connected.resolver_protocol import Refusal
from airgap.decode import Json, parse_json
from airgap.errors import InputError, SourceError

_FACTORY = "pip._internal.resolution.resolvelib.factory"


class Evidence:
    """Listens to one finder. A page that fails is an error here, where pip would go on without it.

    pip takes an index that is down, or that refuses the login, for one that lacks the project. Then
    another index decides, and the lock is silently not what was asked for.
    """

    def __init__(self, finder: PackageFinder) -> None:
        self.refusing: set[str] = set()
        self.log: list[str] = []
        self._finder = finder
        self._sizes: dict[str, int] = {}
        self._provenance: dict[str, str] = {}
        self._links: dict[str, dict[str, Link]] = {}
        self._indexes: dict[str, str] = {}
        """Page URL, after redirects -> the index as configured."""
        self._failure: object = None
        self._listen_to_pages()
        self._listen_to_links()
        self._listen_to_files()
        self._listen_to_words()

    def size(self, link: Link) -> int:
        """Bytes as a PEP 700 index says; 0 when it does not."""
        return self._sizes.get(link.url_without_fragment, 0)

    def provenance(self, link: Link) -> str:
        """The URL of a file's attestations as a PEP 740 index says, without a login; '' when it does not."""
        return self._provenance.get(link.url_without_fragment, "")

    def index(self, link: Link) -> str:
        """The index a file was found on; '' for find-links and direct URLs."""
        return self._indexes.get(link.comes_from or "", "")

    def found_on(self, name: str) -> list[str]:
        """Every index with at least one file of the project, in the order of the manifest."""
        found = {self.index(link) for link in self._links.get(name, {}).values()}
        return [url for url in map(public_url, self._finder.index_urls) if url in found]

    def nothing_for_target(self, name: str, specifier: SpecifierSet) -> tuple[str, str]:
        """Why no file of a package can be used, and the remedy; two empty strings when that is not why."""
        if any(
            specifier.contains(candidate.version, prereleases=True)
            for candidate in self._finder.find_all_candidates(name)
        ):
            return "", ""
        offers = [offer for link in self._links.get(name, {}).values() if (offer := _offer(link))]
        if not offers:
            return f"{name}: no index has a project of this name", "check its spelling and the indexes"
        matching = [o for o in offers if specifier.contains(o.version, prereleases=True)]
        if not matching:
            return "", ""
        newest = max(offer.version for offer in matching)
        return _why_unusable(
            f"{name} {newest}", [o for o in matching if o.version == newest], self._finder.target_python
        )

    def _listen_to_pages(self) -> None:
        sources = self._finder._link_collector
        fetch = sources.fetch_response

        def failed(link: Link, reason: object, meth: object = None) -> None:
            self._failure = reason

        def fetch_response(location: Link, package_name: str | None = None) -> Any:
            self._failure = None
            page = fetch(location, package_name)
            index = self._index_of(location)
            if page is None:
                self._judge_failure(location, index)
            else:
                _judge_page(page)
                if index:
                    self._indexes[page.url] = index
            return page

        collector._handle_get_simple_fail = failed
        sources.fetch_response = fetch_response  # type: ignore[method-assign]

    def _index_of(self, location: Link) -> str:
        parent = location.url.rstrip("/").rpartition("/")[0]
        return next((public_url(url) for url in self._finder.index_urls if url.rstrip("/") == parent), "")

    def _judge_failure(self, location: Link, index: str) -> None:
        reason = self._failure
        response = reason.response if isinstance(reason, NetworkConnectionError) else None
        status = response.status_code if response is not None else None
        if status == 404 and index:
            return
        if status == 403 and index:
            # Indexes on object storage answer so for a project they do not have.
            self.refusing.add(index)
            return
        said = strip_logins(str(reason or "its content type is no package index's"))
        remedy = "check the URL, the network, the proxy and the CA bundle"
        if status == 401:
            remedy = "put the login into ~/.netrc or the URL"
        where = public_url(location.url)
        raise Refusal("source", f"{where}: expected an index page: {said}", remedy=remedy)

    def _listen_to_links(self) -> None:
        evaluate = self._finder.evaluate_links

        def evaluate_links(link_evaluator: LinkEvaluator, links: Any) -> Any:
            links = list(links)
            known = self._links.setdefault(canonicalize_name(link_evaluator.project_name), {})
            known.update((link.url, link) for link in links)
            return evaluate(link_evaluator, links)

        self._finder.evaluate_links = evaluate_links  # type: ignore[method-assign]

    def _listen_to_files(self) -> None:
        read = Link.from_json

        def from_json(file_data: dict[str, Any], page_url: str) -> Link | None:
            link = read(file_data, page_url)
            size = file_data.get("size")
            if link is not None and isinstance(size, int) and size > 0:
                self._sizes[link.url_without_fragment] = size
            provenance = file_data.get("provenance")
            if link is not None and isinstance(provenance, str):
                with suppress(ValueError, SourceError):  # not a URL: then there is none
                    self._provenance[link.url_without_fragment] = public_url(urljoin(page_url, provenance))
            return link

        Link.from_json = from_json  # type: ignore[method-assign]

    def _listen_to_words(self) -> None:
        log = self.log

        class Listener(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                log.append(record.getMessage())

        logger = logging.getLogger(_FACTORY)
        logger.setLevel(logging.INFO)
        logger.addHandler(Listener())


@dataclass(frozen=True, slots=True)
class _Offer:
    """One file of a project: `tags` is empty for an sdist."""

    version: Version
    tags: tuple[str, ...]
    requires_python: str


def _offer(link: Link) -> _Offer | None:
    try:
        if link.is_wheel:
            _, version, _, tags = parse_wheel_filename(link.filename)
            return _Offer(version, tuple(sorted(str(tag) for tag in tags)), link.requires_python or "")
        return _Offer(parse_sdist_filename(link.filename)[1], (), link.requires_python or "")
    except ValueError:  # both of pip's errors, and a number that Python will not convert
        return None


def _why_unusable(what: str, offers: Sequence[_Offer], target: TargetPython) -> tuple[str, str]:
    python = ".".join(map(str, target.py_version_info))
    refused = {offer.requires_python for offer in offers if not _admits(offer.requires_python, python)}
    if all(offer.requires_python in refused for offer in offers):
        wanted = " or ".join(sorted(refused))
        return f"{what} requires Python {wanted}; the target has {python}", "choose another version"
    name = what.partition(" ")[0]
    tags = sorted({tag for offer in offers for tag in offer.tags})
    if not tags:
        return (
            f"{what}: only an sdist exists, no wheel",
            f'if it is pure Python, set allow-sdist = ["{name}"]',
        )
    machine = target.get_sorted_tags()[0].platform.removeprefix("linux")
    near = [tag for tag in tags if tag.endswith(machine)] or tags
    more = f" and {len(tags) - len(near[:12])} more" if len(tags) > len(near[:12]) else ""
    return (
        f"{what}: no wheel for the target; these exist: {', '.join(near[:12])}{more}",
        "choose another version, or correct [target]",
    )


def _admits(requires_python: str, python: str) -> bool:
    try:
        return SpecifierSet(requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True


def _judge_page(page: collector.IndexContent) -> None:
    """Refuse a page that pip would trip over: JSON unlike PEP 691, HTML with a link that is no URL."""
    where = public_url(page.url)
    remedy = "tell whoever runs this index"
    if not page.content_type.lower().startswith("application/vnd.pypi.simple.v1+json"):
        try:
            deque(collector.parse_links(page), maxlen=0)
        except (ValueError, LookupError, AssertionError) as error:  # AssertionError: html.parser on `<![`
            said = strip_logins(str(error))[:200]
            raise Refusal("source", f"{where}: expected an index page: {said}", remedy=remedy) from error
        return
    try:
        document = parse_json(page.content, where, floats=True)
    except InputError as error:
        raise Refusal("source", error.message, remedy=remedy) from error
    files = document.get("files", []) if isinstance(document, dict) else None
    wrong = [file for file in files if not _is_file(file)] if isinstance(files, list) else [document]
    if wrong:
        found = str(wrong[0])[:200]
        raise Refusal("source", f"{where}: expected the files of a project, found {found}", remedy=remedy)


def _is_file(file: Json) -> bool:
    """Whether every key of a file that pip reads has the type PEP 691, 700 and 714 give it."""
    if not isinstance(file, dict) or not isinstance(hashes := file.get("hashes"), dict):
        return False
    try:
        urlsplit(str(file["url"]))
        datetime.fromisoformat(str(file.get("upload-time") or "2000-01-01"))
    except (KeyError, ValueError):
        return False
    return (
        isinstance(file["url"], str)
        and all(isinstance(value, str) for value in hashes.values())
        and isinstance(file.get("upload-time"), str | None)
        and isinstance(file.get("requires-python"), str | None)
        and isinstance(file.get("yanked"), str | bool | None)
    )


def conflict(log: Sequence[str]) -> Iterator[str]:
    """pip's account of the last conflict, line by line, without its advice and its long version lists."""
    begins = [
        place for place, text in enumerate(log) if text.startswith(("Cannot install ", "Could not find a "))
    ]
    for text in log[begins[-1] :] if begins else ():
        # pip's next two paragraphs are general advice and a list it gets wrong for pinned versions.
        for line in re.split(r"\n\n(?:Additionally|To fix this)", text)[0].splitlines():
            if line.strip():
                yield _LONG_LIST.sub(r"(from versions: …, \1", line)


_LONG_LIST = re.compile(r"\(from versions: (?:[^,)]*, )*((?:[^,)]*, ){4})")
