"""What a generation says about itself: which bundles it is the union of, and what the last change was.

Both documents are canonical JSON written by airgap on this site and read back as strictly as anything
from outside: a site may lie on a shared disk.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from airgap.decode import Fields, canonical_json, read_document
from airgap.errors import InputError
from airgap.inventory import read_identity
from airgap.model import Sha256, Sha384, sha256_hex
from airgap.trust.instant import EPOCH, parse_instant, render_instant

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
    installed_at: datetime
    left_out: tuple[str, ...] = ()
    """Names of its artifacts that were uninstalled."""

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


class Action(StrEnum):
    """What changed a site; the value is its verb."""

    INSTALL = "install"
    UNINSTALL = "uninstall"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Amount:
    """Distinct blobs, and their size in bytes."""

    blobs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one change of a site did. `generation` is in force after it, `previous` was before.

    `added` and `removed` are the bundles by which the two differ, a newer one and the one it replaced
    among them; `artifacts` names what an install brought or an uninstall took away.
    """

    action: Action
    generation: int
    previous: int | None
    at: datetime
    asked: str
    added: tuple[InstalledBundle, ...]
    removed: tuple[InstalledBundle, ...]
    artifacts: tuple[str, ...] = ()
    copied: Amount = Amount()
    shared: Amount = Amount()


def difference(
    before: SiteRecord, after: SiteRecord
) -> tuple[tuple[InstalledBundle, ...], tuple[InstalledBundle, ...]]:
    """The bundles that `after` has and `before` has not, and the other way round."""
    return (
        tuple(bundle for bundle in after.bundles if bundle not in before.bundles),
        tuple(bundle for bundle in before.bundles if bundle not in after.bundles),
    )


def render_record(record: SiteRecord) -> bytes:
    """The bytes of site.json; `parse_record` is the inverse."""
    return canonical_json({"format": FORMAT, "bundles": [_table(bundle) for bundle in record.bundles]})


def parse_record(data: bytes, what: str) -> SiteRecord:
    """Raises InputError naming every problem."""
    return read_document(data, what, _record)


def render_receipt(receipt: Receipt) -> bytes:
    """The bytes of receipts/<n>.json; `parse_receipt` is the inverse."""
    return canonical_json(
        {
            "format": FORMAT,
            "action": receipt.action.value,
            "generation": receipt.generation,
            **({} if receipt.previous is None else {"previous": receipt.previous}),
            "at": render_instant(receipt.at),
            "asked": receipt.asked,
            "added": [_table(bundle) for bundle in receipt.added],
            "removed": [_table(bundle) for bundle in receipt.removed],
            "artifacts": list(receipt.artifacts),
            "copied": {"blobs": receipt.copied.blobs, "bytes": receipt.copied.bytes},
            "shared": {"blobs": receipt.shared.blobs, "bytes": receipt.shared.bytes},
        }
    )


def parse_receipt(data: bytes, what: str) -> Receipt:
    """Raises InputError naming every problem."""
    return read_document(data, what, _receipt)


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
        "installedAt": render_instant(bundle.installed_at),
        "leftOut": list(bundle.left_out),
    }


def _record(fields: Fields) -> SiteRecord:
    _require_format(fields)
    bundles = tuple(_bundle(table) for table in fields.tables("bundles"))
    if len({bundle.name for bundle in bundles}) != len(bundles):
        fields.problem("bundles", "one name occurs twice")
    return SiteRecord(bundles)


def _bundle(fields: Fields) -> InstalledBundle:
    bundle = InstalledBundle(
        *read_identity(fields),
        fields.texts("signers"),
        fields.parsed("envelope", sha256_hex, Sha256("")),
        fields.parsed("index", sha256_hex, Sha256("")),
        fields.parsed("lock", sha256_hex, Sha256("")),
        fields.parsed("installedAt", parse_instant, EPOCH),
        fields.texts("leftOut"),
    )
    fields.done()
    return bundle


def _receipt(fields: Fields) -> Receipt:
    _require_format(fields)
    return Receipt(
        fields.parsed("action", _action, Action.INSTALL),
        fields.integer("generation", minimum=1),
        fields.integer("previous", minimum=1) if fields.has("previous") else None,
        fields.parsed("at", parse_instant, EPOCH),
        fields.text("asked"),
        tuple(_bundle(table) for table in fields.tables("added")),
        tuple(_bundle(table) for table in fields.tables("removed")),
        fields.texts("artifacts"),
        _amount(fields.table("copied")),
        _amount(fields.table("shared")),
    )


def _action(text: str) -> Action:
    if text not in list(Action):
        raise InputError(f"expected {', '.join(Action)}; found {text[:40]!r}")
    return Action(text)


def _amount(fields: Fields) -> Amount:
    amount = Amount(fields.integer("blobs"), fields.integer("bytes"))
    fields.done()
    return amount


def _require_format(fields: Fields) -> None:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads site format {FORMAT}")
