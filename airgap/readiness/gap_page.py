"""A matrix as one HTML page that stands alone: for whoever has to be convinced, on screen or on paper."""

from airgap.audit.page import Column, Html, code, element, facts, join, page, section, table, tag, text
from airgap.readiness.gap import Candidate, Cell, Gap, reasons
from airgap.readiness.gap_table import answer, pairs, title
from airgap.readiness.judgement import Evidence, Judgement, Verdict
from airgap.readiness.table import for_target

KINDS = {Verdict.BLOCKED: "error", Verdict.UNKNOWN: "warning", Verdict.NO_BLOCKER: "good"}
"""Verdicts -> how the page's style sheet marks them; the word stands there, too."""


def gap_page(gap: Gap, cost: str, made: str) -> str:
    """The document. `cost` says what reading took, `made` when and by what it was made."""
    parts = [
        element("h1", text(title(gap))),
        element("p", text(f"{for_target(gap.target)}. {answer(gap)}."), kind="lead"),
        section("matrix", "vLLM × transformers", _matrix(gap)),
        section("why", "Why", _why(gap)),
    ]
    if gap.since or gap.notes:
        lines = [*map(str, gap.since), *gap.notes]
        parts.append(section("since", "Since when", element("ul", *(element("li", text(x)) for x in lines))))
    parts += [
        section("read", "What was read", _read(gap)),
        element("p", text(f"{cost}. {made}. No blocker found does not mean that it runs."), kind="soft"),
    ]
    return page(title(gap), *parts)


def _matrix(gap: Gap) -> Html:
    columns = [Column("vLLM"), *(Column(f"{c.version} {c.uploaded}".strip()) for c in gap.libraries)]
    rows = [[_head(vllm), *map(_cell, row)] for vllm, row in zip(gap.vllms, gap.rows, strict=True)]
    return table(columns, rows)


def _head(candidate: Candidate) -> Html:
    return join(
        (element("b", text(candidate.version)), element("div", text(candidate.uploaded), kind="soft"))
    )


def _cell(cell: Cell) -> Html:
    word = str(cell).partition(":")[0]
    return join((tag(word, KINDS[cell.verdict]), element("div", text(", ".join(cell.reasons)), kind="soft")))


def _why(gap: Gap) -> Html:
    rows = [
        [
            tag("blocked" if judgement.verdict is Verdict.BLOCKED else "unknown", KINDS[judgement.verdict]),
            join((text(judgement.gap or judgement.message), element("div", _rule(judgement), kind="soft"))),
            text(pairs(len(cells))),
            join(map(_evidence, filter(lambda evidence: evidence.member, judgement.evidence))),
        ]
        for judgement, cells in reasons(gap)
    ]
    columns = [Column(""), Column("What, and by which rule"), Column("Holds for"), Column("Evidence")]
    return table(columns, rows) if rows else element("p", text("Nothing is blocked or unknown."))


def _rule(judgement: Judgement) -> Html:
    return text(f"{judgement.rule} {judgement.version}")


def _evidence(evidence: Evidence) -> Html:
    place = ":".join(str(part) for part in (evidence.member, evidence.line) if part)
    return element("div", code(place), text(f" {evidence.text}"))


def _read(gap: Gap) -> Html:
    where = gap.model.where
    model = [(where.source, code(f"sha256:{where.digest}"))] if where.digest else []
    wheels = [
        (seen.distribution.file, code(f"sha256:{seen.distribution.digest}"))
        for candidate in (*gap.vllms, *gap.libraries)
        if not isinstance(seen := candidate.seen, str)
    ]
    unread = [(c.label, text(c.seen)) for c in (*gap.vllms, *gap.libraries) if isinstance(c.seen, str)]
    return facts([*model, *wheels, *unread])
