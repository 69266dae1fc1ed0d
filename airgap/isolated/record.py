"""What a generation says about itself: which bundles it is the union of, and what the last change was.

Both documents are canonical JSON written by airgap on this site and read back as strictly as anything
from outside: a site may lie on a shared disk.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from airgap.decode import Fields, canonical_json, read_document
from airgap.manifest import VERSION_PATTERN
from airgap.model import NAME_PATTERN, Sha256, Sha384, sha256_hex, sha384_hex
from airgap.trust.instant import render_instant

FORMAT = 1


@dataclass(frozen=True, slots=True)
class InstalledBundle:
    """One bundle of a site. `envelope`, `index` and `lock` name blobs, so that it can be judged again."""

    name: str
    version: str
    channel: str
    epoch: int
    sequence: int
    payload: Sha384
    """Of the signed statement."""
    signers: tuple[str, ...]
    envelope: Sha256
    index: Sha256
    lock: Sha256

    def __str__(self) -> str:
        return f"{self.name} {self.version} (sequence {self.sequence})"


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """The bundles of a generation, by name; their artifacts are what it holds."""

    bundles: tuple[InstalledBundle, ...]

    def find(self, name: str) -> InstalledBundle | None:
        return next((bundle for bundle in self.bundles if bundle.name == name), None)

    def replacing(self, bundle: InstalledBundle) -> "SiteRecord":
        """With `bundle` in, and any other of its name out."""
        others = [other for other in self.bundles if other.name != bundle.name]
        return SiteRecord(tuple(sorted((*others, bundle), key=lambda b: b.name)))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one install changed; sizes in bytes. `replaced` is the bundle of that name before it."""

    generation: int
    previous: int | None
    installed_at: datetime
    asked: str
    bundle: InstalledBundle
    replaced: InstalledBundle | None
    artifacts: tuple[str, ...]
    copied_blobs: int
    copied_bytes: int
    shared_blobs: int
    shared_bytes: int


def render_record(record: SiteRecord) -> bytes:
    """The bytes of site.json; `parse_record` is the inverse."""
    return canonical_json({"format": FORMAT, "bundles": [_table(bundle) for bundle in record.bundles]})


def parse_record(data: bytes, what: str) -> SiteRecord:
    """Raises InputError naming every problem."""
    return read_document(data, what, _record)


def render_receipt(receipt: Receipt) -> bytes:
    """The bytes of receipts/<n>.json."""
    return canonical_json(
        {
            "format": FORMAT,
            "generation": receipt.generation,
            "previous": receipt.previous,
            "installedAt": render_instant(receipt.installed_at),
            "asked": receipt.asked,
            "bundle": _table(receipt.bundle),
            "replaced": _table(receipt.replaced) if receipt.replaced else None,
            "artifacts": list(receipt.artifacts),
            "copied": {"blobs": receipt.copied_blobs, "bytes": receipt.copied_bytes},
            "shared": {"blobs": receipt.shared_blobs, "bytes": receipt.shared_bytes},
        }
    )


def names(bundles: Iterable[InstalledBundle]) -> str:
    return ", ".join(str(bundle) for bundle in bundles) or "none"


def _table(bundle: InstalledBundle) -> dict[str, object]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "channel": bundle.channel,
        "epoch": bundle.epoch,
        "sequence": bundle.sequence,
        "payload": bundle.payload,
        "signers": list(bundle.signers),
        "envelope": bundle.envelope,
        "index": bundle.index,
        "lock": bundle.lock,
    }


def _record(fields: Fields) -> SiteRecord:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads site format {FORMAT}")
    bundles = tuple(_bundle(table) for table in fields.tables("bundles"))
    if len({bundle.name for bundle in bundles}) != len(bundles):
        fields.problem("bundles", "one name occurs twice")
    return SiteRecord(bundles)


def _bundle(fields: Fields) -> InstalledBundle:
    bundle = InstalledBundle(
        fields.text("name", pattern=NAME_PATTERN, expected="a bundle name"),
        fields.text("version", pattern=VERSION_PATTERN, expected="a version"),
        fields.text("channel", pattern=NAME_PATTERN, expected="a channel name"),
        fields.integer("epoch"),
        fields.integer("sequence", minimum=1),
        fields.parsed("payload", sha384_hex, Sha384("")),
        fields.texts("signers"),
        fields.parsed("envelope", sha256_hex, Sha256("")),
        fields.parsed("index", sha256_hex, Sha256("")),
        fields.parsed("lock", sha256_hex, Sha256("")),
    )
    fields.done()
    return bundle
