"""One audit from its beginning to its end: statement, documents, every blob once, and the value of it all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap import __version__
from airgap.audit import findings, licences, models, secrets
from airgap.audit.assemble import Gathered, role_of
from airgap.audit.evidence import Audit, BundleFact, Signing, Subject, SubjectKind, Totals
from airgap.audit.look import Role
from airgap.audit.reading import Reading, Wanted, read_blobs
from airgap.errors import TrustError
from airgap.layout import ENVELOPE_FILE, BundledArtifact
from airgap.media import Media
from airgap.model import Finding, ModelArtifact, Severity, Sha256
from airgap.oci import MAX_CONFIG
from airgap.pinned import carried_roots, newest
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.trust.decide import Accepted, Judged, Recipient, judge, survey
from airgap.trust.instant import render_instant
from airgap.trust.root import Root
from airgap.trust.statement import Statement
from airgap.units import amount
from airgap.verify import Signed, Verification, distinct, read_documents

SOON = timedelta(days=30)
"""What expires sooner is a finding."""


@dataclass(frozen=True, slots=True)
class Judge:
    """By what signatures are judged: None where no root was given. `now` is UTC."""

    now: datetime
    root: Root | None = None
    accepted: Mapping[str, Accepted] | None = None
    recipient: Recipient | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One bundle to look into: its artifacts as its verified documents describe them."""

    fact: BundleFact
    artifacts: tuple[BundledArtifact, ...]
    documents: Mapping[Sha256, bytes]


def audit_bundle(
    media: Media, where: str, judging: Judge, envelope: bytes, *, progress: Progress, jobs: int | None = None
) -> Audit:
    """Audit a bundle whose `envelope` was read from the media. Raises InputError where that is none.

    What is wrong is a finding. Raises HostError when the media cannot be read.
    """
    surveyed = survey(envelope)
    signed = Signed(envelope, Judged(surveyed.statement, surveyed.payload, (), ()))
    return audit_signed(media, where, judging, signed, progress=progress, jobs=jobs)[0]


def audit_signed(
    media: Media, where: str, judging: Judge, signed: Signed, *, progress: Progress, jobs: int | None = None
) -> tuple[Audit, Verification]:
    """The audit of a bundle, and what `airgap.verify.examine` says of the same bytes, read once for both.

    Raises as `audit_bundle` does.
    """
    stated = signed.statement
    fact, found = judge_envelope(signed.envelope, judging, media)
    contents, wrong = read_documents(media, signed)
    artifacts = contents.artifacts if contents else ()
    documents = contents.documents if contents else {}
    part = Part(fact, artifacts, documents)
    if stated.base:
        found.append(counted_on(stated))
    damaged = {finding.subject for finding in wrong}
    blobs = {
        digest: blob for digest, blob in stated.travelling.items() if f"blobs/sha256/{digest}" not in damaged
    }
    reading = read_blobs(media, wanted_of([part], blobs), progress, jobs)
    subject = Subject(SubjectKind.BUNDLE, where, (fact,))
    audit = conclude(subject, [part], reading, [*found, *wrong], now=judging.now, blobs=stated.blobs)
    return audit, Verification(signed.judged, contents, distinct([*wrong, *reading.findings]))


def counted_on(stated: Statement) -> Finding:
    """What a delta leaves out was not seen: the site that holds it is to be audited, too."""
    assert stated.base
    message = f"not on this medium: {amount(len(stated.absent), 'blob')}; it counts on what its site holds"
    return findings.NOT_LOOKED.at(ENVELOPE_FILE, message, f"inventory {stated.base.inventory}")


def judge_envelope(
    envelope: bytes, judging: Judge, media: Media | None = None, installed: datetime | None = None
) -> tuple[BundleFact, list[Finding]]:
    """What a statement says, who vouches for it, and what is wrong with that. Raises InputError."""
    root = judging.root
    found: list[Finding] = []
    problem = ""
    missing: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()
    until: datetime | None = None
    surveyed = survey(envelope, root)
    stated = surveyed.statement
    if root is None:
        message = f"{amount(len(surveyed.keyids), 'signature')}, judged by nobody: no root was given"
        found.append(findings.UNJUDGED.at(ENVELOPE_FILE, message))
        until = stated.expires_at
    else:
        try:
            root = newest(root, carried_roots(media, root)) if media else root
            judged = judge(envelope, root, judging.now, judging.accepted, judging.recipient)
            signers, missing, until = judged.signers, judged.missing, judged.holds_until
            found += judged.findings
        except TrustError as error:
            problem = error.message
            tally = surveyed.tally
            signers, missing = (tally.signers, tally.missing) if tally else ((), ())
            found.append(findings.UNTRUSTED.at(ENVELOPE_FILE, error.message, error.remedy))
    if until and not problem and until - judging.now < SOON:
        message = f"{stated.name} {stated.version} holds until {render_instant(until)} only"
        found.append(findings.EXPIRES.at(ENVELOPE_FILE, message))
    fact = BundleFact(
        stated.name,
        stated.version,
        stated.channel,
        stated.epoch,
        stated.sequence,
        stated.created_at,
        stated.expires_at,
        stated.audience,
        surveyed.payload,
        stated.target,
        Signing(
            root is not None,
            surveyed.keyids,
            signers,
            missing,
            surveyed.threshold,
            root.version if root else None,
            until,
            problem,
        ),
        installed,
    )
    return fact, found


def wanted_of(parts: Sequence[Part], blobs: Mapping[Sha256, StatedBlob]) -> list[Wanted]:
    """Every blob to read but the documents that were read already, with what it is declared to be.

    What is a document of one artifact and a file of another is read again, for the latter.
    """
    read = {digest for part in parts for digest in part.documents}
    roles: dict[Sha256, tuple[Role, list[str], int]] = {}
    for artifact in (bundled.artifact for part in parts for bundled in part.artifacts):
        for file in artifact.files:
            role = role_of(artifact, file)
            keep = models.keep(file.path) if isinstance(artifact, ModelArtifact) else 0
            keep = MAX_CONFIG if role is Role.DOCUMENT else keep
            known = roles.setdefault(file.sha256, (role, [], 0))
            strictest = min(known[0], role, key=list(Role).index)
            roles[file.sha256] = (strictest, [*known[1], file.path], max(known[2], keep))
    unnamed: tuple[Role, list[str], int] = (Role.DOCUMENT, [], 0)
    return [
        Wanted(digest, stated, role, tuple(names) or (f"blobs/sha256/{digest}",), keep)
        for digest, stated in blobs.items()
        for role, names, keep in (roles.get(digest, unnamed),)
        if digest not in read or role is not Role.DOCUMENT
    ]


def conclude(
    subject: Subject,
    parts: Sequence[Part],
    reading: Reading,
    found: Iterable[Finding],
    *,
    now: datetime,
    blobs: Mapping[Sha256, StatedBlob],
) -> Audit:
    """The value of an audit from everything that was read; `blobs` are all that is signed."""
    gathered = Gathered()
    for part in parts:
        for bundled in part.artifacts:
            gathered.add(part.fact.name, bundled, reading.contents, part.documents)
    judged = distinct([*found, *reading.findings])
    # Each once, however many bundles of a site share what it is about.
    everything = dict.fromkeys([*judged, *gathered.findings, *_unable(gathered)])
    order = list(Severity)
    totals = Totals(
        len(gathered.artifacts),
        len(blobs),
        sum(blob.size for blob in blobs.values()),
        reading.read + sum(len(data) for part in parts for data in part.documents.values()),
        len(gathered.files),
        sum(one.unpacked for one in reading.contents.values()),
        len(gathered.packages),
    )
    return Audit(
        __version__,
        now,
        subject,
        totals,
        tuple(gathered.artifacts),
        tuple(gathered.files),
        tuple(gathered.packages),
        tuple(gathered.wheels),
        tuple(gathered.images),
        tuple(gathered.models),
        tuple(sorted(everything, key=lambda one: (order.index(one.severity), one.code, one.subject))),
    )


def _unable(gathered: Gathered) -> list[Finding]:
    """What this host lacks to look as an audit should: said once, and never passed over."""
    remedy = "pip install 'airgap[audit]'"
    lacking = []
    if (gathered.images or gathered.models or gathered.files) and not secrets.available():
        lacking.append(("secrets", "nobody looked for secrets: detect-secrets is not installed"))
    if (gathered.packages or gathered.models) and not licences.available():
        lacking.append(("licences", "no licence was judged: license-expression is not installed"))
    return [findings.NOT_LOOKED.at(what, message, remedy) for what, message in lacking]
