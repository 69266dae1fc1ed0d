"""`airgap diff`: what two locks, bundles or sites differ by."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from airgap.audit.difference import (
    ArtifactDifference,
    Difference,
    PackageMove,
    Side,
    State,
    TensorDifference,
    compare,
    licence_moves,
    new_findings,
)
from airgap.audit.difference_page import render_difference
from airgap.audit.tensors import compare_tensors
from airgap.cli.options import FILE, json_option, report_file
from airgap.cli.sides import OpenSide, findings_of, licences_of, open_side
from airgap.cli.terminal import emit, printable, progress_for
from airgap.model import ModelArtifact
from airgap.progress import Progress
from airgap.store import write_durably
from airgap.units import amount, human_bytes

SHOWN = 10
"""Names of one kind on a terminal; --json and --html have more."""

_SIGNS = {State.ADDED: "+", State.REMOVED: "-", State.CHANGED: "~", State.SAME: "="}


@click.command(
    epilog="""\b
Examples
  airgap diff old.lock.json gemma4.lock.json
  airgap diff /srv/airgap /media/disc1 --html changes.html
  airgap diff out/gemma4-serving-2026.10 out/gemma4-serving-2026.11 --tensors --findings
Exit codes: 0 compared, whether or not they differ, 3 neither lock, bundle nor site,
  6 a document is not what was stated, 9 the media cannot be read or the page not written
"""
)
@click.argument("before", type=FILE, metavar="A")
@click.argument("after", type=FILE, metavar="B")
@click.option("--tensors", is_flag=True, help="Hash the tensors of models that changed, both sides.")
@click.option("--findings", is_flag=True, help="Audit both sides, and show which findings are new and gone.")
@click.option("--html", type=FILE, metavar="FILE", help="Also write the comparison as one page.")
@json_option
def diff(
    before: Path, after: Path, *, tensors: bool, findings: bool, html: Path | None, as_json: bool
) -> None:
    """Show what changed from A to B: artifacts, versions, licences, tensors, and what would travel.

    A and B are locks, bundles or sites; any one volume of a bundle stands for its lock. Against a site,
    the bundle of the same name is compared, and what would travel is what the site holds nowhere.
    Signatures are not judged: airgap verify does that.
    """
    if html:
        report_file(html)
    with ExitStack() as opened:
        old, new = (opened.enter_context(open_side(path)) for path in (before, after))
        progress = progress_for(json=as_json)
        difference = compare_sides(old, new, progress, compare_bytes=tensors)
        if findings:
            difference = _with_findings(difference, old, new, progress)
    if html:
        write_durably(html, render_difference(difference).encode())
    if as_json:
        emit(_document(difference))
    else:
        for line in _lines(difference):
            click.echo(printable(line))
        if html:
            click.echo(f"{printable(str(html))} written")


def compare_sides(old: OpenSide, new: OpenSide, progress: Progress, *, compare_bytes: bool) -> Difference:
    """Everything that can be told of the two; tensors by their bytes only when asked: it reads them all."""
    difference = compare(old.side, new.side)
    before, after = difference.before, difference.after
    notes: list[str] = []
    artifacts = difference.artifacts
    roots: tuple[Path | None, Path | None] = (None, None)
    if old.media and new.media:
        roots = (old.media.root, new.media.root)
        artifacts = tuple(
            _with_tensors(
                one,
                before,
                after,
                partial(
                    compare_tensors,
                    open_before=old.open,
                    open_after=new.open,
                    progress=progress,
                    compare_bytes=compare_bytes,
                ),
            )
            for one in artifacts
        )
    else:
        without = " and ".join(dict.fromkeys(filter(None, (old.without, new.without))))
        notes.append(f"licences of wheels and tensors of models: not looked for in {without}")
    had, has = (licences_of(side, root, notes) for side, root in zip((before, after), roots, strict=True))
    added, removed = licence_moves(had, has)
    return replace(
        difference,
        artifacts=artifacts,
        licences_added=added,
        licences_removed=removed,
        notes=tuple(dict.fromkeys(notes)),
    )


def _with_findings(difference: Difference, old: OpenSide, new: OpenSide, progress: Progress) -> Difference:
    for side in (old, new):
        if side.media is None:
            raise click.UsageError(
                f"--findings looks into bytes, and {side.side.where} is {side.without}:"
                " name a bundle or site; airgap audit takes all volumes together"
            )
    had = findings_of(old, difference.before, progress)
    has = findings_of(new, difference.after, progress)
    added, gone = new_findings(had, has)
    return replace(difference, findings=added, findings_gone=gone)


def _with_tensors(
    one: ArtifactDifference,
    before: Side,
    after: Side,
    comparing: Callable[[ModelArtifact, ModelArtifact], TensorDifference],
) -> ArtifactDifference:
    old, new = before.artifacts.get(one.name), after.artifacts.get(one.name)
    changed = one.files_changed or one.files_added or one.files_removed
    if (
        one.state is State.CHANGED
        and changed
        and isinstance(old, ModelArtifact)
        and isinstance(new, ModelArtifact)
    ):
        return replace(one, tensors=comparing(old, new))
    return one


# ------------------------------------------------------------------ for a person


def _lines(difference: Difference) -> Iterator[str]:
    before, after = difference.before, difference.after
    yield f"{before.title} ({before.kind}) -> {after.title} ({after.kind})"
    for one in difference.artifacts:
        yield _head(one)
        if one.state is State.CHANGED:
            yield from (f"    {line}" for line in _detail(one))
    for move in difference.licences_added:
        yield f"new licence: {move.licence} ({_some(move.subjects)})"
    for move in difference.licences_removed:
        yield f"licence gone: {move.licence} ({_some(move.subjects)})"
    for finding in difference.findings or ():
        yield f"new finding: {finding.severity}: {finding.subject}: {finding.message}  [{finding.code}]"
    for finding in difference.findings_gone:
        yield f"finding gone: {finding.subject}: {finding.message}  [{finding.code}]"
    if difference.findings == ():
        yield "no finding is new"
    count = len(difference.travel)
    yield (
        f"would travel: {amount(count, 'blob')}, {human_bytes(difference.travel_bytes)};"
        f" there already: {human_bytes(difference.shared_bytes)}"
    )
    if any(move.distance for one in difference.artifacts for move in one.packages):
        yield "distances are by version numbers: a lock does not list the releases between"
    for note in difference.notes:
        yield f"not compared: {note}"


def _head(one: ArtifactDifference) -> str:
    sizes = {
        State.ADDED: human_bytes(one.size_after),
        State.REMOVED: human_bytes(one.size_before),
        State.CHANGED: f"{human_bytes(one.size_before)} -> {human_bytes(one.size_after)}",
        State.SAME: human_bytes(one.size_after),
    }
    return f"{_SIGNS[one.state]} {one.state:8} {one.kind:9} {one.name}  {sizes[one.state]}"


def _detail(one: ArtifactDifference) -> Iterator[str]:
    for fact in one.facts:
        yield f"{fact.what}: {fact.before or 'nothing'} -> {fact.after or 'nothing'}"
    for move in one.packages:
        yield _package(move)
    if not one.packages:
        for word, paths in (
            ("added", one.files_added),
            ("removed", one.files_removed),
            ("changed", one.files_changed),
        ):
            if paths:
                yield f"files {word}: {_some(paths)}"
    if one.tensors:
        yield from _tensors(one.tensors)


def _package(move: PackageMove) -> str:
    if not move.before:
        return f"+ {move.name} {move.after}"
    if not move.after:
        return f"- {move.name} {move.before}"
    if move.rebuilt:
        return f"! {move.name} {move.after}: the same version, other bytes"
    return f"~ {move.name} {move.before} -> {move.after}" + (f"  {move.distance}" if move.distance else "")


def _tensors(tensors: TensorDifference) -> Iterator[str]:
    for reason in tensors.unread:
        yield f"tensors not compared: {reason}"
    if tensors.unread:
        return
    for word, names in (("added", tensors.added), ("removed", tensors.removed)):
        if names:
            yield f"tensors {word}: {_some(names)}"
    if tensors.reshaped:
        moves = [f"{move.name} {move.before} -> {move.after}" for move in tensors.reshaped]
        yield f"tensors of another type or shape: {_some(moves)}"
    if tensors.changed:
        yield f"tensors with other bytes: {_some(tensors.changed)}"
    if tensors.apart:
        yield f"tensors in files that changed, not compared: {tensors.apart}; --tensors hashes them"
    yield f"tensors that are the same: {tensors.same}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


# ------------------------------------------------------------------ for a program


def _document(difference: Difference) -> dict[str, object]:
    return {
        "before": {"kind": difference.before.kind.value, "where": difference.before.where},
        "after": {"kind": difference.after.kind.value, "where": difference.after.where},
        "artifacts": [_artifact(one) for one in difference.artifacts],
        "licences_added": [
            {"licence": m.licence, "subjects": list(m.subjects)} for m in difference.licences_added
        ],
        "licences_removed": [
            {"licence": m.licence, "subjects": list(m.subjects)} for m in difference.licences_removed
        ],
        "travel": {"blobs": len(difference.travel), "bytes": difference.travel_bytes},
        "shared_bytes": difference.shared_bytes,
        "findings": None
        if difference.findings is None
        else {
            "new": [finding.as_json() for finding in difference.findings],
            "gone": [finding.as_json() for finding in difference.findings_gone],
        },
        "notes": list(difference.notes),
    }


def _artifact(one: ArtifactDifference) -> dict[str, object]:
    return {
        "kind": one.kind.value,
        "name": one.name,
        "state": one.state.value,
        "bytes_before": one.size_before,
        "bytes_after": one.size_after,
        "files": {
            "added": list(one.files_added),
            "removed": list(one.files_removed),
            "changed": list(one.files_changed),
        },
        "facts": [{"what": f.what, "before": f.before, "after": f.after} for f in one.facts],
        "packages": [
            {
                "name": move.name,
                "before": move.before or None,
                "after": move.after or None,
                "distance": move.distance or None,
                "rebuilt": move.rebuilt,
            }
            for move in one.packages
        ],
        "tensors": _tensors_document(one.tensors) if one.tensors else None,
    }


def _tensors_document(tensors: TensorDifference) -> dict[str, object]:
    return {
        "added": list(tensors.added),
        "removed": list(tensors.removed),
        "reshaped": [{"name": m.name, "before": m.before, "after": m.after} for m in tensors.reshaped],
        "changed": None if tensors.changed is None else list(tensors.changed),
        "same": tensors.same,
        "not_compared": tensors.apart,
        "unread": list(tensors.unread),
    }
