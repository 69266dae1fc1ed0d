"""The main job as a person does it: from the quickstart's manifest to an installed site."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stage import Stage

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The quickstart locked, built by alice, co-signed by bob, and installed in site/."""
    made = Stage(tmp_path_factory.mktemp("quickstart"))
    subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "make-quickstart", made.directory / "quickstart"],
        check=True,
    )
    shutil.copy(REPOSITORY / "manifests" / "quickstart.toml", made.directory / "demo.toml")
    made.holders("alice", "bob", threshold=2)
    made.run("lock", "demo.toml")
    made.build()
    made.pin()
    return made


@pytest.fixture(scope="module")
def bundle(stage: Stage) -> str:
    """The finished bundle's path, verified with one holder missing and then signed by both."""
    path = "out/quickstart-1"
    lacking = stage.run("verify", path, "--site", "site", code=7)
    assert "missing: bob" in lacking.err
    stage.run("sign", path, "--key", "keys/bob.key")
    return path


def test_the_lock_names_every_byte_and_no_bystander(stage: Stage) -> None:
    lock = json.loads((stage.directory / "demo.lock.json").read_bytes())
    files = [file for artifact in lock["artifacts"] for file in artifact["files"]]
    assert len(files) == 15
    assert all(file["size"] >= 0 and len(file["sha256"]) == 64 for file in files)
    assert all("url" in file or "local" in file or "made" in file for file in files)
    assert str(stage.directory) not in json.dumps(lock)


def test_a_second_lock_is_byte_identical(stage: Stage) -> None:
    path = stage.directory / "demo.lock.json"
    before = path.read_bytes()
    assert "up to date" in stage.run("lock", "demo.toml").out
    assert stage.run("lock", "demo.toml", "--upgrade", "--json").document["changed"] is False
    path.unlink()
    stage.run("lock", "demo.toml")
    assert path.read_bytes() == before


def test_plan_counts_what_the_store_holds(stage: Stage) -> None:
    held = stage.run("plan", "demo.toml", "--json").document
    assert held["fetch"] == 0
    empty = stage.run("plan", "demo.toml", "--json", AIRGAP_CACHE=str(stage.directory / "empty")).document
    assert empty["fetch"] == held["bytes"] == sum(artifact["held"] for artifact in held["artifacts"])
    assert not (stage.directory / "empty").exists()


def test_verify_inspect_install(stage: Stage, bundle: str) -> None:
    verified = stage.run("verify", bundle, "--site", "site")
    assert "alice" in verified.out
    assert "bob" in verified.out
    shown = stage.run("inspect", bundle, "--site", "site").out
    for expected in ("wheels packages", "model tiny-nvfp4", "container image", "file notes", "2 of 2"):
        assert expected in shown
    assert "not judged" in stage.run("inspect", bundle).out
    document = stage.run("inspect", bundle, "--site", "site", "--json").document
    assert document["signers"] == ["alice", "bob"]
    assert [artifact["kind"] for artifact in document["artifacts"]] == [
        "wheels",
        "model",
        "container",
        "file",
    ]
    assert "model.safetensors" in stage.run("inspect", bundle, "--files").out
    stage.run("install", bundle, "--site", "site")
    current = stage.directory / "site" / "current"
    made = stage.directory / "quickstart"
    assert (current / "models/tiny-nvfp4/model.safetensors").read_bytes() == (
        made / "model/model.safetensors"
    ).read_bytes()
    assert (current / "files/notes/notes.txt").read_bytes() == (made / "notes.txt").read_bytes()
    assert (current / "wheels/packages/pylock.packages.toml").exists()
    assert stage.run("install", bundle, "--site", "site").code == 0


def test_a_lock_can_be_inspected_alone(stage: Stage) -> None:
    assert "├── wheels packages" in stage.run("inspect", "demo.lock.json").out


def test_an_upgrade_of_nothing_that_exists_is_an_error(stage: Stage) -> None:
    run = stage.run("lock", "demo.toml", "--upgrade", "nothing", code=3)
    assert "packages, tiny-nvfp4, image, notes" in run.err


def test_sign_refuses_a_bundle_that_is_not_what_it_states(stage: Stage, bundle: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stage.directory / bundle, copy)
    (copy / "extra").write_text("x")
    run = stage.run("sign", copy, "--key", "keys/bob.key", code=6)
    assert "extra" in run.err
    assert (copy / "bundle.dsse.json").read_bytes() == (
        stage.directory / bundle / "bundle.dsse.json"
    ).read_bytes()


def test_sign_mends_the_verify_folder_that_a_killed_sign_left(
    stage: Stage, bundle: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stage.directory / bundle, copy)
    for signature in list(copy.glob("verify/*.sig"))[:2]:
        signature.unlink()
    stage.run("verify", copy, "--site", "site", code=6)
    stage.run("sign", copy, "--key", "keys/bob.key")
    stage.run("verify", copy, "--site", "site")


def test_signing_in_any_order_and_again_gives_the_same_verify_folder(
    stage: Stage, bundle: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stage.directory / bundle, copy)
    for name in ("bob", "alice", "bob"):
        stage.run("sign", copy, "--key", f"keys/{name}.key", "--yes")
    stage.run("verify", copy, "--site", "site")
    assert sorted(path.name for path in (copy / "verify").iterdir()) == sorted(
        path.name for path in (stage.directory / bundle / "verify").iterdir()
    )


def test_init_writes_a_manifest_that_only_needs_its_names_changed(tmp_path: Path) -> None:
    fresh = Stage(tmp_path)
    assert "airgap lock gemma4.toml" in fresh.run("init", "gemma4.toml").out
    assert "exists already" in fresh.run("init", "gemma4.toml", code=3).err
    assert "not locked" in fresh.run("plan", "gemma4.toml", code=3).err


def test_a_command_line_mistake_is_usage(tmp_path: Path) -> None:
    fresh = Stage(tmp_path)
    assert "No such option" in fresh.run("lock", "--nothing", code=2).err
    assert "Exit codes" in fresh.run("--help").out
