"""A database of advisories as a zip archive of OSV documents, of which only those that matter are kept.

An export of one ecosystem holds tens of thousands of advisories; of each that names none of the packages
asked for, only its date and its ecosystems are looked at, and nothing is kept. So memory does not grow
with the export.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from airgap.audit.osv import MAX_ADVISORY, Advisory, parse_advisory
from airgap.errors import InputError
from airgap.progress import Progress
from airgap.readers.zip import Archive
from airgap.tags import normalized_name

MAX_UNREAD = 100
"""Advisories that could not be read and are named; the rest are counted."""

_STRING = rb'"((?:[^"\\]|\\.)*+)"'
_NAME = re.compile(rb'"name"\s*+:\s*+' + _STRING)
_ECOSYSTEM = re.compile(rb'"ecosystem"\s*+:\s*+' + _STRING)
_MODIFIED = re.compile(rb'"modified"\s*+:\s*+"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z"')


@dataclass(frozen=True, slots=True)
class Database:
    """What an export says of the packages that were asked for.

    `newest` is when any of its advisories was changed last, None where none says so: the data are as old
    as that. `ecosystems` are those it has advisories of. `unread` names members that are no advisories,
    each with its problem.
    """

    what: str
    advisories: tuple[Advisory, ...]
    count: int
    newest: datetime | None
    ecosystems: frozenset[str]
    unread: tuple[str, ...] = ()

    def age_days(self, now: datetime) -> int | None:
        """Whole days from the newest advisory to `now`; None where no advisory has a date."""
        return None if self.newest is None else max(0, (now - self.newest).days)


def read_database(archive: Archive, names: Collection[str], now: datetime, progress: Progress) -> Database:
    """Every advisory of `archive` that names a package of `names`, withdrawn ones left out.

    `now` (UTC) bounds the dates: one in the future says nothing of how old the data are.
    Raises InputError for an archive that is none or holds no advisory, IntegrityError for damaged members.
    """
    wanted = {spelling for name in names for spelling in (name, normalized_name(name))}
    kept: list[Advisory] = []
    unread: list[str] = []
    ecosystems: set[str] = set()
    newest = ""
    members = [member for member in archive.members() if member.path.endswith(".json")]
    bound = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    with progress.task("reading advisories", sum(member.size for member in members)):
        for member in members:
            progress.advance(member.size)
            what = f"{archive.what}: {member.path}"
            try:
                data = archive.read(member.path, MAX_ADVISORY)
                newest = max([newest, *(date for date in _dates(data) if date <= bound)])
                ecosystems.update(_found(_ECOSYSTEM, data))
                if _names(data, wanted):
                    advisory = parse_advisory(data, what)
                    kept += [] if advisory.withdrawn else [advisory]
            except InputError as error:
                unread.append(error.message)
    if not members or not ecosystems:
        raise InputError(
            f"{archive.what}: expected a zip archive of OSV advisories, found none in it",
            remedy="fetch the all.zip of an ecosystem, as osv.dev exports it",
        )
    if len(unread) > MAX_UNREAD:
        unread = [*unread[:MAX_UNREAD], f"{len(unread) - MAX_UNREAD} more"]
    at = datetime.fromisoformat(newest).replace(tzinfo=UTC) if newest else None
    return Database(archive.what, tuple(kept), len(members), at, frozenset(ecosystems), tuple(unread))


def _dates(data: bytes) -> Iterable[str]:
    return (match.decode() for match in _MODIFIED.findall(data))


def _names(data: bytes, wanted: Collection[str]) -> bool:
    """Whether the document may name one of `wanted`: a name with an escape in it may be any."""
    return any(
        "\\" in name or name in wanted or normalized_name(name) in wanted for name in _found(_NAME, data)
    )


def _found(pattern: re.Pattern[bytes], data: bytes) -> set[str]:
    return {text.decode("utf-8", "replace") for text in pattern.findall(data)}
