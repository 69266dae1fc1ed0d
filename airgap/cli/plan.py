"""`airgap plan`: sizes, what is new, what a build needs."""

import os
from pathlib import Path

import click

from airgap.cli.terminal import emit, human_bytes
from airgap.cli.workspace import cache_directory, read_locked
from airgap.connected.plan import Plan, make_plan
from airgap.store import Store


@click.command(
    epilog="""\b
Example
  airgap plan gemma4.toml --out /data/out
Exit codes: 0 shown, 3 no current lock
"""
)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    help="Where the bundle would be built.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def plan(manifest: Path, *, out: Path, as_json: bool) -> None:
    """Show, artifact by artifact, what a build of MANIFEST (or a lock) would fetch and need."""
    locked = read_locked(manifest)
    cache = cache_directory()
    made = make_plan(locked.lock, Store(cache), linked=_device(cache) == _device(out))
    if as_json:
        emit(_document(made, cache))
    else:
        _show(made, cache)


def _device(path: Path) -> int:
    """The file system a path lies on, or would once it is made."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return os.stat(path).st_dev


def _document(made: Plan, cache: Path) -> dict[str, object]:
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
            }
            for row in made.rows
        ],
        "bytes": made.size,
        "fetch": made.to_fetch,
        "disk_needed": made.disk_needed,
    }


def _show(made: Plan, cache: Path) -> None:
    width = max(len(row.artifact.name) for row in made.rows)
    click.echo(f"{'kind':10} {'name':{width}} {'files':>6} {'size':>10} {'held':>10} {'to fetch':>10}")
    for row in made.rows:
        sizes = " ".join(f"{human_bytes(n):>10}" for n in (row.size, row.held, row.to_fetch))
        click.echo(f"{row.artifact.kind:10} {row.artifact.name:{width}} {row.files:>6} {sizes}")
    click.echo(
        f"Bundle {human_bytes(made.size)}; to fetch {human_bytes(made.to_fetch)};"
        f" free space needed {human_bytes(made.disk_needed)}. Store: {cache}"
    )
