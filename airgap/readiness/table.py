"""A report as a person reads it: a row a component, its verdict, the gap, what clears it; then the proof."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from airgap.model import Target
from airgap.readiness.judgement import Judged, Judgement, Report, Verdict
from airgap.units import human_bytes

HEAD = ("component", "verdict", "gap", "what clears it")
MIN_WIDTH = 80
_VERDICT = len("NO BLOCKER FOUND")
_GAP = 2
_NAME = (20, 30)
"""Columns of a component's name: no more than leave the other columns as wide as their own heads."""


def render(report: Report, target: Target, width: int) -> list[str]:
    """Lines of at most `width` columns, 80 at least, but for evidence, which is never cut."""
    widths = _widths(report, max(width, MIN_WIDTH))
    lines = [for_target(target), "", _line(HEAD, widths), _line(["-" * w for w in widths], widths)]
    for component in report.components:
        for row in _rows(component):
            lines += _wrapped(row, widths)
    lines += ["", *_findings(report), *(f"note: {note}" for note in report.notes)]
    return [line.rstrip() for line in [*lines, _total(report)]]


def brief(report: Report) -> list[str]:
    """One line for each block, and the total: for a person about to sign."""
    blocked = report.judgements(Verdict.BLOCKED)
    return [*(f"BLOCKED  {one.subject}: {one.message}  [{one.rule}]" for one in blocked), _total(report)]


def for_target(target: Target) -> str:
    parts = [f"Python {target.python}", str(target.platform), f"glibc {target.glibc}"]
    if target.gpu:
        gpu = target.gpu
        parts.append(f"{gpu.count} × {gpu.name} ({gpu.compute_capability}, {gpu.memory_gib} GiB)")
    parts += [f"driver {target.driver}"] if target.driver else []
    return "for " + ", ".join(parts)


def _widths(report: Report, width: int) -> tuple[int, int, int, int]:
    longest = max((len(c.name) for c in report.components), default=0)
    name = min(max(longest, _NAME[0]), _NAME[1])
    rest = width - name - _VERDICT - 3 * _GAP
    return name, _VERDICT, rest // 2, rest - rest // 2


def _rows(component: Judged) -> Iterator[tuple[str, str, str, str]]:
    """A row for each block; a component without one has a row that says what is undecided."""
    about = [component.name, component.detail]
    about += [f"NVFP4: {component.nvfp4}"] if component.nvfp4 else []
    rules = component.rules
    verdict = [component.verdict.value]
    verdict += [f"{component.decided} of {len(rules)} decided"] if rules else ["no rule"]
    first = ("\n".join(filter(None, about)), "\n".join(verdict))
    gaps = list(
        dict.fromkeys((j.gap, j.remedy) for j in component.judgements if j.verdict is Verdict.BLOCKED)
    )
    unknown = [rule for rule, found in rules.items() if found is Verdict.UNKNOWN]
    if not gaps and unknown:
        gaps = [(f"unknown: {', '.join(unknown)}", "see below")]
    for (name, said), (gap, clears) in zip_longest([first], gaps or [("", "")], fillvalue=("", "")):
        yield name, said, gap, clears


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    cells = [
        [
            line
            for part in text.split("\n")
            for line in textwrap.wrap(_broken(part, width), width, break_on_hyphens=False)
        ]
        for text, width in zip(row, widths, strict=True)
    ]
    for lines in zip_longest(*cells, fillvalue=""):
        yield _line(lines, widths)


def _broken(text: str, width: int) -> str:
    """Names of classes that are longer than a line, broken where their words begin."""
    long = (word for word in text.split() if len(word) > width)
    for word in dict.fromkeys(long):
        fitting = re.sub(rf"(.{{1,{width}}})(?=[A-Z][a-z]|$)", r"\1 ", word)
        text = text.replace(word, fitting.strip())
    return text


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * _GAP).join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))


def _findings(report: Report) -> Iterator[str]:
    """What blocks, what a person should read, what is unknown, in this order."""
    clear = [j for j in report.judgements(Verdict.NO_BLOCKER) if j.warning]
    ordered = (
        *(("BLOCKED", j) for j in report.judgements(Verdict.BLOCKED)),
        *(("WARNING", j) for j in clear),
        *(("UNKNOWN", j) for j in report.judgements(Verdict.UNKNOWN)),
    )
    for word, judgement in ordered:
        yield f"{word}  {judgement.subject}: {judgement.message}  [{judgement.rule} {judgement.version}]"
        yield from _proof(judgement)
    if ordered:
        yield ""


def _proof(judgement: Judgement) -> Iterator[str]:
    for evidence in judgement.evidence:
        yield from (f"    {line}" for line in str(evidence).split("\n"))
    if judgement.remedy:
        yield f"    -> {judgement.remedy}"


def _total(report: Report) -> str:
    blocked = len(report.judgements(Verdict.BLOCKED))
    unknown = len(report.judgements(Verdict.UNKNOWN))
    decided = sum(component.decided for component in report.components)
    rules = sum(len(component.rules) for component in report.components)
    fetched = f"; {human_bytes(report.traffic)} were fetched to read it" if report.traffic else ""
    counts = f"{blocked} blocked, {unknown} unknown, {decided} of {rules} rules decided"
    return f"{report.verdict.value}: {counts}{fetched}"
