"""`airgap receipt`: what was installed, as a line to read out and as a file to carry back."""

from collections.abc import Sequence
from pathlib import Path

import click

from airgap.cli.options import FILE, json_option, new_file
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.site import site_option
from airgap.cli.terminal import emit, printable
from airgap.errors import IntegrityError
from airgap.inventory import inventory_id
from airgap.isolated.receipt import take_receipt
from airgap.isolated.record import InstalledBundle, Receipt
from airgap.isolated.site import Site
from airgap.keyfiles import load_secret
from airgap.media import shown
from airgap.pinned import trusted_root
from airgap.receipt import PAYLOAD_TYPE, SiteReceipt, render_receipt
from airgap.store import write_durably
from airgap.trust.envelope import render, sign
from airgap.trust.instant import render_instant
from airgap.units import amount


@click.command(
    epilog="""\b
Examples
  airgap receipt --site /srv/airgap
  airgap receipt --site /srv/airgap -o site-a.receipt.json --key keys/operator.key
Exit codes: 0 done, 3 no such receipt, gc removed its generation, or FILE exists,
  6 something of it is lost, 7 no root, wrong passphrase or key mode, 9 it cannot be read or written
"""
)
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), required=False)
@site_option
@click.option(
    "-o", "output", type=FILE, metavar="FILE", help="Also write it, with the inventory, to this new file."
)
@click.option("--key", "keys", type=FILE, multiple=True, metavar="F.key", help="Sign FILE. May repeat.")
@passphrase_option
@json_option
def receipt(
    number: int | None,
    *,
    site: Path,
    output: Path | None,
    keys: Sequence[Path],
    passphrase_fd: int | None,
    as_json: bool,
) -> int:
    """Show what change N of a site (the last one) left there, as one line for the connected side.

    The line may be read out: its last two groups are a check over all of it. airgap acknowledge takes it,
    or FILE, and from then on the other side can build on what is here.
    """
    if keys and output is None:
        raise click.UsageError("--key signs the file that -o names")
    if output:
        new_file(output)
    trusted_root(site, None, None)
    told, kept, taken = take_receipt(Site(site), number)
    signers: list[str] = []
    if output:
        secrets = [load_secret(path, source) for source in [passphrases(passphrase_fd)] for path in keys]
        payload = render_receipt(told)
        signatures = [one for secret in secrets for one in sign(payload, PAYLOAD_TYPE, secret)]
        write_durably(output, render(payload, PAYLOAD_TYPE, signatures))
        signers = [secret.holder.name for secret in secrets]
    if as_json:
        emit(_document(told, kept, output, signers))
    else:
        _show(told, kept)
        if output:
            by = f"signed by {', '.join(signers)}" if signers else "not signed: --key F.key signs it"
            click.echo(f"  written to {printable(shown(str(output)))}, {by}")
    if taken.lost:
        click.echo(f"lost, so not counted: {amount(len(taken.lost), 'blob')}; carry FILE (-o) back", err=True)
    return IntegrityError.exit_code if taken.lost else 0


def _show(told: SiteReceipt, kept: Receipt) -> None:
    click.echo(f"receipt {told.number}: {told.action} at {render_instant(told.at)},", nl=False)
    click.echo(f" generation {kept.generation}")
    for sign_, bundles in (("-", kept.removed), ("+", kept.added)):
        for bundle in bundles:
            click.echo(f"  {sign_} {_described(bundle)}")
    click.echo(f"{told.line}")


def _described(bundle: InstalledBundle) -> str:
    without = f", without {', '.join(bundle.left_out)}" if bundle.left_out else ""
    return f"{bundle.name} {bundle.version}, channel {bundle.channel}, sequence {bundle.sequence}{without}"


def _document(
    told: SiteReceipt, kept: Receipt, output: Path | None, signers: Sequence[str]
) -> dict[str, object]:
    return {
        "receipt": told.number,
        "action": told.action,
        "at": render_instant(told.at),
        "generation": kept.generation,
        "line": str(told.line),
        "inventory": inventory_id(told.inventory.digest),
        "bundles": [str(number) for number in told.line.bundles],
        "file": shown(str(output)) if output else None,
        "signers": list(signers),
    }
