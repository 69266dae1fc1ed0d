"""The statements of the bundles that this host has built, so that what a site holds can be computed.

`statements/<sha384>.json` in the store: the exact payload, named by its digest. Losing one costs nothing
but a `--base BUNDLE` in place of an ID.
"""

from collections.abc import Iterator
from pathlib import Path

from airgap.decode import MAX_DOCUMENT, read_capped
from airgap.errors import IntegrityError
from airgap.model import Sha384
from airgap.store import Store, host_errors, write_durably
from airgap.trust.envelope import payload_digest
from airgap.trust.statement import Statement, parse


def remember(store: Store, payload: bytes) -> None:
    """Keep the payload of a statement, durably. Raises HostError."""
    directory = _directory(store)
    with host_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_durably(directory / f"{payload_digest(payload)}.json", payload)


def remembered(store: Store, payload: Sha384) -> Statement | None:
    """The statement of that payload; None where this host did not build it. Raises IntegrityError."""
    path = _directory(store) / f"{payload}.json"
    return _read(path) if path.exists() else None


def all_remembered(store: Store) -> Iterator[Statement]:
    """Every one, the newest of a channel first. Raises IntegrityError."""
    found = [_read(path) for path in sorted(_directory(store).glob("*.json"))]
    yield from sorted(found, key=lambda s: (s.channel, -s.epoch, -s.sequence))


def _read(path: Path) -> Statement:
    data = read_capped(path, max_bytes=MAX_DOCUMENT)
    if payload_digest(data) != path.stem:
        raise IntegrityError(
            f"{path}: not the statement it is named for",
            remedy="delete it: only --base ID and acknowledge look for it",
        )
    return parse(data, str(path))


def _directory(store: Store) -> Path:
    return store.root / "statements"
