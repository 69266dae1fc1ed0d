"""Options and values that several verbs take, spelled once."""

import os
import re
import stat
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from airgap.errors import InputError
from airgap.store import host_errors
from airgap.trust.instant import parse_instant

if TYPE_CHECKING:
    from airgap.cli.policing import Policing

Command = TypeVar("Command", bound=Callable[..., object])

FILE = click.Path(path_type=Path, readable=False)
"""A path whose existence the verb itself judges, so that its absence is exit code 3 with advice."""

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def new_file(path: Path) -> Path:
    """The file that a verb is to write, judged before it works: nothing that exists is overwritten.

    Raises InputError, or HostError where its directory cannot be reached.
    """
    if os.path.lexists(path):
        raise InputError(f"{path} exists already", remedy="choose another name, or delete it first")
    with host_errors(path):
        path.parent.stat()
    return path


def report_file(path: Path) -> Path:
    """The report that a verb is to write again and again: it replaces a file, and nothing else.

    Raises InputError, such as for a device, which would be gone afterwards.
    """
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise InputError(
            f"{path}: expected a file to write, found something else", remedy="choose another name"
        )
    return path


def no_stream(context: click.Context, parameter: click.Parameter, paths: Sequence[Path]) -> Sequence[Path]:
    """Refuse `-` where a directory is meant; for `click.argument(callback=)`."""
    if Path("-") in paths:
        raise click.BadParameter("a stream is received, and verified on the way: airgap receive - --site DIR")
    return paths


def lifetime(value: str | timedelta) -> timedelta:
    """Days, written `365d`; for `click.option(type=)`."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([1-9][0-9]{0,4})d", value)
    if not match:
        raise click.BadParameter(f"expected a number of days such as 365d, found {value!r}")
    return timedelta(days=int(match[1]))


def instant(value: str | datetime) -> datetime:
    """A second of UTC, written as in signed documents; for `click.option(type=)`."""
    if isinstance(value, datetime):
        return value
    try:
        return parse_instant(value)
    except InputError as error:
        raise click.BadParameter(error.message) from None


_UNITS: dict[str, int] = {"": 1} | {
    prefix + binary: base**power
    for power, prefix in enumerate("kmgt", 1)
    for binary, base in (("", 1000), ("i", 1024))
}


def byte_count(value: str | int) -> int:
    """`700MB`, `4GiB` or a number of bytes; for `click.option(type=)`."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?\s*([kmgt]i?)?b?", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"expected a size such as 700MB or 2GiB, found {value!r}")
    decimals = match[2] or ""
    scale: int = 10 ** len(decimals)
    return int(match[1] + decimals) * _UNITS[match[3] or ""] // scale


def root_options(command: Command) -> Command:
    """Adds `--site`, `--root` and `--fingerprint`: whom to believe (`airgap.pinned.trusted_root`)."""
    for option in (
        click.option("--fingerprint", metavar="HEX", help="Of --root, as the holders read it to you."),
        click.option("--root", type=FILE, metavar="FILE", help="A root, where no site pins one yet."),
        click.option("--site", type=FILE, metavar="DIR", help="The site whose pinned root decides."),
    ):
        command = option(command)
    return command


def policy_options(command: Command) -> Command:
    """Adds `--policy` and `--osv`; `asked_policy` reads them."""
    for option in (
        click.option(
            "--osv",
            multiple=True,
            metavar="FILE|ARTIFACT",
            help="Advisories: an OSV export. Default: those among the artifacts.",
        ),
        click.option("--policy", "policy_file", type=FILE, metavar="FILE", help="Judge by this policy."),
    ):
        command = option(command)
    return command


def asked_policy(policy_file: Path | None, osv: tuple[str, ...]) -> "Policing | None":
    """For a verb that looks inside for a policy's sake alone. Raises InputError with all of its problems."""
    if policy_file is None:
        if osv:
            raise click.UsageError("--osv gives the advisories that --policy FILE judges by")
        return None
    from airgap.cli.policing import read_policing  # noqa: PLC0415 - see that module

    return read_policing(policy_file, osv)
