"""What a bundle states, read from its media without judging who signed it: for verbs that show or ask."""

from airgap.decode import MAX_DOCUMENT
from airgap.errors import IntegrityError
from airgap.inventory import inventory_id
from airgap.layout import blob_path, digest_of
from airgap.lock import Lock, parse_lock
from airgap.media import Media
from airgap.trust.statement import SUMS, Statement
from airgap.units import amount, human_bytes


def read_sums(media: Media) -> bytes:
    """SHA384SUMS as it lies there. Raises IntegrityError when it is no such file."""
    data = media.read(SUMS, max_bytes=MAX_DOCUMENT)
    if len(data) > MAX_DOCUMENT:
        raise IntegrityError(f"{media.root}: {SUMS} is larger than {MAX_DOCUMENT} bytes")
    return data


def delta_lines(stated: Statement) -> list[str]:
    """That a bundle is a delta, and what it counts on; nothing for a whole one."""
    if stated.base is None:
        return []
    counted = stated.counted_on.values()
    size = human_bytes(sum(blob.size for blob in counted))
    base = inventory_id(stated.base.inventory)
    lines = [f"a delta: counts on {amount(len(counted), 'blob')} more, {size}, of inventory {base}"]
    if patches := stated.base.patches:
        whole = human_bytes(sum(stated.blobs[digest].size for digest in patches))
        sent = human_bytes(sum(patch.stated.size for patch in patches.values()))
        lines.append(f"  as patches of {sent}: {amount(len(patches), 'blob')} of {whole}")
    return lines


def base_document(stated: Statement) -> dict[str, object] | None:
    """The same for `--json`; null for a whole bundle."""
    if stated.base is None:
        return None
    counted = stated.counted_on.values()
    return {
        "inventory": inventory_id(stated.base.inventory),
        "digest": stated.base.inventory,
        "blobs": len(counted),
        "bytes": sum(blob.size for blob in counted),
        "patched": {digest: patch.sha256 for digest, patch in stated.base.patches.items()},
    }


def read_stated_lock(media: Media, stated: Statement) -> Lock:
    """The lock that the statement names. Raises IntegrityError when the blob is another."""
    data = media.read(blob_path(stated.lock), max_bytes=stated.blobs[stated.lock].size)
    if digest_of(data) != stated.lock:
        raise IntegrityError(
            f"{media.root}: its lock is not the one that was stated", remedy="run: airgap verify"
        )
    return parse_lock(data, "the bundle's lock")
