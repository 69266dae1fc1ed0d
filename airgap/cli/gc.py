"""`airgap gc`: free what no generation needs."""

from pathlib import Path

import click

from airgap.cli.site import asked, dry_run_option, site_option, wait_option
from airgap.cli.terminal import emit, progress_for
from airgap.isolated.gc import Garbage, collect, find_garbage
from airgap.isolated.site import Site
from airgap.media import shown
from airgap.pinned import trusted_root
from airgap.units import amount, human_bytes


@click.command(
    epilog="""\b
Examples
  airgap gc --site /srv/airgap --dry-run
  airgap gc --site /srv/airgap --keep 1
Exit codes: 0 done, 6 a generation that stays is damaged, so nothing was freed, 7 no root,
  9 the site cannot be written
"""
)
@site_option
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    default=2,
    show_default=True,
    help="Generations that stay: the current one and the newest others.",
)
@dry_run_option
@wait_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def gc(*, site: Path, keep: int, dry_run: bool, wait: float, as_json: bool) -> None:
    """Remove old generations, the blobs that only they used, and what interrupted runs left."""
    trusted_root(site, None, None)
    target = Site(site)
    if dry_run:
        garbage = find_garbage(target, keep)
    else:
        progress = progress_for(json=as_json)
        garbage = collect(target, keep, asked=asked("gc"), progress=progress, wait=wait)
    if as_json:
        emit(_document(garbage, dry_run=dry_run))
    else:
        _show(garbage, dry_run=dry_run)


def _show(garbage: Garbage, *, dry_run: bool) -> None:
    kept = ", ".join(map(str, garbage.keep)) or "none"
    if garbage.nothing:
        click.echo(f"nothing to free; generations that stay: {kept}")
        return
    removed = ", ".join(map(str, garbage.generations)) or "none"
    click.echo(f"generations {'to remove' if dry_run else 'removed'}: {removed}; that stay: {kept}")
    click.echo(
        f"  {human_bytes(garbage.bytes)} {'to free' if dry_run else 'freed'}:"
        f" {amount(len(garbage.blobs), 'blob')},"
        f" {amount(len(garbage.leftovers), 'leftover')} of interrupted runs or replaced models"
    )
    if dry_run:
        click.echo("  nothing was written")


def _document(garbage: Garbage, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "keep": list(garbage.keep),
        "generations": list(garbage.generations),
        "blobs": list(garbage.blobs),
        "leftovers": [shown(str(path)) for path in garbage.leftovers],
        "bytes": garbage.bytes,
    }
