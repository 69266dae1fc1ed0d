"""What is stated of blobs: the digest that decides, and which of them a delta leaves to its site."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from airgap.decode import Fields
from airgap.errors import InputError
from airgap.model import Sha256, Sha384, sha256_hex, sha384_hex


@dataclass(frozen=True, slots=True)
class StatedBlob:
    """What decides about a blob; `size` in bytes."""

    sha384: Sha384
    size: int


@dataclass(frozen=True, slots=True)
class Patch:
    """What travels in place of a blob (`airgap.patch`): its own name, and the blobs it takes bytes from."""

    sha256: Sha256
    stated: StatedBlob
    sources: Mapping[Sha256, StatedBlob]


@dataclass(frozen=True, slots=True)
class Base:
    """What a delta counts on: `blobs` that its site holds already, so that they need not travel.

    `inventory` is the digest of all that the site was known to hold (`airgap.inventory`). `patches` has
    the blobs that a site makes of others it holds, which need not be the bundle's own.
    """

    inventory: Sha384
    blobs: frozenset[Sha256]
    patches: Mapping[Sha256, Patch] = field(default_factory=dict)


def blobs_table(blobs: Mapping[Sha256, StatedBlob]) -> dict[str, object]:
    """Blobs as documents hold them; `read_blobs` is the inverse."""
    return {digest: {"sha384": blob.sha384, "size": blob.size} for digest, blob in blobs.items()}


def read_blobs(fields: Fields) -> dict[Sha256, StatedBlob]:
    """A table of blobs; problems are left in `fields`."""
    blobs = {}
    for key in fields.all_keys():
        table = fields.table(key)
        try:
            digest = sha256_hex(key)
        except InputError as error:
            table.problem("", error.message)
            continue
        blobs[digest] = StatedBlob(table.parsed("sha384", sha384_hex, Sha384("")), table.integer("size"))
        table.done()
    return blobs


def base_table(base: Base) -> dict[str, object]:
    """`base` of a predicate; `read_base` is the inverse."""
    table: dict[str, object] = {"inventory": base.inventory, "blobs": sorted(base.blobs)}
    if base.patches:
        table["patches"] = {
            digest: {
                "sha256": patch.sha256,
                "sha384": patch.stated.sha384,
                "size": patch.stated.size,
                "sources": blobs_table(patch.sources),
            }
            for digest, patch in base.patches.items()
        }
    return table


def read_base(fields: Fields) -> Base:
    """`blobs` in ascending order, each once: one spelling for one value."""
    inventory = fields.parsed("inventory", sha384_hex, Sha384(""))
    listed = fields.texts("blobs", default=None)
    problem = next((text for text in listed if not re.fullmatch(r"[0-9a-f]{64}", text)), None)
    if problem is not None:
        fields.problem("blobs", f"expected sha256 digests, found {problem[:80]!r}")
    elif sorted(set(listed)) != list(listed):
        fields.problem("blobs", "expected ascending digests, each once")
    patches = _read_patches(fields.table("patches")) if fields.has("patches") else {}
    fields.done()
    return Base(inventory, frozenset(Sha256(text) for text in listed), patches)


def _read_patches(fields: Fields) -> dict[Sha256, Patch]:
    patches = {}
    for key in fields.all_keys():
        table = fields.table(key)
        patch = Patch(
            table.parsed("sha256", sha256_hex, Sha256("")),
            StatedBlob(table.parsed("sha384", sha384_hex, Sha384("")), table.integer("size")),
            read_blobs(table.table("sources")),
        )
        table.done()
        try:
            patches[sha256_hex(key)] = patch
        except InputError as error:
            table.problem("", error.message)
    return patches
