"""Advisories in the OSV format, and whether one of them affects a version: pure, no clock, no I/O.

Source: ossf.github.io/osv-schema, "affected[] fields" and its evaluation algorithm. Ranges are judged by
the ecosystem's own order (`airgap.audit.ordering`). What cannot be judged by the rules is said, and never
taken for "not affected": a range of another type, a version that is none of its ecosystem.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from airgap.audit.ordering import Key, Order, order_of, public_version
from airgap.decode import Fields, parse_json
from airgap.errors import InputError
from airgap.tags import normalized_name

MAX_ADVISORY = 16 * 1024 * 1024
"""Bytes of one advisory; those of the Linux kernel, which list thousands of versions, have some 1 MiB."""

EVERY_VERSION = "0"
"""An `introduced` that lies before every version, whatever the order."""

NO_LIMIT = "*"


class EventKind(StrEnum):
    """What begins or ends at a version; the value is the key in the JSON."""

    INTRODUCED = "introduced"
    FIXED = "fixed"
    LAST_AFFECTED = "last_affected"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Event:
    kind: EventKind
    version: str


@dataclass(frozen=True, slots=True)
class Range:
    """`type` is as written; only ECOSYSTEM has an order that is judged here."""

    type: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Affected:
    """One package of an advisory. `scores` are CVSS vectors of it alone."""

    ecosystem: str
    name: str
    versions: frozenset[str]
    ranges: tuple[Range, ...]
    scores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advisory:
    """One advisory. `word` is what its database calls its severity, '' where it does not."""

    id: str
    modified: str
    withdrawn: bool
    aliases: tuple[str, ...]
    upstream: tuple[str, ...]
    """What a distribution's advisory was made of; not the same thing under another name."""
    summary: str
    scores: tuple[str, ...]
    word: str
    affected: tuple[Affected, ...]


class Answer(StrEnum):
    """Whether a version is affected."""

    AFFECTED = "affected"
    UNAFFECTED = "unaffected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`fixed` are the versions that end the ranges which hold the version; `reason` is why it is unknown."""

    answer: Answer
    fixed: tuple[str, ...] = ()
    reason: str = ""


def parse_advisory(data: bytes, what: str) -> Advisory:
    """Read what is judged of an advisory; keys that are not are ignored, as the schema asks of readers.

    Raises InputError naming every problem.
    """
    fields = Fields(parse_json(data, what, max_bytes=MAX_ADVISORY, floats=True))
    fields.raise_if_bad(what)
    advisory = Advisory(
        fields.text("id"),
        fields.text("modified"),
        fields.raw("withdrawn") is not None,
        _texts(fields, "aliases"),
        _texts(fields, "upstream"),
        _text(fields, "summary") or _text(fields, "details").strip().partition("\n")[0],
        _scores(fields),
        _word(fields),
        tuple(affected for table in _tables(fields, "affected") if (affected := _affected(table))),
    )
    fields.raise_if_bad(what)
    return advisory


def same_package(affected: Affected, ecosystems: Iterable[str], name: str) -> bool:
    """Whether `affected` is about package `name` of one of `ecosystems`."""
    if affected.ecosystem not in ecosystems:
        return False
    if affected.ecosystem == "PyPI":
        return normalized_name(affected.name) == normalized_name(name)
    return affected.name == name


def evaluate(affected: Affected, version: str) -> Evaluation:
    """Whether `version` of that package is affected, by its list of versions and its ranges.

    A Python version with a local label is affected, too, where the version that it was built from is:
    `fixed` 2.6.0 does not name 2.5.1+cu124, and neither does a list of what an index holds.
    """
    order = order_of(affected.ecosystem)
    if order is None:
        if version in affected.versions:
            return Evaluation(Answer.AFFECTED)
        return Evaluation(
            Answer.UNKNOWN, reason=f"the order of versions of {affected.ecosystem} is not known"
        )
    spellings = [version]
    if affected.ecosystem == "PyPI" and "+" in version:
        spellings.append(public_version(version))
    evaluations = [_evaluate(affected, spelling, order) for spelling in spellings]
    rank = (Answer.AFFECTED, Answer.UNKNOWN, Answer.UNAFFECTED)
    return min(evaluations, key=lambda evaluation: rank.index(evaluation.answer))


def _evaluate(affected: Affected, version: str, order: Order) -> Evaluation:
    key = order(version)
    if key is None:
        if version in affected.versions:
            return Evaluation(Answer.AFFECTED)
        return Evaluation(Answer.UNKNOWN, reason=f"{version!r} is no version of {affected.ecosystem}")
    listed = version in affected.versions or any(order(other) == key for other in affected.versions)
    fixed: list[str] = []
    held = listed
    reason = ""
    for one in affected.ranges:
        if one.type == "GIT":  # about commits, which no package's version is
            continue
        try:
            inside = _inside(one, key, order)
        except InputError as error:
            reason = error.message
            continue
        if inside or listed:
            fixed += _fixes(one, key, order)
        held = held or inside
    if held:
        return Evaluation(Answer.AFFECTED, _ordered(fixed, order))
    return Evaluation(Answer.UNKNOWN, reason=reason) if reason else Evaluation(Answer.UNAFFECTED)


def _inside(one: Range, key: Key, order: Order) -> bool:
    """The schema's algorithm. Raises InputError for a range that cannot be judged."""
    if one.type != "ECOSYSTEM":
        raise InputError(f"a range of type {one.type[:40]!r} is not judged")
    placed = sorted(((_place(event, order), event.kind) for event in one.events), key=lambda pair: pair[0])
    limits = [place for place, kind in placed if kind is EventKind.LIMIT]
    if limits and not any((1, *key) < limit for limit in limits):
        return False
    inside = False
    for place, kind in placed:
        here = (1, *key)
        if kind is EventKind.INTRODUCED and here >= place:
            inside = True
        elif (kind is EventKind.FIXED and here >= place) or (
            kind is EventKind.LAST_AFFECTED and here > place
        ):
            inside = False
    return inside


def _place(event: Event, order: Order) -> Key:
    """Where an event lies: 0 before every version, 2 behind every one."""
    if event.version == EVERY_VERSION and event.kind is EventKind.INTRODUCED:
        return (0,)
    if event.version == NO_LIMIT and event.kind is EventKind.LIMIT:
        return (2,)
    key = order(event.version)
    if key is None:
        raise InputError(f"{event.kind} {event.version[:80]!r} is no version of its ecosystem")
    return (1, *key)


def _fixes(one: Range, key: Key, order: Order) -> list[str]:
    keys = ((event.version, order(event.version)) for event in one.events if event.kind is EventKind.FIXED)
    return [version for version, fix in keys if fix is not None and fix > key]


def _ordered(versions: Sequence[str], order: Order) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(versions), key=lambda version: order(version) or ()))


def _affected(fields: Fields) -> Affected | None:
    """None for what names no package: a range of commits of a repository."""
    if fields.raw("package") is None:
        return None
    package = fields.table("package")
    return Affected(
        package.text("ecosystem"),
        package.text("name"),
        frozenset(_texts(fields, "versions")),
        tuple(Range(table.text("type"), tuple(_events(table))) for table in _tables(fields, "ranges")),
        _scores(fields),
    )


def _events(fields: Fields) -> Iterable[Event]:
    for table in fields.tables("events"):
        kinds = [kind for kind in EventKind if table.has(kind.value)]
        if len(kinds) != 1:
            table.problem("", f"expected exactly one of {', '.join(EventKind)}")
        else:
            yield Event(kinds[0], table.text(kinds[0].value))


def _scores(fields: Fields) -> tuple[str, ...]:
    """CVSS vectors; other types of score say nothing that is compared."""
    tables = _tables(fields, "severity")
    return tuple(table.text("score") for table in tables if table.text("type").startswith("CVSS_"))


def _word(fields: Fields) -> str:
    """`database_specific.severity` where it is a word, as the GitHub database has it; else it is ignored."""
    specific = fields.raw("database_specific")
    word = specific.get("severity") if isinstance(specific, dict) else None
    return word.lower() if isinstance(word, str) else ""


# The schema lets most keys be null, which means that they are absent.


def _text(fields: Fields, key: str) -> str:
    return fields.text(key) if fields.raw(key) is not None else ""


def _texts(fields: Fields, key: str) -> tuple[str, ...]:
    return fields.texts(key) if fields.raw(key) is not None else ()


def _tables(fields: Fields, key: str) -> list[Fields]:
    return fields.tables(key) if fields.raw(key) is not None else []
