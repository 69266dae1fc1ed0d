"""What `--base` names: the blobs that the other side holds, each way in which a person may know them.

A base is what a site *has*. An inventory says so itself; an ID says it of locks and bundles that are at
hand or remembered, and is believed only when their blobs have exactly that digest; a bundle or a lock
alone is the word of whoever types it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

from airgap.base32 import shorten
from airgap.connected.issued import all_remembered
from airgap.decode import read_capped
from airgap.errors import InputError, IntegrityError, MissingPartError
from airgap.inventory import Inventory, inventory_digest, inventory_id, parse_inventory, read_inventory_id
from airgap.layout import ENVELOPE_FILE, pack
from airgap.lock import Lock, distinct_files, lock_digest, parse_lock
from airgap.media import Media, MissingFileError
from airgap.model import Sha256, Sha384
from airgap.oci import INDEXES, MANIFESTS
from airgap.store import Store
from airgap.trust.blobs import StatedBlob
from airgap.trust.decide import survey
from airgap.trust.envelope import MAX_ENVELOPE
from airgap.trust.statement import Statement

MAX_TRIES = 10_000
"""Combinations of remembered bundles that are tried for an ID; each costs some milliseconds."""


@dataclass(frozen=True, slots=True)
class KnownBase:
    """Blobs that another side holds. `stated` has what is stated of them, where anything is."""

    what: str
    """As a person reads it."""
    blobs: frozenset[Sha256]
    stated: Mapping[Sha256, StatedBlob]

    @property
    def digest(self) -> Sha384:
        return inventory_digest(self.blobs)

    @property
    def id(self) -> str:
        return inventory_id(self.digest)

    def beside(self, other: "KnownBase") -> "KnownBase":
        """What a side holds that holds both. Raises IntegrityError when they contradict each other."""
        require_same_bytes(self.what, self.stated, other.stated)
        return KnownBase(
            f"{self.what} and {other.what}", self.blobs | other.blobs, {**self.stated, **other.stated}
        )


def require_same_bytes(
    what: str, known: Mapping[Sha256, StatedBlob], found: Mapping[Sha256, StatedBlob]
) -> None:
    """Raise IntegrityError when one sha256 means two different blobs."""
    for digest in known.keys() & found.keys():
        if known[digest] != found[digest]:
            raise IntegrityError(
                f"blob {digest}: {what} has sha384 {known[digest].sha384} of {known[digest].size} bytes,"
                f" here it is {found[digest].sha384} of {found[digest].size}",
                remedy="one of them is forged or damaged: build nothing on it before you know which",
            )


def find_base(names: Sequence[str], store: Store, acknowledged: Callable[[str], KnownBase]) -> KnownBase:
    """The base that `--base NAME…` means: of several, all together; with an ID, only what has that digest.

    `acknowledged` answers `acknowledged` and `acknowledged:SITE`, given the part after the colon. Raises
    InputError for what is none of the forms, MissingPartError when nothing at hand has an ID.
    """
    ids = [_read_id(name) for name in names if _is_id(name)]
    given = [_read(name, acknowledged) for name in names if not _is_id(name)]
    if len(set(ids)) > 1:
        raise InputError("two different inventory IDs: a bundle is made for one base")
    if not ids:
        return _together(given)
    candidates = iter([_together(given)]) if given else _combinations(list(all_remembered(store)))
    for candidate in candidates:
        if shorten(candidate.digest) == ids[0]:
            return candidate
    wanted = next(name for name in names if _is_id(name))
    if given:
        found = _together(given)
        raise MissingPartError(
            f"expected a base whose inventory is {wanted}; {found.what} is {found.id}",
            remedy="name every bundle of that site with --base, or carry its inventory here:"
            " airgap inventory --site DIR -o FILE",
        )
    raise MissingPartError(
        f"no bundles that this host remembers make up the inventory {wanted}",
        remedy="name the bundles or locks of that site with --base, or carry its inventory here:"
        " airgap inventory --site DIR -o FILE",
    )


def base_of_inventory(inventory: Inventory, what: str) -> KnownBase:
    return KnownBase(what, frozenset(inventory.blobs), inventory.blobs)


def base_of_statement(stated: Statement) -> KnownBase:
    """Everything a bundle states, whether it travelled in that bundle or in an earlier one."""
    return KnownBase(
        f"{stated.name} {stated.version} ({stated.place})", frozenset(stated.blobs), stated.blobs
    )


def base_of_lock(lock: Lock, data: bytes) -> KnownBase:
    """What a bundle of this lock holds; nothing states its bytes yet."""
    documents = {digest for artifact in lock.artifacts for digest in pack(artifact).documents}
    blobs = frozenset({*distinct_files(lock.artifacts), *documents, lock_digest(data)})
    return KnownBase(f"the lock of {lock.name} {lock.version}", blobs, {})


def counted_on(lock: Lock, base: Iterable[Sha256]) -> frozenset[Sha256]:
    """Which files of a lock need not travel to a side that holds `base`.

    Manifests always travel, so that a delta can be verified and looked at on its own.
    """
    return frozenset(_leavable(lock).keys() & set(base))


def patchable(lock: Lock, held: Iterable[Sha256]) -> dict[Sha256, int]:
    """Which files of a lock could travel as patches, with their sizes: all but documents and those `held`."""
    leavable = _leavable(lock)
    return {digest: leavable[digest] for digest in leavable.keys() - set(held)}


def _leavable(lock: Lock) -> dict[Sha256, int]:
    """Every file with its size, documents aside."""
    documents = {digest for artifact in lock.artifacts for digest in pack(artifact).documents}
    files = [file for artifact in lock.artifacts for file in artifact.files]
    documents |= {file.sha256 for file in files if file.media_type in (*INDEXES, *MANIFESTS)}
    return {file.sha256: file.size for file in files if file.sha256 not in documents}


def _is_id(name: str) -> bool:
    """Anything that names neither a file nor an acknowledgement was meant as an ID."""
    exists = bool(name) and Path(name).exists()  # '' is '.' to Path
    return not (exists or "/" in name or "." in name or name.partition(":")[0] == "acknowledged")


def _read_id(name: str) -> str:
    try:
        return read_inventory_id(name)
    except InputError as error:
        raise InputError(
            f"--base {name[:80]}: no file of that name, and no inventory ID: {error.message}",
            remedy=error.remedy or "name a bundle, a lock, an inventory's file or ID, or 'acknowledged'",
        ) from None


def _read(name: str, acknowledged: Callable[[str], KnownBase]) -> KnownBase:
    path = Path(name)
    if not path.exists() and name.partition(":")[0] == "acknowledged":
        return acknowledged(name.partition(":")[2])
    if path.is_dir():
        with Media(path) as media:
            try:
                data = media.read(ENVELOPE_FILE, max_bytes=MAX_ENVELOPE)
            except MissingFileError:
                raise InputError(f"--base {name}: not a bundle: it has no {ENVELOPE_FILE}") from None
        return base_of_statement(survey(data).statement)
    data = read_capped(path)
    if path.name.endswith(".lock.json"):
        return base_of_lock(parse_lock(data, name), data)
    inventory = parse_inventory(data, name)
    where = f"generation {inventory.generation} of {inventory.site or 'a site without a name'}"
    return base_of_inventory(inventory, where)


def _together(bases: Sequence[KnownBase]) -> KnownBase:
    found = bases[0]
    for other in bases[1:]:
        found = found.beside(other)
    return found


def _combinations(statements: Sequence[Statement]) -> Iterator[KnownBase]:
    """Every site that the statements could make, the newest bundles first: one bundle of a name, or none."""
    by_name: dict[str, list[Statement]] = {}
    for stated in statements:
        by_name.setdefault(stated.name, []).append(stated)
    choices = product(*([*held, None] for held in by_name.values()))
    for choice in islice(choices, MAX_TRIES):
        chosen = [base_of_statement(stated) for stated in choice if stated]
        if chosen:
            yield _together(chosen)
