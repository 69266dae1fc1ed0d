"""How one root follows another: the next version made, who still has to sign it, and a chain followed.

TUF 1.0.34 section 5.3 for the rules of following (`root.verify_next` judges one step), section 6.1 for
what a rotation is. Bytes in, values out; nothing here reads a clock or a file.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from airgap.errors import InputError, TrustError
from airgap.model import Sha384
from airgap.trust import envelope
from airgap.trust.envelope import Tally
from airgap.trust.keys import Holder
from airgap.trust.root import Floor, Role, Root, survey, verify_next

MAX_VERSIONS = 1000
"""Roots in one chain; one a week for nineteen years."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the next root has otherwise than the one before; None and empty leave it as it is."""

    add: tuple[Holder, ...] = ()
    remove: frozenset[str] = frozenset()
    """Names. A name that is removed and added again gets new keys."""
    root_threshold: int | None = None
    release_threshold: int | None = None
    floors: Mapping[str, Floor] = field(default_factory=dict)
    revoke_holders: frozenset[str] = frozenset()
    """Names: removed, with both keys revoked."""
    revoke_keys: frozenset[str] = frozenset()
    """Key ids; a holder who has one of them is removed."""
    revoke_bundles: frozenset[Sha384] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """Who signed a root, for each version whose threshold it must meet: its own, and the one before."""

    version: int
    tallies: tuple[tuple[int, Tally, int], ...]
    """Version, its tally, its threshold; the older first."""

    @property
    def complete(self) -> bool:
        return all(tally.met(threshold) for _, tally, threshold in self.tallies)

    @property
    def lacking(self) -> tuple[tuple[int, Tally, int], ...]:
        """The thresholds that are not met yet."""
        return tuple(entry for entry in self.tallies if not entry[1].met(entry[2]))


@dataclass(frozen=True, slots=True)
class Successor:
    """A root that followed lawfully, and the envelope that proves it."""

    root: Root
    data: bytes


def succeed(old: Root, change: Change, expires: datetime) -> Root:
    """The version after `old`. `expires` is UTC in whole seconds.

    Revocations accumulate. Raises InputError for an unknown name, a holder added twice, a floor that is
    lowered, or a root that would contradict itself.
    """
    gone = _leaving(old, change)
    staying = tuple(holder for holder in old.holders if holder.name not in gone)
    if twice := {holder.name for holder in staying} & {holder.name for holder in change.add}:
        raise InputError(
            f"{', '.join(sorted(twice))}: a holder already",
            remedy="to give a holder new keys, remove the name and add it in the same rotation",
        )
    if lowered := [c for c, floor in change.floors.items() if c in old.floors and floor < old.floors[c]]:
        raise InputError(
            f"the floor of {', '.join(sorted(lowered))} would be lowered, which no site accepts",
            remedy="a floor only rises; a new epoch rises above any sequence",
        )
    holders = (*staying, *change.add)
    added = tuple(holder.name for holder in change.add)

    def role(before: Role, threshold: int | None) -> Role:
        names = (*(name for name in before.holders if name not in gone), *added)
        return Role(before.threshold if threshold is None else threshold, names)

    revoked = {keyid for h in old.holders if h.name in change.revoke_holders for keyid in h.keyids}
    return Root(
        old.version + 1,
        expires,
        holders,
        role(old.root, change.root_threshold),
        role(old.release, change.release_threshold),
        {**old.floors, **change.floors},
        old.revoked_keys | change.revoke_keys | revoked,
        old.revoked_bundles | change.revoke_bundles,
    )


def standing(data: bytes, before: Root | None, what: str = "root") -> Standing:
    """Who signed a root so far; `before` is the version it follows, where it is known.

    Claims no trust. Raises InputError.
    """
    root, _, own = survey(data, what)
    tallies = [(root.version, own, root.root.threshold)]
    if before is not None:
        sealed = envelope.parse(data, what)
        earlier = envelope.tally(sealed, before.holders_of(before.root))
        tallies.insert(0, (before.version, earlier, before.root.threshold))
    return Standing(root.version, tuple(tallies))


def follow(root: Root, versions: Collection[int], read: Callable[[int], bytes]) -> tuple[Successor, ...]:
    """Every root after `root`, in order, each judged by the one before it.

    `versions` are those that are there, in any order; those up to `root` are not read. Raises TrustError
    for a gap, naming what is missing, and for the first version that does not follow.
    """
    newer = sorted({version for version in versions if version > root.version})
    if not newer:
        return ()
    missing = sorted(set(range(root.version + 1, min(newer[-1], root.version + MAX_VERSIONS))) - set(newer))
    if missing or newer[-1] - root.version > MAX_VERSIONS:
        raise TrustError(
            f"root version {root.version} is trusted, and version {newer[-1]} is here; missing:"
            f" {', '.join(map(str, missing[:20])) or 'too many'}{', …' if len(missing) > 20 else ''}",
            remedy="each version proves the next: ask for those that are missing, then try again",
        )
    chain: list[Successor] = []
    for version in newer:
        data = read(version)
        what = f"{version}.root.json"
        try:
            root = verify_next(root, data, what)
        except InputError as error:
            raise TrustError(
                error.message, remedy="ask the holders for this root again: it is damaged"
            ) from error
        chain.append(Successor(root, data))
    return tuple(chain)


def _leaving(old: Root, change: Change) -> set[str]:
    """Names that the next root does not list with their old keys."""
    named = change.remove | change.revoke_holders
    if unknown := named - {holder.name for holder in old.holders}:
        raise InputError(
            f"root version {old.version} has no holder {', '.join(sorted(unknown))}",
            remedy=f"its holders are {', '.join(sorted(holder.name for holder in old.holders))}",
        )
    by_key = {holder.name for holder in old.holders if change.revoke_keys.intersection(holder.keyids)}
    return {*named, *by_key}
