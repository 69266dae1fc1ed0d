"""The root: which holders a site trusts, how many of them must sign, and what is revoked.

A DSSE document with the semantics of TUF's root role (TUF 1.0.34 section 5.3): version 1 is pinned by
a fingerprint read out of band, and version N+1 must satisfy the thresholds of N and of N+1.
Expiry is judged where a time is known (airgap.trust.decide), because an intermediate root may have expired.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from airgap.decode import Fields, canonical_json, parse_json
from airgap.errors import InputError, TrustError
from airgap.model import NAME_PATTERN, Sha384
from airgap.trust import envelope
from airgap.trust.envelope import Tally
from airgap.trust.instant import EPOCH, instant_problem, parse_instant, render_instant
from airgap.trust.keys import Algorithm, Holder, shared_keys
from airgap.trust.pem import parse_public_key, render_public_key
from airgap.trust.statement import MAX_SEQUENCE

PAYLOAD_TYPE = "application/vnd.airgap.root.v1+json"

MAX_ROOT = 1024 * 1024
"""Bytes of the envelope; each holder adds about 15 KiB."""

ROLES = ("root", "release")


@dataclass(frozen=True, slots=True)
class Role:
    """`threshold` distinct holders of these must sign."""

    threshold: int
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Floor:
    """The lowest (epoch, sequence) of a channel that is still accepted; compared in that order."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Root:
    """Raises InputError when its parts contradict each other. `expires` is UTC in whole seconds."""

    version: int
    expires: datetime
    holders: tuple[Holder, ...]
    root: Role
    release: Role
    floors: Mapping[str, Floor] = field(default_factory=dict)
    revoked_keys: frozenset[str] = frozenset()
    """Key ids that no later version may list again."""
    revoked_bundles: frozenset[Sha384] = frozenset()
    """Payload digests (`envelope.payload_digest`) of statements."""

    def __post_init__(self) -> None:
        problems = list(_contradictions(self))
        if problems:
            raise InputError("the root contradicts itself", problems=problems)

    def holders_of(self, role: Role) -> tuple[Holder, ...]:
        return tuple(holder for holder in self.holders if holder.name in role.holders)


def render(root: Root) -> bytes:
    """The payload to sign; equal roots give equal bytes."""
    return canonical_json(
        {
            "version": root.version,
            "expires": render_instant(root.expires),
            "holders": {
                holder.name: {
                    "p384": render_public_key(holder.p384),
                    "mldsa87": render_public_key(holder.mldsa87),
                }
                for holder in root.holders
            },
            "roles": {
                name: {"threshold": role.threshold, "holders": sorted(role.holders)}
                for name, role in zip(ROLES, (root.root, root.release), strict=True)
            },
            "floors": {
                channel: {"epoch": floor.epoch, "sequence": floor.sequence}
                for channel, floor in root.floors.items()
            },
            "revoked": {"keys": sorted(root.revoked_keys), "bundles": sorted(root.revoked_bundles)},
        }
    )


def parse(payload: bytes, what: str = "root") -> Root:
    """Read a payload that is already trusted. Raises InputError naming every problem."""
    fields = Fields(parse_json(payload, what, max_bytes=MAX_ROOT))
    version = fields.integer("version", minimum=1)
    expires = fields.parsed("expires", parse_instant, EPOCH)
    table = fields.table("holders")
    names = table.all_keys()
    holders = [_read_holder(name, table.table(name)) for name in names]
    roles = fields.table("roles")
    root, release = (_read_role(roles.table(name)) for name in ROLES)
    floors = _read_floors(fields.table("floors"))
    revoked = fields.table("revoked")
    keys = _read_hex_list(revoked, "keys", 64)
    bundles = frozenset(Sha384(text) for text in _read_hex_list(revoked, "bundles", 96))
    for part in (roles, revoked, fields):
        part.done()
    fields.raise_if_bad(what)
    known = tuple(holder for holder in holders if holder)
    return Root(version, expires, known, root, release, floors, keys, bundles)


def fingerprint(payload: bytes) -> str:
    """What is read aloud to pin a root: SHA-384 truncated to 192 bits, twelve groups of four hex digits.

    Finding another root with the same fingerprint costs 2^192, the strength of the P-384 keys inside it
    (NIST SP 800-57 part 1, table 2); a longer one would protect nothing more and be read less carefully.
    """
    digits = hashlib.sha384(payload).hexdigest()[:48]
    return " ".join(digits[start : start + 4] for start in range(0, 48, 4))


def parse_fingerprint(text: str) -> str:
    """The canonical spelling of a fingerprint a person typed: case, spaces, colons and hyphens are free.

    Raises InputError unless 48 hex digits remain; a shorter one would pin less than it seems to.
    """
    digits = re.sub(r"[\s:-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{48}", digits):
        raise InputError(f"expected a fingerprint of 12 groups of 4 hex digits, found {text[:80]!r}")
    return " ".join(digits[start : start + 4] for start in range(0, 48, 4))


def survey(data: bytes, what: str = "root") -> tuple[Root, str, Tally]:
    """What an unpinned root says of itself, its fingerprint, and which holders of its root role signed it.

    Claims no trust: whoever made the file chose the keys in it. Raises InputError.
    """
    sealed = _open(data, what)
    root = parse(sealed.payload, what)
    return root, fingerprint(sealed.payload), envelope.tally(sealed, root.holders_of(root.root))


def verify_first(data: bytes, expected: str, what: str = "root") -> Root:
    """The root whose fingerprint was read out of band; its own threshold must have signed it.

    Raises InputError when malformed, TrustError for another fingerprint or too few signatures.
    """
    found = fingerprint(_open(data, what).payload)
    if found != parse_fingerprint(expected):
        raise TrustError(
            f"{what}: expected the fingerprint {parse_fingerprint(expected)}, found {found}",
            remedy="ask the holders for the fingerprint again, over a channel that did not carry this file",
        )
    return load_pinned(data, what)


def load_pinned(data: bytes, what: str = "root") -> Root:
    """A root from the site's own trust directory, where `pin` put it; its own threshold must have signed it.

    Raises InputError when malformed, TrustError for too few signatures.
    """
    root, _, _ = survey(data, what)
    envelope.verify(data, PAYLOAD_TYPE, root.holders_of(root.root), root.root.threshold, what)
    return root


def verify_next(old: Root, data: bytes, what: str = "root") -> Root:
    """Version N+1, signed by the root thresholds of N and of N+1 (TUF 5.3.4, 5.3.5).

    Revocations are never taken back and floors never lowered. Raises InputError or TrustError.
    """
    _open(data, what)
    payload = envelope.verify(data, PAYLOAD_TYPE, old.holders_of(old.root), old.root.threshold, what).payload
    new = parse(payload, what)
    if new.version != old.version + 1:
        raise TrustError(f"{what}: expected version {old.version + 1}, found {new.version}")
    envelope.verify(data, PAYLOAD_TYPE, new.holders_of(new.root), new.root.threshold, what)
    if forgotten := (old.revoked_keys - new.revoked_keys) | (old.revoked_bundles - new.revoked_bundles):
        raise TrustError(f"{what}: takes back the revocation of {', '.join(sorted(forgotten))}")
    nowhere = Floor(0, 0)
    if lowered := [c for c, floor in old.floors.items() if new.floors.get(c, nowhere) < floor]:
        raise TrustError(f"{what}: lowers the floor of {', '.join(sorted(lowered))}")
    return new


def _open(data: bytes, what: str) -> envelope.Envelope:
    sealed = envelope.parse(data, what, max_bytes=MAX_ROOT)
    if sealed.payload_type != PAYLOAD_TYPE:
        raise TrustError(f"{what}: expected the payload type {PAYLOAD_TYPE}, found {sealed.payload_type}")
    return sealed


def _contradictions(root: Root) -> Iterator[str]:
    names = [holder.name for holder in root.holders]
    if root.version < 1:
        yield f"version: expected at least 1, found {root.version}"
    if problem := instant_problem(root.expires):
        yield f"expires: {problem}"
    if len(set(names)) != len(names):
        yield "holders: a name occurs twice"
    yield from (f"holders: {problem}" for problem in shared_keys(root.holders))
    for holder in root.holders:
        if revoked := root.revoked_keys.intersection(holder.keyids):
            yield f"holders.{holder.name}: the key {min(revoked)} is revoked"
    for key, role in zip(ROLES, (root.root, root.release), strict=True):
        distinct = set(role.holders)
        if len(distinct) != len(role.holders):
            yield f"roles.{key}: a holder occurs twice"
        if not 1 <= role.threshold <= len(distinct):
            yield f"roles.{key}: a threshold of {role.threshold} cannot be met by {len(distinct)} holders"
        if unknown := distinct.difference(names):
            yield f"roles.{key}: no holder is named {', '.join(sorted(unknown))}"
    for channel, floor in root.floors.items():
        if not (0 <= floor.epoch <= MAX_SEQUENCE and 0 <= floor.sequence <= MAX_SEQUENCE):
            yield f"floors.{channel}: expected epoch and sequence of 0 to 2^53-1"


def _read_holder(name: str, fields: Fields) -> Holder | None:
    p384 = fields.parsed("p384", lambda text: parse_public_key(text, Algorithm.P384), None)
    mldsa87 = fields.parsed("mldsa87", lambda text: parse_public_key(text, Algorithm.MLDSA87), None)
    fields.done()
    if p384 is None or mldsa87 is None:
        return None
    try:
        return Holder(name, p384, mldsa87)
    except InputError as error:
        fields.problem("", error.message)
        return None


def _read_role(fields: Fields) -> Role:
    role = Role(fields.integer("threshold", minimum=1), fields.texts("holders", default=None))
    fields.done()
    return role


def _read_floors(fields: Fields) -> dict[str, Floor]:
    floors = {}
    for channel in fields.all_keys():
        table = fields.table(channel)
        if not re.fullmatch(NAME_PATTERN, channel):
            table.problem("", "not the name of a channel")
        floors[channel] = Floor(table.integer("epoch"), table.integer("sequence"))
        table.done()
    return floors


def _read_hex_list(fields: Fields, key: str, length: int) -> frozenset[str]:
    texts = fields.texts(key, default=None)
    for text in texts:
        if not re.fullmatch(rf"[0-9a-f]{{{length}}}", text):
            fields.problem(key, f"expected {length} lower-case hex digits, found {text[:100]!r}")
    return frozenset(texts)
