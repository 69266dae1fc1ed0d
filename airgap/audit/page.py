"""A page that stands alone: one HTML file without script, font or picture from elsewhere, made to be printed.

Every text on it comes from bytes that nobody trusts. `Html` is markup and `str` is not: what builds
markup takes `Html`, and `text` is the one way from the one to the other.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NewType

Html = NewType("Html", str)
"""Markup, or text that is escaped."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy (CSP 3): even markup that slipped through could load and run nothing."""

_MARKUP = re.compile(r"<[^>]*>")

STYLE_FILE = "page.css"
"""Beside this module; it goes into every page."""


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; numbers are set right, and what is `whole` is never broken into lines."""

    title: str
    number: bool = False
    whole: bool = False

    @property
    def kind(self) -> str:
        return "number" if self.number else "whole" if self.whole else ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: its length is `value` against the largest; `amount` is what a person reads."""

    label: str
    value: float
    amount: str
    style: str = "c0"
    """One of the classes of page.css: c0 to c4, error, warning, info."""


def text(value: object) -> Html:
    r"""Escaped for any place in a page; control and format characters are shown as `\x1b`, not obeyed."""
    shown = str(value)
    if not shown.isprintable():  # which has none of the categories below, and is asked a hundred times faster
        shown = "".join(
            c
            if c in "\n " or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
            else _code(c)
            for c in shown
        )
    return Html(html.escape(shown, quote=True))


def join(parts: Iterable[Html], between: str = "") -> Html:
    """Markup after markup; `between` is text."""
    return Html(text(between).join(parts))


def element(name: str, *inside: Html, kind: str = "", id_: str = "") -> Html:
    """`<name class=kind id=id_>inside</name>`; name, kind and id are the program's own words."""
    attributes = "".join(f' {key}="{text(value)}"' for key, value in (("class", kind), ("id", id_)) if value)
    return Html(f"<{name}{attributes}>{''.join(inside)}</{name}>")


def code(value: object) -> Html:
    return element("code", text(value))


def tag(word: str, kind: str) -> Html:
    """A word that says how good or bad something is, in its colour and, for print, in a box."""
    return element("span", text(word), kind=f"tag {kind}")


def lines(value: Html, characters: int) -> int:
    """How many lines of paper some markup takes, of about so many characters each; at least one."""
    shown = html.unescape(_MARKUP.sub("", value))
    return max(1, -(-len(shown) // characters))


def section(anchor: str, title: str, *inside: Html) -> Html:
    return element("section", element("h2", text(title)), *inside, id_=anchor)


MOST_PRINTED = 400
"""Rows of a table that go to paper: some twenty pages."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[Html]], elsewhere: str = "") -> Html:
    """Rows of cells, one for each column; a head that print repeats on every page.

    What is in the file `elsewhere`, too, is not printed when it would take more than a few pages.
    """
    rows = list(rows)
    kinds = [column.kind for column in columns]
    head = join(element("th", text(c.title), kind=kind) for c, kind in zip(columns, kinds, strict=True))
    body = join(
        element("tr", *(element("td", cell, kind=kind) for cell, kind in zip(row, kinds, strict=True)))
        for row in rows
    )
    whole = element("table", element("thead", element("tr", head)), element("tbody", body))
    if not elsewhere or len(rows) <= MOST_PRINTED:
        return element("div", whole, kind="scroll")
    note = element("p", text(f"{len(rows)} rows, not printed: {elsewhere} has them."), kind="on-paper")
    return join((element("div", whole, kind="scroll on-screen"), note))


def facts(pairs: Iterable[tuple[str, Html]]) -> Html:
    """Names and what they are; pairs without anything are left out."""
    return element(
        "dl", *(join((element("dt", text(name)), element("dd", value))) for name, value in pairs if value)
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> Html:
    """A few large numbers: what is counted, and how many."""
    return element(
        "div",
        *(element("div", element("b", text(amount)), text(name), kind="tile") for name, amount in pairs),
        kind="tiles",
    )


def bars(title: str, rows: Sequence[Bar]) -> Html:
    """A chart of horizontal bars, each with its number beside it, so that it needs no axis."""
    longest = max((bar.value for bar in rows), default=0) or 1
    lines = [
        join(
            (
                element("div", text(bar.label)),
                _bar(bar.style, 100 * bar.value / longest),
                element("div", text(bar.amount)),
            )
        )
        for bar in rows
    ]
    chart = element("div", *lines, kind="bars") if rows else element("p", text("none"), kind="soft")
    return element("figure", element("figcaption", text(title)), chart)


def page(title: str, *inside: Html) -> str:
    """The whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{_style()}</style></head>\n"
        f"<body><main>{''.join(inside)}</main></body></html>\n"
    )


@cache
def _style() -> str:
    return (files("airgap.audit") / STYLE_FILE).read_text(encoding="utf-8")


def _bar(style: str, percent: float) -> Html:
    return Html(f'<div class="bar {text(style)}" style="width:{percent:.2f}%"></div>')


def _code(character: str) -> str:
    number = ord(character)
    return (
        f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
    )
