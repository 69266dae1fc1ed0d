"""RECORD against the members, and what else a wheel says of itself."""

import io
import zipfile

from airgap.audit.evidence import EntryPoint, RecordState
from airgap.audit.wheel_seen import WheelSeen, check_record, read_seen
from airgap.model import Sha256
from airgap.readers.source import BytesSource
from airgap.readers.wheel import Recorded
from airgap.readers.zip import Archive
from tests.audit.faults import wheel

ONE, TWO = Sha256("1" * 64), Sha256("2" * 64)
MEMBERS = {"a.py": (ONE, 10), "x.dist-info/RECORD": (TWO, 99)}


def checked(*lines: Recorded, members: dict[str, tuple[Sha256, int]] | None = None) -> RecordState:
    return check_record(WheelSeen(dist_info="x.dist-info", record=lines), members or MEMBERS)


OWN = Recorded("x.dist-info/RECORD", None, None)


def test_a_record_of_what_is_there_is_whole() -> None:
    assert checked(Recorded("a.py", ONE, 10), OWN) == RecordState(1)
    assert checked(Recorded("a.py", ONE, None), OWN).whole, "the size may be left out"


def test_every_difference_is_named() -> None:
    assert checked(Recorded("a.py", TWO, 10), OWN) == RecordState(1, changed=("a.py",))
    assert checked(Recorded("a.py", ONE, 11), OWN) == RecordState(1, changed=("a.py",))
    assert checked(Recorded("a.py", ONE, 10), Recorded("b.py", ONE, 1), OWN) == RecordState(
        1, missing=("b.py",)
    )
    assert checked(OWN) == RecordState(0, unlisted=("a.py",))
    assert checked(Recorded("a.py", None, 10), OWN) == RecordState(0, unhashed=("a.py",))


def test_records_own_signatures_are_not_listed() -> None:
    members = MEMBERS | {"x.dist-info/RECORD.jws": (ONE, 1), "x.dist-info/RECORD.p7s": (ONE, 1)}
    assert checked(Recorded("a.py", ONE, 10), OWN, members=members).whole


def seen(data: bytes) -> WheelSeen:
    name, _ = wheel()
    return read_seen(Archive(BytesSource(data), name), name)


def test_metadata_tags_and_entry_points() -> None:
    found = seen(wheel()[1])
    assert found.metadata
    assert (found.metadata.name, found.metadata.license) == ("alpha", "MIT")
    assert found.entry_points == (EntryPoint("console_scripts", "alpha", "alpha:main"),)
    assert len(found.record) == 5


def rewritten(**members: bytes | None) -> bytes:
    """The wheel with members replaced, or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel()[1])) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = members.get(info.filename.rpartition("/")[2], old.read(info))
            if data is not None:
                new.writestr(zipfile.ZipInfo(info.filename), data)
    return out.getvalue()


def test_a_record_that_is_none_is_a_problem_of_its_own() -> None:
    for data in (b"one,two\n", b"\xff", None):
        found = seen(rewritten(RECORD=data))
        assert found.metadata
        assert found.record_problem
        assert check_record(found, {}).problem == found.record_problem


def test_a_wheel_that_says_two_things_is_not_understood() -> None:
    found = seen(rewritten(METADATA=b"Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"))
    assert "one project and version" in found.problem
    assert found.metadata is None


def test_entry_points_that_nobody_can_read_are_none() -> None:
    assert seen(rewritten(**{"entry_points.txt": b"[x\n= ="})).entry_points == ()


def test_damage_is_a_problem_of_the_wheel_and_ends_nothing() -> None:
    name, data = wheel(compression=zipfile.ZIP_STORED)
    for text, problem in (
        (b"Metadata-Version", "problem"),
        (b"[console_scripts]", ""),
        (b"sha256=", "record_problem"),
    ):
        broken = bytearray(data)
        broken[data.index(text)] ^= 1
        found = read_seen(Archive(BytesSource(bytes(broken)), name), name)
        assert not problem or "CRC-32" in getattr(found, problem)
