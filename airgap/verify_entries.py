"""Names, types and sizes on the media against what is signed to be there: pure, before a file is opened."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from airgap.layout import BESIDE, VERIFY_DIRECTORY
from airgap.media import Entry, EntryType, shown
from airgap.model import Finding, Severity

DIRECTORIES = frozenset({VERIFY_DIRECTORY, "blobs", "blobs/sha256"})

MAX_SUPERFLUOUS = 1000
"""Unexpected names that are reported one by one; hostile media may hold millions."""

RECOPY = "copy the bundle again from the connected side; if it happens again, distrust the media"
REMOVE = "remove it: only what is signed may travel"


def judge_entries(
    entries: Iterable[Entry], expected: Mapping[str, int | None], directories: Collection[str] = DIRECTORIES
) -> Iterator[Finding]:
    """One finding for each name that is not as expected."""
    seen: set[str] = set()
    superfluous = 0
    for entry in entries:
        if (carried := _judge_carried(entry)) is not None:
            yield from carried
            continue
        wanted = EntryType.DIRECTORY if entry.path in directories else EntryType.FILE
        if entry.path not in expected and entry.path not in directories:
            superfluous += 1
            if superfluous <= MAX_SUPERFLUOUS:
                message = f"a {entry.type} that no holder signed"
                yield _finding("integrity-unexpected", shown(entry.path), message, remedy=REMOVE)
            continue
        seen.add(entry.path)
        if entry.type is not wanted:
            message = f"expected a {wanted}, found a {entry.type}"
            yield _finding("integrity-type", entry.path, message, remedy=RECOPY)
        elif wanted is EntryType.FILE and expected[entry.path] not in (None, entry.size):
            message = f"expected {expected[entry.path]} bytes, found {entry.size}"
            yield _finding("integrity-size", entry.path, message, remedy=RECOPY)
    for path in sorted({*directories, *expected} - seen):
        yield _finding("integrity-missing", path, "missing", remedy=RECOPY)
    if superfluous > MAX_SUPERFLUOUS:
        message = f"{superfluous - MAX_SUPERFLUOUS} more names that no holder signed"
        yield _finding("integrity-unexpected", ".", message, remedy=REMOVE)


def _judge_carried(entry: Entry) -> list[Finding] | None:
    """`roots/` and `records/` may hold what vouches for itself; None for any other name."""
    directory, _, name = entry.path.rpartition("/")
    pattern, largest = BESIDE.get(directory, (None, 0))
    inside = pattern is not None and pattern.fullmatch(name)
    if not inside and entry.path not in BESIDE:
        return None
    wanted = EntryType.FILE if inside else EntryType.DIRECTORY
    if entry.type is not wanted:
        message = f"expected a {wanted}, found a {entry.type}"
        return [_finding("integrity-type", entry.path, message, remedy=RECOPY)]
    if inside and entry.size > largest:
        message = f"expected at most {largest} bytes, found {entry.size}"
        return [_finding("integrity-size", entry.path, message, remedy=RECOPY)]
    return []


def _finding(code: str, subject: str, message: str, evidence: str = "", remedy: str = "") -> Finding:
    return Finding(code, Severity.ERROR, subject, message, evidence, remedy)
