"""`airgap audit --since`: what is new in a bundle, on the page that is signed and in report.json."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.audit.difference import State
from airgap.audit.report import render_report
from airgap.audit.since import ChangeFact, SinceFact
from airgap.model import Kind
from tests import bundles
from tests.audit.faults import model_files, wheel
from tests.audit.values import audit

SINCE = SinceFact(
    "serving 2026.10",
    "out/old",
    datetime(2026, 10, 1, tzinfo=UTC),
    (
        ChangeFact(State.ADDED, Kind.FILE, "notes", 0, 10, ()),
        ChangeFact(State.CHANGED, Kind.WHEELS, "packages", 900, 1000, ("vllm 0.19.0 → 0.19.1, 1 patch up",)),
    ),
    2,
    ("GPL-3.0-only",),
    (),
    1_500_000,
    700_000,
)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles: of the second a wheel was built again, the model is gone, a file is new."""
    top = tmp_path_factory.mktemp("since")
    old = [
        bundles.wheels("packages", dict([wheel("alpha"), wheel("beta")])),
        bundles.model("tiny", model_files(), repo="org/tiny"),
    ]
    new = [
        bundles.wheels("packages", dict([wheel("alpha", licence="Apache-2.0"), wheel("beta")])),
        bundles.file("notes", b"carried across\n"),
    ]
    return bundles.write_bundle(top / "old", old), bundles.write_bundle(top / "new", new)


def test_one_run_tells_what_changed(releases: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = releases
    airgap = [sys.executable, "-m", "airgap", "audit"]
    options: list[str | Path] = ["--since", old, "-o", tmp_path, "--no-sbom"]
    said = subprocess.run([*airgap, new, *options], check=True, capture_output=True, text=True).stdout
    [line] = [line for line in said.splitlines() if line.startswith("  since ")]
    assert ": 1 added, 1 removed, 1 changed; " in line
    since = json.loads((tmp_path / "report.json").read_text())["since"]
    became = {change["name"]: (change["state"], change["moves"]) for change in since["changes"]}
    assert became["notes"] == ("added", [])
    assert became["tiny"] == ("removed", [])
    assert became["packages"][0] == "changed"
    assert "alpha 1.0: the same version, other bytes" in became["packages"][1]
    assert (since["same"], since["licences_added"]) == (0, ["Apache-2.0"])
    page = (tmp_path / "report.html").read_text()
    assert "alpha 1.0: the same version, other bytes" in page
    assert '<section id="since">' in page


def test_volumes_are_compared_by_what_each_states(releases: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = releases
    airgap = [sys.executable, "-m", "airgap"]
    discs = tmp_path / "discs"
    subprocess.run([*airgap, "split", new, "--size", "330kB", "-o", discs], check=True, capture_output=True)
    options: list[str | Path] = ["--since", old, "--json"]
    done = subprocess.run(
        [*airgap, "audit", *discs.iterdir(), *options], check=True, capture_output=True, text=True
    )
    since = json.loads(done.stdout)["since"]
    assert {change["name"]: change["state"] for change in since["changes"]} == {
        "packages": "changed",
        "notes": "added",
        "tiny": "removed",
    }
    assert since["notes"] == ["licences of wheels and tensors of models: not looked for in a volume"]


def test_the_first_page_and_the_timeline_say_it_in_one_line() -> None:
    page = render_report(audit(since=SINCE))
    cover = page.partition('<section id="pictures">')[0]
    assert "serving 2026.10: 1 added, 1 changed, 2 same; 1.5 MB new" in cover
    assert "serving 2026.10 was made" in page
    assert "was made: 1 added, 1 changed, 2 same; 1.5 MB new since serving 2026.10" in page
    assert "vllm 0.19.0 → 0.19.1, 1 patch up" in page
    assert "GPL-3.0-only" in page


def test_without_an_earlier_one_nothing_is_said() -> None:
    page = render_report(audit())
    assert '<section id="since">' not in page
    assert "Since" not in page


def test_nothing_changed_is_said_too() -> None:
    same = replace(SINCE, changes=(), same=4, new_bytes=0)
    assert "4 same; 0 B new" in render_report(audit(since=same))
