"""Whether a bundle's statement may be believed: bytes, a root and a time in, a statement or an error out.

The order of `judge`, which no step may overtake:

1. the size of the envelope is capped
2. the signatures of distinct holders of the release role are verified over the exact payload bytes
3. those same bytes are parsed, strictly
4. root and statement have not expired at `now`, and the statement was not made a day or more after it
5. the statement is not revoked by the root
6. its audience and channel include the site
7. neither the root nor the site has seen a higher (epoch, sequence) in its channel, or another
   statement with the same

What the media bring of newer roots is applied before (`airgap.trust.succession.follow`).

Everything refused is a TrustError: on the isolated side a malformed envelope is no typing mistake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap.errors import InputError, TrustError
from airgap.model import Finding, Severity, Sha384
from airgap.trust import envelope, statement
from airgap.trust.envelope import Tally, Verified
from airgap.trust.instant import render_instant
from airgap.trust.root import Floor, Root
from airgap.trust.statement import Statement

WHAT = "bundle.dsse.json"

MAX_AHEAD = timedelta(days=1)
"""How far createdAt may be ahead: a builder's clock that is wrong by years would move the site's for good."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who judges: a site's name, and the channels it takes, none meaning all. '' is a site without a name."""

    name: str = ""
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The newest statement a site has accepted in a channel."""

    floor: Floor
    payload: Sha384


@dataclass(frozen=True, slots=True)
class Judged:
    """A statement that may be believed, `payload` naming its exact bytes, and who vouches for it.

    `missing` are holders of the release role who have not (fully) signed; the threshold is met without them.
    `findings` are warnings: which sequences of the channel the site has not seen.
    """

    statement: Statement
    payload: Sha384
    signers: tuple[str, ...]
    missing: tuple[str, ...]
    root: Root | None = None
    """By which it was judged; None before anyone did."""
    findings: tuple[Finding, ...] = ()

    @property
    def holds_until(self) -> datetime:
        """When the statement or the root expires, whichever is first."""
        own = self.statement.expires_at
        return min(own, self.root.expires) if self.root else own


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


def judge(
    data: bytes,
    root: Root,
    now: datetime,
    accepted: Mapping[str, Accepted] | None = None,
    recipient: Recipient | None = None,
) -> Judged:
    """The verified statement of `bundle.dsse.json`, or a TrustError that says what does not hold.

    `now` is the later of the system clock and the newest accepted createdAt; `accepted` is the site's
    memory by channel, absent where there is no site yet.
    """
    verified = _verify(data, root)
    stated = _parse(verified)
    digest = envelope.payload_digest(verified.payload)
    _judge_time(stated, root, now)
    _judge_revocation(digest, root)
    _judge_recipient(stated, recipient or Recipient())
    _judge_floors(stated, digest, root, accepted or {})
    findings = _judge_succession(stated, (accepted or {}).get(stated.channel))
    return Judged(stated, digest, verified.signers, verified.missing, root, tuple(findings))


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
    if stated.created_at - now >= MAX_AHEAD:
        raise TrustError(
            f"the statement of {stated.name} {stated.version} was made at"
            f" {render_instant(stated.created_at)}, a day or more after this host's time,"
            f" {render_instant(now)}",
            remedy="set this host's clock; if it is right, the builder's was wrong: ask for the bundle anew",
        )


def _judge_revocation(digest: Sha384, root: Root) -> None:
    if digest in root.revoked_bundles:
        raise TrustError(
            f"root version {root.version} revokes this bundle (statement sha384 {digest})",
            remedy="do not use it; ask the holders why, and for its successor",
        )


def _judge_recipient(stated: Statement, recipient: Recipient) -> None:
    if stated.audience and not recipient.name:
        raise TrustError(
            f"{stated.name} {stated.version} is for {', '.join(stated.audience)} only,"
            " and who judges it has no name",
            remedy="name the site: airgap trust pin ROOT --site DIR --fingerprint … --site-name NAME",
        )
    if stated.audience and recipient.name not in stated.audience:
        raise TrustError(
            f"{stated.name} {stated.version} is for {', '.join(stated.audience)}; this is {recipient.name}",
            remedy="take it to a site it is for, or ask for one that is for this site",
        )
    if recipient.channels and stated.channel not in recipient.channels:
        raise TrustError(
            f"this site takes the channels {', '.join(recipient.channels)}; found {stated.channel}",
            remedy="take it to another site, or name the channel with airgap trust pin … --channel",
        )


def _judge_floors(stated: Statement, digest: Sha384, root: Root, accepted: Mapping[str, Accepted]) -> None:
    found = Floor(stated.epoch, stated.sequence)
    floor = root.floors.get(stated.channel)
    if floor and found < floor:
        raise TrustError(
            _too_low(stated, floor, f"root version {root.version} demands"),
            remedy="the holders have ruled older ones out: ask for the newest bundle",
        )
    newest = accepted.get(stated.channel)
    if newest is None:
        return
    if found < newest.floor:
        raise TrustError(
            _too_low(stated, newest.floor, "this site has accepted"),
            remedy="install the newest bundle; a site goes back by airgap rollback, not by old media",
        )
    if found == newest.floor and digest != newest.payload:
        raise TrustError(
            f"channel {stated.channel}: two different statements claim epoch {found.epoch}, sequence"
            f" {found.sequence}: this one ({digest}) and the one accepted ({newest.payload})",
            remedy="someone signed both: show this to the holders before anything else is installed",
        )


def _judge_succession(stated: Statement, newest: Accepted | None) -> list[Finding]:
    """Whether the site has seen what came before in the channel: withheld bundles show as a gap."""
    if newest is None or stated.sequence == 1:
        return []
    same_epoch = stated.epoch == newest.floor.epoch
    last = newest.floor.sequence if same_epoch else 0
    before = stated.previous
    if stated.sequence == last:
        return []
    subject = f"channel {stated.channel}"
    if (
        same_epoch
        and before
        and (before.sequence < last or (before.sequence == last and before.sha384 != newest.payload))
    ):
        return [
            Finding(
                "sequence-fork",
                Severity.WARNING,
                subject,
                f"its builder counts from another sequence {before.sequence} than this site",
                f"it names {before.sequence} ({before.sha384}), the site accepted {last} ({newest.payload})",
                "two hosts build this channel, or someone signed twice: ask the holders",
            )
        ]
    end = before.sequence if before else stated.sequence - 1
    if end <= last:
        return []
    unseen = f"{last + 1}" if end == last + 1 else f"{last + 1} to {end}"
    return [
        Finding(
            "sequence-gap",
            Severity.WARNING,
            subject,
            f"this site has not seen sequence {unseen} of epoch {stated.epoch}",
            f"accepted {last if same_epoch else 'none of this epoch'}, found {stated.sequence}",
            "if none was left out on purpose, ask what they held: media may have been withheld",
        )
    ]


def _too_low(stated: Statement, floor: Floor, who: str) -> str:
    return (
        f"channel {stated.channel}: {who} epoch {floor.epoch}, sequence {floor.sequence};"
        f" found epoch {stated.epoch}, sequence {stated.sequence}, which is older"
    )
