"""What comes back from a site over the gap: its inventory, a receipt, and what a person typed of them.

Invariant: only InputError escapes; a document that parses is rendered and parses back equal, and has the
digest that it names; an ID or a line that is read is spelled again to one that reads the same.
"""

from functools import cache

from airgap.base32 import read_spelled, spell
from airgap.inventory import WORD, HeldBundle, Inventory, inventory_id, parse_inventory, render_inventory
from airgap.model import Sha256, Sha384
from airgap.receipt import SiteReceipt, parse_line, parse_receipt, render_receipt
from airgap.trust.blobs import StatedBlob
from tests.fuzz.harness import accepted
from tests.trust.statements import NOW

HELD = HeldBundle("quickstart", "2026.11", "quickstart", 0, 2, Sha384("1" * 96), ("notes",))
BLOBS = {
    Sha256("2" * 64): StatedBlob(Sha384("3" * 96), 400),
    Sha256("4" * 64): StatedBlob(Sha384("5" * 96), 0),
}


@cache
def seeds() -> dict[str, bytes]:
    whole = Inventory("site-a", 3, (HELD,), BLOBS)
    receipt = SiteReceipt(3, "install", NOW, whole)
    return {
        "inventory": render_inventory(whole),
        "empty": render_inventory(Inventory("", 1, (), {})),
        "id": inventory_id(whole.digest).encode(),
        "receipt": render_receipt(receipt),
        "line": str(receipt.line).encode(),
        "nameless": str(SiteReceipt(1, "rollback", NOW, Inventory("", 1, (), {})).line).encode(),
        "bad-digest": render_inventory(whole).replace(b'"digest":"', b'"digest":"0', 1)[:-1],
        "bad-line": str(receipt.line).replace("quickstart/2", "quickstart/3").encode(),
    }


def check(data: bytes) -> bool:
    inventory = accepted(lambda document: parse_inventory(document, "inventory"), data)
    if inventory is not None:
        assert parse_inventory(render_inventory(inventory), "inventory") == inventory
    receipt = accepted(lambda document: parse_receipt(document, "receipt"), data)
    if receipt is not None:
        assert parse_receipt(render_receipt(receipt), "receipt") == receipt
        assert parse_line(str(receipt.line)) == receipt.line
    typed = data.decode("latin-1")
    short = accepted(lambda _: read_spelled(WORD, typed), data)
    if short is not None:
        assert read_spelled(WORD, spell(WORD, short)) == short
    line = accepted(lambda _: parse_line(typed), data)
    if line is not None:
        assert parse_line(str(line)) == line
    return any(found is not None for found in (inventory, receipt, short, line))
