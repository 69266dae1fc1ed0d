"""Secrets in text, by the rules of detect-secrets and two of our own; what is found leaves here masked.

Its detectors are asked one by one, so that none of its verification, which would ask the services
themselves, can run. Those that go by entropy alone are left out: every digest would be a secret.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from airgap.audit.evidence import Secret

_LEFT_OUT = frozenset({"Base64 High Entropy String", "Hex High Entropy String", "Public IP (ipv4)"})

_BY_NAME = "Secret Keyword"
"""The rule that goes by the name of a variable alone."""

MAX_TEXT = 256 * 1024
"""Bytes of a text that is searched."""

MAX_LINE = 4096
"""Characters of a line that are searched at once; longer ones are data, not text."""

_OVERLAP = 512
"""Characters that are searched twice, where a line is cut: a token is shorter."""

_OWN = {
    "Hugging Face Token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "NVIDIA API Key": re.compile(r"\bnvapi-[A-Za-z0-9_-]{40,}"),
}
"""Tokens of the two hubs that models come from, which detect-secrets has no rule for."""

_ASSIGNED = re.compile(
    r"(?:(?<![\w-])--?(?P<option>[A-Za-z][\w.-]*)[= ]|(?<![\w-])(?P<name>[A-Za-z_]\w*)=)"
    r"['\"]?(?P<value>[^\s'\"$-][^\s'\"]*)"
)
"""A name and its value on a command line: `NAME=value`, `--name value`."""

_WORTH = re.compile(r"[=:]|-----BEGIN|https?://|[A-Za-z0-9_-]{16}")


def available() -> bool:
    return importlib.util.find_spec("detect_secrets") is not None


def load() -> None:
    """Make the rules ready, which takes a while: the first search does it, if nobody did before."""
    _detectors()


def search(path: str, text: str) -> Iterator[Secret]:
    """Every line of a text with a secret; none where detect-secrets is not installed: ask `available`."""
    for number, line in enumerate(text.split("\n"), 1):
        found: dict[str, str] = {}
        for start in range(0, max(1, len(line) - _OVERLAP), MAX_LINE - _OVERLAP):
            found |= _found(line[start : start + MAX_LINE])
        if len(line) > MAX_LINE or len(found) > 1:
            # In data names mean nothing, and a rule that knows whose secret it is says more.
            found.pop(_BY_NAME, None)
        if found:
            yield Secret(path, number, ", ".join(found), masked(max(found.values(), key=len)))


def _found(line: str) -> dict[str, str]:
    """The longest secret by each rule."""
    if not _WORTH.search(line):
        return {}
    return {
        detector.secret_type: max(values, key=len)
        for detector in _detectors()
        if (values := {value for value in detector.analyze_string(line) if value})
    }


def search_command(path: str, line: str) -> Iterator[Secret]:
    """The first secret of a command line or a build's step: of all of it, then of each value by its name."""
    found = (((m["option"] or m["name"]).replace("-", "_"), m["value"]) for m in _ASSIGNED.finditer(line))
    for text in (line, *(assignment(name, value) for name, value in found)):
        for secret in search(path, text):
            yield secret
            return


def assignment(name: str, value: str) -> str:
    """An environment variable as the line of code that the rules are written for."""
    return f'{name}="{value}"'


def describe(secret: Secret) -> str:
    """In words; a line number where there is more than one line."""
    where = f" in line {secret.line}" if secret.line else ""
    return f"what looks like a secret{where} ({secret.rule}): {secret.shown}"


def masked(value: str) -> str:
    """At most its first two characters, and never more than an eighth of it; its length is not told."""
    shown = min(2, len(value) // 8)
    return f"{value[:shown]}…"


@cache
def _detectors() -> tuple[Any, ...]:
    try:
        util = importlib.import_module("detect_secrets.core.plugins.util")
    except ModuleNotFoundError:
        return ()
    found = util.get_mapping_from_secret_type_to_class()
    own = (_Token(name, pattern) for name, pattern in _OWN.items())
    return (*own, *(found[name]() for name in sorted(found) if name not in _LEFT_OUT))


@dataclass(frozen=True, slots=True)
class _Token:
    """A detector of one form of token, with the names that detect-secrets' have."""

    secret_type: str
    pattern: re.Pattern[str]

    def analyze_string(self, line: str) -> Iterator[str]:
        yield from self.pattern.findall(line)
