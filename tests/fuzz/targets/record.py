"""What a site says of itself: site.json and a receipt. A site may lie on a disk that others write to.

Invariant: only InputError escapes; what parses is rendered and parses back equal.
"""

from functools import cache

from airgap.isolated.record import (
    Action,
    Amount,
    InstalledBundle,
    Receipt,
    SiteRecord,
    parse_receipt,
    parse_record,
    render_receipt,
    render_record,
)
from airgap.model import Sha256, Sha384
from tests.fuzz.harness import accepted
from tests.trust.statements import NOW

BUNDLE = InstalledBundle(
    name="quickstart",
    version="2026.11",
    channel="quickstart",
    epoch=0,
    sequence=2,
    payload=Sha384("1" * 96),
    signers=("alice", "bob"),
    envelope=Sha256("2" * 64),
    index=Sha256("3" * 64),
    lock=Sha256("4" * 64),
    installed_at=NOW,
    left_out=("notes",),
)


@cache
def seeds() -> dict[str, bytes]:
    receipt = Receipt(
        Action.INSTALL, 2, 1, NOW, "all", (BUNDLE,), (BUNDLE,), ("notes",), Amount(3, 400), Amount()
    )
    return {
        "record": render_record(SiteRecord((BUNDLE,))),
        "empty": render_record(SiteRecord(())),
        "receipt": render_receipt(receipt),
    }


def check(data: bytes) -> bool:
    record = accepted(lambda document: parse_record(document, "site.json"), data)
    if record is not None:
        assert parse_record(render_record(record), "site.json") == record
    receipt = accepted(lambda document: parse_receipt(document, "receipt"), data)
    if receipt is not None:
        assert parse_receipt(render_receipt(receipt), "receipt") == receipt
    return record is not None or receipt is not None
