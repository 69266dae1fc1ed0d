"""Which of two versions is the newer one, in each ecosystem's own order, as keys that Python compares.

Sources: Python, the version specifiers specification (PEP 440); Debian, deb-version(7); Alpine, the
grammar and token order of apk-tools' `apk_version_compare`; RPM, rpm-version(7) with `rpmvercmp`. Each is
proven in the tests against the program that decides: `packaging`, `dpkg --compare-versions`, `rpm`. Alpine's
alone is proven against written examples, because no other system carries its program.

The isolated side judges versions with this module, so it imports nothing. A text that is no version of its
ecosystem has no key: whoever asks says UNKNOWN.
"""

import re
from collections.abc import Callable
from typing import Any

Key = tuple[Any, ...]
"""Comparable with keys of the same order alone."""

Order = Callable[[str], Key | None]

MAX_VERSION = 256
"""Characters; nobody's version is longer, and Python refuses to read integers of thousands of digits."""


def order_of(ecosystem: str) -> Order | None:
    """The order of an OSV ecosystem such as `PyPI` or `Debian:12`; None where it is not known here."""
    return _ORDERS.get(ecosystem.partition(":")[0])


# ------------------------------------------------------------------ Python

_PEP440 = re.compile(
    r"""v?(?:(?P<epoch>[0-9]+)!)?(?P<release>[0-9]+(?:\.[0-9]+)*)
    (?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_number>[0-9]+)?)?
    (?P<post>-(?P<implicit>[0-9]+)|[-_.]?(?:post|rev|r)[-_.]?(?P<post_number>[0-9]+)?)?
    (?P<dev>[-_.]?dev[-_.]?(?P<dev_number>[0-9]+)?)?
    (?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_PRE = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}


def python_key(text: str) -> Key | None:
    """PEP 440: 1.dev1 < 1a1 < 1rc1 < 1 < 1+local < 1.post1."""
    match = _PEP440.fullmatch(text.strip()) if len(text) <= MAX_VERSION else None
    if match is None:
        return None
    release = [int(part) for part in match["release"].split(".")]
    while release and release[-1] == 0:
        release.pop()
    number = int(match["implicit"] or match["post_number"] or 0)
    if match["pre"]:
        letter = match["pre"].lower()
        pre: Key = (1, _PRE.get(letter, letter), int(match["pre_number"] or 0))
    else:  # a development release of nothing else comes before its alphas
        pre = (0,) if match["dev"] and not match["post"] else (2,)
    return (
        int(match["epoch"] or 0),
        tuple(release),
        pre,
        (1, number) if match["post"] else (0,),
        (0, int(match["dev_number"] or 0)) if match["dev"] else (1,),
        tuple(
            (1, int(part)) if part.isdigit() else (0, part)
            for part in re.split(r"[-_.]", (match["local"] or "").lower())
            if part
        ),
    )


def public_version(text: str) -> str:
    """A Python version without its local label: what 2.5.1+cu124 was built from."""
    return text.partition("+")[0]


# ------------------------------------------------------------------ Debian and its descendants

_DEBIAN = re.compile(r"(?:([0-9]+):)?([0-9][A-Za-z0-9.+~:-]*?)(?:-([A-Za-z0-9.+~]+))?", re.ASCII)


def debian_key(text: str) -> Key | None:
    """deb-version(7): epoch, upstream version, revision; `~` sorts before the end."""
    match = _DEBIAN.fullmatch(text) if len(text) <= MAX_VERSION else None
    if match is None:
        return None
    # Without an epoch, nothing but an epoch could explain a colon; without a revision, no hyphen.
    if ":" in match[2] and match[1] is None:
        return None
    return int(match[1] or 0), _debian_part(match[2]), _debian_part(match[3] or "0")


def _debian_part(text: str) -> Key:
    """Stretches of other characters and of digits in turn; the last pair stands for the end."""
    pairs = re.findall(r"([^0-9]*)([0-9]*)", text)
    return tuple(((*map(_debian_weight, other), 0), int(digits or 0)) for other, digits in pairs)


def _debian_weight(char: str) -> int:
    """`~`, then the end (0), then letters, then the rest."""
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


# ------------------------------------------------------------------ Alpine

_ALPINE = re.compile(
    r"""([0-9]+)((?:\.[0-9]+)*)([a-z]?)
    ((?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]*)*)
    (?:~([0-9a-f]+))?(?:-r([0-9]+))?""",
    re.VERBOSE | re.ASCII,
)
_BEFORE = ("alpha", "beta", "pre", "rc")
_AFTER = ("cvs", "svn", "git", "hg", "p")
_PRE_SUFFIX, _END, _REVISION, _HASH, _SUFFIX_NUMBER, _SUFFIX, _LETTER, _DIGITS = range(-1, 7)
"""Which kind of token makes a version newer, where two versions differ in the kind."""


def alpine_key(text: str) -> Key | None:
    """Tokens in turn: 1.2_rc1 < 1.2 < 1.2-r1 < 1.2_p1 < 1.2a < 1.2.0."""
    match = _ALPINE.fullmatch(text) if len(text) <= MAX_VERSION else None
    if match is None:
        return None
    first, others, letter, suffixes, commit, revision = match.groups()
    tokens: list[Key] = [(_DIGITS, 1, int(first))]
    # Behind the first number, digits that begin with 0 are a fraction: 1.05 comes before 1.1.
    tokens += [
        (_DIGITS, 0, part) if part.startswith("0") else (_DIGITS, 1, int(part))
        for part in others.split(".")[1:]
    ]
    if letter:
        tokens.append((_LETTER, letter))
    for name, number in re.findall(r"_([a-z]+)([0-9]*)", suffixes):
        before = name in _BEFORE
        place = _BEFORE.index(name) if before else _AFTER.index(name)
        tokens.append((_PRE_SUFFIX if before else _SUFFIX, place))
        if number:
            tokens.append((_SUFFIX_NUMBER, int(number)))
    if commit:
        tokens.append((_HASH, commit))
    if revision:
        tokens.append((_REVISION, int(revision)))
    return (*tokens, (_END,))


# ------------------------------------------------------------------ RPM

_RPM = re.compile(r"(?:([0-9]+):)?([A-Za-z0-9._+~^]+)(?:-([A-Za-z0-9._+~^]+))?", re.ASCII)
_TILDE, _RPM_END, _CARET, _WORD, _NUMBER = range(5)


def rpm_key(text: str) -> Key | None:
    """rpm-version(7): epoch, version, release; `~` sorts before the end and `^` right behind it."""
    match = _RPM.fullmatch(text) if len(text) <= MAX_VERSION else None
    if match is None:
        return None
    return int(match[1] or 0), _rpm_part(match[2]), _rpm_part(match[3] or "")


def _rpm_part(text: str) -> Key:
    pieces: list[Key] = []
    for piece in re.findall(r"[0-9]+|[A-Za-z]+|[~^]", text):
        if piece.isdigit():
            pieces.append((_NUMBER, int(piece)))
        elif piece.isalpha():
            pieces.append((_WORD, piece))
        else:
            pieces.append((_TILDE,) if piece == "~" else (_CARET,))
    return (*pieces, (_RPM_END,))


_ORDERS: dict[str, Order] = {
    "PyPI": python_key,
    "Debian": debian_key,
    "Ubuntu": debian_key,
    "Alpine": alpine_key,
    "AlmaLinux": rpm_key,
    "Rocky Linux": rpm_key,
}
