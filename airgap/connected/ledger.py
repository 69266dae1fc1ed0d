"""Which sequence numbers this staging host has given to a channel in each epoch, and to which payload.

One file per channel in the store. Losing it costs nothing but a `--sequence`: the isolated side,
not this file, decides what is too old.
"""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airgap.decode import Fields, canonical_json, parse_json, read_capped
from airgap.errors import InputError
from airgap.model import Sha384, sha384_hex
from airgap.store import Store, host_errors, write_durably
from airgap.trust.root import Floor
from airgap.trust.statement import MAX_SEQUENCE, Previous

FIRST_EPOCH = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """`issued` maps an epoch and a sequence to the sha384 of the statement payload they were given to."""

    path: Path
    issued: dict[Floor, Sha384]

    def epoch(self) -> int:
        """The newest one; a site that saw it takes no earlier one."""
        return max((given.epoch for given in self.issued), default=FIRST_EPOCH)

    def next_sequence(self, epoch: int) -> int:
        """Raises InputError when the epoch's last one was given."""
        last = max((given.sequence for given in self.issued if given.epoch == epoch), default=0)
        if last == MAX_SEQUENCE:
            raise InputError(
                f"epoch {epoch} of this channel has used its last sequence, {MAX_SEQUENCE}",
                remedy=f"begin a new one: build with --epoch {epoch + 1}",
            )
        return last + 1

    def previous(self, this: Floor) -> Previous | None:
        """The last bundle before `this` in its epoch that this host knows of."""
        before = [given for given in self.issued if given.epoch == this.epoch and given < this]
        last = max(before, default=None)
        return None if last is None else Previous(last.sequence, self.issued[last])

    def record(self, this: Floor, payload: Sha384) -> None:
        """Write down that `this` means `payload`, durably. Raises InputError if it meant another."""
        if self.issued.get(this, payload) != payload:
            raise InputError(
                f"sequence {this.sequence} of this channel was already given to another bundle",
                remedy=f"build without --sequence, or with --sequence {self.next_sequence(this.epoch)}",
            )
        self.issued[this] = payload
        epochs: dict[str, dict[str, Sha384]] = {}
        for given, digest in self.issued.items():
            epochs.setdefault(str(given.epoch), {})[str(given.sequence)] = digest
        write_durably(self.path, canonical_json({"epochs": epochs}))


@contextmanager
def open_ledger(store: Store, channel: str) -> Iterator[Ledger]:
    """The channel's ledger, held alone until the context ends so that two builds never share a number."""
    directory = store.root / "channels"
    path = directory / f"{channel}.json"
    with host_errors(path):
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / f"{channel}.lock", "w")  # noqa: SIM115 - held by the with below
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Ledger(path, _read(path) if path.exists() else {})


def issued_payload(store: Store, channel: str, number: Floor) -> Sha384 | None:
    """What a channel's number was given to by this host; None when it gave none. Raises InputError."""
    path = store.root / "channels" / f"{channel}.json"
    return _read(path).get(number) if path.exists() else None


def _read(path: Path) -> dict[Floor, Sha384]:
    fields = Fields(parse_json(read_capped(path), str(path)))
    epochs = fields.table("epochs")
    issued = {}
    for epoch in epochs.all_keys():
        table = epochs.table(epoch)
        for sequence in table.all_keys():
            digest = table.parsed(sequence, sha384_hex, Sha384(""))
            if all(re.fullmatch(r"[0-9]{1,16}", number) for number in (epoch, sequence)):
                issued[Floor(int(epoch), int(sequence))] = digest
            else:
                table.problem(sequence, "expected the numbers of an epoch and a sequence")
    fields.done()
    fields.raise_if_bad(str(path))
    return issued
