"""What a site says after a change, for the connected side: a line to read out, or a file.

The line is `SITE NUMBER CHANNEL/SEQUENCE… CODE`: the site's name ('-' where it has none), the number of its
receipt, every bundle that it now holds, and the short digest of its inventory with a check that covers
all of it. The connected side knows what those bundles state, so it can tell whether the digest is right.
The file is a DSSE envelope, signed or not, and holds the inventory itself.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from airgap.base32 import CODE, read_spelled, shorten, spell
from airgap.decode import Fields, canonical_json, read_document
from airgap.errors import InputError
from airgap.inventory import Inventory, inventory_table, read_inventory
from airgap.model import NAME_PATTERN
from airgap.trust.instant import EPOCH, parse_instant, render_instant

PAYLOAD_TYPE = "application/vnd.airgap.receipt.v1+json"
FORMAT = 1
WORD = "receipt"
"""Covered by the check of a line, so that no other code is taken for one."""

NAMELESS = "-"

_BUNDLE = rf"({NAME_PATTERN})/(?:([1-9][0-9]{{0,18}})\.)?([1-9][0-9]{{0,18}})"


@dataclass(frozen=True, slots=True, order=True)
class BundleNumber:
    """What one channel calls one bundle: `demo/7`, or `demo/1.7` in epoch 1."""

    channel: str
    epoch: int
    sequence: int

    def __str__(self) -> str:
        epoch = f"{self.epoch}." if self.epoch else ""
        return f"{self.channel}/{epoch}{self.sequence}"


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """`site` is '' for one without a name; `short` is the site's shortened inventory digest."""

    site: str
    number: int
    bundles: tuple[BundleNumber, ...]
    short: str

    def __str__(self) -> str:
        words = _words(self.site, self.number, self.bundles)
        return f"{words} {spell(f'{WORD} {words}', self.short)}"


@dataclass(frozen=True, slots=True)
class SiteReceipt:
    """Receipt `number` of a site: what was done (`install`, …), when, and what it held afterwards."""

    number: int
    action: str
    at: datetime
    inventory: Inventory

    @property
    def line(self) -> ReceiptLine:
        held = self.inventory
        numbers = {BundleNumber(b.channel, b.epoch, b.sequence) for b in held.bundles}
        return ReceiptLine(held.site, self.number, tuple(sorted(numbers)), shorten(held.digest))


def parse_line(text: str) -> ReceiptLine:
    """A line as a person typed it: case and spaces in the code are free. Raises InputError for a mistake."""
    tokens = text.lower().split()
    site, number = [*tokens, "", ""][:2]
    bundles = [token for token in tokens[2:] if "/" in token]
    code = " ".join(tokens[2 + len(bundles) :])
    matches = [re.fullmatch(_BUNDLE, token) for token in tokens[2 : 2 + len(bundles)]]
    if (
        not re.fullmatch(rf"{NAMELESS}|{NAME_PATTERN}", site)
        or not re.fullmatch(r"[1-9][0-9]{0,18}", number)
        or not all(matches)
        or not re.fullmatch(CODE, code)
    ):
        raise InputError(
            f"expected a line such as 'site-a 3 demo/7 7K2-M9Q-…', found {text[:80]!r}",
            remedy="have it read out again, as airgap receipt prints it",
        )
    numbers = tuple(BundleNumber(m[1], int(m[2] or 0), int(m[3])) for m in matches if m)
    named = "" if site == NAMELESS else site
    words = _words(named, int(number), numbers)
    return ReceiptLine(named, int(number), numbers, read_spelled(f"{WORD} {words}", code))


def render_receipt(receipt: SiteReceipt) -> bytes:
    """The payload of the file; `parse_receipt` is the inverse."""
    return canonical_json(
        {
            "format": FORMAT,
            "receipt": receipt.number,
            "action": receipt.action,
            "at": render_instant(receipt.at),
            "line": str(receipt.line),
            "inventory": inventory_table(receipt.inventory),
        }
    )


def parse_receipt(payload: bytes, what: str) -> SiteReceipt:
    """Raises InputError naming every problem."""
    return read_document(payload, what, _receipt)


def _receipt(fields: Fields) -> SiteReceipt:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads receipt format {FORMAT}")
    receipt = SiteReceipt(
        fields.integer("receipt", minimum=1),
        fields.text("action", pattern=r"[a-z]{1,20}", expected="the verb that changed the site"),
        fields.parsed("at", parse_instant, EPOCH),
        read_inventory(fields.table("inventory")),
    )
    line = fields.text("line")
    if not fields.problems and line != str(receipt.line):
        fields.problem("line", "it does not say what the rest of the document says")
    return receipt


def _words(site: str, number: int, bundles: tuple[BundleNumber, ...]) -> str:
    return " ".join((site or NAMELESS, str(number), *map(str, bundles)))
