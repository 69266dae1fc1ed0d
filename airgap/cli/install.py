"""`airgap install`: verify bundles and make them the site's next generation."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.site import asked, describe, wait_option
from airgap.cli.terminal import emit, human_bytes, print_findings, progress_for
from airgap.isolated.install import Installed, plan_install
from airgap.isolated.install import install as install_bundles
from airgap.isolated.plan import Plan, require_fit
from airgap.isolated.site import Site
from airgap.media import Media, shown
from airgap.pinned import trusted_root

_PATH = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples
  airgap install /media/disc1 --site /srv/airgap --dry-run
  airgap install /media/disc1 /media/disc2 --site /srv/airgap
Exit codes: 0 installed or already there, 3 not a bundle, 6 bytes differ,
  7 signatures, root or sequence do not hold, 8 artifacts of two bundles collide,
  9 no space, no permission, or the media cannot be read
After anything but 0 nothing installed has changed; run the same command again.
Newer roots that BUNDLE brings are kept as soon as they are proven.
"""
)
@click.argument("bundles", metavar="BUNDLE...", type=_PATH, nargs=-1, required=True)
@click.option("--site", type=_PATH, metavar="DIR", required=True, help="Where a root is pinned.")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@wait_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def install(bundles: Sequence[Path], *, site: Path, dry_run: bool, wait: float, as_json: bool) -> None:
    """Verify each BUNDLE while copying it once, and make all of them the site's next generation.

    Bundles of other names stay; a newer bundle replaces the older one of its name.
    """
    trusted_root(site, None, None)  # before anything is made at a place that was meant otherwise
    target = Site(site)
    now = datetime.now(UTC).replace(microsecond=0)
    with ExitStack() as opened:
        media = [opened.enter_context(Media(bundle)) for bundle in bundles]
        if dry_run:
            done = Installed(target.current(), plan_install(media, target, now), built=False)
        else:
            words = asked("install", *bundles)
            progress = progress_for(json=as_json)
            done = install_bundles(media, target, now, asked=words, progress=progress, wait=wait)
    if as_json:
        emit({"site": shown(str(target.root)), "dry_run": dry_run, **_document(done)})
    else:
        _show(done, target, dry_run=dry_run)
    if dry_run:
        require_fit(target, done.plan)


def _show(done: Installed, site: Site, *, dry_run: bool) -> None:
    plan = done.plan
    print_findings(plan.findings)
    for bundle in plan.bundles:
        click.echo(f"{bundle}, signed by {', '.join(bundle.signers)}")
    if plan.unchanged and not done.built:
        checked = "" if dry_run else "; every byte of it was checked"
        click.echo(f"  already installed; generation {done.generation} stays current{checked}")
        return
    _show_plan(plan, "to copy" if dry_run else "copied")
    if dry_run:
        click.echo("  nothing was written")
    else:
        environment = shlex.quote(shown(str(site.root / "current" / "env.sh")))
        click.echo(f"  generation {done.generation} is current: . {environment}")


def _show_plan(plan: Plan, verb: str) -> None:
    for replaced in plan.replaced:
        click.echo(f"  replaces {replaced}")
    click.echo(f"  artifacts: {', '.join(plan.artifacts)}")
    click.echo(
        f"  {verb}: {len(plan.missing)} blobs, {human_bytes(plan.missing_bytes)};"
        f" already here: {len(plan.shared)} blobs, {human_bytes(plan.shared_bytes)}"
    )
    inodes = "" if plan.free.inodes is None else f", {plan.needed.inodes} of {plan.free.inodes} inodes"
    click.echo(f"  space: {human_bytes(plan.needed.bytes)} of {human_bytes(plan.free.bytes)} free{inodes}")


def _document(done: Installed) -> dict[str, object]:
    plan = done.plan
    return {
        "generation": done.generation,
        "unchanged": plan.unchanged and not done.built,
        "bundles": [describe(bundle) for bundle in plan.bundles],
        "replaced": [describe(bundle) for bundle in plan.replaced],
        "artifacts": list(plan.artifacts),
        "findings": [finding.as_json() for finding in plan.findings],
        "missing": {"blobs": len(plan.missing), "bytes": plan.missing_bytes},
        "shared": {"blobs": len(plan.shared), "bytes": plan.shared_bytes},
        "needed": {"bytes": plan.needed.bytes, "inodes": plan.needed.inodes},
        "free": {"bytes": plan.free.bytes, "inodes": plan.free.inodes},
    }
