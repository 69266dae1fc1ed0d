"""`airgap init`: a starter manifest."""

import re
from pathlib import Path

import click

from airgap.cli.terminal import emit
from airgap.connected.starter import starter_manifest
from airgap.errors import HostError, InputError


@click.command(
    epilog="""\b
Example
  airgap init gemma4.toml
Exit codes: 0 written, 3 the file exists, 9 it cannot be written
"""
)
@click.argument("manifest", type=click.Path(path_type=Path, readable=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def init(manifest: Path, *, as_json: bool) -> None:
    """Write a commented starter MANIFEST, to be edited and locked."""
    name = re.sub(r"[^a-z0-9]+", "-", manifest.stem.lower()).strip("-") or "bundle"
    try:
        with open(manifest, "x", encoding="utf-8") as stream:
            stream.write(starter_manifest(name))
    except FileExistsError:
        raise InputError(
            f"{manifest} exists already", remedy="choose another name, or delete it first"
        ) from None
    except OSError as error:
        raise HostError(f"{manifest}: {error.strerror}") from error
    if as_json:
        emit({"manifest": str(manifest)})
    else:
        click.echo(f"{manifest} written. Edit it, then: airgap lock {manifest}")
