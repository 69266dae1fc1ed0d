"""What every verb that changes a site takes and shows."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from airgap.cli.terminal import printable
from airgap.isolated.feeding import Feed
from airgap.isolated.record import InstalledBundle
from airgap.media import shown
from airgap.trust.instant import render_instant
from airgap.units import human_bytes

Command = TypeVar("Command", bound=Callable[..., object])

site_option = click.option(
    "--site", type=click.Path(path_type=Path, readable=False), metavar="DIR", required=True, help="The site."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
wait_option = click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=0,
    help="Wait as long for another change of the site to end.",
)


def asked(verb: str, *arguments: object) -> str:
    """The command in words, for receipts and for whoever waits for it to end."""
    return shown(shlex.join(["airgap", verb, *map(str, arguments)]))


def describe(bundle: InstalledBundle) -> dict[str, object]:
    """An installed bundle as `--json` shows it."""
    return {
        "name": bundle.name,
        "version": bundle.version,
        "channel": bundle.channel,
        "epoch": bundle.epoch,
        "sequence": bundle.sequence,
        "payload_sha384": bundle.payload,
        "signers": list(bundle.signers),
        "installed_at": render_instant(bundle.installed_at),
        "left_out": list(bundle.left_out),
    }


def show_feed(feed: Feed | None, *, dry_run: bool) -> None:
    """What a change does to the catalogue of models; nothing where the site feeds none."""
    if feed is None:
        return
    parts = [
        f"{sign} {name}"
        for sign, names in (("+", feed.added), ("~", feed.changed), ("-", feed.removed))
        for name in names
    ]
    where = printable(shown(str(feed.directory)))
    click.echo(f"  models in {where}: {', '.join(parts) or 'as they should be'}")
    if feed.copied_bytes:
        verb = "to copy" if dry_run else "copied"
        free = human_bytes(feed.free.bytes)
        click.echo(f"    {verb} there: {human_bytes(feed.copied_bytes)} of {free} free: another file system")
    if feed.former:
        click.echo(f"    no longer fed, and left as it is: {printable(shown(str(feed.former)))}")


def feed_document(feed: Feed | None) -> dict[str, object] | None:
    """The same as `--json` shows it."""
    if feed is None:
        return None
    return {
        "directory": shown(str(feed.directory)),
        "former": shown(str(feed.former)) if feed.former else None,
        "added": list(feed.added),
        "changed": list(feed.changed),
        "removed": list(feed.removed),
        "linked": feed.linked,
        "copied_bytes": feed.copied_bytes,
        "free": {"bytes": feed.free.bytes, "inodes": feed.free.inodes},
    }
