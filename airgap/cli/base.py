"""`--base`, as `build` and `plan` take it."""

from collections.abc import Sequence

import click

from airgap.connected.acknowledged import acknowledged_base
from airgap.connected.base import KnownBase, find_base
from airgap.store import Store

base_option = click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="BASE",
    help="Leave out what the other side holds: 'acknowledged', an inventory's file or ID, a bundle, a lock."
    " May repeat: all together.",
)


def chosen_base(names: Sequence[str], store: Store, audience: Sequence[str]) -> KnownBase | None:
    """None for a whole bundle; `audience` are the sites it is for. Raises InputError or MissingPartError."""

    def acknowledged(site: str) -> KnownBase:
        return acknowledged_base(store, site, audience)

    return find_base(names, store, acknowledged) if names else None
