"""A matrix as a terminal shows it, and as JSON."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from airgap.readiness.gap import Candidate, Cell, Gap, reasons
from airgap.readiness.judgement import Judgement, Verdict
from airgap.readiness.table import for_target

MIN_CELL, MIN_WIDTH = 12, 80
_SEPARATOR = "  "


def title(gap: Gap) -> str:
    """What the matrix is about."""
    return f"{gap.model.name}: {gap.model.detail}"


def render_gap(gap: Gap, width: int) -> list[str]:
    """The matrix, cut into several where `width` columns are too few; then why, and since when."""
    lines = [title(gap), for_target(gap.target), ""]
    label = max(len(text) for c in gap.vllms for text in ("vllm", c.version, c.uploaded))
    across = max(1, (max(width, MIN_WIDTH) - label) // (MIN_CELL + len(_SEPARATOR)))
    for begin in range(0, len(gap.libraries), across):
        columns = range(begin, min(begin + across, len(gap.libraries)))
        cell = min((max(width, MIN_WIDTH) - label) // len(columns) - len(_SEPARATOR), 20)
        lines += [*_matrix(gap, columns, label, cell), ""]
    lines += [_reason(judgement, cells) for judgement, cells in reasons(gap)]
    lines += [f"unread: {reason}" for reason in dict.fromkeys(c.unread for c in gap.cells if c.unread)]
    lines += ["", *map(str, gap.since), *(f"note: {note}" for note in gap.notes), answer(gap)]
    return [line.rstrip() for line in lines]


def answer(gap: Gap) -> str:
    """The count of pairs by verdict."""
    blocked, unknown = (
        sum(cell.verdict is verdict for cell in gap.cells) for verdict in (Verdict.BLOCKED, Verdict.UNKNOWN)
    )
    return f"{len(gap.runs)} of {pairs(len(gap.cells))} have no blocker; {blocked} blocked, {unknown} unknown"


def pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def as_json(gap: Gap) -> dict[str, object]:
    """Every cell with its judgements in whole."""
    config = gap.model.config
    return {
        "model": {
            "name": gap.model.name,
            "model_type": config.model_type if config else "",
            "architectures": list(config.architectures) if config else [],
            "sha256": gap.model.where.digest,
        },
        "vllm": [_candidate(candidate) for candidate in gap.vllms],
        "transformers": [_candidate(candidate) for candidate in gap.libraries],
        "cells": [_cell(cell) for cell in gap.cells],
        "since": [
            {
                "project": since.candidate.project,
                "name": since.what,
                "version": since.candidate.version,
                "uploaded": since.candidate.uploaded,
                "member": since.found.member,
                "line": since.found.line,
                "not_in": since.before.version if since.before else None,
                "note": since.why,
            }
            for since in gap.since
        ],
        "notes": list(gap.notes),
    }


def _matrix(gap: Gap, columns: Sequence[int], label: int, width: int) -> Iterator[str]:
    heads = [f"{c.version}\n{c.uploaded}" for c in gap.libraries]
    yield from _row("", ["transformers"], label, width)
    yield from _row("vllm", [heads[column] for column in columns], label, width)
    yield from _row("-" * label, ["-" * width] * len(columns), label, width)
    for vllm, row in zip(gap.vllms, gap.rows, strict=True):
        yield from _row(f"{vllm.version}\n{vllm.uploaded}", [str(row[c]) for c in columns], label, width)


def _row(head: str, cells: Sequence[str], label: int, width: int) -> Iterator[str]:
    wrapped = [
        [line for part in text.split("\n") for line in textwrap.wrap(part, room, break_on_hyphens=False)]
        for text, room in ((head, label), *((cell, width) for cell in cells))
    ]
    for first, *others in zip_longest(*wrapped, fillvalue=""):
        yield _SEPARATOR.join([f"{first:{label}}", *(f"{other:{width}}" for other in others)]).rstrip()


def _reason(judgement: Judgement, cells: Sequence[Cell]) -> str:
    said = judgement.gap or judgement.message
    places = [f"{e.member}:{e.line}" if e.line else e.member for e in judgement.evidence if e.member]
    where = f"  {places[0]}" if places else ""
    rule = f"[{judgement.rule} {judgement.version}]"
    return f"{judgement.verdict.value}  {said}  {rule}, {pairs(len(cells))}{where}"


def _candidate(candidate: Candidate) -> dict[str, object]:
    seen = None if isinstance(candidate.seen, str) else candidate.seen.distribution
    return {
        "version": candidate.version,
        "uploaded": candidate.uploaded,
        "file": seen.file if seen else None,
        "sha256": seen.digest if seen else None,
        "unread": candidate.seen if isinstance(candidate.seen, str) else "",
    }


def _cell(cell: Cell) -> dict[str, object]:
    return {
        "vllm": cell.vllm.version,
        "transformers": cell.transformers.version,
        "verdict": cell.verdict.name.lower(),
        "reasons": list(cell.reasons),
        "judgements": [judgement.as_json() for judgement in (*cell.blocked, *cell.unknown)],
        "unread": cell.unread,
    }
