"""Records of smoke runs as they lie in a bundle's `records/`, or in a file: read, and judged by a root.

Like a root, a record vouches for itself: it may be added to a finished bundle or taken out of it. One that
may not be believed is a warning, never an error: it makes nothing READY, and the bundle's own signatures
say nothing of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from airgap.errors import InputError, TrustError
from airgap.layout import RECORD_NAME, RECORDS_DIRECTORY, record_name
from airgap.media import Media
from airgap.model import Finding, Severity
from airgap.trust.envelope import MAX_RECORD
from airgap.trust.root import Root

# What reads a record is imported where there is one: few bundles have any, and every verb starts sooner.
if TYPE_CHECKING:
    from airgap.trust.smoke import Attested, SmokeRun

MAX_RECORDS = 32
"""Of one bundle."""

MAX_KEPT = 10_000
"""Of one site, which keeps those of every bundle it had."""

NOT_JUDGED = "not judged: give --site DIR, or --root FILE and --fingerprint"


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was found; `source` is where. `problem` says why it may not be believed, '' if it may.

    `run` is what it says, None where it cannot be read; without blobs, and `attested` None, unless it may be
    believed.
    """

    source: str
    data: bytes
    run: "SmokeRun | None"
    attested: "Attested | None"
    problem: str = ""


def read_record(source: str, data: bytes, root: Root | None, now: datetime) -> Record:
    """A record by itself, judged where there is a root. `now` is UTC."""
    from airgap.trust.smoke import judge, survey  # noqa: PLC0415

    try:
        if root is None:
            return Record(source, data, _summary(survey(data, source)[0]), None, NOT_JUDGED)
        attested = judge(data, root, now, source)
    except (InputError, TrustError) as error:
        return Record(source, data, _said(data), None, error.message.removeprefix(f"{source}: "))
    return Record(source, data, attested.run, attested)


def carried_records(
    media: Media, root: Root | None, now: datetime, *, at_most: int = MAX_RECORDS
) -> tuple[Record, ...]:
    """What a bundle brings in `records/`, or a site keeps there, by name.

    Names that are no record's are for `verify` to refuse. Raises IntegrityError for a link in place of one
    and for more than `at_most`, HostError when the media cannot be read.
    """
    names = media.names(RECORDS_DIRECTORY, at_most=at_most)
    found = []
    for name in sorted(name for name in names if RECORD_NAME.fullmatch(name)):
        path = f"{RECORDS_DIRECTORY}/{name}"
        data = media.read(path, max_bytes=MAX_RECORD)
        if record_name(data) == name:
            found.append(read_record(path, data, root, now))
        else:
            found.append(Record(path, data, None, None, "its bytes are not those that its name says"))
    return tuple(found)


def record_findings(records: Iterable[Record]) -> tuple[Finding, ...]:
    """A warning for each record that may not be believed."""
    remedy = "nothing is READY by it: ask for it again, or remove it"
    return tuple(
        Finding("smoke-record", Severity.WARNING, record.source, record.problem, "", remedy)
        for record in records
        if record.problem
    )


def _said(data: bytes) -> "SmokeRun | None":
    from airgap.trust.smoke import survey  # noqa: PLC0415

    try:
        return _summary(survey(data)[0])
    except InputError:
        return None


def _summary(run: "SmokeRun") -> "SmokeRun":
    """Without its blobs: whatever hostile media hold, little of it stays in memory."""
    return replace(run, blobs={})
