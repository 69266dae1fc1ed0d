"""How far a release is from another, counted as a person would walk.

Within a line (0.19.x, 5.5.x) the next release is one step away. The next line is one step away, too, by
its newest release, which is the one to take when moving there; each older release of it is one more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from packaging.version import Version


@dataclass(frozen=True, slots=True)
class Step:
    """A release, and its distance from the one that was asked for."""

    version: Version
    steps: int
    newer: bool


def line_of(version: Version) -> tuple[int, ...]:
    """What releases of one line have in common: epoch, major and minor."""
    return (version.epoch, *version.release[:2])


def lines(releases: Sequence[Version]) -> list[tuple[Version, ...]]:
    """The releases by line, the oldest first in each, as lines are."""
    return [tuple(group) for _, group in groupby(sorted(releases), key=line_of)]


def walk(releases: Sequence[Version], asked: Version) -> tuple[Step, ...]:
    """The other releases, the nearest first; at one distance its own line first, then the newer ones."""
    every = lines([*(version for version in set(releases) if version != asked), asked])
    own = next(number for number, line in enumerate(every) if asked in line)
    steps = [step for number, line in enumerate(every) for step in _in_line(line, number - own, asked)]
    return tuple(sorted(steps, key=lambda s: (s.steps, line_of(s.version) != line_of(asked), not s.newer)))


def _in_line(line: Sequence[Version], away: int, asked: Version) -> Iterator[Step]:
    for place, version in enumerate(line):
        steps = abs(away) + len(line) - 1 - place if away else abs(place - line.index(asked))
        if steps:
            yield Step(version, steps, version > asked)
