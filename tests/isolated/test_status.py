"""`status`: what a site says of itself, and every way in which it can drift from what was installed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.isolated.site import Site
from tests import bundles
from tests.services import need


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = bundles.pin(tmp_path / "site")
    bundle = bundles.write_bundle(tmp_path / "one", bundles.one_of_each(tmp_path))
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    return site


def status(site: Path, *options: str) -> int:
    return run(["status", "--site", str(site), *options])


Read = pytest.CaptureFixture[str]


def document(site: Path, capsys: Read, *options: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert status(site, "--json", *options) == code
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def findings(site: Path, capsys: Read) -> set[tuple[str, str]]:
    found = document(site, capsys, "--verify", code=6)["findings"]
    assert isinstance(found, list)
    assert all(one["remedy"] for one in found)
    return {(one["code"], one["subject"]) for one in found}


def test_it_says_what_is_installed_by_whom_and_when(site: Path, capsys: Read) -> None:
    capsys.readouterr()
    assert status(site) == 0
    said = capsys.readouterr().out
    for expected in (
        "generation 1 is current",
        "quickstart 2026.11 (sequence 1), channel quickstart, signed by alice, bob",
        "wheels serving, model tiny, container hello, file notes",
        "root version 1 until ",
        "free: ",
        "sequence 1 accepted",
    ):
        assert expected in said


def test_json_holds_the_same(site: Path, capsys: Read) -> None:
    found = document(site, capsys)
    assert found["current"] == 1
    (bundle,) = found["bundles"]
    assert bundle["signers"] == ["alice", "bob"]
    assert bundle["installed_at"].endswith("Z")
    assert found["accepted"] == {"quickstart": 1}
    assert found["root"]["version"] == 1
    assert found["unused_bytes"] == 0
    assert "findings" not in found


def test_a_site_without_an_install_says_so(tmp_path: Path, capsys: Read) -> None:
    empty = bundles.pin(tmp_path / "empty")
    assert status(empty, "--verify") == 0
    assert "nothing is installed" in capsys.readouterr().out
    assert status(tmp_path / "nowhere") == 7


def test_it_says_who_is_changing_the_site_and_does_not_judge_meanwhile(site: Path, capsys: Read) -> None:
    with Site(site).locked("airgap install /media/first"):
        assert f"process {os.getpid()}" in str(document(site, capsys)["busy"])
        assert status(site, "--verify") == 9
    assert document(site, capsys)["busy"] == ""


def test_a_site_that_changed_while_it_was_hashed_is_not_judged(
    site: Path, capsys: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_one(*_: object) -> tuple[()]:
        assert run(["uninstall", "notes", "--site", str(site)]) == 0
        return ()

    monkeypatch.setattr("airgap.cli.status.verify_site", remove_one)
    assert status(site, "--verify") == 9
    said = capsys.readouterr().err
    assert "was changed by another process while it was hashed" in said and "-> repeat" in said


def test_what_an_interrupted_install_copied_is_counted(site: Path, capsys: Read) -> None:
    (site / "blobs" / "sha256" / ("0" * 64)).write_bytes(b"x" * 5000)
    assert document(site, capsys, "--verify")["unused_bytes"] == 5000


def test_a_whole_site_passes_and_its_sums_hold_for_coreutils(site: Path) -> None:
    need("sha384sum")
    assert status(site, "--verify") == 0
    check = ["sha384sum", "--check", "--strict", "--quiet", "SHA384SUMS"]
    subprocess.run(check, cwd=site / "current", check=True)
    listed = {line.split("  ", 1)[1] for line in (site / "current" / "SHA384SUMS").read_text().splitlines()}
    there = {str(p.relative_to(site / "current")) for p in (site / "current").rglob("*") if p.is_file()}
    assert there - listed == {"SHA384SUMS"}


NOTES = "generations/1/files/notes/notes.txt"


def change(path: Path) -> None:
    """Another inode with other bytes of the same length, as an editor leaves it."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(b"X" + data[1:])


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def point_to(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


DRIFT: dict[str, tuple[Callable[[Path], object], tuple[str, str]]] = {
    "changed": (lambda site: change(site / NOTES), ("integrity-changed", NOTES)),
    "lost": (lambda site: (site / NOTES).unlink(), ("integrity-missing", NOTES)),
    "added": (lambda s: (s / "current" / "x").touch(), ("integrity-unexpected", "generations/1/x")),
    "directory": (lambda s: (s / "current" / "x").mkdir(), ("integrity-unexpected", "generations/1/x")),
    "fifo": (lambda s: replace_by_fifo(s / NOTES), ("integrity-type", NOTES)),
    "link": (lambda s: point_to(s / NOTES, "/etc/hostname"), ("integrity-type", NOTES)),
    "text": (lambda s: change(s / "current" / "env.sh"), ("integrity-changed", "generations/1/env.sh")),
    "sums": (
        lambda s: (s / "current" / "SHA384SUMS").write_text("nonsense\n"),
        ("integrity-changed", "generations/1/SHA384SUMS"),
    ),
    "index": (lambda s: (s / "index.json").unlink(), ("integrity-link", "index.json")),
    "layout": (lambda s: (s / "oci-layout").unlink(), ("integrity-changed", "oci-layout")),
}


@pytest.mark.parametrize("how", DRIFT)
def test_every_drift_is_a_finding(site: Path, capsys: Read, how: str) -> None:
    act, expected = DRIFT[how]
    act(site)
    assert expected in findings(site, capsys)


def test_a_current_link_that_leads_nowhere_is_a_finding(site: Path, capsys: Read) -> None:
    point_to(site / "current", "generations/9")
    assert status(site, "--verify") == 6
    assert "[integrity-link]" in capsys.readouterr().out
    assert status(site) == 6


def test_without_its_record_a_site_is_not_believed(site: Path, capsys: Read) -> None:
    (site / "current" / "site.json").unlink()
    assert status(site, "--verify") == 7
    assert "restore it from a backup" in capsys.readouterr().err


def test_a_blob_that_the_disk_changed_is_named_in_every_place(site: Path, capsys: Read) -> None:
    digest = bundles.file("notes", b"carried across\n").artifact.files[0].sha256
    blob = site / "blobs" / "sha256" / digest
    blob.write_bytes(b"carried acro5s\n")
    assert findings(site, capsys) == {("integrity-changed", f"blobs/sha256/{digest}")}
    blob.unlink()
    assert findings(site, capsys) == {
        ("integrity-missing", f"blobs/sha256/{digest}"),
        ("integrity-changed", NOTES),
    }


@pytest.mark.parametrize(
    "how", ["changed", "lost", "added", "fifo", "link", "text", "sums", "index", "layout"]
)
def test_the_remedy_helps(site: Path, tmp_path: Path, capsys: Read, how: str) -> None:
    DRIFT[how][0](site)
    assert run(["install", str(tmp_path / "one"), "--site", str(site)]) == 0
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    assert status(site, "--verify") == 0, capsys.readouterr().out


def test_another_user_reads_what_is_installed(site: Path) -> None:
    """Staging and lock are for whoever installs; the rest of a site is for all, except that --verify
    must know that nothing changes meanwhile.
    """
    need("setpriv")
    unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for private in (site / "staging", site / "lock"):
        private.chmod(0)

    def shown(*options: str) -> subprocess.CompletedProcess[str]:
        command = [*unprivileged, sys.executable, "-m", "airgap", "status", "--site", str(site), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    read = shown()
    assert (read.returncode, read.stderr) == (0, "")
    assert "generation 1 is current" in read.stdout
    verified = shown("--verify")
    assert (verified.returncode, verified.stdout) == (9, "")
    assert "lock: Permission denied" in verified.stderr


def test_a_site_of_which_all_was_uninstalled_says_that_nothing_is_there(site: Path, capsys: Read) -> None:
    assert run(["uninstall", "quickstart", "--site", str(site)]) == 0
    capsys.readouterr()
    assert status(site) == 0
    assert "generation 2 is current: nothing is installed" in capsys.readouterr().out
