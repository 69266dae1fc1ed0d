"""Combinations that are known to fail although nothing in their bytes disagrees: dated data, not code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from airgap.decode import Fields, read_document
from airgap.model import Target
from airgap.readiness.components import Model, Stack
from airgap.readiness.judgement import Evidence, Judgement, Rule

KNOWN_BAD = Rule("known-bad", 1, "it is none of the combinations that are known to fail")

FORMAT = 1
DATA = "known_bad.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """Releases that fail together, on models of these types ('' in none: on every model)."""

    id: str
    dated: str
    """When somebody last confirmed it, YYYY-MM-DD."""
    packages: tuple[tuple[str, str], ...]
    """Name and specifier (PEP 440)."""
    model_types: tuple[str, ...]
    message: str
    sources: tuple[str, ...]
    remedy: str


@cache
def known_pairs() -> tuple[Pair, ...]:
    """What this release of airgap knows."""
    return parse_pairs(files("airgap.readiness").joinpath(DATA).read_bytes(), DATA)


def age(today: date) -> str:
    """How old that knowledge is, for a person: it is data that somebody has to keep."""
    newest = max((pair.dated for pair in known_pairs()), default="")
    if not newest:
        return "no combination is known to fail"
    days = max(0, (today - date.fromisoformat(newest)).days)
    count = len(known_pairs())
    return f"known to fail together: {count} combination{'s' * (count > 1)}, as of {newest}, {days} days ago"


def parse_pairs(data: bytes, what: str) -> tuple[Pair, ...]:
    """Raises InputError naming every problem."""
    return read_document(data, what, _pairs)


def _pairs(fields: Fields) -> tuple[Pair, ...]:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"expected {FORMAT}")
    return tuple(_pair(table) for table in fields.tables("pairs"))


def _pair(fields: Fields) -> Pair:
    packages = fields.table("packages")
    named = tuple((name, packages.text(name)) for name in packages.all_keys())
    for name, specifier in named:
        try:
            SpecifierSet(specifier)
        except InvalidSpecifier:
            packages.problem(name, f"expected a specifier of PEP 440, found {specifier[:80]!r}")
    if not named:
        fields.problem("packages", "expected one package at least")
    pair = Pair(
        fields.text("id", pattern=r"[a-z0-9-]+", expected="lower-case words joined by '-'"),
        fields.text("dated", pattern=r"20[0-9]{2}-[01][0-9]-[0-3][0-9]", expected="a date YYYY-MM-DD"),
        named,
        fields.texts("model_types"),
        fields.text("message"),
        fields.texts("sources", default=None),
        fields.text("remedy"),
    )
    for source in pair.sources:
        if not re.match("https://", source):
            fields.problem("sources", f"expected https URLs, found {source[:80]!r}")
    fields.done()
    return pair


def judge_known_bad(model: Model, target: Target) -> Iterator[Judgement]:
    """The model and the releases that serve it against `known_bad.json`."""
    stack = model.served_by
    if stack is None or model.config is None:
        return
    types = {part.model_type for part in model.config.parts}
    found = [p for p in known_pairs() if (not p.model_types or types & set(p.model_types)) and _is(p, stack)]
    for pair in found:
        packages = [package for name, _ in pair.packages if (package := stack.find(name))]
        yield KNOWN_BAD.blocked(
            model.name,
            f"{' with '.join(p.label for p in packages)} {pair.message} (known since {pair.dated})",
            gap=f"{' with '.join(p.label for p in packages)} is known to fail",
            things=(*(p.label for p in packages), model.config.model_type),
            evidence=[*(p.itself for p in packages), *(Evidence(source) for source in pair.sources)],
            remedy=pair.remedy,
        )
    if not found:
        newest = max((pair.dated for pair in known_pairs()), default="")
        yield KNOWN_BAD.clear(model.name, f"none of the combinations known to fail as of {newest}")


def _is(pair: Pair, stack: Stack) -> bool:
    for name, specifier in pair.packages:
        package = stack.find(name)
        try:
            if not package or not SpecifierSet(specifier).contains(
                Version(package.version), prereleases=True
            ):
                return False
        except ValueError:  # InvalidVersion, and a number that Python will not convert
            return False
    return True
