"""How far a version moved, by its numbers: a lock does not list the releases that lie between."""

import re
from itertools import zip_longest

from airgap.audit.ordering import python_key

_PARTS = ("major", "minor", "patch")
_RELEASE = re.compile(r"v?(?:([0-9]+)!)?([0-9]+(?:\.[0-9]+)*)", re.IGNORECASE)


def distance(before: str, after: str) -> str:
    """`2 minors up`, `1 major down`, `pre-release up`; '' where one is no Python version or both are one.

    The first number that differs decides. Calendar versions count years as majors.
    """
    one, other = python_key(before), python_key(after)
    if one is None or other is None or one == other:
        return ""
    direction = "up" if other > one else "down"
    old, new = _numbers(before), _numbers(after)
    if old[0] != new[0]:
        return f"another epoch, {direction}"
    for place, (left, right) in enumerate(zip_longest(old[1], new[1], fillvalue=0)):
        if left != right:
            part = _PARTS[place] if place < len(_PARTS) else f"part {place + 1}"
            count = abs(right - left)
            plural = "es" if part == "patch" else "s"
            return f"{count} {part}{plural if count > 1 and place < len(_PARTS) else ''} {direction}"
    _, _, pre, post, dev, _ = one
    _, _, pre_after, post_after, dev_after, _ = other
    if (pre, dev) != (pre_after, dev_after):
        return f"pre-release, {direction}"
    return f"{'post-release' if post != post_after else 'local label'}, {direction}"


def _numbers(version: str) -> tuple[int, tuple[int, ...]]:
    match = _RELEASE.match(version.strip())
    assert match, "python_key took it"
    return int(match[1] or 0), tuple(int(part) for part in match[2].split("."))
