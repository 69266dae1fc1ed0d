"""What sites have said that they hold, proven as far as this host can: the base of the next delta.

`acknowledged/<site>.json` in the store, the newest receipt of each site; `-` stands for a site without a
name. A line proves that a site holds exactly what its bundles state, when this host built them. A file
lists what the site holds, and contradicts nothing that this host knows. Without either nothing is
believed to have arrived.
"""

import fcntl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from airgap.base32 import shorten
from airgap.connected.base import KnownBase, require_same_bytes
from airgap.connected.issued import remembered
from airgap.connected.ledger import issued_payload
from airgap.decode import Fields, canonical_json, read_capped, read_document
from airgap.errors import InputError, IntegrityError, MissingPartError
from airgap.inventory import HeldBundle, inventory_digest
from airgap.model import NAME_PATTERN, Sha256
from airgap.receipt import NAMELESS, PAYLOAD_TYPE, BundleNumber, ReceiptLine, SiteReceipt, parse_receipt
from airgap.store import Store, host_errors, write_durably
from airgap.trust import envelope
from airgap.trust.blobs import StatedBlob, blobs_table, read_blobs
from airgap.trust.instant import EPOCH, parse_instant, render_instant
from airgap.trust.keys import Holder
from airgap.trust.root import Floor
from airgap.trust.statement import Statement

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Receipt `receipt` of a site, and what it holds since. `at` is when this host was told, in UTC.

    `site` is '-' for one without a name; `signers` signed the file, none for a line.
    """

    site: str
    receipt: int
    at: datetime
    signers: tuple[str, ...]
    bundles: tuple[BundleNumber, ...]
    blobs: Mapping[Sha256, StatedBlob]

    @property
    def base(self) -> KnownBase:
        name = "a site without a name" if self.site == NAMELESS else self.site
        return KnownBase(
            f"what {name} holds since its receipt {self.receipt}", frozenset(self.blobs), self.blobs
        )


def prove_line(line: ReceiptLine, store: Store, now: datetime) -> Acknowledged:
    """Raises MissingPartError when this host did not build a bundle of it, or they do not hold just that."""
    found: dict[Sha256, StatedBlob] = {}
    for number in line.bundles:
        stated = _issued(store, number)
        if stated is None:
            raise MissingPartError(
                f"this host remembers no bundle {number}",
                remedy="acknowledge where it was built, or carry the receipt's file: airgap receipt -o FILE",
            )
        require_same_bytes(str(number), found, stated.blobs)
        found.update(stated.blobs)
    if shorten(inventory_digest(found)) != line.short:
        raise MissingPartError(
            f"{line.site or 'the site'} does not hold exactly what {_listed(line.bundles)} state:"
            " something was uninstalled, or is lost",
            remedy="carry the receipt's file, which lists it: airgap receipt -o FILE",
        )
    return Acknowledged(line.site or NAMELESS, line.number, now, (), line.bundles, found)


def prove_file(
    data: bytes, signers: Collection[Holder], store: Store, now: datetime, what: str
) -> Acknowledged:
    """One of the `signers` must have signed it, where there are any.

    Raises InputError when it is no receipt, TrustError without such a signature, IntegrityError when it
    contradicts what this host has built.
    """
    names: tuple[str, ...] = ()
    if signers:
        verified = envelope.verify(data, PAYLOAD_TYPE, signers, 1, what)
        payload, names = verified.payload, verified.signers
    else:
        sealed = envelope.parse(data, what)
        if sealed.payload_type != PAYLOAD_TYPE:
            raise InputError(f"{what}: expected {PAYLOAD_TYPE}, found {sealed.payload_type}")
        payload = sealed.payload
    receipt = parse_receipt(payload, what)
    _require_consistent(receipt, store)
    held = receipt.inventory
    return Acknowledged(held.site or NAMELESS, receipt.number, now, names, receipt.line.bundles, held.blobs)


def record(store: Store, told: Acknowledged, *, replace: bool) -> None:
    """Keep it, durably. Raises InputError when a later receipt of that site is kept, unless `replace`."""
    directory = store.root / "acknowledged"
    path = directory / f"{told.site}.json"
    with host_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / "lock", "w")  # noqa: SIM115 - held by the with below
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = load_acknowledged(store).get(told.site)
        if kept and not replace:
            _require_newer(kept, told)
        write_durably(path, _render(told))


def acknowledged_base(store: Store, site: str, audience: Iterable[str]) -> KnownBase:
    """What `site` acknowledged; without one what every site of the `audience` holds, or every site known.

    Raises MissingPartError for a site that has acknowledged nothing.
    """
    known = load_acknowledged(store)
    wanted = [site] if site else list(audience) or sorted(known)
    silent = [name for name in wanted if name not in known]
    if silent or not wanted:
        raise MissingPartError(
            f"nothing was acknowledged by {', '.join(silent) or 'any site'}",
            remedy="have airgap receipt run there, and give its line to airgap acknowledge",
        )
    first, *others = (known[name] for name in wanted)
    found = first.base
    for other in others:
        require_same_bytes(found.what, found.stated, other.blobs)
        shared = {d: blob for d, blob in found.stated.items() if d in other.blobs}
        found = KnownBase(f"{found.what}, and {other.base.what}", frozenset(shared), shared)
    return found


def _issued(store: Store, number: BundleNumber) -> Statement | None:
    payload = issued_payload(store, number.channel, Floor(number.epoch, number.sequence))
    return remembered(store, payload) if payload else None


def _require_consistent(receipt: SiteReceipt, store: Store) -> None:
    held = receipt.inventory
    known = [_known(store, bundle) for bundle in held.bundles]
    for stated in known:
        if stated:
            require_same_bytes(f"{stated.name} {stated.version}", stated.blobs, held.blobs)
    if all(known):
        listed = {digest for stated in known if stated for digest in stated.blobs}
        if extra := held.blobs.keys() - listed:
            raise IntegrityError(
                f"the receipt lists {len(extra)} blobs that none of its bundles state: {min(extra)}",
                remedy="do not build on it: ask who wrote it",
            )


def _known(store: Store, bundle: HeldBundle) -> Statement | None:
    """What this host issued under the bundle's number. Raises IntegrityError when that was another bundle."""
    number = BundleNumber(bundle.channel, bundle.epoch, bundle.sequence)
    payload = issued_payload(store, bundle.channel, Floor(bundle.epoch, bundle.sequence))
    if payload and payload != bundle.payload:
        raise IntegrityError(
            f"{number} was built here with statement sha384 {payload}; the site holds {bundle.payload}",
            remedy="someone built or signed two bundles under one number: show this to the holders",
        )
    return remembered(store, payload) if payload else None


def _require_newer(kept: Acknowledged, told: Acknowledged) -> None:
    if told.receipt < kept.receipt or (told.receipt == kept.receipt and told.blobs != kept.blobs):
        raise InputError(
            f"receipt {told.receipt} of this site is older than receipt {kept.receipt}, which was"
            f" acknowledged at {render_instant(kept.at)}",
            remedy="an old line says nothing new; if the site was made anew, say so with --replace",
        )


def load_acknowledged(store: Store) -> dict[str, Acknowledged]:
    """By site. Raises InputError when one is damaged."""
    found = {}
    for path in sorted((store.root / "acknowledged").glob("*.json")):
        told = read_document(read_capped(path), str(path), _acknowledged)
        if told.site != path.stem:
            raise InputError(f"{path}: expected what {path.stem} acknowledged, found {told.site}")
        found[told.site] = told
    return found


def _render(told: Acknowledged) -> bytes:
    return canonical_json(
        {
            "format": FORMAT,
            "site": told.site,
            "receipt": told.receipt,
            "at": render_instant(told.at),
            "signers": list(told.signers),
            "bundles": [
                {"channel": b.channel, "epoch": b.epoch, "sequence": b.sequence} for b in told.bundles
            ],
            "blobs": blobs_table(told.blobs),
        }
    )


def _acknowledged(fields: Fields) -> Acknowledged:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads format {FORMAT}")
    return Acknowledged(
        fields.text("site", pattern=rf"{NAMELESS}|{NAME_PATTERN}", expected="a site's name"),
        fields.integer("receipt", minimum=1),
        fields.parsed("at", parse_instant, EPOCH),
        fields.texts("signers"),
        tuple(_number(table) for table in fields.tables("bundles")),
        read_blobs(fields.table("blobs")),
    )


def _number(fields: Fields) -> BundleNumber:
    number = BundleNumber(
        fields.text("channel", pattern=NAME_PATTERN, expected="a channel name"),
        fields.integer("epoch"),
        fields.integer("sequence", minimum=1),
    )
    fields.done()
    return number


def _listed(bundles: Iterable[BundleNumber]) -> str:
    return ", ".join(map(str, bundles)) or "no bundles"
