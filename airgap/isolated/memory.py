"""What a site remembers of the bundles it accepted, so that an older one is never accepted again.

Per channel the highest (epoch, sequence) with its statement's digest; the newest createdAt, which the
clock never runs behind; the highest root version. Written durably before a generation is activated, and
never lowered, not even by rolling the site back.

Receipts and generations are its witnesses: each names a bundle that was accepted. Memory that is gone, or
lower than a witness says (an older copy put back), is an alarm, not a fresh start. `recall` makes it anew
from the witnesses, when an operator asks for that.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from airgap.decode import MAX_DOCUMENT, Fields, canonical_json, read_capped, read_document
from airgap.errors import InputError, IntegrityError, TrustError
from airgap.isolated.record import InstalledBundle, parse_receipt, parse_record
from airgap.isolated.site import Site
from airgap.media import Media
from airgap.model import Sha384, sha384_hex
from airgap.pinned import carried_roots, extend, newest, read_trust
from airgap.store import write_durably
from airgap.trust.decide import Accepted, Judged, survey
from airgap.trust.instant import EPOCH, parse_instant, render_instant
from airgap.trust.root import Floor, Root
from airgap.trust.statement import Statement

FILE = "accepted.json"
FORMAT = 1
MAX_MEMORY = 1024 * 1024
"""Bytes; a channel takes about 200."""

RESTORE = (
    "someone changed the site, or a backup is incomplete: restore its trust directory; if that cannot be,"
    " airgap trust recall --site DIR makes the memory anew from the site's receipts"
)


@dataclass(frozen=True, slots=True)
class Memory:
    """`newest` is the latest createdAt ever accepted, UTC; `root` the highest root version trusted, or 0."""

    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    newest: datetime = EPOCH
    root: int = 0

    def clock(self, now: datetime) -> datetime:
        """The later of this host's clock and the newest accepted createdAt: setting it back gains nothing."""
        return max(now, self.newest)

    def accepting(self, judged: Judged) -> "Memory":
        """With a statement that was judged against this memory, hence is not below it."""
        stated = judged.statement
        accepted = Accepted(Floor(stated.epoch, stated.sequence), judged.payload)
        newest = max(self.newest, stated.created_at)
        return replace(self, accepted={**self.accepted, stated.channel: accepted}, newest=newest)

    def supersedes(self, stated: Statement) -> bool:
        """Whether a newer bundle of its channel was accepted: no install takes this one any more."""
        known = self.accepted.get(stated.channel)
        return known is not None and known.floor > Floor(stated.epoch, stated.sequence)

    def following(self, root: Root) -> "Memory":
        """With the root in force. Raises TrustError when the site has trusted a later one."""
        if root.version < self.root:
            raise TrustError(
                f"this site has trusted root version {self.root}; its trust directory holds {root.version}",
                remedy="someone put an older root back: restore the trust directory from a backup",
            )
        return replace(self, root=root.version)


def load_memory(site: Site) -> Memory:
    """Empty on a site where nothing was ever accepted.

    Raises TrustError when it is missing, a link, malformed, or lower than a receipt or a generation says.
    """
    # First the witnesses: an install that ends meanwhile adds to them after it added to the memory.
    witnesses = list(_witnesses(site))
    data = read_trust(site.root, FILE, max_bytes=MAX_MEMORY)
    if data is None:
        if not witnesses and not site.ever_installed():
            return Memory()
        raise TrustError(f"{site.trust / FILE}: the memory of accepted bundles is gone", remedy=RESTORE)
    try:
        memory = read_document(data, str(site.trust / FILE), _memory)
    except InputError as error:
        raise TrustError(error.message, remedy=RESTORE) from None
    for channel, accepted in _highest(witnesses).items():
        remembered = memory.accepted.get(channel, Accepted(Floor(0, 0), Sha384("")))
        if remembered.floor < accepted.floor:
            raise TrustError(
                f"{site.trust / FILE}: channel {channel}: it remembers {_shown(remembered.floor)},"
                f" and the site's receipts say that {_shown(accepted.floor)} was accepted",
                remedy=RESTORE,
            )
    return memory


def follow_roots(
    media: Media, site: Site, before: Root, memory: Memory, *, keep: bool
) -> tuple[Root, Memory]:
    """The root in force once the media's newer ones are applied, and with `keep` made the site's.

    Raises TrustError for one that does not follow, HostError.
    """
    chain = carried_roots(media, before)
    root = newest(before, chain)
    memory = memory.following(root)
    if keep and chain:
        extend(site.root, chain)
        save_memory(site, memory)
    return root, memory


def save_memory(site: Site, memory: Memory) -> None:
    """Make it durable; only then may what it accepts become current. Raises HostError."""
    channels = {
        channel: {
            "epoch": accepted.floor.epoch,
            "sequence": accepted.floor.sequence,
            "payload": accepted.payload,
        }
        for channel, accepted in memory.accepted.items()
    }
    document = {
        "format": FORMAT,
        "newest": render_instant(memory.newest),
        "root": memory.root,
        "channels": channels,
    }
    write_durably(site.trust / FILE, canonical_json(document))


def recall(site: Site, root: Root) -> Memory:
    """What the witnesses and the memory, where it is legible, say together: never less than any of them.

    Less than was lost where they are few. `root` is the one in force. Raises TrustError when a witness
    is damaged.
    """
    witnesses = list(_witnesses(site))
    left = _legible(site)
    created = [left.newest]
    for bundle in witnesses:
        try:
            envelope = site.store.read(bundle.envelope, max_bytes=MAX_DOCUMENT)
            created.append(survey(envelope).statement.created_at)
        except (IntegrityError, InputError):
            continue  # no longer installed, so its envelope may be gone; its sequence still counts
    accepted = _highest(witnesses)
    for channel, remembered in left.accepted.items():
        if channel not in accepted or accepted[channel].floor <= remembered.floor:
            accepted[channel] = remembered
    return Memory(accepted, max(created), max(root.version, left.root))


def _legible(site: Site) -> Memory:
    try:
        data = read_trust(site.root, FILE, max_bytes=MAX_MEMORY)
        return read_document(data or b"", str(site.trust / FILE), _memory)
    except (InputError, TrustError):
        return Memory()


def _witnesses(site: Site) -> Iterator[InstalledBundle]:
    """Every bundle that a receipt or a generation names. Raises TrustError when one cannot be read."""
    try:
        for path in site.receipt_files():
            yield from parse_receipt(read_capped(path, max_bytes=MAX_DOCUMENT), str(path)).added
        for path in site.record_files():
            yield from parse_record(read_capped(path, max_bytes=MAX_DOCUMENT), str(path)).bundles
    except InputError as error:
        raise TrustError(
            error.message, remedy="it vouches for what was accepted: restore it from a backup"
        ) from None


def _highest(bundles: Iterable[InstalledBundle]) -> dict[str, Accepted]:
    highest: dict[str, Accepted] = {}
    for bundle in bundles:
        accepted = Accepted(Floor(bundle.epoch, bundle.sequence), bundle.payload)
        if bundle.channel not in highest or highest[bundle.channel].floor < accepted.floor:
            highest[bundle.channel] = accepted
    return highest


def _shown(floor: Floor) -> str:
    return f"epoch {floor.epoch}, sequence {floor.sequence}"


def _memory(fields: Fields) -> Memory:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads memory format {FORMAT}")
    newest = fields.parsed("newest", parse_instant, EPOCH)
    root = fields.integer("root")
    channels = fields.table("channels")
    accepted = {}
    for channel in channels.all_keys():
        table = channels.table(channel)
        floor = Floor(table.integer("epoch"), table.integer("sequence", minimum=1))
        accepted[channel] = Accepted(floor, table.parsed("payload", sha384_hex, Sha384("")))
        table.done()
    return Memory(accepted, newest, root)
