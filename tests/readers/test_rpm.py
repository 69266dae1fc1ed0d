"""Packages in rpm databases: what rpm itself lists, and databases made to break their reader."""

import struct
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.readers import rpm
from airgap.readers.image import SystemPackage, read_image
from airgap.readers.rpm import PassingRpmDatabase, read_database, read_header
from tests.readers.images import gone, layer
from tests.readers.rpms import (
    ARCHITECTURE,
    NAME,
    STRING,
    VERSION,
    database,
    header,
    install,
    listed,
    packages,
)
from tests.readers.rpms import simple as bash
from tests.services import need

HOME = "var/lib/rpm/rpmdb.sqlite"


def test_an_image_lists_what_rpm_lists(tmp_path: Path) -> None:
    need("rpm", "rpmbuild")
    below = install(tmp_path / "below", {"tiny": "1.5"})
    above = install(tmp_path / "above", {"tiny": "2.0", "other": "1"}, tiny="Epoch: 2\nVendor: Somebody")
    found = read_image(
        "d" * 64, [layer((HOME, below.read_bytes())), layer((HOME, above.read_bytes()), (f"{HOME}-wal", b""))]
    )
    assert sorted(f"{p.name} {p.version} {p.architecture}" for p in found.packages) == sorted(listed(above))
    tiny = SystemPackage("rpm", "tiny", "2:2.0-3.el9", "noarch", "tiny-2.0-3.el9.src.rpm", "MIT")
    assert tiny in found.packages and not found.unread
    removed = read_image("d" * 64, [layer((HOME, below.read_bytes())), layer(gone(HOME))])
    assert (removed.packages, removed.unread) == ((), ())


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("var/lib/rpm/Packages", "Berkeley DB"),
        ("usr/lib/sysimage/rpm/Packages.db", "ndb"),
        (f"{HOME}-wal", "not merged"),
        (HOME, "SQLite cannot read it"),
    ],
)
def test_what_is_not_read_is_said(path: str, why: str) -> None:
    found = read_image("d" * 64, [layer((path, b"\0" * 100))])
    assert found.packages == () and len(found.unread) == 1
    assert path in found.unread[0] and why in found.unread[0]


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_headers_give_back_what_was_put_in(name: str, epoch: int) -> None:
    found = read_header(bash(name.encode("utf-8", "replace").decode(), epoch=epoch), "it")
    assert (found.name, found.evr) == (name.encode("utf-8", "replace").decode(), f"{epoch}:5.1-6.el9")
    assert (found.architecture, found.license, found.source) == ("x86_64", "", "")


def text(tag: int, value: bytes) -> tuple[int, int, bytes]:
    return tag, STRING, value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        bash()[:-1],
        bash() + b"\0",
        struct.pack(">2I", 0xFFFFFFFF, 0) + bytes(100),
        header([text(NAME, b"x\0"), text(ARCHITECTURE, b"y\0")]),
        header([text(NAME, b"x\0"), text(VERSION, b"no end")]),
        header([text(NAME, b"x" * 5000 + b"\0"), text(VERSION, b"1\0")]),
        header([text(NAME, b"\0"), text(VERSION, b"1\0")]),
        bash().replace(
            struct.pack(">4I", NAME, STRING, 0, 1), struct.pack(">4I", NAME, STRING, 2**32 - 1, 1)
        ),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        read_header(data, "it")


ENDLESS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT CAST(x AS BLOB) FROM t"


@pytest.mark.parametrize(
    "schema",
    [
        ["CREATE TABLE Other (x)"],
        [f"CREATE VIEW Packages (blob) AS {ENDLESS}"],
        [f"CREATE TABLE t AS SELECT x'{bash().hex()}' AS blob", "CREATE VIEW Packages AS SELECT blob FROM t"],
        ["CREATE VIEW Packages AS SELECT zeroblob(1000000000) AS blob"],
        ["CREATE TABLE Packages (n, blob AS (zeroblob(30000000)))", "INSERT INTO Packages VALUES (1)"],
        ["CREATE TABLE Packages (blob)", "INSERT INTO Packages VALUES ('text')"],
    ],
)
def test_a_schema_that_is_not_rpms_is_refused_at_once(schema: list[str], tmp_path: Path) -> None:
    data = database(tmp_path / "db", *schema)
    begun = time.monotonic()
    with pytest.raises(InputError):
        list(read_database(tmp_path / "db", len(data), "it"))
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("cap", "value", "message"),
    [("MAX_PACKAGES", 2, "more than 2 packages"), ("MAX_STEPS", 1, "interrupted")],
)
def test_rows_and_work_are_capped(
    cap: str, value: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = packages(tmp_path / "db", [bash(str(n)) for n in range(3)])
    assert len(list(read_database(tmp_path / "db", len(data), "it"))) == 3
    monkeypatch.setattr(rpm, cap, value)
    monkeypatch.setattr(rpm, "_STEP", 1)
    with pytest.raises(InputError, match=message):
        list(read_database(tmp_path / "db", len(data), "it"))


def test_rows_that_claim_more_bytes_than_there_are(tmp_path: Path) -> None:
    packages(tmp_path / "db", [bash()])
    with pytest.raises(InputError, match="more bytes than it has"):
        list(read_database(tmp_path / "db", 10, "it"))


def test_the_temporary_copy_is_gone_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert taken(b"x" * 10).problem.startswith("no temporary copy of it can be made")
    (tmp_path / "tmp").mkdir()
    good = packages(tmp_path / "db", [bash(), bash("gpg-pubkey")])
    assert [package.name for package in taken(good).packages] == ["bash"]
    assert "SQLite cannot read it" in taken(good[:600]).problem
    monkeypatch.setattr(rpm, "MAX_DATABASE", 100)
    assert "more than the 100" in taken(good).problem
    assert not any((tmp_path / "tmp").iterdir())


def taken(data: bytes) -> PassingRpmDatabase:
    passing = PassingRpmDatabase(HOME, len(data))
    for start in range(0, len(data), 100):
        passing.feed(data[start : start + 100])
    passing.end()
    return passing
