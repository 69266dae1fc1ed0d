"""The report's answer to "what is new in it": every artifact that is another than in an earlier one."""

from airgap.audit.difference import State
from airgap.audit.evidence import Audit
from airgap.audit.page import Bar, Column, Html, element, facts, join, section, table, tag, text
from airgap.audit.since import ChangeFact, SinceFact
from airgap.units import human_bytes

STYLES = {State.ADDED: "good", State.REMOVED: "error", State.CHANGED: "warning", State.SAME: "info"}
BARS = {State.ADDED: "c2", State.REMOVED: "error", State.CHANGED: "c1", State.SAME: "c4"}


def changes(audit: Audit) -> list[Bar]:
    """Artifacts by what became of them."""
    if audit.since is None:
        return []
    counts = {state: audit.since.count(state) for state in State}
    return [Bar(state.value, count, str(count), BARS[state]) for state, count in counts.items() if count]


def summary(since: SinceFact) -> str:
    """The same in one line."""
    counts = [f"{count} {state.value}" for state in State if (count := since.count(state))]
    return f"{', '.join(counts) or 'no artifact'}; {human_bytes(since.new_bytes)} new"


def since_section(audit: Audit) -> Html:
    """Nothing where no earlier one was named."""
    if audit.since is None:
        return Html("")
    since = audit.since
    columns = [Column(""), Column("artifact"), Column("what"), Column("before", True), Column("after", True)]
    inside = [
        facts(
            [
                ("Compared with", text(f"{since.title} ({since.where})")),
                ("In all", text(summary(since))),
                ("There already", text(human_bytes(since.shared_bytes))),
                ("Licences new", text("; ".join(since.licences_added))),
                ("Licences gone", text("; ".join(since.licences_removed))),
            ]
        ),
        table(columns, (_row(change) for change in since.changes)) if since.changes else Html(""),
        *(element("p", text(note), kind="soft") for note in since.notes),
    ]
    return section("since", f"Since {since.title}", *inside)


def _row(change: ChangeFact) -> list[Html]:
    return [
        tag(change.state.value, STYLES[change.state]),
        text(f"{change.kind} {change.name}"),
        join(element("div", text(move)) for move in change.moves),
        text(human_bytes(change.bytes_before) if change.state is not State.ADDED else ""),
        text(human_bytes(change.bytes_after) if change.state is not State.REMOVED else ""),
    ]
