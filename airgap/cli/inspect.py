"""`airgap inspect`: what is in a bundle or a lock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.lineage import reasons, tree_document, tree_lines
from airgap.cli.options import FILE, json_option, root_options
from airgap.cli.records import record_document, record_line
from airgap.cli.stated import base_document, delta_lines, read_stated_lock
from airgap.cli.terminal import emit, printable
from airgap.cli.weights import Weights, read_weights, weights_document, weights_lines
from airgap.decode import read_capped
from airgap.destination import target_table
from airgap.errors import InputError, IntegrityError
from airgap.layout import read_envelope
from airgap.lock import Lock, distinct_files, parse_lock
from airgap.media import Media
from airgap.model import Artifact, ContainerArtifact, ModelArtifact, WheelsArtifact
from airgap.pinned import carried_roots, newest, trusted_root
from airgap.provenance import document as document_of
from airgap.provenance import summary
from airgap.records import Record, carried_records
from airgap.trust.decide import Surveyed, survey
from airgap.trust.instant import render_instant
from airgap.trust.root import Root
from airgap.trust.statement import Statement
from airgap.units import amount, human_bytes
from airgap.volumes import MARK_FILE, MAX_MARK, Mark, parse_mark


@dataclass(frozen=True, slots=True)
class _Inspected:
    """`surveyed` is None for a lock on its own; `weights` are by the model's name."""

    lock: Lock
    surveyed: Surveyed | None
    weights: Mapping[str, Weights] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    mark: Mark | None = None
    """What a volume says that it is."""


@click.command(
    epilog="""\b
Example
  airgap inspect out/gemma4-serving-2026.11 --site /srv/airgap
  airgap inspect gemma4.lock.json --files
  airgap inspect gemma4.lock.json --why urllib3
Exit codes: 0 shown, 3 neither bundle nor lock, or no such FILE, 6 the lock inside is not what was stated,
  7 a bad root
"""
)
@click.argument("subject", type=FILE, metavar="BUNDLE|LOCK")
@root_options
@click.option("--files", is_flag=True, help="List every file of every artifact.")
@click.option("--tree", is_flag=True, help="Show what needs what in every wheels set.")
@click.option("--why", metavar="FILE", help="Say which requirement brought a file, package or sha256 in.")
@json_option
def inspect(
    subject: Path,
    site: Path | None,
    root: Path | None,
    fingerprint: str | None,
    *,
    files: bool,
    tree: bool,
    why: str | None,
    as_json: bool,
) -> None:
    """Show what is in a bundle: artifacts, sizes, digests, and, where a root is given, who signed.

    Reads the statement, the lock and the headers of models' weights: airgap verify is what judges bytes.
    """
    trusted = trusted_root(site, root, fingerprint) if site or root or fingerprint else None
    inspected = _read_bundle(subject, trusted) if subject.is_dir() else _read_lock(subject)
    if why is not None:
        _show_why(inspected.lock, why, as_json=as_json)
    elif as_json:
        emit(_document(inspected) | ({"trees": _trees(inspected.lock)} if tree else {}))
    else:
        _show(inspected, files=files)
        for artifact in inspected.lock.artifacts:
            if tree and isinstance(artifact, WheelsArtifact):
                click.echo(f"{artifact.name}:")
                for line in tree_lines(artifact):
                    click.echo(printable(f"  {line}"))


def _show_why(lock: Lock, wanted: str, *, as_json: bool) -> None:
    found = reasons(lock, wanted)
    if as_json:
        emit({"why": [reason.as_json() for reason in found]})
        return
    for line in (line for reason in found for line in reason.lines()):
        click.echo(printable(line))


def _trees(lock: Lock) -> dict[str, object]:
    return {a.name: tree_document(a) for a in lock.artifacts if isinstance(a, WheelsArtifact)}


def _read_lock(path: Path) -> _Inspected:
    lock = parse_lock(read_capped(path), str(path))
    why = Weights(problem="a lock names files and has no headers; inspect the bundle, or run airgap check")
    models = [artifact for artifact in lock.artifacts if isinstance(artifact, ModelArtifact)]
    return _Inspected(lock, None, {model.name: why for model in models})


def _read_bundle(path: Path, root: Root | None) -> _Inspected:
    with Media(path) as media:
        data = read_envelope(media)
        judge = newest(root, carried_roots(media, root)) if root else None
        surveyed = survey(data, judge)
        lock = read_stated_lock(media, surveyed.statement)
        models = [artifact for artifact in lock.artifacts if isinstance(artifact, ModelArtifact)]
        absent = surveyed.statement.absent
        weights = {model.name: read_weights(media, model, absent) for model in models}
        records = carried_records(media, judge, datetime.now(UTC))
        return _Inspected(lock, surveyed, weights, records, _read_mark(media))


def _read_mark(media: Media) -> Mark | None:
    """None for a whole bundle, and for a mark that airgap verify has to judge."""
    try:
        return parse_mark(media.read(MARK_FILE, max_bytes=MAX_MARK))
    except (InputError, IntegrityError):
        return None


def _document(inspected: _Inspected) -> dict[str, object]:
    lock = inspected.lock
    document: dict[str, object] = {
        "name": lock.name,
        "version": lock.version,
        "channel": lock.channel,
        "target": target_table(lock.target),
        "artifacts": [
            {
                "kind": artifact.kind.value,
                "name": artifact.name,
                "detail": _detail(artifact),
                "bytes": _size(artifact),
                "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in artifact.files],
            }
            | document_of(artifact)
            | _weights(inspected, artifact)
            for artifact in lock.artifacts
        ],
    }
    if inspected.surveyed:
        document |= _stated(inspected.surveyed)
        mark = inspected.mark
        document["volume"] = {"number": mark.number, "count": mark.count} if mark else None
        document["records"] = [record_document(record) for record in inspected.records]
    return document


def _weights(inspected: _Inspected, artifact: Artifact) -> dict[str, object]:
    if not isinstance(artifact, ModelArtifact) or artifact.name not in inspected.weights:
        return {}
    return {"weights": weights_document(inspected.weights[artifact.name], artifact.quantization)}


def _stated(surveyed: Surveyed) -> dict[str, object]:
    stated = surveyed.statement
    tally = surveyed.tally
    return {
        "audience": list(stated.audience),
        "epoch": stated.epoch,
        "sequence": stated.sequence,
        "created_at": render_instant(stated.created_at),
        "expires_at": render_instant(stated.expires_at),
        "payload_sha384": surveyed.payload,
        "digests": {artifact.name: f"sha256:{artifact.digest}" for artifact in stated.artifacts},
        "blobs": len(stated.travelling),
        "total_bytes": stated.total_bytes,
        "base": base_document(stated),
        "signers": None if tally is None else list(tally.signers),
        "missing": None if tally is None else sorted((*tally.missing, *tally.partial)),
        "threshold": surveyed.threshold or None,
    }


def _show(inspected: _Inspected, *, files: bool) -> None:
    lock = inspected.lock
    surveyed = inspected.surveyed
    click.echo(printable(f"{lock.name} {lock.version}  (channel {lock.channel})"))
    click.echo(f"for Python {lock.target.python}, {lock.target.platform}, glibc {lock.target.glibc}")
    if inspected.mark:
        click.echo(
            f"volume {inspected.mark.number} of {inspected.mark.count}; what follows is of all of them"
        )
    if surveyed:
        _show_statement(surveyed)
    digests = {a.name: a.digest for a in surveyed.statement.artifacts} if surveyed else {}
    for position, artifact in enumerate(lock.artifacts, 1):
        last = position == len(lock.artifacts)
        click.echo(
            f"{'└──' if last else '├──'} {artifact.kind} {artifact.name}  {human_bytes(_size(artifact))}"
        )
        details = [_detail(artifact), summary(artifact)]
        if artifact.name in digests:
            details.append(f"sha256:{digests[artifact.name]}")
        if isinstance(artifact, ModelArtifact) and artifact.name in inspected.weights:
            details += weights_lines(inspected.weights[artifact.name], artifact.quantization)
        if files:
            details += _file_lines(artifact)
        for detail in filter(None, details):
            click.echo(f"{'    ' if last else '│   '}  {printable(detail)}")
    for record in inspected.records:
        click.echo(record_line(record))
    distinct = distinct_files(lock.artifacts).values()
    click.echo(
        f"{amount(len(distinct), 'file')}, {human_bytes(sum(file.size for file in distinct))},"
        " shared ones once"
    )


def _show_statement(surveyed: Surveyed) -> None:
    stated: Statement = surveyed.statement
    click.echo(f"{stated.place}, made {render_instant(stated.created_at)},", nl=False)
    click.echo(f" expires {render_instant(stated.expires_at)}")
    if surveyed.tally is None:
        click.echo(
            f"{amount(len(surveyed.keyids), 'signature')}, not judged:"
            " give --site, or --root and --fingerprint"
        )
    else:
        click.echo(surveyed.tally.describe(surveyed.threshold))
    for line in delta_lines(stated):
        click.echo(line)


def _size(artifact: Artifact) -> int:
    return sum(file.size for file in artifact.files)


def _detail(artifact: Artifact) -> str:
    match artifact:
        case WheelsArtifact():
            return (
                f"{amount(len(artifact.packages), 'package')}: {_some([p.name for p in artifact.packages])}"
            )
        case ModelArtifact():
            origin = f"{artifact.repo}@{artifact.commit}" if artifact.repo else "from a local directory"
            claims = [
                origin,
                artifact.quantization,
                artifact.licence,
                f"{amount(len(artifact.files), 'file')}",
            ]
            claims += [f"chosen of {len(artifact.variants)} variants"] if artifact.variants else []
            return ", ".join(filter(None, claims))
        case ContainerArtifact():
            return ", ".join(filter(None, (artifact.image, *artifact.platforms)))
        case _:
            return artifact.files[0].path


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _file_lines(artifact: Artifact) -> list[str]:
    return [f"{human_bytes(f.size):>9}  {f.sha256[:12]}  {f.path}" for f in artifact.files]
