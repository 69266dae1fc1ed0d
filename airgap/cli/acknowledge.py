"""`airgap acknowledge`: record what a site says that it holds, so that a delta can be built on it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.options import FILE, json_option
from airgap.cli.terminal import emit, printable
from airgap.cli.workspace import cache_directory
from airgap.connected.acknowledged import Acknowledged, load_acknowledged, prove_file, prove_line, record
from airgap.decode import read_capped
from airgap.errors import InputError
from airgap.keyfiles import load_holder
from airgap.model import NAME_PATTERN
from airgap.receipt import NAMELESS, parse_line
from airgap.store import Store
from airgap.trust.envelope import MAX_ENVELOPE
from airgap.trust.instant import render_instant
from airgap.units import amount, human_bytes


class _LineAsOneWord(click.Command):
    """A quoted line of a site without a name begins as an option does: `- 4 demo/1 …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [arg.split() if arg.startswith(f"{NAMELESS} ") else [arg] for arg in args]
        return super().parse_args(ctx, [word for split in words for word in split])


@click.command(
    cls=_LineAsOneWord,
    epilog="""\b
Examples
  airgap acknowledge site-a 3 demo/7 7K2-M9Q-XR1-F0G-T3V-W8S-6BZ-8QN
  airgap acknowledge site-a.receipt.json --signer keys/operator.pub
  airgap acknowledge
Exit codes: 0 recorded or shown, 3 mistyped, no receipt, or older than what is recorded, 6 it contradicts
  what was built here, 7 not signed by --signer, 9 it cannot be written, 10 a line that this host cannot prove
""",
)
@click.argument("words", metavar="[LINE|FILE]", nargs=-1)
@click.option(
    "--signer",
    "signers",
    type=FILE,
    multiple=True,
    metavar="F.pub",
    help="One of them must have signed FILE.",
)
@click.option("--as", "name", metavar="NAME", help="What to call a site that has no name.")
@click.option("--replace", "anew", is_flag=True, help="The site was made anew: forget what it held.")
@json_option
def acknowledge(
    words: Sequence[str], *, signers: Sequence[Path], name: str | None, anew: bool, as_json: bool
) -> None:
    """Record the LINE or FILE that airgap receipt made at a site; without either show what is recorded.

    A line is proven: what its bundles state, as they were built here, must have the digest that was read
    out. A file must not contradict what was built here. Then airgap build --base acknowledged leaves out what
    the sites of the bundle's audience, else all sites recorded, hold.
    """
    store = Store(cache_directory())
    if not words:
        _list(store, as_json=as_json)
        return
    now = datetime.now(UTC).replace(microsecond=0)
    path = Path(words[0])
    if len(words) == 1 and path.is_file():
        data = read_capped(path, max_bytes=MAX_ENVELOPE)
        told = prove_file(data, [load_holder(signer) for signer in signers], store, now, str(path))
    elif signers:
        raise click.UsageError("--signer judges a file: a line carries no signature")
    else:
        told = prove_line(parse_line(" ".join(words)), store, now)
    told = _named(told, name)
    record(store, told, replace=anew)
    if as_json:
        emit(_document(told))
    else:
        _show(told)


def _named(told: Acknowledged, name: str | None) -> Acknowledged:
    if name is None:
        return told
    if told.site != NAMELESS or not re.fullmatch(NAME_PATTERN, name):
        raise InputError(
            f"--as {name}: expected a name such as site-a for a site without one; this is {told.site}",
            remedy="leave --as out, or mend the name",
        )
    return replace(told, site=name)


def _list(store: Store, *, as_json: bool) -> None:
    known = load_acknowledged(store)
    if as_json:
        emit({"sites": [_document(told) for told in known.values()]})
        return
    for told in known.values():
        _show(told)
    if not known:
        click.echo("no site has acknowledged anything")


def _show(told: Acknowledged) -> None:
    base = told.base
    size = human_bytes(sum(blob.size for blob in told.blobs.values()))
    click.echo(
        f"{_called(told)}: receipt {told.receipt} holds {amount(len(told.blobs), 'blob')}, {size}", nl=False
    )
    click.echo(f" ({', '.join(map(str, told.bundles)) or 'no bundles'})")
    by = f", signed by {', '.join(told.signers)}" if told.signers else ""
    click.echo(printable(f"  told {render_instant(told.at)}{by}; inventory {base.id}"))


def _called(told: Acknowledged) -> str:
    return "a site without a name" if told.site == NAMELESS else told.site


def _document(told: Acknowledged) -> dict[str, object]:
    return {
        "site": told.site,
        "receipt": told.receipt,
        "at": render_instant(told.at),
        "signers": list(told.signers),
        "bundles": [str(number) for number in told.bundles],
        "inventory": told.base.id,
        "blobs": len(told.blobs),
        "bytes": sum(blob.size for blob in told.blobs.values()),
    }
