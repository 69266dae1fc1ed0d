"""What a site says it holds, as it comes back over the gap: an inventory, and an ID typed by hand.

Invariant: only InputError escapes; an inventory that parses is rendered and parses back equal, and has the
digest that it names; an ID that is read is spelled again to what was typed.
"""

from functools import cache

from airgap.base32 import read_spelled, spell
from airgap.inventory import WORD, HeldBundle, Inventory, inventory_id, parse_inventory, render_inventory
from airgap.model import Sha256, Sha384
from airgap.trust.statement import StatedBlob
from tests.fuzz.harness import accepted

HELD = HeldBundle("quickstart", "2026.11", "quickstart", 0, 2, Sha384("1" * 96), ("notes",))
BLOBS = {
    Sha256("2" * 64): StatedBlob(Sha384("3" * 96), 400),
    Sha256("4" * 64): StatedBlob(Sha384("5" * 96), 0),
}


@cache
def seeds() -> dict[str, bytes]:
    whole = Inventory("site-a", 3, (HELD,), BLOBS)
    return {
        "inventory": render_inventory(whole),
        "empty": render_inventory(Inventory("", 1, (), {})),
        "id": inventory_id(whole.digest).encode(),
        "bad-digest": render_inventory(whole).replace(b'"digest":"', b'"digest":"0', 1)[:-1],
    }


def check(data: bytes) -> bool:
    inventory = accepted(lambda document: parse_inventory(document, "inventory"), data)
    if inventory is not None:
        assert parse_inventory(render_inventory(inventory), "inventory") == inventory
    typed = data.decode("latin-1")
    short = accepted(lambda _: read_spelled(WORD, typed), data)
    if short is not None:
        assert read_spelled(WORD, spell(WORD, short)) == short
    return inventory is not None or short is not None
