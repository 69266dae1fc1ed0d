"""What a licence that somebody wrote down is: an SPDX expression, terms of its own, or nothing.

The list of SPDX identifiers is license-expression's. Trove classifiers that name one licence exactly are
translated; those that name a family ("BSD License") are not.
"""

import importlib
import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

MAX_EXPRESSION = 1000
"""Characters; what is longer is the text of a licence, not its name."""

_TROVE = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
}
"""PyPI's classifiers, the part after the last `::`."""

_SPELLED = {
    "apache 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "mit license": "MIT",
    "the mit license": "MIT",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "isc license": "ISC",
    "psf": "PSF-2.0",
}
"""Free text of METADATA that means one licence and no other."""

_NONCOMMERCIAL = re.compile(
    r"(?i)(?:^|[-\s(])(?:nc|non-?commercial|research-only)(?:$|[-\s)])|-research(?:-license)?\b"
)


def available() -> bool:
    return importlib.util.find_spec("license_expression") is not None


def load() -> None:
    """Make the list of identifiers ready, which takes a while: whoever asks first does it otherwise."""
    _licensing()


def expression(text: str) -> str:
    """The SPDX expression that `text` is, in SPDX's own spelling; '' when it is none or nobody can say."""
    text = text.strip()
    known = _SPELLED.get(text.lower(), text)
    licensing = _licensing()
    if licensing is None or not known or len(known) > MAX_EXPRESSION or "\n" in known:
        return ""
    try:
        found = licensing.parse(known, validate=True)
    except _errors():
        return ""
    return "" if found is None else str(found)


def of_classifiers(classifiers: Sequence[str]) -> str:
    """The one licence that trove classifiers name exactly; '' where they name none, or several."""
    found = {_TROVE.get(name, "") for name in _classified(classifiers)}
    return found.pop() if len(found) == 1 else ""


def of_package(said: str, classifiers: Sequence[str]) -> str:
    """A package's licence by its License text and classifiers, as SPDX spells it; else as it is named there.

    Where License is the text of a licence, the family that a classifier names says more than its first line.
    """
    named = said.strip()
    families = ", ".join(sorted(_classified(classifiers)))
    if families and ("\n" in named or not named):
        named = families
    found, classified = expression(said), of_classifiers(classifiers)
    if classified and (not found or found.casefold() != said.strip().casefold()):
        return classified  # "GPL" stands for every version there is; a classifier says which
    return found or named.split("\n")[0][:200]


def _classified(classifiers: Sequence[str]) -> set[str]:
    """What the trove classifiers name, a licence or a family of them, in their own words."""
    return {c.rpartition("::")[2].strip() for c in classifiers if c.startswith("License ::")} - {
        "OSI Approved"
    }


def noncommercial(text: str) -> bool:
    """Whether a licence's name says that it forbids commercial use: `CC-BY-NC-4.0` and its like."""
    return bool(_NONCOMMERCIAL.search(text))


@cache
def _errors() -> tuple[type[Exception], ...]:
    """What the library raises for text that is no expression, some of it by accident."""
    module = importlib.import_module("license_expression")
    own = (module.ExpressionError, module.ParseError)
    return (*own, ValueError, TypeError, AttributeError, IndexError, RecursionError)


@cache
def _licensing() -> Any:
    try:
        return importlib.import_module("license_expression").get_spdx_licensing()
    except ModuleNotFoundError:
        return None
