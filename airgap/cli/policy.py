"""`airgap policy`: what a site lets in."""

from pathlib import Path

import click

from airgap.audit.policy_starter import STARTER
from airgap.cli.options import FILE, json_option
from airgap.cli.terminal import emit, printable
from airgap.errors import HostError, InputError


@click.group()
def policy() -> None:
    """Write the policy that build, verify, install and audit judge by (--policy FILE)."""


@policy.command(
    epilog="""\b
Example
  airgap policy init policy.toml
Exit codes: 0 written, 3 the file exists, 9 it cannot be written
"""
)
@click.argument("file", type=FILE, metavar="FILE")
@json_option
def init(file: Path, *, as_json: bool) -> None:
    """Write a commented starter policy, strict as it stands, to be loosened by who answers for it."""
    try:
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(STARTER)
    except FileExistsError:
        raise InputError(f"{file} exists already", remedy="choose another name, or delete it first") from None
    except OSError as error:
        raise HostError(f"{file}: {error.strerror}") from error
    if as_json:
        emit({"policy": str(file)})
    else:
        click.echo(printable(f"{file} written. Edit it, then: airgap audit BUNDLE --policy {file}"))
