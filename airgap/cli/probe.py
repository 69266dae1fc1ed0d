"""`airgap probe`: the facts of this host as a manifest's `[target]`."""

from dataclasses import asdict
from pathlib import Path

import click

from airgap.cli.options import FILE, json_option
from airgap.cli.terminal import emit
from airgap.media import shown
from airgap.probe import Facts, most_cards, render_target
from airgap.probe import probe as probe_host


@click.command(
    epilog="""\b
Examples
  airgap probe
  airgap probe --site /srv/airgap >target.toml
Exit codes: 0 shown; a fact that cannot be had is left out and said
"""
)
@click.option("--site", type=FILE, metavar="DIR", help="Say what is free there, too.")
@json_option
def probe(*, site: Path | None, as_json: bool) -> None:
    """Print what this host is, as the [target] table of a manifest that is to run on it.

    Python is what python3 means here, GPU memory is what the driver reports in whole GiB. Everything
    that has no place in the table is a comment. Nothing is written and no network is used.
    """
    facts = probe_host(site)
    if as_json:
        emit(_document(facts))
    else:
        click.echo(render_target(facts), nl=False)


def _document(facts: Facts) -> dict[str, object]:
    most = most_cards(facts.cards)
    return {
        "python": facts.pythons[0].minor if facts.pythons else None,
        "platform": str(facts.platform),
        "glibc": facts.glibc or None,
        "gpu": asdict(most[0]) | {"count": most[1]} if most else None,
        "pythons": [asdict(python) | {"path": shown(python.path)} for python in facts.pythons],
        "libc": facts.libc,
        "kernel": facts.kernel,
        "cpu": {"model": facts.cpu, "count": facts.cpus},
        "gpus": [asdict(card) for card in facts.cards],
        "engines": dict(facts.engines),
        "space": [asdict(space) | {"path": shown(space.path)} for space in facts.space],
    }
