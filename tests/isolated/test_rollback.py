"""`rollback`: one rename, a receipt, and floors that stay."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.errors import TrustError
from airgap.isolated.rollback import rollback
from airgap.isolated.site import Site
from airgap.progress import Silent
from tests import bundles
from tests.isolated.sites import problems, snapshot


def notes(path: Path, text: bytes, sequence: int) -> Path:
    return bundles.write_bundle(path, [bundles.file("notes", text)], sequence=sequence)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three generations of one bundle."""
    site = bundles.pin(tmp_path / "site")
    for number, text in enumerate((b"one", b"two", b"three"), start=1):
        assert run(["install", str(notes(tmp_path / str(number), text, number)), "--site", str(site)]) == 0
    return site


def going_back(site: Path, *arguments: str) -> int:
    return run(["rollback", *arguments, "--site", str(site)])


def current(site: Path) -> tuple[str, bytes]:
    return os.readlink(site / "current"), (site / "current" / "files" / "notes" / "notes.txt").read_bytes()


def test_the_one_before_is_the_default(site: Path) -> None:
    assert going_back(site) == 0
    assert current(site) == ("generations/2", b"two")
    assert going_back(site) == 0
    assert current(site) == ("generations/1", b"one")
    assert problems(site) == []


def test_a_number_leads_back_and_forward(site: Path) -> None:
    assert going_back(site, "1") == 0
    assert current(site) == ("generations/1", b"one")
    assert going_back(site, "3") == 0
    assert current(site) == ("generations/3", b"three")
    assert going_back(site, "3") == 0


def test_the_receipt_says_what_it_took_away_and_brought_back(site: Path) -> None:
    assert going_back(site, "1") == 0
    receipt = json.loads((site / "receipts" / "4.json").read_bytes())
    assert (receipt["action"], receipt["generation"], receipt["previous"]) == ("rollback", 1, 3)
    assert receipt["asked"] == "airgap rollback 1"
    assert [bundle["sequence"] for bundle in receipt["removed"]] == [3]
    assert [bundle["sequence"] for bundle in receipt["added"]] == [1]


def test_what_the_site_accepts_does_not_go_back(site: Path, tmp_path: Path) -> None:
    before = (site / "trust" / "accepted.json").read_bytes()
    assert going_back(site, "1") == 0
    assert (site / "trust" / "accepted.json").read_bytes() == before
    assert run(["install", str(tmp_path / "2"), "--site", str(site)]) == 7
    assert run(["install", str(tmp_path / "3"), "--site", str(site)]) == 0
    # 4 is the rollback's receipt: no number is given twice.
    assert current(site) == ("generations/5", b"three")


def test_a_dry_run_changes_nothing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p for p in site.rglob("*"))
    assert going_back(site, "--dry-run") == 0
    assert "generation 2 would be current, instead of 3" in capsys.readouterr().out
    assert sorted(p for p in site.rglob("*")) == before


@pytest.mark.parametrize("number", ["4", "77"])
def test_a_generation_that_is_not_here_is_refused(
    site: Path, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert going_back(site, number) == 3
    assert f"no generation {number}; here are 1, 2, 3" in capsys.readouterr().err


def test_before_the_first_there_is_none(site: Path, tmp_path: Path) -> None:
    assert going_back(site, "1") == 0
    assert going_back(site) == 3
    assert going_back(bundles.pin(tmp_path / "empty")) == 3


def test_a_generation_that_is_not_whole_is_refused(site: Path) -> None:
    before = current(site)
    (site / "generations" / "2" / "files" / "notes" / "notes.txt").unlink()
    assert going_back(site) == 6
    assert current(site) == before
    assert going_back(site, "1") == 0


def test_a_revoked_bundle_does_not_come_back(site: Path) -> None:
    record = Site(site).record(2)
    root = replace(bundles.trust().root, revoked_bundles=frozenset({record.bundles[0].payload}))
    with pytest.raises(TrustError, match="which root version 1 revokes"):
        rollback(Site(site), 2, root, datetime(2026, 1, 1, tzinfo=UTC), asked="", progress=Silent())
    assert current(site)[0] == "generations/3"


@pytest.mark.parametrize("arguments", [[], ["2"]])
def test_one_that_was_killed_after_the_switch_is_finished_not_repeated(
    site: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert going_back(site) == 0
    # The receipt still under the name it has until the switch has happened.
    (site / "receipts" / "4.json").rename(site / "receipts" / "rollback.json")
    assert going_back(site, *arguments) == 0
    assert "an interrupted rollback was finished" in capsys.readouterr().out
    assert current(site) == ("generations/2", b"two")
    assert sorted(os.listdir(site / "receipts")) == ["1.json", "2.json", "3.json", "4.json"]


def test_one_that_was_killed_before_the_switch_did_not_happen(site: Path, tmp_path: Path) -> None:
    assert going_back(site) == 0
    (site / "receipts" / "4.json").rename(site / "receipts" / "rollback.json")
    (site / "current").unlink()
    (site / "current").symlink_to("generations/3")
    before = snapshot(site)
    assert run(["install", str(tmp_path / "3"), "--site", str(site)]) == 0
    assert snapshot(site) == before
    assert sorted(os.listdir(site / "receipts")) == ["1.json", "2.json", "3.json"]
