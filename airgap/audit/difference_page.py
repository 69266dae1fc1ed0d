"""`airgap diff --html`: a comparison as one page that stands alone."""

from collections.abc import Iterable, Sequence

from airgap.audit.difference import (
    ArtifactDifference,
    Difference,
    LicenceMove,
    PackageMove,
    State,
    TensorDifference,
)
from airgap.audit.page import Column, Html, code, element, facts, page, section, table, tag, text, tiles
from airgap.model import Finding
from airgap.units import human_bytes

MAX_NAMES = 200
"""Names in one cell; a model may have a hundred thousand tensors, and the JSON has them all."""

_COLOURS = {State.ADDED: "good", State.REMOVED: "error", State.CHANGED: "warning", State.SAME: "info"}


def render_difference(difference: Difference) -> str:
    """The whole HTML document."""
    before, after = difference.before, difference.after
    title = f"{before.title} → {after.title}"
    return page(
        title,
        element("h1", text(title)),
        element("p", text(f"{before.kind} {before.where} against {after.kind} {after.where}"), kind="lead"),
        tiles(
            [
                *((state.value, str(len(difference.in_state(state)))) for state in State),
                ("would travel", human_bytes(difference.travel_bytes)),
                ("there already", human_bytes(difference.shared_bytes)),
            ]
        ),
        section("artifacts", "Artifacts", _artifacts(difference.artifacts)),
        *(_detail(one) for one in difference.artifacts if one.state is State.CHANGED),
        _licences(difference),
        _findings(difference),
        *((_notes(difference.notes),) if difference.notes else ()),
    )


def _artifacts(artifacts: Iterable[ArtifactDifference]) -> Html:
    columns = [Column(""), Column("kind"), Column("name"), Column("before", True), Column("after", True)]
    return table(
        columns,
        (
            [
                tag(one.state, _COLOURS[one.state]),
                text(one.kind),
                text(one.name),
                text(human_bytes(one.size_before) if one.state is not State.ADDED else ""),
                text(human_bytes(one.size_after) if one.state is not State.REMOVED else ""),
            ]
            for one in artifacts
        ),
    )


def _detail(one: ArtifactDifference) -> Html:
    parts: list[Html] = []
    if one.facts:
        columns = [Column("what", whole=True), Column("before"), Column("after")]
        parts.append(table(columns, ([text(f.what), code(f.before), code(f.after)] for f in one.facts)))
    if one.packages:
        parts.append(_packages(one.packages))
    else:
        files = (
            ("files added", one.files_added),
            ("files removed", one.files_removed),
            ("files changed", one.files_changed),
        )
        parts.append(facts((name, _names(paths)) for name, paths in files if paths))
    if one.tensors:
        parts.append(_tensors(one.tensors))
    return section(f"artifact-{one.name}", f"{one.kind} {one.name}", *parts)


def _packages(moves: Sequence[PackageMove]) -> Html:
    columns = [Column("package"), Column("before"), Column("after"), Column("distance", whole=True)]
    return table(
        columns,
        (
            [
                text(move.name),
                text(move.before),
                text(move.after),
                tag("same version, other bytes", "error") if move.rebuilt else text(move.distance),
            ]
            for move in moves
        ),
    )


def _tensors(tensors: TensorDifference) -> Html:
    unknown = f"{tensors.apart} in files that changed: diff --tensors compares them" if tensors.apart else ""
    changed = text(unknown) if tensors.changed is None else _names(tensors.changed)
    rows = [
        ("tensors added", _names(tensors.added)),
        ("tensors removed", _names(tensors.removed)),
        ("another type or shape", _names([f"{m.name}: {m.before} → {m.after}" for m in tensors.reshaped])),
        ("other bytes", changed),
        ("the same", text(tensors.same)),
        ("not read", _names(tensors.unread)),
    ]
    return facts(rows)


def _licences(difference: Difference) -> Html:
    def rows(moves: Sequence[LicenceMove], word: str, colour: str) -> list[list[Html]]:
        return [[tag(word, colour), text(move.licence), _names(move.subjects)] for move in moves]

    both = [
        *rows(difference.licences_added, "new", "warning"),
        *rows(difference.licences_removed, "gone", "info"),
    ]
    if not both:
        return Html("")
    return section("licences", "Licences", table([Column(""), Column("licence"), Column("of")], both))


def _findings(difference: Difference) -> Html:
    if difference.findings is None:
        return Html("")

    def rows(findings: Sequence[Finding], word: str) -> list[list[Html]]:
        return [
            [text(word), tag(f.severity, f.severity), code(f.code), text(f.subject), text(f.message)]
            for f in findings
        ]

    both = [*rows(difference.findings, "new"), *rows(difference.findings_gone, "gone")]
    columns = [Column(""), Column("severity"), Column("code"), Column("subject"), Column("finding")]
    inside = table(columns, both) if both else element("p", text("No finding is new, and none is gone."))
    return section("findings", "Findings", inside)


def _notes(notes: Sequence[str]) -> Html:
    return section("notes", "What was not compared", element("ul", *(element("li", text(n)) for n in notes)))


def _names(names: Sequence[str]) -> Html:
    shown = [code(name) for name in names[:MAX_NAMES]]
    if len(names) > MAX_NAMES:
        shown.append(text(f"and {len(names) - MAX_NAMES} more"))
    return Html(", ".join(shown))
