"""What changed since an earlier bundle, lock or site, as a report tells it: few words a change.

Pure, from the comparison that `airgap diff` shows whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from airgap.audit.difference import ArtifactDifference, Difference, State
from airgap.model import Kind

NAMED = 6
"""Packages or files of one artifact that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class ChangeFact:
    """What became of one artifact; `moves` are versions, files and tensors that are others."""

    state: State
    kind: Kind
    name: str
    bytes_before: int
    bytes_after: int
    moves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SinceFact:
    """Everything that changed since `title`, which was `made` then; None where nothing says when.

    `new_bytes` are what the earlier one holds nowhere.
    """

    title: str
    where: str
    made: datetime | None
    changes: tuple[ChangeFact, ...]
    same: int
    licences_added: tuple[str, ...]
    licences_removed: tuple[str, ...]
    new_bytes: int
    shared_bytes: int
    notes: tuple[str, ...] = ()

    def count(self, state: State) -> int:
        return self.same if state is State.SAME else sum(change.state is state for change in self.changes)


def since(difference: Difference, made: datetime | None) -> SinceFact:
    """The earlier side of `difference` is its first."""
    changed = [one for one in difference.artifacts if one.state is not State.SAME]
    return SinceFact(
        difference.before.title,
        difference.before.where,
        made,
        tuple(_change(one) for one in changed),
        len(difference.artifacts) - len(changed),
        tuple(move.licence for move in difference.licences_added),
        tuple(move.licence for move in difference.licences_removed),
        difference.travel_bytes,
        difference.shared_bytes,
        difference.notes,
    )


def _change(one: ArtifactDifference) -> ChangeFact:
    return ChangeFact(one.state, one.kind, one.name, one.size_before, one.size_after, tuple(_moves(one)))


def _moves(one: ArtifactDifference) -> Iterator[str]:
    if one.state is not State.CHANGED:
        return
    for fact in one.facts:
        yield f"{fact.what}: {fact.before or 'nothing'} → {fact.after or 'nothing'}"
    packages = [
        f"{p.name} {p.before or 'none'} → {p.after or 'none'}" + (f", {p.distance}" if p.distance else "")
        if not p.rebuilt
        else f"{p.name} {p.after}: the same version, other bytes"
        for p in one.packages
    ]
    yield from _some(packages)
    if not one.packages:
        for word, paths in (
            ("added", one.files_added),
            ("removed", one.files_removed),
            ("changed", one.files_changed),
        ):
            yield from _some([f"{path} {word}" for path in paths])
    if one.tensors:
        counts = (
            ("added", len(one.tensors.added)),
            ("removed", len(one.tensors.removed)),
            ("of another type or shape", len(one.tensors.reshaped)),
            ("the same", one.tensors.same),
        )
        yield "tensors: " + ", ".join(f"{count} {word}" for word, count in counts)


def _some(texts: Sequence[str]) -> Iterator[str]:
    yield from texts[:NAMED]
    if len(texts) > NAMED:
        yield f"and {len(texts) - NAMED} more"
