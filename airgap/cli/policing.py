"""What `--policy` and `--osv` ask for: a look inside, advisories, the policy's answer.

Imported by who was asked alone (`airgap.cli.options.asked_policy`): everything that looks inside hangs on it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from airgap.audit.answers import PolicyFact, some_of_each
from airgap.audit.evidence import Audit
from airgap.audit.exports import add_vulnerabilities
from airgap.audit.judging import Stage, judge_policy, refuse_broken
from airgap.audit.policy import Policy, load_policy
from airgap.audit.reading import BlobSource
from airgap.audit.run import Judge, audit_bundle, audit_signed
from airgap.audit.site import Arriving, audit_arriving, audit_members, kept
from airgap.audit.volumes import arranged, audit_judged
from airgap.isolated.arrival import Arrival
from airgap.isolated.generation import Member
from airgap.isolated.identity import load_recipient
from airgap.isolated.install import Brought
from airgap.isolated.memory import load_memory
from airgap.isolated.site import Site
from airgap.layout import blob_path, read_envelope
from airgap.media import Media, shown
from airgap.model import Sha384
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.trust.decide import Recipient
from airgap.verify import Signed, Verification, read_contents
from airgap.verify_volumes import Collection, judge_together
from airgap.volume_reading import Reading


@dataclass(frozen=True, slots=True)
class Policed:
    """A policy's answer, as a verb shows it."""

    fact: PolicyFact
    document: object
    """For `--json`."""

    @property
    def broken(self) -> bool:
        return bool(self.fact.broken)

    def lines(self) -> Iterator[str]:
        return policy_lines(self.fact)


@dataclass(frozen=True, slots=True)
class Policing:
    """A policy to judge by, and the advisories that were named (none: those among the artifacts)."""

    policy: Policy
    osv: tuple[str, ...]

    def verified(
        self,
        media: Media,
        signed: Signed,
        now: datetime,
        recipient: Recipient,
        progress: Progress,
        jobs: int | None,
    ) -> tuple[Verification, Policed | None]:
        """Verify a bundle on its media and look inside in one reading; what is broken is in the answer.

        Of one that is not as signed there is no answer.
        """
        judging = Judge(now, signed.judged.root, None, recipient)
        where = shown(str(media.root))
        audit, verification = audit_signed(media, where, judging, signed, progress=progress, jobs=jobs)
        if not verification.sound:
            return verification, None
        return verification, _policed(judged(audit, media, self.policy, self.osv, progress))

    def volumes(
        self,
        readings: Sequence[tuple[Media, Reading]],
        now: datetime,
        recipient: Recipient,
        progress: Progress,
        jobs: int | None,
    ) -> tuple[Collection, Policed | None]:
        """Verify volumes of one bundle and look inside in one reading, as `verified` does.

        There is no answer, and nobody looks, where a blob lies on none of them.
        """
        blobs = arranged(readings)
        signed = readings[0][1].signed
        if not all(blobs.holds(digest) for digest in signed.statement.travelling):
            return judge_together(readings, progress=progress, jobs=jobs), None
        judging = Judge(now, signed.judged.root, None, recipient)
        where = ", ".join(dict.fromkeys(shown(str(media.root)) for media, _ in readings))
        audit, found = audit_judged(readings, blobs, where, judging, progress=progress, jobs=jobs)
        if not (found.sound and found.complete):
            return found, None
        return found, _policed(judged(audit, blobs, self.policy, self.osv, progress))

    def staged(self, bundle: Path, name: str, progress: Progress) -> Policed:
        """Look inside of what is being built as `name`. Raises PolicyError where the policy is broken."""
        with Media(bundle) as media:
            judging = Judge(datetime.now(UTC).replace(microsecond=0))
            audit = audit_bundle(media, name, judging, read_envelope(media), progress=progress)
            audit = judged(audit, media, self.policy, self.osv, progress, Stage.BUILD)
        refuse_broken(audit)
        return _policed(audit)

    def arriving(self, site: Site, brought: Sequence[Brought], now: datetime, progress: Progress) -> Policed:
        """Look inside of bundles on their media, as `members` would once they are copied; no rule refuses.

        Raises IntegrityError where they are not as signed.
        """
        arriving = [Arriving(one.media, one.signed, one.contents) for one in brought]
        return self._arriving(site, arriving, now, progress)

    def receiving(
        self, site: Site, readings: Sequence[tuple[Media, Reading]], now: datetime, progress: Progress
    ) -> Policed:
        """The same of volumes, which with what has arrived already are all of their bundles.

        Raises IntegrityError where they are not as signed.
        """
        bundles: dict[Sha384, list[tuple[Media, Reading]]] = {}
        for media, reading in readings:
            bundles.setdefault(reading.signed.judged.payload, []).append((media, reading))
        arriving: list[Arriving] = []
        with ExitStack() as opened:
            for payload, here in bundles.items():
                (media, first), signed = here[0], here[0][1].signed
                arrival = Arrival(site, payload)
                there = opened.enter_context(Media(arrival.top)) if arrival.exists else None
                blobs = arranged(here, kept(arrival, signed.statement, there) if there else ())
                assert first.index is not None, "the volume is sound"
                contents = read_contents(blobs, signed, first.index)
                arriving.append(Arriving(media, signed, contents, blobs))
            return self._arriving(site, arriving, now, progress)

    def _arriving(
        self, site: Site, arriving: Sequence[Arriving], now: datetime, progress: Progress
    ) -> Policed:
        recipient = load_recipient(site)
        judging = Judge(load_memory(site).clock(now), trusted_root(site.root, None, None), None, recipient)
        with Media(site.root) as held:
            where = shown(str(site.root))
            audit, source = audit_arriving(site, held, arriving, where, judging, progress=progress)
            return _policed(judged(audit, source, self.policy, self.osv, progress))

    def members(self, site: Site, members: Sequence[Member], now: datetime, progress: Progress) -> Policed:
        """Look inside of bundles whose bytes are in the site's store, and not in force yet.

        Raises PolicyError where the policy is broken.
        """
        recipient = load_recipient(site)
        judging = Judge(load_memory(site).clock(now), trusted_root(site.root, None, None), None, recipient)
        where = shown(str(site.root))
        audit = audit_members(site, members, where, recipient.name, judging, progress=progress)
        with Media(site.root) as media:
            audit = judged(audit, media, self.policy, self.osv, progress)
        refuse_broken(audit)
        return _policed(audit)


def read_policing(policy: Path, osv: tuple[str, ...]) -> Policing:
    """Raises InputError with every problem of the policy."""
    return Policing(load_policy(policy), osv)


def judged(
    audit: Audit,
    media: BlobSource,
    policy: Policy | None,
    osv: tuple[str, ...],
    progress: Progress,
    stage: Stage = Stage.ARRIVED,
) -> Audit:
    """An audit with vulnerabilities and the policy's answer; `media` hold the bytes of what was audited."""
    audit = add_vulnerabilities(audit, osv, lambda digest: media.open(blob_path(digest)), progress)
    return judge_policy(audit, policy, stage) if policy else audit


def policy_lines(fact: PolicyFact | None) -> Iterator[str]:
    """What the policy says, waivers first."""
    if fact is None:
        return
    yield f"policy {fact.where}: {fact.summary}"
    for waiver in fact.waivers:
        note = f"; {waiver.note}" if waiver.note else ""
        yield (
            f"  waived until {waiver.expires}: {waiver.rule}: {waiver.subject}: {waiver.reason}"
            f" ({waiver.name}){note}"
        )
    for violation, more in some_of_each(fact.broken):
        yield f"  {violation.rule}: {violation.subject}: {violation.message}"
        if violation.remedy:
            yield f"    -> {violation.remedy}"
        if more > 0:
            yield f"  {violation.rule}: and {more} more for the same reason; --json has every one"


def _policed(audit: Audit) -> Policed:
    assert audit.policy, "it was judged"
    return Policed(audit.policy, audit.as_json()["policy"])
