"""`airgap plan`: sizes, what is new, what a build needs."""

import os
from pathlib import Path

import click

from airgap.cli.base import base_option, chosen_base
from airgap.cli.terminal import emit, printable
from airgap.cli.workspace import cache_directory, read_locked
from airgap.connected.base import KnownBase
from airgap.connected.plan import Plan, make_plan
from airgap.store import Store
from airgap.units import human_bytes


@click.command(
    epilog="""\b
Examples
  airgap plan gemma4.toml --out /data/out
  airgap plan gemma4.toml --base site-a.inventory.json
Exit codes: 0 shown, 3 no current lock, 10 nothing at hand has the inventory that --base names
"""
)
@click.argument("manifest", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    help="Where the bundle would be built.",
)
@base_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def plan(manifest: Path, *, out: Path, bases: tuple[str, ...], as_json: bool) -> None:
    """Show, artifact by artifact, what a build of MANIFEST (or a lock) would fetch and need.

    With --base also what the other side holds already, and what would travel.
    """
    locked = read_locked(manifest)
    cache = cache_directory()
    store = Store(cache)
    base = chosen_base(bases, store, locked.lock.audience)
    made = make_plan(locked.lock, store, linked=_device(cache) == _device(out), base=base)
    if as_json:
        emit(_document(made, cache, base))
    else:
        _show(made, cache, base)


def _device(path: Path) -> int:
    """The file system a path lies on, or would once it is made."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return os.stat(path).st_dev


def _document(made: Plan, cache: Path, base: KnownBase | None) -> dict[str, object]:
    return {
        "store": str(cache),
        "artifacts": [
            {
                "name": row.artifact.name,
                "kind": row.artifact.kind.value,
                "files": row.files,
                "bytes": row.size,
                "held": row.held,
                "fetch": row.to_fetch,
                "there": row.there,
                "travels": row.travels,
            }
            for row in made.rows
        ],
        "bytes": made.size,
        "fetch": made.to_fetch,
        "there": made.there,
        "travels": made.travels,
        "patchable": made.patchable,
        "base": base.id if base else None,
        "disk_needed": made.disk_needed,
    }


def _show(made: Plan, cache: Path, base: KnownBase | None) -> None:
    width = max(len(row.artifact.name) for row in made.rows)
    heads = ["size", "held", "to fetch", *(("there", "travels") if base else ())]
    columns = " ".join(f"{head:>10}" for head in heads)
    click.echo(f"{'kind':10} {'name':{width}} {'files':>6} {columns}")
    for row in made.rows:
        counts = [row.size, row.held, row.to_fetch, *((row.there, row.travels) if base else ())]
        sizes = " ".join(f"{human_bytes(count):>10}" for count in counts)
        click.echo(f"{row.artifact.kind:10} {row.artifact.name:{width}} {row.files:>6} {sizes}")
    click.echo(
        f"Bundle {human_bytes(made.size)}; to fetch {human_bytes(made.to_fetch)};"
        f" free space needed {human_bytes(made.disk_needed)}. Store: {cache}"
    )
    if base:
        click.echo(f"Base {base.id}: {printable(base.what)}")
        click.echo(f"  {human_bytes(made.there)} are there; {human_bytes(made.travels)} travel")
        if made.patchable:
            click.echo(f"  build --patch may make less of {human_bytes(made.patchable)} of them: large blobs")
