"""Whether a bundle's statement may be believed: bytes, a root and a time in, a statement or an error out.

The order of `judge`, which no step may overtake:

1. the size of the envelope is capped
2. the signatures of distinct holders of the release role are verified over the exact payload bytes
3. those same bytes are parsed, strictly
4. root and statement have not expired at `now`
5. the statement is not revoked by the root
6. neither the root nor the site has seen a higher (epoch, sequence) in its channel, or another
   statement with the same

Everything refused is a TrustError: on the isolated side a malformed envelope is no typing mistake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from airgap.errors import InputError, TrustError
from airgap.model import Sha384
from airgap.trust import envelope, statement
from airgap.trust.envelope import Tally, Verified
from airgap.trust.instant import render_instant
from airgap.trust.root import Floor, Root
from airgap.trust.statement import Statement

WHAT = "bundle.dsse.json"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The newest statement a site has accepted in a channel."""

    floor: Floor
    payload: Sha384


@dataclass(frozen=True, slots=True)
class Judged:
    """A statement that may be believed, `payload` naming its exact bytes, and who vouches for it.

    `missing` are holders of the release role who have not (fully) signed; the threshold is met without them.
    """

    statement: Statement
    payload: Sha384
    signers: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What an envelope says and who signed it, for display. Not evidence: nothing here was refused.

    `tally` is None when no root was given; `keyids` are the envelope's own hints.
    """

    statement: Statement
    payload: Sha384
    keyids: tuple[str, ...]
    tally: Tally | None
    threshold: int


def judge(data: bytes, root: Root, now: datetime, accepted: Mapping[str, Accepted] | None = None) -> Judged:
    """The verified statement of `bundle.dsse.json`, or a TrustError that says what does not hold.

    `now` is the later of the system clock and the newest accepted createdAt; `accepted` is the site's
    memory by channel, absent where there is no site yet.
    """
    verified = _verify(data, root)
    stated = _parse(verified)
    digest = envelope.payload_digest(verified.payload)
    _judge_time(stated, root, now)
    _judge_revocation(digest, root)
    _judge_floors(stated, digest, root, accepted or {})
    return Judged(stated, digest, verified.signers, verified.missing)


def survey(data: bytes, root: Root | None = None) -> Surveyed:
    """Read an envelope for display, believing nothing. Raises InputError when it cannot be read at all."""
    sealed = envelope.parse(data, WHAT)
    if sealed.payload_type != statement.PAYLOAD_TYPE:
        raise InputError(f"{WHAT}: expected {statement.PAYLOAD_TYPE}, found {sealed.payload_type}")
    return Surveyed(
        statement.parse(sealed.payload, WHAT),
        envelope.payload_digest(sealed.payload),
        tuple(sorted({signature.keyid for signature in sealed.signatures})),
        envelope.tally(sealed, root.holders_of(root.release)) if root else None,
        root.release.threshold if root else 0,
    )


def _verify(data: bytes, root: Root) -> Verified:
    holders = root.holders_of(root.release)
    try:
        return envelope.verify(data, statement.PAYLOAD_TYPE, holders, root.release.threshold, WHAT)
    except InputError as error:
        raise TrustError(error.message, remedy="ask for the bundle again: its envelope is damaged") from error


def _parse(verified: Verified) -> Statement:
    try:
        return statement.parse(verified.payload, WHAT)
    except InputError as error:
        signers = ", ".join(verified.signers)
        raise TrustError(
            error.message,
            remedy=f"{signers} signed a statement that this version of airgap does not accept; tell them",
        ) from error


def _judge_time(stated: Statement, root: Root, now: datetime) -> None:
    for what, expires, remedy in (
        (f"root version {root.version}", root.expires, "ask the holders for a newer root"),
        (f"the statement of {stated.name} {stated.version}", stated.expires_at, "ask for a newer bundle"),
    ):
        if now >= expires:
            raise TrustError(
                f"{what} expired at {render_instant(expires)}; the time is {render_instant(now)}",
                remedy=f"{remedy}, and see that this host's clock is right",
            )


def _judge_revocation(digest: Sha384, root: Root) -> None:
    if digest in root.revoked_bundles:
        raise TrustError(
            f"root version {root.version} revokes this bundle (statement sha384 {digest})",
            remedy="do not use it; ask the holders why, and for its successor",
        )


def _judge_floors(stated: Statement, digest: Sha384, root: Root, accepted: Mapping[str, Accepted]) -> None:
    found = Floor(stated.epoch, stated.sequence)
    floor = root.floors.get(stated.channel)
    if floor and found < floor:
        raise TrustError(_too_low(stated, floor, f"root version {root.version} demands"))
    newest = accepted.get(stated.channel)
    if newest is None:
        return
    if found < newest.floor:
        raise TrustError(_too_low(stated, newest.floor, "this site has accepted"))
    if found == newest.floor and digest != newest.payload:
        raise TrustError(
            f"channel {stated.channel}: two different statements claim epoch {found.epoch}, sequence"
            f" {found.sequence}: this one ({digest}) and the one accepted ({newest.payload})",
            remedy="someone signed both: show this to the holders before anything else is installed",
        )


def _too_low(stated: Statement, floor: Floor, who: str) -> str:
    return (
        f"channel {stated.channel}: {who} epoch {floor.epoch}, sequence {floor.sequence};"
        f" found epoch {stated.epoch}, sequence {stated.sequence}, which is older"
    )
