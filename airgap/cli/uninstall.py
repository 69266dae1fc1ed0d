"""`airgap uninstall`: a generation without some bundles or artifacts."""

from collections.abc import Sequence
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
from airgap.isolated.site import Site
from airgap.isolated.uninstall import Uninstall, plan_uninstall
from airgap.isolated.uninstall import uninstall as take_away
from airgap.pinned import trusted_root


@click.command(
    epilog="""\b
Examples
  airgap uninstall quickstart --site /srv/airgap
  airgap uninstall gemma4-serving/vllm --site /srv/airgap --dry-run
Exit codes: 0 done, 3 a name that is not installed, 6 the site's own documents are damaged,
  7 no root, 9 the site cannot be written
"""
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@site_option
@dry_run_option
@wait_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def uninstall(names: Sequence[str], *, site: Path, dry_run: bool, wait: float, as_json: bool) -> None:
    """Make a generation without NAME current: a bundle, an artifact, or BUNDLE/ARTIFACT.

    Nothing is deleted before `airgap gc`, so `airgap rollback` undoes it. A newer version of the bundle
    brings its artifacts back.
    """
    trusted_root(site, None, None)
    target = Site(site)
    number = target.current()
    if dry_run:
        done = plan_uninstall(target, names)
    else:
        words = asked("uninstall", *names)
        now = datetime.now(UTC).replace(microsecond=0)
        done, number = take_away(
            target, names, now, asked=words, progress=progress_for(json=as_json), wait=wait
        )
    if as_json:
        emit(_document(done, number, dry_run=dry_run))
        return
    for bundle in done.bundles:
        click.echo(f"- {bundle}")
    for artifact in done.artifacts:
        click.echo(f"- {artifact}")
    show_feed(done.feed, dry_run=dry_run)
    click.echo("  nothing was written" if dry_run else f"  generation {number} is current")


def _document(done: Uninstall, number: int | None, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "generation": number,
        "bundles": [describe(bundle) for bundle in done.bundles],
        "artifacts": list(done.artifacts),
        "catalogue": feed_document(done.feed),
    }
