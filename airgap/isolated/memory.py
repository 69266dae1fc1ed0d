"""What a site remembers of the bundles it accepted, so that an older one is never accepted again.

Per channel the highest (epoch, sequence) with its statement's digest, and the newest createdAt, which
the clock never runs behind. Written durably before a generation is activated, and never lowered, not
even by rolling the site back. Memory that is gone is an alarm, not a fresh start.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from airgap.decode import Fields, canonical_json, read_document
from airgap.errors import InputError, TrustError
from airgap.isolated.site import Site
from airgap.model import Sha384, sha384_hex
from airgap.store import write_durably
from airgap.trust.decide import Accepted, Judged
from airgap.trust.instant import EPOCH, parse_instant, render_instant
from airgap.trust.root import Floor

FILE = "accepted.json"
FORMAT = 1
MAX_MEMORY = 1024 * 1024
"""Bytes; a channel takes about 200."""


@dataclass(frozen=True, slots=True)
class Memory:
    """`newest` is the latest createdAt ever accepted, UTC."""

    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    newest: datetime = EPOCH

    def clock(self, now: datetime) -> datetime:
        """The later of this host's clock and the newest accepted createdAt: setting it back gains nothing."""
        return max(now, self.newest)

    def accepting(self, judged: Judged) -> "Memory":
        """With a statement that was judged against this memory, hence is not below it."""
        stated = judged.statement
        accepted = Accepted(Floor(stated.epoch, stated.sequence), judged.payload)
        return Memory({**self.accepted, stated.channel: accepted}, max(self.newest, stated.created_at))


def load_memory(site: Site) -> Memory:
    """Empty on a site without any install. Raises TrustError when it is missing, a link, or malformed."""
    path = site.trust / FILE
    remedy = "someone changed the site: restore its trust directory from a backup, or begin a new site"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if not site.ever_installed():
            return Memory()
        raise TrustError(f"{path}: the memory of accepted bundles is gone", remedy=remedy) from None
    except OSError as error:
        found = "a link" if error.errno == errno.ELOOP else error.strerror
        raise TrustError(f"{path}: expected a readable file, found {found}", remedy=remedy) from None
    with open(descriptor, "rb") as stream:
        data = stream.read(MAX_MEMORY + 1)
    try:
        return read_document(data, str(path), _memory)
    except InputError as error:
        raise TrustError(error.message, remedy=remedy) from None


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
    document = {"format": FORMAT, "newest": render_instant(memory.newest), "channels": channels}
    write_durably(site.trust / FILE, canonical_json(document))


def _memory(fields: Fields) -> Memory:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads memory format {FORMAT}")
    newest = fields.parsed("newest", parse_instant, EPOCH)
    channels = fields.table("channels")
    accepted = {}
    for channel in channels.all_keys():
        table = channels.table(channel)
        floor = Floor(table.integer("epoch"), table.integer("sequence", minimum=1))
        accepted[channel] = Accepted(floor, table.parsed("payload", sha384_hex, Sha384("")))
        table.done()
    return Memory(accepted, newest)
