"""`--base`, as `build` and `plan` take it."""

from collections.abc import Sequence

import click

from airgap.connected.base import KnownBase, find_base
from airgap.errors import InputError
from airgap.store import Store

base_option = click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="BASE",
    help="Leave out what the other side holds: a bundle, a lock, an inventory file, or an inventory's ID."
    " May repeat: all together.",
)


def chosen_base(names: Sequence[str], store: Store) -> KnownBase | None:
    """None for a whole bundle. Raises InputError or MissingPartError."""

    def acknowledged(site: str) -> KnownBase:
        raise InputError("nothing was acknowledged yet")

    return find_base(names, store, acknowledged) if names else None
