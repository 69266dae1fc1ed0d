"""The nearest releases that clear what is blocked, each judged by the rules that judged the composition.

Newer releases are looked at first; older ones only where no newer one helps. Each package that a block
names is moved alone, and only when none of them helps alone, two together: the fewest steps first. A
candidate is read no deeper than it takes to refuse it: by its name (no request), by its METADATA, by its
source tables. What a rule cannot decide of a candidate is no pass, so such a candidate is refused, too.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import combinations
from typing import Protocol

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from airgap.errors import AirgapError, SourceError
from airgap.model import Target
from airgap.readiness.check import judge
from airgap.readiness.components import Composition, Distribution, Model, Stack
from airgap.readiness.judgement import Judgement, Report, Verdict
from airgap.readiness.reading import Seen, seen_in, stack_of
from airgap.readiness.rules_models import ARCHITECTURE, METHOD, MODEL_TYPE
from airgap.readiness.rules_packages import PINS, only_unchosen
from airgap.readiness.steps import Step, walk
from airgap.tags import normalized_name

MAX_STEPS = 30
"""Steps from what was asked for; farther releases are another project in all but name."""

_DECIDING = {MODEL_TYPE.id, ARCHITECTURE.id, METHOD.id}
"""Rules that the sources of a candidate decide: one that held must go on to be decided."""


class OutOfRequests(SourceError):
    """More requests than were allowed would be needed."""


class Depth(IntEnum):
    """How much of a candidate is read."""

    NAME = 0
    METADATA = 1
    TABLES = 2


class Releases(Protocol):
    """Releases that an index knows. Both raise OutOfRequests, or another AirgapError for what is damaged."""

    def releases(self, project: str, *, prereleases: bool) -> Sequence[Version]: ...

    def read(self, project: str, version: Version, depth: Depth) -> Seen: ...


@dataclass(frozen=True, slots=True)
class Move:
    """One package from the release that was asked for to another; `steps` as readiness/steps.py counts."""

    project: str
    before: Version
    after: Step

    def __str__(self) -> str:
        steps = f"{self.after.steps} step{'' if self.after.steps == 1 else 's'}"
        direction = "newer" if self.after.newer else "older"
        return f"{self.project} {self.before} -> {self.after.version} ({steps} {direction})"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Moves after which nothing is left of what they clear, and nothing new is blocked."""

    clears: tuple[Judgement, ...]
    moves: tuple[Move, ...]
    requirements: tuple[str, ...]
    """Those of the set with the moves made: to be pasted into the manifest."""
    undecided: tuple[str, ...]
    """Rules that had decided and no longer do, because less of the candidate was read."""

    @property
    def steps(self) -> int:
        return sum(move.after.steps for move in self.moves)


@dataclass(frozen=True, slots=True)
class Vain:
    """Packages moved in vain: how many candidates, the farthest of them, and why most were refused."""

    projects: tuple[str, ...]
    newer: bool
    """Whether to newer releases; else to older ones, or to one of each."""
    looked: int
    farthest: str
    reason: str
    unanimous: bool
    """Whether all were refused for this reason."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search for one stack came to. `why_not` says why nothing was searched, '' if it was."""

    stack: str
    blocks: tuple[Judgement, ...]
    """What is to be cleared."""
    suggestions: tuple[Suggestion, ...] = ()
    vain: tuple[Vain, ...] = ()
    why_not: str = ""
    stopped: str = ""
    """Why the search ended before it was complete."""


Key = tuple[str, str, tuple[str, ...]]


@dataclass(slots=True)
class Search:
    """The search for one stack whose packages are exactly what was asked for, with the models it serves."""

    stack: Stack
    models: tuple[Model, ...]
    target: Target
    catalogue: Releases
    _before: Report = field(init=False)
    _goal: dict[Key, Judgement] = field(init=False)
    _partners: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._before = self._judge(self.stack, self.models)
        self._goal = {
            _key(block, self.stack): block
            for block in self._before.judgements(Verdict.BLOCKED)
            if packages_named(block, self.stack)
        }

    def run(self) -> Found:
        """Never raises for want of requests: what was found by then is the answer, and it says so."""
        every = dict(self._goal)
        blocks = tuple(every.values())
        if not every:
            return Found(
                self.stack.name, (), why_not="no release of what was asked for changes what is blocked"
            )
        found: list[Suggestion] = []
        vain: list[Vain] = []
        stopped = ""
        try:
            self._look(found, vain)
            for key, block in every.items() if len(every) > 1 and not found else ():
                self._goal = {key: block}
                self._look(found, [])
        except SourceError as error:  # OutOfRequests is one
            stopped = error.message
        found.sort(key=lambda suggestion: suggestion.steps)
        return Found(self.stack.name, blocks, tuple(found), tuple(vain), stopped=stopped)

    def _look(self, found: list[Suggestion], vain: list[Vain]) -> None:
        """One search for what clears all of the goal."""
        before = len(found)
        named = {name for block in self._goal.values() for name in packages_named(block, self.stack)}
        involved = sorted(named, key=self._order)
        walks = {name: self._walk(name) for name in involved}
        for newer in (True, False):
            for name in involved:
                moves = [(move,) for move in walks[name] if move.after.newer is newer]
                self._first(moves, found, vain)
            if len(found) > before:
                return
            for partner in sorted(self._partners - walks.keys()):
                walks[partner] = self._walk(partner)
            for pair in combinations(sorted(walks, key=self._order), 2):
                self._first(_pairs(walks[pair[0]], walks[pair[1]], newer=newer), found, vain)
            if len(found) > before:
                return

    def _walk(self, name: str) -> tuple[Move, ...]:
        package = self.stack.find(name)
        assert package, "it was named for being there"
        try:
            asked = Version(package.version)
        except ValueError:  # InvalidVersion, and a number that Python will not convert
            return ()
        known = self.catalogue.releases(name, prereleases=asked.is_prerelease)
        return tuple(Move(name, asked, step) for step in walk(known, asked) if step.steps <= MAX_STEPS)

    def _first(
        self, candidates: Sequence[tuple[Move, ...]], found: list[Suggestion], vain: list[Vain]
    ) -> None:
        """Add the first of the candidates that is not refused, else what they were refused for."""
        reasons: Counter[str] = Counter()
        for moves in candidates:
            report, reason = self._try(moves)
            if report is not None:
                clears = tuple(self._goal.values())
                found.append(Suggestion(clears, moves, self._requirements(moves), self._undecided(report)))
                return
            reasons[reason] += 1
        if candidates:
            last = candidates[-1]
            farthest = " with ".join(f"{move.project} {move.after.version}" for move in last)
            newer = all(move.after.newer for move in last)
            reason = reasons.most_common(1)[0][0]
            projects = tuple(move.project for move in last)
            vain.append(Vain(projects, newer, len(candidates), farthest, reason, len(reasons) == 1))

    def _try(self, moves: tuple[Move, ...]) -> tuple[Report | None, str]:
        """The report on the stack after the moves, or why it was refused."""
        for depths in _deeper(len(moves)):
            try:
                moved = [
                    self.catalogue.read(move.project, move.after.version, depth)
                    for move, depth in zip(moves, depths, strict=True)
                ]
            except OutOfRequests:
                raise
            except AirgapError as error:
                return None, error.message
            stack = self._moved(moved)
            complete = min(depths) is Depth.TABLES
            report = self._judge(stack, self.models if complete else ())
            if reason := self._refused(report, stack, complete=complete):
                return None, reason
            if complete:
                return report, ""
        raise AssertionError("the last depth is complete")

    def _refused(self, report: Report, stack: Stack, *, complete: bool) -> str:
        """Why the report is no answer: something new is blocked, or left, or what held is not decided."""
        allowed = {_key(j, self.stack) for j in self._before.judgements(Verdict.BLOCKED)} - self._goal.keys()
        for block in report.judgements(Verdict.BLOCKED):
            if _key(block, stack) not in allowed:
                self._partners |= packages_named(block, stack) & {p.key for p in self.stack.packages}
                return block.gap
        if not complete:
            return ""
        if unclear := self._unclear_pins(report) - self._unclear_pins(self._before):
            return min(unclear)
        before = {c.name: c.rules for c in self._before.components}
        for component in report.components:
            for rule, verdict in component.rules.items():
                held = before[component.name].get(rule, Verdict.UNKNOWN)
                owed = held is Verdict.BLOCKED or (held is Verdict.NO_BLOCKER and rule in _DECIDING)
                if verdict is Verdict.UNKNOWN and owed and rule != PINS.id:
                    return f"{rule} is unknown with it"
        return ""

    def _unclear_pins(self, report: Report) -> set[str]:
        unknown = report.judgements(Verdict.UNKNOWN)
        return {j.message for j in unknown if j.rule == PINS.id and not only_unchosen(j)}

    def _undecided(self, report: Report) -> tuple[str, ...]:
        before = {(c.name, rule): v for c in self._before.components for rule, v in c.rules.items()}
        lost = (
            rule
            for component in report.components
            for rule, verdict in component.rules.items()
            if verdict is Verdict.UNKNOWN and before.get((component.name, rule)) is Verdict.NO_BLOCKER
        )
        return tuple(dict.fromkeys(lost))

    def _judge(self, stack: Stack, models: Sequence[Model]) -> Report:
        served = tuple(replace(model, served_by=stack) for model in models)
        return judge(Composition(self.target, (stack,), served))

    def _moved(self, moved: Sequence[Seen]) -> Stack:
        names = {one.distribution.key for one in moved}
        kept = [one for one in seen_in(self.stack) if one.distribution.key not in names]
        return stack_of(
            self.stack.name,
            self.stack.kind,
            [*kept, *moved],
            closed=False,
            unread=self.stack.unread,
            requirements=self.stack.requirements,
        )

    def _requirements(self, moves: Sequence[Move]) -> tuple[str, ...]:
        return with_moves(self.stack.requirements, {m.project: str(m.after.version) for m in moves})

    def _order(self, name: str) -> tuple[bool, str]:
        """Packages that declare requirements on another one here come first: they refuse the most."""
        package = self.stack.find(name)
        others = {p.key for p in self.stack.packages} - {name}
        return not (package and _requires(package) & others), name


def opened(stack: Stack) -> Stack:
    """The stack as it was asked for: of one that is locked, what was pinned and what a block may name."""
    pinned = {n for line in stack.requirements if (n := _pinned(line))}
    kept = [
        one
        for one in seen_in(stack)
        if not stack.closed or one.distribution.key in pinned or one.distribution.key in _ENGINES
    ]
    unread = {} if stack.closed else stack.unread
    return stack_of(
        stack.name, stack.kind, kept, closed=False, unread=unread, requirements=stack.requirements
    )


_ENGINES = ("vllm", "transformers")


def with_moves(requirements: Sequence[str], moved: Mapping[str, str]) -> tuple[str, ...]:
    """The requirements with these projects pinned; those that nobody had asked for come last."""
    left = dict(moved)
    lines = []
    for line in requirements:
        name = _name(line)
        if name in moved:
            left.pop(name, None)
            wanted = Requirement(line)
            extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
            marker = f" ; {wanted.marker}" if wanted.marker else ""
            lines.append(f"{wanted.name}{extras}=={moved[name]}{marker}")
        else:
            lines.append(line)
    return (*lines, *(f"{name}=={version}" for name, version in left.items()))


def _name(line: str) -> str:
    try:
        return normalized_name(Requirement(line).name)
    except InvalidRequirement:
        return ""


def _pinned(line: str) -> str:
    """The project that a requirement pins to one release, '' for none."""
    name = _name(line)
    exact = name and any(s.operator == "==" and "*" not in s.version for s in Requirement(line).specifier)
    return name if exact else ""


def _requires(package: Distribution) -> set[str]:
    return {name for line in package.metadata.requires if (name := _name(line))}


def packages_named(judgement: Judgement, stack: Stack) -> set[str]:
    """The packages of the stack that a judgement is about."""
    return {name for thing in judgement.things if (name := _names(stack).get(thing))}


def _key(judgement: Judgement, stack: Stack) -> Key:
    """What is blocked, whichever releases it names."""
    names = _names(stack)
    return judgement.rule, judgement.subject, tuple(names.get(thing, thing) for thing in judgement.things)


def _names(stack: Stack) -> dict[str, str]:
    return {thing: package.key for package in stack.packages for thing in (package.label, package.file)}


def _pairs(first: Sequence[Move], second: Sequence[Move], *, newer: bool) -> list[tuple[Move, ...]]:
    """Both moved, the fewest steps together first: to newer releases, or with an older one among them."""
    pairs = [(a, b) for a in first for b in second if (a.after.newer and b.after.newer) is newer]
    return [*sorted(pairs, key=lambda pair: pair[0].after.steps + pair[1].after.steps)]


def _deeper(count: int) -> Iterator[tuple[Depth, ...]]:
    """Names alone, then METADATA and tables, of one package more each time."""
    yield (Depth.NAME,) * count
    for depth in (Depth.METADATA, Depth.TABLES):
        for place in range(1, count + 1):
            yield (depth,) * place + (Depth(depth - 1),) * (count - place)
