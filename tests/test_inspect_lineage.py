"""`inspect --why` and `--tree`: which requirement brought a file in."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.lock import Lock, render_lock
from airgap.model import Package, Sha256, WheelsArtifact
from tests import bundles


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """top needs left and right, both need deep; alone is needed by nobody, loop by itself."""
    needs = {
        "top": ("Left", "right"),
        "left": ("deep",),
        "right": ("deep", "loop"),
        "deep": (),
        "loop": ("loop",),
        "alone": (),
    }
    content = bundles.wheels("serving", dict(bundles.wheel(name) for name in needs))
    artifact = content.artifact
    assert isinstance(artifact, WheelsArtifact)
    packages = tuple(replace(p, requires=needs[p.name]) for p in artifact.packages)
    assert all(isinstance(package, Package) for package in packages)
    artifact = replace(artifact, packages=packages, requirements=("top>=1 ; python_version > '3'", "right"))
    others = [bundles.model("tiny", {"config.json": b"{}"}, repo="org/tiny"), bundles.file("notes", b"x")]
    artifacts = (artifact, *(other.artifact for other in others))
    path = tmp_path / "demo.lock.json"
    path.write_bytes(render_lock(Lock("demo", "1", "demo", Sha256("0" * 64), bundles.TARGET, {}, artifacts)))
    return path


def why(lock: Path, wanted: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert run(["inspect", str(lock), "--why", wanted, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["why"]
    return found


def test_the_shortest_way_from_each_requirement(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [reason] = why(lock, "deep", capsys)
    assert reason["paths"] == [
        ["top>=1 ; python_version > '3'", "top 1.0", "left 1.0", "deep 1.0"],
        ["right", "right 1.0", "deep 1.0"],
    ]
    [itself] = why(lock, "TOP", capsys)
    assert itself["paths"] == [["top>=1 ; python_version > '3'", "top 1.0"]]


def test_a_file_is_named_by_path_or_digest(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [by_path] = why(lock, "deep-1.0-py3-none-any.whl", capsys)
    digest = next(
        f["sha256"]
        for a in json.loads(lock.read_text())["artifacts"]
        for f in a["files"]
        if f["path"] == by_path["file"]
    )
    assert why(lock, digest[:12], capsys) == [by_path]


def test_what_nothing_requires_is_said(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [reason] = why(lock, "alone", capsys)
    assert reason["paths"] == []
    assert "no requirement leads to" in str(reason["what"])


def test_files_of_other_artifacts_have_a_reason_too(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [model] = why(lock, "config.json", capsys)
    assert "org/tiny at main" in str(model["what"])
    [file] = why(lock, "notes.txt", capsys)
    assert file["artifact"] == "notes"


def test_what_is_not_there_is_exit_code_3(lock: Path) -> None:
    assert run(["inspect", str(lock), "--why", "absent"]) == 3


def test_the_tree_shows_each_package_once(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(lock), "--tree"]) == 0
    shown = capsys.readouterr().out.partition("serving:\n")[2].rstrip("\n")
    assert shown == "\n".join(
        [
            "  top>=1 ; python_version > '3'",
            "  └── top 1.0",
            "      ├── left 1.0",
            "      │   └── deep 1.0",
            "      └── right 1.0",
            "          ├── deep 1.0",
            "          └── loop 1.0",
            "              └── loop 1.0  (shown above)",
            "  right",
            "  └── right 1.0  (shown above)",
            "  required by nothing above:",
            "  └── alone 1.0",
        ]
    )
    assert run(["inspect", str(lock), "--tree", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)["trees"]["serving"]
    assert tree["packages"]["top"] == {"version": "1.0", "requires": ["Left", "right"]}
