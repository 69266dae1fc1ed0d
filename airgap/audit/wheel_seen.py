"""What a wheel says of itself, and whether its members are what its RECORD says (PEP 376, PEP 427)."""

import configparser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airgap.audit.evidence import EntryPoint, RecordState
from airgap.errors import InputError, IntegrityError
from airgap.model import Sha256
from airgap.readers.wheel import Metadata, Recorded, read_wheel
from airgap.readers.zip import Archive

MAX_ENTRY_POINTS = 1024 * 1024
MAX_PTH = 1024 * 1024
"""Bytes; site.py would read more, and nobody writes more."""


@dataclass(frozen=True, slots=True)
class WheelSeen:
    """`problem` is why it cannot be understood; `record_problem` why its RECORD cannot."""

    metadata: Metadata | None = None
    tags: tuple[str, ...] = ()
    dist_info: str = ""
    record: tuple[Recorded, ...] = ()
    entry_points: tuple[EntryPoint, ...] = ()
    problem: str = ""
    record_problem: str = ""


def kept_of_wheel(path: str, depth: int) -> int:
    """How many bytes of a member are kept as it passes: `.pth` files, wherever they would land."""
    return MAX_PTH if depth == 1 and path.endswith(".pth") else 0


def read_seen(archive: Archive, file: str) -> WheelSeen:
    """Read the documents of a wheel that travels as `file`; what is wrong with them is a problem it has."""
    try:
        wheel = read_wheel(archive, file)
    except (InputError, IntegrityError) as error:
        return WheelSeen(problem=error.message.removeprefix(f"{archive.what}: "))
    record: tuple[Recorded, ...] = ()
    record_problem = ""
    try:
        record = wheel.record()
    except (InputError, IntegrityError) as error:
        record_problem = error.message.removeprefix(f"{archive.what}: ")
    points = f"{wheel.dist_info}/entry_points.txt"
    entry_points = _entry_points(archive, points) if points in archive.paths() else ()
    return WheelSeen(
        wheel.metadata, wheel.tags, wheel.dist_info, record, entry_points, record_problem=record_problem
    )


def check_record(seen: WheelSeen, members: Mapping[str, tuple[Sha256, int]]) -> RecordState:
    """RECORD against the digest and size of every member. It lists itself and its signatures unhashed."""
    if seen.record_problem:
        return RecordState(0, problem=seen.record_problem)
    own = {f"{seen.dist_info}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s")}
    listed = {line.path: line for line in seen.record if line.path not in own}
    here = {path for path in listed if path in members}
    hashed = {path for path in here if listed[path].sha256 is not None}
    changed = {
        path for path in hashed if (listed[path].sha256, _size(listed[path], members)) != members[path]
    }
    return RecordState(
        len(hashed),
        tuple(sorted(changed)),
        tuple(sorted(listed.keys() - here)),
        tuple(sorted(members.keys() - listed.keys() - own)),
        tuple(sorted(here - hashed)),
    )


def _size(line: Recorded, members: Mapping[str, tuple[Sha256, int]]) -> int:
    """As listed; what is left out (PEP 376 allows it) agrees with anything."""
    return members[line.path][1] if line.size is None else line.size


def _entry_points(archive: Archive, path: str) -> tuple[EntryPoint, ...]:
    """PyPA, "Entry points specification". What cannot be read is no entry point to any installer either."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    try:
        parser.read_string(archive.read(path, MAX_ENTRY_POINTS).decode("utf-8", "replace"))
    except (configparser.Error, InputError, IntegrityError):
        return ()
    sections: Sequence[str] = parser.sections()
    return tuple(
        EntryPoint(group, name, (target or "").strip())
        for group in sections
        for name, target in parser.items(group)
    )
