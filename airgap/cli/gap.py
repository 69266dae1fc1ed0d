"""`airgap gap`: which releases of vLLM and transformers can run a model, since when."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap import __version__
from airgap.cli.options import FILE, json_option
from airgap.cli.terminal import emit, printable, progress_for
from airgap.cli.workspace import open_context, read_target_of
from airgap.connected.catalogue import Catalogue
from airgap.connected.gap import gather_gap, read_asked
from airgap.connected.metered import Metered
from airgap.connected.offers import Places, default_index
from airgap.connected.opener import Opener
from airgap.destination import target_table
from airgap.errors import HostError
from airgap.model import Platform, Target
from airgap.readiness.gap import Gap
from airgap.readiness.gap_page import gap_page
from airgap.readiness.gap_table import as_json as gap_json
from airgap.readiness.gap_table import render_gap
from airgap.readiness.judgement import BLOCKED_EXIT
from airgap.units import human_bytes

TARGET = Target("3.12", Platform("linux", "amd64"), "2.35")
"""Where nothing else is said: that of a starter manifest."""


@click.command(
    epilog="""\b
Example
  airgap gap google/gemma-4-31b-it
  airgap gap config.json --vllm '>=0.19,<0.21' --transformers 5.5.4 --html gap.html
Exit codes: 0 some pair has no blocker, 3 no such model or release, 4 hub or index failed, 5 no pair has none
"""
)
@click.argument("model", metavar="MODEL")
@click.option(
    "--vllm", multiple=True, metavar="SPEC", help="Releases, as '>=0.19,<0.21' or 0.19.1; repeatable."
)
@click.option("--transformers", multiple=True, metavar="SPEC", help="Releases, in the same way.")
@click.option(
    "--last",
    type=click.IntRange(1, 40),
    default=6,
    show_default=True,
    help="Without SPEC: the newest release of each of the last so many lines (0.33.x).",
)
@click.option(
    "--target", "target_file", type=FILE, metavar="FILE", help="Judge for the [target] in this TOML."
)
@click.option("--index-url", metavar="URL", help="Instead of the one that pip is set to.")
@click.option(
    "--requests",
    "limit",
    type=click.IntRange(1, 10_000),
    default=400,
    show_default=True,
    help="No more than this many.",
)
@click.option(
    "--html", "page", type=FILE, metavar="FILE", help="Write the answer as a page that stands alone."
)
@json_option
def gap(
    model: str,
    vllm: tuple[str, ...],
    transformers: tuple[str, ...],
    last: int,
    target_file: Path | None,
    index_url: str | None,
    limit: int,
    page: Path | None,
    *,
    as_json: bool,
) -> int:
    """Say which releases of vLLM and transformers can run MODEL, and since when.

    MODEL is a config.json, a directory with one, or org/name[@revision] on the hub. Each pair of releases
    is judged by the rules of `airgap check`, from ranges of the wheels on the index; nothing is downloaded
    whole, imported or run.
    """
    target = read_target_of(target_file) if target_file else TARGET
    progress = progress_for(json=as_json)
    index = index_url or default_index()
    context = open_context(target, Path(), progress, (index,))
    meter = Metered(context.store, progress, limit=limit, jobs=8)
    with progress.task("reading releases", None), Opener(replace(context, transfer=meter)) as opener:
        asked = read_asked(model, opener)
        catalogue = Catalogue(Places((index,)), target, opener)
        found = gather_gap(asked, target, catalogue, {"vllm": vllm, "transformers": transformers}, last)
    cost = f"{meter.requests} of at most {limit} requests, {human_bytes(meter.traffic)}"
    if page:
        _write(page, gap_page(found, cost, f"Made by airgap {__version__} on {datetime.now(UTC):%Y-%m-%d}"))
    if as_json:
        emit(_document(found, meter))
    else:
        for line in [*render_gap(found, shutil.get_terminal_size((100, 24)).columns), cost]:
            click.echo(printable(line))
    return 0 if found.runs else BLOCKED_EXIT


def _document(found: Gap, meter: Metered) -> dict[str, object]:
    return {
        "target": target_table(found.target),
        **gap_json(found),
        "requests": meter.requests,
        "limit": meter.limit,
        "traffic_bytes": meter.traffic,
    }


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HostError(f"{path}: cannot be written: {error.strerror}") from None
