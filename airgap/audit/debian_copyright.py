"""What a Debian package's copyright file says of its licences, where a machine can read it.

https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ is the format (DEP-5). Such a file is about
the source package: what it names may be under a test's terms, or the packaging's. So all licences are taken
together, and a file that breaks the format says nothing at all.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from airgap.audit import licences
from airgap.audit.spdx import MAX_EXPRESSION

MAX_FILE = 256 * 1024
"""Bytes of a copyright file that is read."""

MAX_SYNOPSES, MAX_SYNOPSIS = 200, 300
"""Different licences of one file, and characters of each; who names more is not read."""

MAX_SHOWN = 200
"""Characters of what is no expression."""

REFERENCE = "LicenseRef-debian-"
"""Before a name that SPDX has no identifier for, as SPDX asks (2.3, annex D)."""

MARK = "\0licences"

UNNAMED = "unnamed"
"""Terms that stand there without a name."""

_FORMAT = re.compile(r"https?://www\.debian\.org/doc/packaging-manuals/copyright-format/1\.0/?")
_FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_~:/@-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_PATH = re.compile(r"usr/share/doc/[^/]+/copyright")

_REFERENCE = re.compile(rf"{REFERENCE}[A-Za-z0-9.-]+")

_SPDX = {
    "expat": "MIT",
    "cc0": "CC0-1.0",
    "zope-1.1": "ZPL-1.1",
    "zope-2.0": "ZPL-2.0",
    "zope-2.1": "ZPL-2.1",
}
"""Debian's short names that are no SPDX identifiers and mean one licence."""

_EXCEPTIONS = {"font exception": "Font-exception-2.0", "llvm exception": "LLVM-exception"}
"""Those whose name leaves no choice; others have several versions, or are on nobody's list."""

_GNU = re.compile(r"(agpl|gpl|lgpl|gfdl(?:-niv)?)-([0-9](?:\.[0-9])*)(\+?)")


def is_copyright(path: str) -> bool:
    """Asked of every file of an image, so the cheap question comes first."""
    return path.endswith("/copyright") and _PATH.fullmatch(path) is not None


def path_of(package: str) -> str:
    """Where Debian's policy (12.5) wants the file of an installed package; '' for a name that is none."""
    return f"usr/share/doc/{package}/copyright" if _PACKAGE.fullmatch(package) else ""


def synopses(data: bytes) -> tuple[str, ...]:
    """The first line of every licence that the file gives to files, each once; () where it says nothing."""
    try:
        header, *others = _stanzas(data.decode("utf-8", "replace"))
    except (_MalformedError, ValueError):
        return ()
    if not _FORMAT.fullmatch(header.get("format", [""])[0]):
        return ()
    said = list(header.get("license", []))
    for stanza in others:
        if "files" in stanza:  # else it has the text of a licence that is named elsewhere
            said += stanza.get("license", [""])
    found = tuple(dict.fromkeys(" ".join(one.split()) or UNNAMED for one in said))
    return found if _few(found) else ()


def condense(data: bytes) -> bytes:
    """What is kept of a copyright file: a mark that these are not its bytes, and a line a synopsis."""
    return "\n".join((MARK, *synopses(data))).encode()


def condensed(data: bytes) -> tuple[str, ...]:
    """The synopses that `condense` kept; () for any other bytes."""
    mark, *said = data.decode("utf-8", "replace").split("\n")
    return tuple(said) if mark == MARK and _few(said) else ()


def _few(said: Sequence[str]) -> bool:
    return len(said) <= MAX_SYNOPSES and all(len(one) <= MAX_SYNOPSIS for one in said)


def expression(said: Sequence[str]) -> str:
    """All of them as one SPDX expression; '' for none.

    As they stand, and cut, where that is too long to be judged, or SPDX's list is not here.
    """
    factors: dict[str, None] = {}
    for synopsis in said:
        factors.update(dict.fromkeys(_Synopsis(synopsis).factors() or [_reference(synopsis)]))
    alone = len(factors) == 1
    whole = " AND ".join(f"({one})" if " OR " in one and not alone else one for one in factors)
    if licences.available() and len(whole) <= MAX_EXPRESSION:
        return whole
    text = "; ".join(said)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def references(text: str) -> tuple[str, ...]:
    """The names that `expression` made up, of an expression that has any."""
    if REFERENCE not in text or not licences.expression(_REFERENCE.sub("MIT", text)):
        return ()
    return tuple(dict.fromkeys(_REFERENCE.findall(text)))


class _MalformedError(Exception):
    """Never leaves this module."""


def _stanzas(text: str) -> Iterator[dict[str, list[str]]]:
    """Paragraphs of fields, by their names in lower case; of each field the first line."""
    fields: dict[str, list[str]] = {}
    for line in map(str.rstrip, (*text.split("\n"), "")):
        if line.startswith("#"):
            continue
        if not line:
            if fields:
                yield fields
            fields = {}
        elif line[0] in " \t":
            if not fields:
                raise _MalformedError
        elif match := _FIELD.fullmatch(line):
            fields.setdefault(match[1].lower(), []).append(match[2])
        else:
            raise _MalformedError


class _Synopsis:
    """`GPL-2+ or Artistic-2.0, and Expat`: `and` binds stronger than `or`, either weaker behind a comma."""

    def __init__(self, text: str) -> None:
        self._words: list[str] = re.findall(r",|[^\s,]+", text)
        self._at = 0

    def factors(self) -> list[str]:
        """What holds all together; none where it is no synopsis."""
        try:
            joined, together = self._piece(), []
            while self._take(","):
                if self._take("and"):
                    together.append(joined)
                    joined = self._piece()
                elif self._take("or"):
                    joined = joined + self._piece()
                else:
                    raise _MalformedError
            together.append(joined)
            if self._at < len(self._words):
                raise _MalformedError
        except _MalformedError:
            return []
        factors: list[str] = []
        for alternatives in together:
            factors += alternatives[0] if len(alternatives) == 1 else [_either(alternatives)]
        return factors

    def _piece(self) -> list[list[str]]:
        """Alternatives, each of which is all of its terms."""
        alternatives = [self._all()]
        while self._take("or"):
            alternatives.append(self._all())
        return alternatives

    def _all(self) -> list[str]:
        terms = [self._term()]
        while self._take("and"):
            terms.append(self._term())
        return terms

    def _term(self) -> str:
        name = self._next()
        if name.lower() in _OPERATORS or not _NAME.fullmatch(name):
            raise _MalformedError
        more = []
        if self._take("with"):
            while self._at < len(self._words) and self._words[self._at].lower() not in _OPERATORS:
                more.append(self._next())
            if not more:
                raise _MalformedError
        return _spdx(name, " ".join(more))

    def _next(self) -> str:
        if self._at >= len(self._words):
            raise _MalformedError
        self._at += 1
        return self._words[self._at - 1]

    def _take(self, word: str) -> bool:
        if self._at >= len(self._words) or self._words[self._at].lower() != word:
            return False
        self._at += 1
        return True


_OPERATORS = frozenset({",", "and", "or", "with"})


def _either(alternatives: Sequence[Sequence[str]]) -> str:
    return " OR ".join(f"({' AND '.join(one)})" if len(one) > 1 else one[0] for one in alternatives)


@lru_cache(maxsize=4096)
def _spdx(name: str, exception: str) -> str:
    """SPDX's identifier of one short name, where its list has one; else a reference that keeps the name."""
    found = next((one for one in map(_listed, _candidates(name)) if one), "")
    if found and exception:
        known = _EXCEPTIONS.get(exception.lower(), exception)
        found = _listed(f"{found} WITH {known}")
    if found:
        return found
    return _reference(f"{name} with {exception}" if exception else name)


def _reference(said: str) -> str:
    """Whatever a file calls its terms, in the letters that SPDX allows."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", said.replace("+", "-or-later")).strip("-")
    return REFERENCE + (plain or UNNAMED)


def _candidates(name: str) -> Iterator[str]:
    lower = name.lower()
    if known := _SPDX.get(lower):
        yield known
    elif gnu := _GNU.fullmatch(lower):
        family, version, later = gnu.groups()
        version = re.sub(r"(?:\.0)+$", "", version)
        version = version if "." in version else f"{version}.0"
        kind = "or-later" if later else "only"
        base = family.removesuffix("-niv").upper()
        yield f"{base}-{version}-{'no-invariants-' if family.endswith('-niv') else ''}{kind}"
    elif "+" not in name:
        yield name
        yield f"{name}.0"


def _listed(candidate: str) -> str:
    """As SPDX spells it; '' for what merely stands for something on its list."""
    found: str = licences.expression(candidate)
    return found if found.casefold() == candidate.casefold() and not found.startswith("LicenseRef") else ""
