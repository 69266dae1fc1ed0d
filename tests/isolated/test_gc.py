"""`gc`: what goes, what stays, and that nothing that stays loses a byte."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgap.cli import run
from tests import bundles
from tests.isolated.sites import problems, snapshot

Read = pytest.CaptureFixture[str]


def notes(path: Path, text: bytes, sequence: int, name: str = "quickstart") -> Path:
    return bundles.write_bundle(path, [bundles.file(name, text)], sequence=sequence, name=name)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Four generations of one bundle."""
    site = bundles.pin(tmp_path / "site")
    for number in range(1, 5):
        bundle = notes(tmp_path / str(number), bytes([number]) * 1000, number)
        assert run(["install", str(bundle), "--site", str(site)]) == 0
    return site


def collecting(site: Path, *options: str) -> int:
    return run(["gc", "--site", str(site), *options])


def whole(site: Path) -> bool:
    return run(["status", "--verify", "--site", str(site)]) == 0


def generations(site: Path) -> list[str]:
    return sorted(os.listdir(site / "generations"))


def blobs(site: Path) -> set[str]:
    return set(os.listdir(site / "blobs" / "sha256"))


def test_two_stay_unless_said_otherwise(site: Path) -> None:
    before = snapshot(site)
    assert collecting(site) == 0
    assert generations(site) == ["3", "4"]
    assert snapshot(site) == before
    assert collecting(site, "--keep", "1") == 0
    assert generations(site) == ["4"]
    assert whole(site)
    assert problems(site) == []
    assert sorted(os.listdir(site / "receipts")) == [f"{n}.json" for n in range(1, 5)]


def test_the_current_one_always_stays(site: Path) -> None:
    assert run(["rollback", "1", "--site", str(site)]) == 0
    assert collecting(site, "--keep", "2") == 0
    assert generations(site) == ["1", "4"]
    assert collecting(site, "--keep", "1") == 0
    assert generations(site) == ["1"]
    assert whole(site)


def test_what_it_says_is_what_it_frees(site: Path, capsys: Read) -> None:
    def used() -> int:
        files = (p for p in site.rglob("*") if p.is_file() and not p.is_symlink())
        return sum({p.stat().st_ino: p.stat().st_size for p in files if p.name != "lock"}.values())

    before = used()
    capsys.readouterr()
    assert collecting(site, "--dry-run", "--json") == 0
    promised = json.loads(capsys.readouterr().out)
    assert used() == before
    assert collecting(site, "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["bytes"] == promised["bytes"] == before - used() > 2000
    assert done["generations"] == [1, 2]


def test_what_an_interrupted_install_left_goes(site: Path) -> None:
    assert collecting(site, "--keep", "1") == 0
    needed = blobs(site)
    (site / "blobs" / "sha256" / ("0" * 64)).write_bytes(b"copied by an install that was killed")
    (site / "staging" / "half").mkdir()
    (site / "staging" / "half" / "file").write_bytes(b"half")
    (site / "generations" / "9.tmp").mkdir()
    (site / "generations" / "9").mkdir()
    assert collecting(site, "--keep", "1") == 0
    assert blobs(site) == needed
    assert generations(site) == ["4"]
    assert problems(site) == []


def test_nothing_to_free_writes_nothing_and_says_so(site: Path, capsys: Read) -> None:
    assert collecting(site) == 0
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.name != "lock"}
    assert collecting(site) == 0
    assert "nothing to free" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.name != "lock"}
    assert after == before


def test_while_a_generation_that_stays_is_damaged_nothing_goes(site: Path) -> None:
    record = json.loads((site / "generations" / "4" / "site.json").read_bytes())
    (site / "blobs" / "sha256" / record["bundles"][0]["lock"]).write_bytes(b"damaged")
    before = blobs(site)
    assert collecting(site) == 6
    assert (blobs(site), generations(site)) == (before, ["1", "2", "3", "4"])


def test_a_container_keeps_blobs_that_no_generation_links(tmp_path: Path) -> None:
    site = bundles.pin(tmp_path / "site")
    bundle = bundles.write_bundle(tmp_path / "b", bundles.one_of_each(tmp_path))
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    before = blobs(site)
    assert collecting(site, "--keep", "1") == 0
    assert blobs(site) == before


def test_before_the_first_install_it_removes_what_was_begun(tmp_path: Path) -> None:
    site = bundles.pin(tmp_path / "site")
    assert collecting(site) == 0
    (site / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (site / "blobs" / "sha256" / ("0" * 64)).write_bytes(b"begun")
    assert collecting(site) == 0
    assert blobs(site) == set()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("install"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("uninstall"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("rollback"), st.integers(1, 8).map(str)),
        st.tuples(st.just("gc"), st.integers(1, 3).map(str)),
    ),
    max_size=7,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_whatever_is_done_every_generation_stays_whole(
    tmp_path_factory: pytest.TempPathFactory, done: list[tuple[str, str]]
) -> None:
    directory = tmp_path_factory.mktemp("history")
    site = bundles.pin(directory / "site")
    sequence = 0
    for verb, what in done:
        if verb == "install":
            sequence += 1
            bundle = notes(directory / f"{sequence}", b"%d" % (sequence % 3), sequence, name=what)
            assert run(["install", str(bundle), "--site", str(site)]) == 0
        else:
            arguments = ["--keep", what] if verb == "gc" else [what]
            assert run([verb, *arguments, "--site", str(site)]) in (0, 3)
        assert whole(site)
        assert not sequence or problems(site) == []
