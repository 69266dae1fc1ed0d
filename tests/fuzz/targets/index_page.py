"""A page of a package index, HTML (PEP 503) or JSON (PEP 691), as pip reads it inside the resolver.

Invariant: what airgap lets pass, pip parses without an exception, and airgap can judge every link of it;
the rest is refused, because pip would end in a traceback and nobody would know which index did it.
airgap's own reader, for `check` and `gap`, takes or refuses whatever it is, and orders what it took.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial

from pip._internal.index.collector import IndexContent, parse_links

from airgap.connected.offers import releases
from airgap.connected.resolver_evidence import _judge_page, _offer
from airgap.connected.resolver_protocol import Refusal
from airgap.connected.simple_index import IndexFile, parse_html_page, parse_json_page
from tests.fuzz.harness import accepted

JSON = "application/vnd.pypi.simple.v1+json"
PAGE = "https://index.example/simple/attrs/"


@cache
def seeds() -> dict[str, bytes]:
    return {
        "html": b'<!DOCTYPE html><html><head><base href="https://files.example/"></head><body>'
        b'<a href="attrs-25.1-py3-none-any.whl#sha256=00" data-requires-python="&gt;=3.8" data-yanked="bad"'
        b' data-core-metadata="sha256=00">attrs</a><a href="../attrs-1.tar.gz">x</a></body></html>',
        "bad-html-host": b'<a href="https://[::1/attrs-25.1-py3-none-any.whl">attrs</a>',
        "bad-html-base": b'<base href="https://[x"><a href="a.whl">a</a>',
        "latin": b"<a href=\xe9.whl>a</a>",
        "json": b'{"meta":{"api-version":"1.1"},"files":[{"filename":"attrs-25.1-py3-none-any.whl",'
        b'"url":"https://files.example/attrs-25.1-py3-none-any.whl","hashes":{"sha256":"00"},"size":3,'
        b'"requires-python":">=3.8","yanked":false,"core-metadata":{"sha256":"00"},'
        b'"upload-time":"2025-01-01T00:00:00.000000Z"}]}',
        "json-huge": b'{"files":[{"filename":"attrs-%s-py3-none-any.whl","url":"a.whl","hashes":{}}]}'
        % (b"9" * 5000),
        "json-bare": b'{"files":[{"url":"a.zip","hashes":{},"yanked":"why","dist-info-metadata":true}]}',
    }


def _files(parse: Callable[[bytes, str, str], Iterator[IndexFile]], data: bytes) -> tuple[IndexFile, ...]:
    return tuple(parse(data, PAGE, "page"))


def check(data: bytes) -> bool:
    taken = False
    for content_type, encoding in ((JSON, None), ("text/html", None), ("text/html", "latin-1")):
        page = IndexContent(data, content_type, encoding, PAGE, cache_link_parsing=False)
        try:
            _judge_page(page)
        except Refusal as refusal:
            assert refusal.table["message"]
            continue
        taken = True
        for link in parse_links(page):
            offer = _offer(link)
            assert offer is None or link.filename
    for parse in (parse_html_page, parse_json_page):
        files = accepted(partial(_files, parse), data) or ()
        found = [release.version for release in releases(files, "attrs", (), prereleases=True)]
        assert found == sorted(set(found))
    return taken
