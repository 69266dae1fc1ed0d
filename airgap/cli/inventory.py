"""`airgap inventory`: what a site holds, as a file or a line on paper, so that a delta can leave it out."""

from pathlib import Path

import click

from airgap.cli.options import FILE, json_option, new_file
from airgap.cli.site import site_option
from airgap.cli.terminal import emit, printable, progress_for
from airgap.errors import IntegrityError
from airgap.inventory import inventory_id, render_inventory
from airgap.isolated.inventory import Taken, take_inventory
from airgap.isolated.site import Site
from airgap.media import shown
from airgap.pinned import trusted_root
from airgap.store import write_durably
from airgap.units import amount, human_bytes


@click.command(
    epilog="""\b
Examples
  airgap inventory --site /srv/airgap
  airgap inventory --site /srv/airgap -o site-a.inventory.json
Exit codes: 0 done, 3 nothing is installed, or FILE exists, 6 something is lost or damaged
  and therefore left out, 7 no root, 9 it cannot be read or written
"""
)
@site_option
@click.option(
    "-o", "output", type=FILE, metavar="FILE", help="Write it to this new file, to be carried back."
)
@click.option("--verify", is_flag=True, help="Hash every byte first.")
@click.option("--kept", is_flag=True, help="Also what only older generations hold, until gc removes it.")
@json_option
def inventory(*, site: Path, output: Path | None, verify: bool, kept: bool, as_json: bool) -> int:
    """Show what the current generation of a site holds, and the ID that names it.

    The ID is short enough for a sheet of paper: with it, airgap build --base ID leaves out what is here,
    where the bundles that the site was made of are remembered or at hand. Else --base takes FILE.
    """
    if output:
        new_file(output)
    trusted_root(site, None, None)
    target = Site(site)
    taken = take_inventory(target, kept=kept, verify=progress_for(json=as_json) if verify else None)
    if output:
        write_durably(output, render_inventory(taken.inventory))
    if as_json:
        emit(_document(taken, target, output))
    else:
        _show(taken, target, output)
    return IntegrityError.exit_code if taken.lost else 0


def _show(taken: Taken, site: Site, output: Path | None) -> None:
    held = taken.inventory
    name = f" ({held.site})" if held.site else ""
    click.echo(f"{printable(shown(str(site.root)))}{name}: generation {held.generation}", nl=False)
    click.echo(f" holds {amount(len(held.blobs), 'blob')}, {human_bytes(held.total_bytes)}")
    for bundle in held.bundles:
        without = f", without {', '.join(bundle.left_out)}" if bundle.left_out else ""
        click.echo(f"  {bundle.name} {bundle.version}, channel {bundle.channel},", nl=False)
        click.echo(f" sequence {bundle.sequence}{without}")
    if taken.lost:
        size = human_bytes(sum(blob.size for blob in taken.lost.values()))
        click.echo(f"lost or damaged, so not counted: {amount(len(taken.lost), 'blob')}, {size}", err=True)
        click.echo("  -> install the bundle again, or carry FILE (-o) back: a delta brings them", err=True)
    click.echo(f"inventory: {inventory_id(held.digest)}")
    if output:
        click.echo(f"  written to {printable(shown(str(output)))}")


def _document(taken: Taken, site: Site, output: Path | None) -> dict[str, object]:
    held = taken.inventory
    return {
        "site": shown(str(site.root)),
        "name": held.site,
        "generation": held.generation,
        "id": inventory_id(held.digest),
        "digest": held.digest,
        "blobs": len(held.blobs),
        "bytes": held.total_bytes,
        "bundles": [
            {
                "name": bundle.name,
                "version": bundle.version,
                "channel": bundle.channel,
                "epoch": bundle.epoch,
                "sequence": bundle.sequence,
                "payload_sha384": bundle.payload,
                "left_out": list(bundle.left_out),
            }
            for bundle in held.bundles
        ],
        "lost": sorted(taken.lost),
        "file": shown(str(output)) if output else None,
    }
