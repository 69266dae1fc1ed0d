"""`airgap lock`: resolve a manifest to exact digests."""

from collections.abc import Callable
from pathlib import Path

import click

from airgap.cli.terminal import emit, print_findings, printable, progress_for
from airgap.cli.workspace import index_urls, lock_path, open_context
from airgap.connected.locking import Locked, make_lock
from airgap.decode import read_capped
from airgap.errors import InputError
from airgap.lock import Lock, parse_lock, render_lock
from airgap.manifest import Manifest, load_manifest
from airgap.provenance import document, summary
from airgap.store import write_durably
from airgap.units import amount, human_bytes

EVERYTHING = "*"


@click.command(
    epilog="""\b
Example
  airgap lock gemma4.toml
  airgap lock gemma4.toml --upgrade serving
Exit codes: 0 locked, 3 manifest wrong or not resolvable, 4 a source failed,
  5 the target can run none of a model's variants, 6 bytes are not what was promised
"""
)
@click.argument("manifest", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--upgrade",
    metavar="[NAME]",
    multiple=True,
    is_flag=False,
    flag_value=EVERYTHING,
    help="Move the pins of this artifact (of all, without NAME); otherwise they stay.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def lock(manifest: Path, *, upgrade: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Write MANIFEST's lock beside it: every file with origin, size and sha256."""
    wanted = load_manifest(manifest)
    moves = _moves(wanted, upgrade)
    path = lock_path(manifest)
    old_bytes = read_capped(path) if path.exists() else None
    previous = parse_lock(old_bytes, str(path)) if old_bytes is not None else None
    progress = progress_for(json=as_json)
    context = open_context(
        wanted.target, wanted.directory, progress, index_urls(wanted), provenance=wanted.provenance
    )
    locked = make_lock(wanted, previous, moves, context)
    data = render_lock(locked.lock)
    changed = data != old_bytes
    if changed and not dry_run:
        write_durably(path, data)
    if as_json:
        emit(_document(path, locked, changed=changed))
    else:
        _show(path, locked, previous, changed=changed, dry_run=dry_run)


def _moves(manifest: Manifest, upgrade: tuple[str, ...]) -> Callable[[str], bool]:
    names = [request.name for request in manifest.requests]
    for name in upgrade:
        if name != EVERYTHING and name not in names:
            raise InputError(
                f"--upgrade {name}: no such artifact in the manifest",
                remedy=f"name one of: {', '.join(names)}; put the manifest before --upgrade",
            )
    return lambda name: EVERYTHING in upgrade or name in upgrade


def _document(path: Path, locked: Locked, *, changed: bool) -> dict[str, object]:
    return {
        "lock": str(path),
        "changed": changed,
        "artifacts": [
            {
                "name": artifact.name,
                "kind": artifact.kind.value,
                "files": len(artifact.files),
                "bytes": sum(file.size for file in artifact.files),
            }
            | document(artifact)
            for artifact in locked.lock.artifacts
        ],
        "findings": [finding.as_json() for finding in locked.findings],
    }


def _show(path: Path, locked: Locked, previous: Lock | None, *, changed: bool, dry_run: bool) -> None:
    for artifact in locked.lock.artifacts:
        before = previous.find(artifact.name) if previous else None
        mark = "new" if before is None else "same" if before == artifact else "changed"
        size = human_bytes(sum(file.size for file in artifact.files))
        click.echo(
            f"{mark:8} {artifact.kind:10} {artifact.name}  {amount(len(artifact.files), 'file')}, {size}"
        )
        if said := summary(artifact):
            click.echo(printable(f"{'':8} {said}"))
    names = {artifact.name for artifact in locked.lock.artifacts}
    for gone in previous.artifacts if previous else ():
        if gone.name not in names:
            click.echo(f"{'removed':8} {gone.kind:10} {gone.name}")
    print_findings(locked.findings, err=True)
    if not changed:
        click.echo(f"{path} is up to date.")
    elif dry_run:
        click.echo(f"{path} would change; nothing was written.")
    else:
        click.echo(f"{path} written: review it, keep it in git.")
