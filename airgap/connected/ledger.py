"""Which sequence numbers this staging host has given to a channel, and to which payload.

One file per channel in the store. Losing it costs nothing but a `--sequence`: the isolated side,
not this file, decides what is too old.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airgap.decode import Fields, canonical_json, parse_json, read_capped
from airgap.errors import InputError
from airgap.model import Sha384, sha384_hex
from airgap.store import Store, host_errors, write_durably
from airgap.trust.statement import Previous


@dataclass(frozen=True, slots=True)
class Ledger:
    """`issued` maps a sequence to the sha384 of the statement payload it was given to."""

    path: Path
    issued: dict[int, Sha384]

    def next_sequence(self) -> int:
        return max(self.issued, default=0) + 1

    def previous(self, sequence: int) -> Previous | None:
        """The last bundle before `sequence` that this host knows of."""
        last = max((n for n in self.issued if n < sequence), default=None)
        return None if last is None else Previous(last, self.issued[last])

    def record(self, sequence: int, payload: Sha384) -> None:
        """Write down that `sequence` means `payload`, durably. Raises InputError if it meant another."""
        if self.issued.get(sequence, payload) != payload:
            raise InputError(
                f"sequence {sequence} of this channel was already given to another bundle",
                remedy=f"build without --sequence, or with --sequence {self.next_sequence()}",
            )
        self.issued[sequence] = payload
        document = {"issued": {str(n): digest for n, digest in self.issued.items()}}
        write_durably(self.path, canonical_json(document))


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


def _read(path: Path) -> dict[int, Sha384]:
    fields = Fields(parse_json(read_capped(path), str(path)))
    table = fields.table("issued")
    issued = {}
    for key in table.all_keys():
        if not key.isdecimal() or not key.isascii():
            table.problem(key, "expected a sequence number")
            continue
        issued[int(key)] = table.parsed(key, sha384_hex, Sha384(""))
    fields.done()
    fields.raise_if_bad(str(path))
    return issued
