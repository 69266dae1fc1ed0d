"""Secrets in text, by the rules of detect-secrets; what is found leaves here masked.

Its detectors are asked one by one, so that none of its verification, which would ask the services
themselves, can run. Those that go by entropy alone are left out: every digest would be a secret.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from airgap.audit.evidence import Secret

_LEFT_OUT = frozenset({"Base64 High Entropy String", "Hex High Entropy String", "Public IP (ipv4)"})

_BY_NAME = "Secret Keyword"
"""The rule that goes by the name of a variable alone."""

MAX_TEXT = 256 * 1024
"""Bytes of a text that is searched."""

MAX_LINE = 4096
"""Characters of a line that is searched; longer ones are data, not text."""

_WORTH = re.compile(r"[=:]|-----BEGIN|https?://|[A-Za-z0-9_-]{16}")


def available() -> bool:
    return importlib.util.find_spec("detect_secrets") is not None


def search(path: str, text: str) -> Iterator[Secret]:
    """Every line of a text with a secret; none where detect-secrets is not installed: ask `available`."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MAX_LINE or not _WORTH.search(line):
            continue
        found = {
            detector.secret_type: max(values, key=len)
            for detector in _detectors()
            if (values := {value for value in detector.analyze_string(line) if value})
        }
        if len(found) > 1:
            found.pop(_BY_NAME, None)  # a rule that knows whose secret it is says more
        if found:
            yield Secret(path, number, ", ".join(found), masked(max(found.values(), key=len)))


def assignment(name: str, value: str) -> str:
    """An environment variable as the line of code that the rules are written for."""
    return f'{name}="{value}"'


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
    return tuple(found[name]() for name in sorted(found) if name not in _LEFT_OUT)
