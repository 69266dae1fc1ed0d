"""`install --models-dir`: a catalogue outside of the site that every change of the site keeps in step."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.isolated.catalogue import OWN
from tests import bundles
from tests.isolated.sites import problems

Read = pytest.CaptureFixture[str]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "data" / "weights"


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory of another file system than tmp_path's, so that nothing can be linked there."""
    made = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


def models(path: Path, *, sequence: int = 1, **named: bytes) -> Path:
    """A bundle of models, each of a config and some weights in a directory; the bytes tell versions apart."""
    contents = [
        bundles.model(name, {"config.json": b"{}" + data, "deep/w.safetensors": data * 1000})
        for name, data in named.items()
    ]
    return bundles.write_bundle(path, [*contents, bundles.file("notes", b"text")], sequence=sequence)


def installing(bundle: Path, site: Path, *options: str | Path) -> int:
    return run(["install", str(bundle), "--site", str(site), *map(str, options)])


def held(weights: Path) -> dict[str, bytes]:
    """What a person or a container sees: every file by its path, what airgap keeps for itself left out."""
    return {
        f"{name}/{path.relative_to(weights / name)}": path.read_bytes()
        for name in os.listdir(weights)
        if name != OWN
        for path in (weights / name).rglob("*")
        if path.is_file()
    }


def of(**named: bytes) -> dict[str, bytes]:
    return {
        path: data
        for name, one in named.items()
        for path, data in (
            (f"{name}/config.json", b"{}" + one),
            (f"{name}/deep/w.safetensors", one * 1000),
        )
    }


def verify(site: Path) -> int:
    return run(["status", "--verify", "--site", str(site)])


def test_every_model_is_a_directory_of_links_into_the_site(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    bundle = models(tmp_path / "b", one=b"1", two=b"2")
    assert installing(bundle, site, "--models-dir", weights) == 0
    assert f"models in {weights}: + one, + two" in capsys.readouterr().out
    assert held(weights) == of(one=b"1", two=b"2")
    blobs = {os.stat(blob).st_ino for blob in (site / "blobs" / "sha256").iterdir()}
    assert os.stat(weights / "one" / "deep" / "w.safetensors").st_ino in blobs
    assert oct(os.stat(weights / "one").st_mode)[-3:] == "755"
    assert verify(site) == 0
    assert f"models in {weights}: one, two" in capsys.readouterr().out


def test_a_newer_bundle_a_rollback_and_an_uninstall_are_followed(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    assert installing(models(tmp_path / "b", one=b"1", two=b"2"), site, "--models-dir", weights) == 0
    assert installing(models(tmp_path / "c", sequence=2, one=b"3", more=b"4"), site) == 0
    assert f"models in {weights}: + more, ~ one, - two" in capsys.readouterr().out
    assert held(weights) == of(one=b"3", more=b"4")
    assert run(["rollback", "--site", str(site), "--dry-run"]) == 0
    assert held(weights) == of(one=b"3", more=b"4")
    capsys.readouterr()
    assert run(["rollback", "--site", str(site)]) == 0
    assert f"models in {weights}: + two, ~ one, - more" in capsys.readouterr().out
    assert held(weights) == of(one=b"1", two=b"2")
    assert run(["uninstall", "two", "--site", str(site)]) == 0
    assert held(weights) == of(one=b"1")
    assert (verify(site), problems(site)) == (0, [])


def test_a_server_keeps_what_was_replaced_until_the_next_change_or_gc(
    site: Path, weights: Path, tmp_path: Path
) -> None:
    assert installing(models(tmp_path / "b", one=b"1"), site, "--models-dir", weights) == 0
    serving = (weights / "one").resolve()
    assert installing(models(tmp_path / "c", sequence=2, one=b"2"), site) == 0
    assert (serving / "config.json").read_bytes() == b"{}1"
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    assert not serving.exists()
    assert held(weights) == of(one=b"2")


def test_what_someone_else_put_there_is_refused_and_named(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    (weights / "one").mkdir(parents=True)
    (weights / "one" / "mine.bin").write_bytes(b"mine")
    (weights / "unrelated").write_bytes(b"also mine")
    bundle = models(tmp_path / "b", one=b"1", two=b"2")
    assert installing(bundle, site, "--models-dir", weights, "--dry-run") == 9
    assert installing(bundle, site, "--models-dir", weights) == 9
    assert f"{weights}: airgap did not make one, and a model of that name" in capsys.readouterr().err
    assert sorted(os.listdir(weights)) == ["one", "unrelated"]
    assert not (site / "current").exists()
    (weights / "one").rename(weights / "kept")
    assert installing(bundle, site, "--models-dir", weights) == 0
    assert (weights / "kept" / "mine.bin").read_bytes() == b"mine"


@pytest.mark.parametrize("what", ["link", "dangling", "file"])
def test_a_link_or_file_of_someone_elses_is_not_replaced_either(
    site: Path, weights: Path, tmp_path: Path, what: str
) -> None:
    weights.mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    if what == "file":
        (weights / "one").touch()
    else:
        targets: dict[str, str | Path] = {
            "link": tmp_path / "theirs",
            "dangling": f"{OWN}/other-0123456789abcdef-01234567",
        }
        (weights / "one").symlink_to(targets[what])
    before = os.lstat(weights / "one").st_ino
    assert installing(models(tmp_path / "b", one=b"1"), site, "--models-dir", weights) == 9
    assert os.lstat(weights / "one").st_ino == before


def test_another_file_system_gets_copies_that_are_verified(
    site: Path, elsewhere: Path, tmp_path: Path, capsys: Read
) -> None:
    bundle = models(tmp_path / "b", one=b"1")
    assert installing(bundle, site, "--models-dir", elsewhere / "w", "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)["catalogue"]
    assert (planned["added"], planned["linked"], planned["copied_bytes"]) == (["one"], False, 1003)
    assert not (elsewhere / "w").exists()
    assert installing(bundle, site, "--models-dir", elsewhere / "w") == 0
    assert held(elsewhere / "w") == of(one=b"1")
    assert verify(site) == 0
    copy = elsewhere / "w" / "one" / "deep" / "w.safetensors"
    copy.write_bytes(b"x" + copy.read_bytes()[1:])
    capsys.readouterr()
    assert verify(site) == 6
    assert (
        f"error: {copy}: its bytes are not what was installed  [integrity-changed]" in capsys.readouterr().out
    )
    assert installing(bundle, site) == 0  # again: what is damaged is replaced
    assert (verify(site), held(elsewhere / "w")) == (0, of(one=b"1"))


def test_drift_is_named_by_the_path_that_people_use(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    assert installing(models(tmp_path / "b", one=b"1", two=b"2"), site, "--models-dir", weights) == 0
    (weights / "one" / "config.json").unlink()
    (weights / "one" / "extra").touch()
    (weights / "two").unlink()
    (weights / "two").mkdir()
    capsys.readouterr()
    assert verify(site) == 6
    said = capsys.readouterr().out
    assert f"error: {weights}/one/config.json: missing  [integrity-missing]" in said
    assert f"error: {weights}/one/extra: a file or directory that is no part of the model" in said
    assert f"error: {weights}/two: expected the link that airgap makes, found something else" in said


def test_a_name_that_is_gone_is_a_warning_and_any_change_brings_it_back(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    assert installing(models(tmp_path / "b", one=b"1", two=b"2"), site, "--models-dir", weights) == 0
    (weights / "two").unlink()
    capsys.readouterr()
    assert verify(site) == 0
    assert (
        f"warning: {weights}/two: not what the current generation has: it is not there"
        in capsys.readouterr().out
    )
    assert run(["rollback", "1", "--site", str(site)]) == 0
    assert held(weights) == of(one=b"1", two=b"2")


def test_a_run_that_was_killed_before_the_names_leaves_the_models_of_before(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    assert installing(models(tmp_path / "b", one=b"1"), site, "--models-dir", weights) == 0
    before = os.readlink(weights / "one")
    newer = models(tmp_path / "c", sequence=2, one=b"2")
    assert installing(newer, site) == 0
    (weights / "one").unlink()
    (weights / "one").symlink_to(before)
    capsys.readouterr()
    assert verify(site) == 0
    said = capsys.readouterr().out
    assert f"warning: {weights}/one: not what the current generation has: it is another generation's" in said
    assert "NOT in step" in said
    assert installing(newer, site) == 0
    assert held(weights) == of(one=b"2")


def test_a_catalogue_has_one_site(site: Path, weights: Path, tmp_path: Path, capsys: Read) -> None:
    bundle = models(tmp_path / "b", one=b"1")
    assert installing(bundle, site, "--models-dir", weights) == 0
    other = bundles.pin(tmp_path / "other")
    assert installing(bundle, other, "--models-dir", weights) == 9
    assert f"the site {site} feeds this catalogue" in capsys.readouterr().err
    assert installing(bundle, other, "--models-dir", other / "models") == 3


def test_a_catalogue_that_is_not_mounted_is_not_filled_on_the_disk_below(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    assert installing(models(tmp_path / "b", one=b"1"), site, "--models-dir", weights) == 0
    weights.rename(tmp_path / "unmounted")
    weights.mkdir()
    newer = models(tmp_path / "c", sequence=2, one=b"2")
    assert installing(newer, site) == 9
    assert "found none" in capsys.readouterr().err
    assert os.listdir(weights) == []
    assert verify(site) == 6
    assert "catalogue-missing" in capsys.readouterr().out
    assert installing(newer, site, "--models-dir", weights) == 0
    assert held(weights) == of(one=b"2")


def test_another_directory_takes_over_and_the_former_is_left(
    site: Path, weights: Path, tmp_path: Path, capsys: Read
) -> None:
    bundle = models(tmp_path / "b", one=b"1")
    assert installing(bundle, site, "--models-dir", weights) == 0
    assert installing(bundle, site, "--models-dir", tmp_path / "new") == 0
    assert f"no longer fed, and left as it is: {weights}" in capsys.readouterr().out
    assert held(weights) == held(tmp_path / "new") == of(one=b"1")
    assert verify(site) == 0


def test_no_room_for_copies_is_said_before_anything_is_written(
    site: Path, tmp_path: Path, capsys: Read
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        bundle = bundles.write_bundle(tmp_path / "b", [bundles.model("one", {"w": bytes(100_000)})])
        assert installing(bundle, site, "--models-dir", small / "w") == 9
        assert f"{small / 'w'}: " in capsys.readouterr().err
        assert (os.listdir(small), (site / "current").exists()) == ([], False)
    finally:
        subprocess.run(["umount", small], check=True)
