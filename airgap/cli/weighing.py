"""Records of smoke runs as `airgap check` takes them: from a bundle and from files, judged, then weighed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from airgap.cli.records import read_given, record_document, record_line
from airgap.layout import read_envelope
from airgap.media import Media
from airgap.model import Sha256, Sha384
from airgap.pinned import carried_roots, newest
from airgap.readiness.components import Composition
from airgap.readiness.judgement import SmokeRecord
from airgap.readiness.ran import read_attested, why_not_of, why_not_on
from airgap.records import Record, carried_records
from airgap.trust.decide import survey
from airgap.trust.root import Root


@dataclass(frozen=True, slots=True)
class Gathered:
    """Records, and the sha384 that a bundle states of its blobs; none for a lock: names are all it has."""

    records: tuple[Record, ...]
    stated: Mapping[Sha256, Sha384]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A record and the evidence that it is; None with the reason why it is none."""

    record: Record
    evidence: SmokeRecord | None
    reason: str

    @property
    def note(self) -> str:
        line = record_line(self.record)
        return line if self.evidence or self.record.problem else f"{line}; not counted: {self.reason}"

    def as_json(self) -> dict[str, object]:
        return record_document(self.record) | {"counted": bool(self.evidence), "reason": self.reason or None}


def gather_records(subject: Path, files: Sequence[Path], root: Root | None) -> Gathered:
    """What a bundle carries, if the subject is one, and each file. The bundle's newer roots are applied.

    Raises InputError, TrustError, IntegrityError or HostError for what cannot be read at all, a file that
    is no record among it; what a bundle carries of that kind is a record with a problem.
    """
    now = datetime.now(UTC)
    carried: tuple[Record, ...] = ()
    stated: dict[Sha256, Sha384] = {}
    if subject.is_dir():
        with Media(subject) as media:
            root = newest(root, carried_roots(media, root)) if root else None
            carried = carried_records(media, root, now)
            blobs = survey(read_envelope(media, also=", a lock, or a manifest")).statement.blobs
            stated = {digest: blob.sha384 for digest, blob in blobs.items()}
    given = [read_given(path, root, now) for path in files]
    return Gathered((*carried, *given), stated)


def weigh(gathered: Gathered, composition: Composition) -> tuple[Weighed, ...]:
    """What each record proves of this composition on its target."""
    return tuple(_weigh(record, composition, gathered.stated) for record in gathered.records)


def _weigh(record: Record, composition: Composition, stated: Mapping[Sha256, Sha384]) -> Weighed:
    if record.attested is None:
        return Weighed(record, None, record.problem)
    evidence = read_attested(record.attested, record.source, stated)
    if isinstance(evidence, str):
        return Weighed(record, None, evidence)
    reason = why_not_on(evidence, composition.target) or why_not_of(evidence, composition)
    return Weighed(record, None if reason else evidence, reason)
