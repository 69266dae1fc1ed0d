"""Whether an SPDX licence expression can be met with allowed licences alone (SPDX 2.3, annex D).

`A OR B` leaves the choice, `A AND B` does not. `A WITH exception` gives more than `A` does where SPDX's list
has the exception, so allowing `A` allows it then; anything else behind WITH may take away. `LicenseRef-x-*`
allows every reference that begins so. Identifiers are compared without regard to case, as SPDX asks; nothing
else is interpreted: `GPL-2.0+` is another identifier than `GPL-2.0-or-later`.
"""

import re
from collections.abc import Callable, Collection, Iterator

from airgap.audit.spdx_exceptions import EXCEPTIONS

MAX_EXPRESSION = 1000
"""Characters; nesting is bounded by it."""

FAMILY = re.compile(r"(?i)LicenseRef-[a-z0-9.-]+-\*")
"""All references of one namespace; SPDX's own identifiers are named each."""

_TOKEN = re.compile(r"\s*(?:([()])|([A-Za-z0-9.+:-]+))")


def permitted(expression: str, allowed: Collection[str]) -> bool | None:
    """None for a text that is no expression: nobody can say what it permits."""
    tokens = _tokens(expression)
    if not tokens:
        return None
    try:
        reader = _Reader(tokens, {licence.casefold() for licence in allowed})
        answer = reader.alternatives()
        return answer if reader.at_end() else None
    except _NoExpressionError:
        return None


def conjuncts(expression: str) -> list[str]:
    """The parts of `A AND (B OR C)` that hold all together, without parentheses; any other text as it is."""
    parts: list[str] = []
    for piece in expression.split(" AND "):
        if parts and parts[-1].count("(") > parts[-1].count(")"):
            parts[-1] += f" AND {piece}"
        else:
            parts.append(piece)
    plain = [re.sub(r"\(([^()]*)\)", r"\1", part) if part.startswith("(") else part for part in parts]
    alternatives = any(" OR " in part and not part.startswith("(") for part in parts)
    return [expression] if alternatives else plain


class _NoExpressionError(Exception):
    """Never leaves this module."""


class _Reader:
    """Recursive descent: OR binds weaker than AND, AND weaker than WITH."""

    def __init__(self, tokens: list[str], allowed: Collection[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._allowed = allowed
        self._families = tuple(name[:-1] for name in allowed if FAMILY.fullmatch(name))
        self._depth = 0

    def at_end(self) -> bool:
        return self._at == len(self._tokens)

    def alternatives(self) -> bool:
        return any(list(self._several("or", self._conjunction)))

    def _conjunction(self) -> bool:
        return all(list(self._several("and", self._term)))

    def _several(self, word: str, read: Callable[[], bool]) -> Iterator[bool]:
        yield read()
        while self._take(word):
            yield read()

    def _term(self) -> bool:
        if self._take("("):
            self._depth += 1
            if self._depth > 50:
                raise _NoExpressionError
            inside = self.alternatives()
            if not self._take(")"):
                raise _NoExpressionError
            self._depth -= 1
            return inside
        licence = self._identifier()
        if not self._take("with"):
            return licence in self._allowed or licence.startswith(self._families)
        exception = self._identifier()
        permits_more = exception in EXCEPTIONS and licence in self._allowed
        return permits_more or f"{licence} with {exception}" in self._allowed

    def _identifier(self) -> str:
        if self.at_end() or self._tokens[self._at] in ("(", ")", "and", "or", "with"):
            raise _NoExpressionError
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, word: str) -> bool:
        if self.at_end() or self._tokens[self._at] != word:
            return False
        self._at += 1
        return True


def _tokens(text: str) -> list[str]:
    """In lower case; none where anything else stands in it."""
    found: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text) <= MAX_EXPRESSION:
        match = _TOKEN.match(text, at)
        if match is None:
            return []
        found.append((match[1] or match[2]).casefold())
        at = match.end()
    return found
