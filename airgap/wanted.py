"""What of a bundle is there already, what lacks, and how that is read aloud to whoever burns it again."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from airgap.errors import InputError
from airgap.model import Sha256
from airgap.trust.blobs import StatedBlob
from airgap.trust.statement import Statement
from airgap.volumes import Item, Medium, company, cut

MAX_NAMED = 100_000
"""Volumes and items in one list: bounds what reading it costs."""

Wanted = Mapping[int, tuple[int, ...] | None]
"""Volumes by number; of each the numbers of the items that are wanted, or None for all of it."""


class Held:
    """Which bytes of which blobs are there and good."""

    def __init__(self) -> None:
        self.whole: set[Sha256] = set()
        self.ranges: dict[Sha256, list[tuple[int, int]]] = {}
        """Of blobs that are not whole: sorted, apart from each other, each from a begin to an end."""

    def add(self, item: Item) -> None:
        if item.whole:
            self.whole.add(item.digest)
            return
        begin, end = item.offset, item.end
        ranges = self.ranges.setdefault(item.digest, [])
        first = bisect_left(ranges, begin, key=itemgetter(1))  # hostile media hold very many of them
        last = bisect_right(ranges, end, key=itemgetter(0))
        touching = ranges[first:last]
        if touching:
            begin, end = min(begin, touching[0][0]), max(end, touching[-1][1])
        ranges[first:last] = [(begin, end)]

    def complete(self, blobs: Mapping[Sha256, StatedBlob]) -> list[Sha256]:
        """Those of `blobs`, sorted, of which every byte is there in ranges, and which are not whole yet."""
        return [
            digest
            for digest, ranges in sorted(self.ranges.items())
            if digest not in self.whole and ranges == [(0, blobs[digest].size)]
        ]

    def covers(self, item: Item) -> bool:
        """Whether every byte of an item is there."""
        return item.digest in self.whole or not list(self.gaps(item))

    def gaps(self, item: Item) -> Iterator[tuple[int, int]]:
        """The parts of an item that are not there, as ranges of its blob; none of a whole blob."""
        begin = item.offset
        ranges = [] if item.digest in self.whole else self.ranges.get(item.digest, [])
        for position in range(bisect_right(ranges, begin, key=itemgetter(1)), len(ranges)):
            there, until = ranges[position]
            if there > begin:
                yield begin, min(there, item.end)
            begin = max(begin, until)
            if begin >= item.end:
                return
        if item.digest not in self.whole:
            yield begin, item.end


def lacking(statement: Statement, medium: Medium, held: Held) -> dict[int, tuple[int, ...] | None]:
    """What must be burnt again, or at all, until every blob is there. Raises what `cut` raises."""
    wanted: dict[int, tuple[int, ...] | None] = {}
    for volume in cut(statement, medium):
        missing = tuple(k for k, item in enumerate(volume.items, 1) if not held.covers(item))
        if missing:
            few = len(missing) < len(volume.items) and len(missing) <= MAX_NAMED
            wanted[volume.number] = missing if few else None
    if not wanted and not company(statement).keys() <= held.whole:
        return {1: (0,)}
    return wanted


def render_only(wanted: Wanted) -> str:
    """As `--only` takes it, to be read aloud: `2-4,7:3+9-12` is volumes 2 to 4, and of 7 five items."""
    parts = [_spans(sorted(number for number, items in wanted.items() if items is None), ",")]
    parts += [
        f"{number}:{_spans(items, '+')}" for number, items in sorted(wanted.items()) if items is not None
    ]
    return ",".join(filter(None, parts))


def parse_only(text: str) -> dict[int, tuple[int, ...] | None]:
    """The inverse of `render_only`. Item 0 is none: the documents alone. Raises InputError."""
    span = r"[0-9]{1,7}(?:-[0-9]{1,7})?"
    named = 0
    wanted: dict[int, tuple[int, ...] | None] = {}
    for part in text.split(","):
        match = re.fullmatch(rf"\s*({span})(?::({span}(?:\+{span})*))?\s*", part)
        if match is None or (match[2] and "-" in match[1]):
            raise InputError(
                f"expected volumes and items such as 5 or 3:17 or 2-4,7:3+9-12; found {text[:80]!r}"
            )
        numbers = _numbers([match[1]])
        items = _numbers(match[2].split("+")) if match[2] else None
        named += len(numbers) + len(items or ())
        if named > MAX_NAMED:
            raise InputError(f"expected at most {MAX_NAMED} volumes and items, found {text[:80]!r}")
        for number in numbers:
            before = wanted.get(number, ())
            wanted[number] = None if items is None or before is None else tuple(sorted({*before, *items}))
    return wanted


def _numbers(spans: Iterable[str]) -> tuple[int, ...]:
    found: set[int] = set()
    for span in spans:
        first, _, last = span.partition("-")
        begin, end = int(first), int(last or first)
        if not 0 <= end - begin < MAX_NAMED:
            raise InputError(f"expected a rising span such as 2-4, of few, found {span!r}")
        found.update(range(begin, end + 1))
    return tuple(sorted(found))


def _spans(numbers: Sequence[int], joint: str) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return joint.join(str(begin) if begin == end else f"{begin}-{end}" for begin, end in spans)
