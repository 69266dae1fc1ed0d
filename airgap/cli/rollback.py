"""`airgap rollback`: go back to an earlier generation of a site."""

from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.site import (
    asked,
    describe,
    dry_run_option,
    feed_document,
    show_feed,
    site_option,
    wait_option,
)
from airgap.cli.terminal import emit, progress_for
from airgap.isolated.rollback import Rollback, plan_rollback
from airgap.isolated.rollback import rollback as roll_back
from airgap.isolated.site import Site
from airgap.pinned import trusted_root


@click.command(
    epilog="""\b
Examples
  airgap rollback --site /srv/airgap
  airgap rollback 3 --site /srv/airgap --dry-run
Exit codes: 0 done or already there, 3 no such generation, 6 it is not whole,
  7 no root, or it revokes a bundle of that generation, 9 the site cannot be written
"""
)
@click.argument("generation", metavar="[N]", type=click.IntRange(min=1), required=False)
@site_option
@dry_run_option
@wait_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def rollback(generation: int | None, *, site: Path, dry_run: bool, wait: float, as_json: bool) -> None:
    """Make generation N current again, the one before where N is left out; a newer N goes forward.

    What the site accepts does not go back: a bundle older than the newest it ever accepted stays refused.
    """
    root = trusted_root(site, None, None)
    target = Site(site)
    if dry_run:
        done = plan_rollback(target, generation, root)
    else:
        words = asked("rollback", *([] if generation is None else [generation]))
        now = datetime.now(UTC).replace(microsecond=0)
        progress = progress_for(json=as_json)
        done = roll_back(target, generation, root, now, asked=words, progress=progress, wait=wait)
    if as_json:
        emit(_document(done, dry_run=dry_run))
    else:
        _show(done, dry_run=dry_run)


def _show(done: Rollback, *, dry_run: bool) -> None:
    if done.unchanged:
        click.echo(f"generation {done.generation} is current already")
        show_feed(done.feed, dry_run=dry_run)
        return
    if done.finished:
        click.echo("an interrupted rollback was finished")
    click.echo(
        f"generation {done.generation} {'would be' if dry_run else 'is'} current, instead of {done.before}"
    )
    for sign, bundles in (("-", done.removed), ("+", done.added)):
        for bundle in bundles:
            without = f", without {', '.join(bundle.left_out)}" if bundle.left_out else ""
            click.echo(f"  {sign} {bundle}{without}")
    show_feed(done.feed, dry_run=dry_run)
    if dry_run:
        click.echo("  nothing was written")


def _document(done: Rollback, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "generation": done.generation,
        "before": done.before,
        "unchanged": done.unchanged,
        "finished": done.finished,
        "added": [describe(bundle) for bundle in done.added],
        "removed": [describe(bundle) for bundle in done.removed],
        "catalogue": feed_document(done.feed),
    }
