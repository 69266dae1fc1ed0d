"""What a site holds, as it travels back to the connected side: a file, or one short line on paper.

The digest of an inventory is the SHA-384 of its blobs' sha256, ascending, a newline after each. A whole
bundle's is `ls blobs/sha256 | LC_ALL=C sort | sha384sum`. So whoever has the locks or the bundles that a
site was made of can compute what it holds, and a short digest says whether that is right.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airgap.base32 import read_spelled, shorten, spell
from airgap.decode import Fields, canonical_json, read_document
from airgap.model import NAME_PATTERN, VERSION_PATTERN, Sha256, Sha384, sha384_hex
from airgap.trust.blobs import StatedBlob, blobs_table, read_blobs

FORMAT = 1
WORD = "inventory"
"""Covered by the check of an inventory's ID, so that no other code is taken for one."""


@dataclass(frozen=True, slots=True)
class HeldBundle:
    """A bundle of a site; `left_out` are its artifacts that were uninstalled, whose blobs do not count."""

    name: str
    version: str
    channel: str
    epoch: int
    sequence: int
    payload: Sha384
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """The blobs that statements of a site's generation vouch for, and that are there.

    `site` is its name, '' where it has none; `generation` is the current one.
    """

    site: str
    generation: int
    bundles: tuple[HeldBundle, ...]
    blobs: Mapping[Sha256, StatedBlob]

    @property
    def digest(self) -> Sha384:
        return inventory_digest(self.blobs)

    @property
    def total_bytes(self) -> int:
        return sum(blob.size for blob in self.blobs.values())


def inventory_digest(blobs: Iterable[Sha256]) -> Sha384:
    """What names a set of blobs; the order does not matter."""
    listed = "".join(f"{digest}\n" for digest in sorted(blobs))
    return Sha384(hashlib.sha384(listed.encode()).hexdigest())


def inventory_id(digest: Sha384) -> str:
    """The digest as a person carries it."""
    return spell(WORD, shorten(digest))


def read_inventory_id(text: str) -> str:
    """The shortened digest (`airgap.base32.shorten`) of a typed ID. Raises InputError for a mistake."""
    return read_spelled(WORD, text)


def render_inventory(inventory: Inventory) -> bytes:
    """The document; `parse_inventory` is the inverse."""
    return canonical_json(inventory_table(inventory))


def inventory_table(inventory: Inventory) -> dict[str, object]:
    """As JSON, for the document and for what quotes it."""
    return {
        "format": FORMAT,
        "site": inventory.site,
        "generation": inventory.generation,
        "bundles": [
            {
                "name": bundle.name,
                "version": bundle.version,
                "channel": bundle.channel,
                "epoch": bundle.epoch,
                "sequence": bundle.sequence,
                "payload": bundle.payload,
                "leftOut": list(bundle.left_out),
            }
            for bundle in inventory.bundles
        ],
        "blobs": blobs_table(inventory.blobs),
        "digest": inventory.digest,
    }


def parse_inventory(data: bytes, what: str) -> Inventory:
    """Raises InputError naming every problem, a digest that is not the blobs' own among them."""
    return read_document(data, what, read_inventory)


def read_inventory(fields: Fields) -> Inventory:
    """The inventory in a table; problems are left in `fields`."""
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads inventory format {FORMAT}")
    inventory = Inventory(
        fields.text("site", pattern=rf"(?:{NAME_PATTERN})?", expected="a site's name, or ''"),
        fields.integer("generation", minimum=1),
        tuple(_bundle(table) for table in fields.tables("bundles")),
        read_blobs(fields.table("blobs")),
    )
    digest = fields.parsed("digest", sha384_hex, Sha384(""))
    if not fields.problems and digest != inventory.digest:
        fields.problem("digest", f"the blobs listed have {inventory.digest}: the document is damaged")
    fields.done()
    return inventory


def read_identity(fields: Fields) -> tuple[str, str, str, int, int, Sha384]:
    """Name, version, channel, epoch, sequence and payload of a bundle; problems are left in `fields`."""
    return (
        fields.text("name", pattern=NAME_PATTERN, expected="a bundle name"),
        fields.text("version", pattern=VERSION_PATTERN, expected="a version"),
        fields.text("channel", pattern=NAME_PATTERN, expected="a channel name"),
        fields.integer("epoch"),
        fields.integer("sequence", minimum=1),
        fields.parsed("payload", sha384_hex, Sha384("")),
    )


def _bundle(fields: Fields) -> HeldBundle:
    bundle = HeldBundle(*read_identity(fields), fields.texts("leftOut"))
    fields.done()
    return bundle
