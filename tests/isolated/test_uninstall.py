"""`uninstall`: bundles and artifacts leave by a new generation, and come back."""

import json
import os
from pathlib import Path

import pytest

from airgap.cli import run
from tests import bundles
from tests.isolated.sites import problems, snapshot

Read = pytest.CaptureFixture[str]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Bundle quickstart with one of each, bundle other with a file, and notes in both."""
    site = bundles.pin(tmp_path / "site")
    shared = bundles.file("notes", b"carried across\n")
    one = bundles.write_bundle(tmp_path / "one", bundles.one_of_each(tmp_path))
    other = bundles.write_bundle(tmp_path / "other", [bundles.file("more", b"more"), shared], name="other")
    assert run(["install", str(one), str(other), "--site", str(site)]) == 0
    return site


def uninstalling(site: Path, *arguments: str) -> int:
    return run(["uninstall", *arguments, "--site", str(site)])


def files(site: Path) -> set[str]:
    return set(os.listdir(site / "current" / "files")) if (site / "current" / "files").exists() else set()


def whole(site: Path) -> bool:
    return run(["status", "--verify", "--site", str(site)]) == 0 and problems(site) == []


def test_a_bundle_leaves_and_what_others_bring_stays(site: Path) -> None:
    assert uninstalling(site, "quickstart") == 0
    assert files(site) == {"more", "notes"}
    assert not (site / "current" / "models").exists()
    record = json.loads((site / "current" / "site.json").read_bytes())
    assert [bundle["name"] for bundle in record["bundles"]] == ["other"]
    assert whole(site)


def test_an_artifact_leaves_every_bundle_that_brings_it(site: Path) -> None:
    assert uninstalling(site, "notes") == 0
    assert files(site) == {"more"}
    index = json.loads((site / "index.json").read_bytes())
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]
    assert names == ["hello", "more", "serving", "tiny"]
    assert whole(site)


def test_an_artifact_of_one_bundle_leaves_that_one(site: Path) -> None:
    assert uninstalling(site, "other/notes") == 0
    assert files(site) == {"more", "notes"}
    assert uninstalling(site, "other/notes") == 3
    assert uninstalling(site, "notes") == 0
    assert files(site) == {"more"}


def test_the_last_artifact_takes_its_bundle_along(site: Path) -> None:
    assert uninstalling(site, "more", "other/notes") == 0
    assert [b["name"] for b in json.loads((site / "current" / "site.json").read_bytes())["bundles"]] == [
        "quickstart"
    ]


def test_the_receipt_names_what_left(site: Path) -> None:
    assert uninstalling(site, "other", "hello") == 0
    receipt = json.loads((site / "receipts" / "2.json").read_bytes())
    assert (receipt["action"], receipt["generation"], receipt["previous"]) == ("uninstall", 2, 1)
    assert receipt["artifacts"] == ["other", "quickstart/hello"]
    assert {bundle["name"] for bundle in receipt["removed"]} == {"other", "quickstart"}
    assert [bundle["leftOut"] for bundle in receipt["added"]] == [["hello"]]


def test_its_bytes_go_with_gc_and_nothing_else_does(site: Path) -> None:
    weights = bundles.one_of_each(site.parent / "again")[1].artifact.files
    assert uninstalling(site, "tiny") == 0
    held = set(os.listdir(site / "blobs" / "sha256"))
    assert {file.sha256 for file in weights} <= held
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    after = set(os.listdir(site / "blobs" / "sha256"))
    assert held - after == {file.sha256 for file in weights}
    assert whole(site)


def test_a_container_can_leave_and_be_collected(site: Path, capsys: Read) -> None:
    before = len(os.listdir(site / "blobs" / "sha256"))
    assert uninstalling(site, "hello") == 0
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    assert len(os.listdir(site / "blobs" / "sha256")) < before
    assert whole(site)
    assert run(["export", "hello", "-o", str(site.parent / "x.tar"), "--site", str(site)]) == 3


def test_installing_again_brings_it_back(site: Path, tmp_path: Path) -> None:
    before = snapshot(site)
    assert uninstalling(site, "tiny", "hello") == 0
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    assert run(["install", str(tmp_path / "one"), "--site", str(site)]) == 0
    assert snapshot(site) == before
    assert whole(site)


def test_rollback_undoes_it(site: Path) -> None:
    before = snapshot(site)
    assert uninstalling(site, "quickstart") == 0
    assert run(["rollback", "--site", str(site)]) == 0
    assert snapshot(site) == before


@pytest.mark.parametrize("name", ["nope", "other/nope", "nope/notes", "other/", "/notes/", ""])
def test_what_is_not_installed_is_refused(site: Path, name: str, capsys: Read) -> None:
    before = snapshot(site)
    assert uninstalling(site, "other", name) == 3
    assert "is not installed; installed: other, other/more" in capsys.readouterr().err
    assert snapshot(site) == before


def test_a_name_that_means_two_things_is_refused(site: Path, tmp_path: Path, capsys: Read) -> None:
    third = bundles.write_bundle(tmp_path / "third", [bundles.file("other", b"x")], name="third")
    assert run(["install", str(third), "--site", str(site)]) == 0
    assert uninstalling(site, "other") == 3
    assert "write third/other for the artifact" in capsys.readouterr().err
    assert uninstalling(site, "third/other") == 0


def test_everything_can_leave(site: Path) -> None:
    assert uninstalling(site, "quickstart", "other") == 0
    assert json.loads((site / "current" / "site.json").read_bytes())["bundles"] == []
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    assert os.listdir(site / "blobs" / "sha256") == []
    assert whole(site)


def test_a_dry_run_writes_nothing(site: Path, capsys: Read) -> None:
    before = snapshot(site), sorted(os.listdir(site / "generations"))
    capsys.readouterr()
    assert uninstalling(site, "tiny", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["artifacts"] == ["quickstart/tiny"]
    assert (snapshot(site), sorted(os.listdir(site / "generations"))) == before
