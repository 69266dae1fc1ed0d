"""What every verb that changes a site takes and shows."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from airgap.isolated.record import InstalledBundle
from airgap.media import shown
from airgap.trust.instant import render_instant

Command = TypeVar("Command", bound=Callable[..., object])

site_option = click.option(
    "--site", type=click.Path(path_type=Path), metavar="DIR", required=True, help="The site."
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
