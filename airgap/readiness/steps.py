"""How far a release is from another, counted as a person would walk.

Within a line (0.19.x, 5.5.x) the next release is one step away. The next line is one step away, too, by
its newest release, which is the one to take when moving there; each older release of it is one more.
"""

from collections.abc import Callable, Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class Edge:
    """Where something begins in a list: `has` it, and the place before, `lacks`, has it not.

    `lacks` is -1 where nothing before `has` is known to lack it; `unclear` is where nobody could say, or -1.
    """

    has: int
    lacks: int
    unclear: int = -1


def find_edge(has: int, lacks: int, look: Callable[[int], bool | None]) -> Edge:
    """An edge between `lacks` (-1: unknown) and `has`: back in strides, each twice the last, then by halves.

    What comes and goes has several edges; this is one of them, and true of the two places that it names.
    """
    stride = 1
    while has - lacks > 1 or lacks < 0 < has:
        place = max(0, has - stride) if lacks < 0 else (has + lacks) // 2
        match look(place):
            case True:
                has, stride = place, 2 * stride
            case False:
                lacks = place
            case None:
                return Edge(has, lacks, place)
    return Edge(has, lacks)
