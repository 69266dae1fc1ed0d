"""`airgap split`: what lies on the volumes, that it is the same each time, and what is refused."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.cli.options import byte_count
from airgap.verify import HASH_CHUNK
from tests import bundles
from tests.services import need

SIZE = "1200kB"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 MB in one blob that is cut, and 40 that are not."""
    files = {f"part-{n:02}.bin": os.urandom(20_000 + 500 * n) for n in range(40)}
    weights = bundles.model("weights", {"big.bin": os.urandom(3_000_000), **files})
    made = tmp_path_factory.mktemp("split") / "bundle"
    return bundles.write_bundle(made, [weights, bundles.file("notes", b"carried across\n")])


def split(bundle: Path, out: Path, *options: str, code: int = 0) -> list[Path]:
    assert run(["split", str(bundle), "--size", SIZE, "-o", str(out), *options]) == code
    return sorted(out.iterdir()) if out.is_dir() else []


def content(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def test_every_volume_fits_and_is_checked_by_coreutils_alone(bundle: Path, tmp_path: Path) -> None:
    volumes = split(bundle, tmp_path / "out")
    assert [volume.name for volume in volumes] == [f"quickstart-2026.11.{k}of5" for k in range(1, 6)]
    for volume in volumes:
        files = content(volume)
        assert sum(map(len, files.values())) < byte_count(SIZE)
        listed = ["sha384sum", "--check", "--strict", "--quiet", "SHA384SUMS"]
        subprocess.run(listed, cwd=volume, check=True)
        lines = files["SHA384SUMS"].decode().splitlines()
        assert {line[98:] for line in lines} == files.keys() - {"SHA384SUMS"}
        signed = ["sha384sum", "--check", "--strict", "--quiet", "--ignore-missing", "verify/SHA384SUMS"]
        subprocess.run(signed, cwd=volume, check=True)
        assert files["bundle.dsse.json"] == (bundle / "bundle.dsse.json").read_bytes()


@pytest.mark.parametrize("size", ["2MB", "2.3MB", "4MB", "5MB"])
def test_a_small_fat32_stick_takes_the_documents_by_its_clusters(tmp_path: Path, size: str) -> None:
    files = {f"part-{n}.bin": os.urandom(700_000 + n) for n in range(9)}
    bundle = bundles.write_bundle(tmp_path / "bundle", [bundles.model("weights", files)])
    out = tmp_path / "v"
    assert run(["split", str(bundle), "--size", size, "--file-limit", "fat32", "-o", str(out)]) == 0
    for volume in out.iterdir():
        sizes = [path.stat().st_size if path.is_file() else 1 for path in volume.rglob("*")]
        used = sum(-(-size // 32768) for size in sizes)
        assert used * 32768 <= byte_count(size)


def test_together_they_are_the_bundle(bundle: Path, tmp_path: Path) -> None:
    found: dict[str, bytes] = {}
    for volume in split(bundle, tmp_path / "out"):
        found |= content(volume)
    parts: dict[str, bytes] = {}
    for path in sorted(path for path in found if path.startswith("parts/")):
        parts[path.split("/")[1]] = parts.get(path.split("/")[1], b"") + found[path]
    whole = {f"blobs/sha256/{digest}": data for digest, data in parts.items()}
    assert len(whole) == 1
    own = ("volume.json", "SHA384SUMS")
    rest = {p: data for p, data in found.items() if p not in own and not p.startswith("parts/")}
    assert rest | whole == content(bundle)


@pytest.mark.parametrize("form", ["", "--tar", "--iso"])
def test_the_same_split_twice_is_the_same_bytes(bundle: Path, tmp_path: Path, form: str) -> None:
    if form == "--iso":
        need("xorriso")
    options = [form, "--only", "1,3"] if form else []
    for out in ("one", "two"):
        assert len(split(bundle, tmp_path / out, *options)) >= 2
        time.sleep(1.1 if form == "--iso" and out == "one" else 0)  # ISO 9660 counts in seconds
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_whole_blobs_cost_nothing_on_the_bundles_own_file_system(bundle: Path, tmp_path: Path) -> None:
    volumes = split(bundle, tmp_path / "out")
    linked = [
        path for volume in volumes for path in volume.glob("blobs/sha256/*") if path.stat().st_nlink > 1
    ]
    assert len(linked) >= 40
    assert all(path.stat().st_nlink == 1 for volume in volumes for path in volume.glob("parts/*/*"))


def test_a_tar_holds_the_volume_with_the_statement_first_and_the_list_last(
    bundle: Path, tmp_path: Path
) -> None:
    (directory, *_) = split(bundle, tmp_path / "directories")
    (tar, *_) = split(bundle, tmp_path / "tars", "--tar")
    assert tar.name == f"{directory.name}.tar"
    names = subprocess.run(["tar", "-tf", tar], capture_output=True, text=True, check=True).stdout.split()
    assert (names[0], names[-1]) == ("bundle.dsse.json", "SHA384SUMS")
    (tmp_path / "x").mkdir()
    subprocess.run(["tar", "-xf", tar, "-C", tmp_path / "x"], check=True)
    assert content(tmp_path / "x") == content(directory)


def test_only_what_is_asked_for_is_burnt_again(bundle: Path, tmp_path: Path) -> None:
    volumes = split(bundle, tmp_path / "all")
    again = split(bundle, tmp_path / "again", "--only", "1:2+4,3")
    assert [volume.name for volume in again] == [volumes[0].name, volumes[2].name]
    assert content(again[1]) == content(volumes[2])
    items = [line[98:] for line in (volumes[0] / "SHA384SUMS").read_text().splitlines()]
    found = content(again[0])
    assert {items[1], items[3]} <= found.keys()
    assert not {items[0], items[2]} & found.keys()
    assert json.loads(found["volume.json"])["items"] == [2, 4]
    assert found["bundle.dsse.json"] == (bundle / "bundle.dsse.json").read_bytes()


def test_a_range_alone_is_the_range_of_the_whole_split(bundle: Path, tmp_path: Path) -> None:
    volumes = split(bundle, tmp_path / "all")
    lines = (volumes[3] / "SHA384SUMS").read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "  parts/" in line)
    (again,) = split(bundle, tmp_path / "again", "--only", f"4:{number}")
    path = lines[number - 1][98:]
    assert (again / path).read_bytes() == (volumes[3] / path).read_bytes()


@pytest.mark.parametrize(("only", "word"), [("9", "there are 5"), ("1:99", "items 1 to"), ("0", "volume 0")])
def test_what_the_cut_does_not_give_is_refused(
    bundle: Path, tmp_path: Path, only: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert split(bundle, tmp_path / "out", "--only", only, code=3) == []
    assert word in capsys.readouterr().err


def test_a_second_run_keeps_what_the_first_left_whole(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes = split(bundle, tmp_path / "out")
    before = content(tmp_path / "out")
    subprocess.run(["rm", "-r", volumes[1]], check=True)
    (tmp_path / "out" / f".{volumes[1].name}.splitting").mkdir()  # as a kill leaves it
    capsys.readouterr()
    assert split(bundle, tmp_path / "out") == volumes
    assert capsys.readouterr().out.count("was there already") == 4
    assert content(tmp_path / "out") == before


def test_another_cut_is_not_mixed_in(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split(bundle, tmp_path / "out", "--only", "1:2")
    split(bundle, tmp_path / "out", code=3)
    assert "exists already" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    split(bundle, tmp_path / "file" / "out", code=9)
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_volumes_do_not_lie_in_the_bundle(bundle: Path) -> None:
    before = content(bundle)
    assert run(["split", str(bundle), "--size", SIZE, "-o", str(bundle / "discs")]) == 3
    assert content(bundle) == before
    assert not (bundle / "discs").exists()


def test_a_dry_run_writes_nothing(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert split(bundle, tmp_path / "out", "--dry-run") == []
    assert "in 5 volumes" in capsys.readouterr().out


@pytest.mark.parametrize("which", ["big", "small"])
def test_a_bundle_that_changed_is_never_split(
    bundle: Path, tmp_path: Path, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "bundle"
    subprocess.run(["cp", "-r", bundle, copied], check=True)
    blobs = sorted((copied / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob = blobs[-1] if which == "big" else blobs[-2]
    with open(blob, "r+b") as stream:
        stream.seek(HASH_CHUNK if which == "big" else 10)
        stream.write(b"changed")
    left = split(copied, tmp_path / "out", code=6)
    assert blob.name in capsys.readouterr().err
    assert not [path for path in left if path.name.startswith(".")]
    assert len(left) < 5


def test_a_damaged_blob_is_seen_also_when_another_range_of_it_is_asked_for(
    bundle: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "bundle"
    subprocess.run(["cp", "-r", bundle, copied], check=True)
    blob = max((copied / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    with open(blob, "r+b") as stream:
        stream.seek(2_900_000)
        stream.write(b"changed")
    lines = (split(bundle, tmp_path / "whole")[2] / "SHA384SUMS").read_text().splitlines()
    first = next(n for n, line in enumerate(lines, 1) if "  parts/" in line)
    split(copied, tmp_path / "out", "--only", f"3:{first}", code=6)


def test_one_at_a_time_holds_one_volume_on_disk(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    most: list[int] = []

    def prompt(text: str, **_: object) -> str:
        there = sorted(out.iterdir())
        most.append(len(there))
        subprocess.run(["cp", "-r", *there, tmp_path / "burnt"], check=True)
        if len(most) != 2:  # once the operator forgets, and is asked again
            subprocess.run(["rm", "-r", *there], check=True)
        return ""

    (tmp_path / "burnt").mkdir()
    monkeypatch.setattr("click.prompt", prompt)
    split(bundle, out, "--one-at-a-time")
    assert most == [1, 1, 1, 1, 1]
    subprocess.run(["cp", "-r", *out.iterdir(), tmp_path / "burnt"], check=True)
    split(bundle, tmp_path / "all")
    assert content(tmp_path / "burnt") == content(tmp_path / "all")


def test_what_a_killed_run_left_of_an_iso_is_removed(bundle: Path, tmp_path: Path) -> None:
    need("xorriso")
    out = tmp_path / "out"
    (out / ".quickstart-2026.11.3of5.iso.splitting.parts" / "small").mkdir(parents=True)
    (out / ".quickstart-2026.11.3of5.iso.splitting").write_bytes(b"half")
    split(bundle, out, "--iso", "--only", "3")
    assert [path.name for path in out.iterdir()] == ["quickstart-2026.11.3of5.iso"]


def test_without_xorriso_there_is_no_iso(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert split(bundle, tmp_path / "out", "--iso", code=9) == []
    assert "xorriso" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "count"),
    [("700MB", 700_000_000), ("4GiB", 1 << 32), ("25.02GB", 25_020_000_000), ("12", 12), ("1.5 k", 1500)],
)
def test_sizes(text: str, count: int) -> None:
    assert byte_count(text) == count


@pytest.mark.parametrize("size", ["", "x", "1XB", "-5GB", "1e9", "10", "9999999999TB"])
def test_what_is_no_size(bundle: Path, tmp_path: Path, size: str) -> None:
    assert run(["split", str(bundle), "--size", size, "-o", str(tmp_path / "out")]) in (2, 3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["fat32", "stream"])
def test_of_what_has_no_end_no_share_is_said(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    for medium, said in ((size, False), ("cd", True)):
        assert run(["split", str(bundle), "--size", medium, "-o", str(tmp_path / "out"), "--dry-run"]) == 0
        assert ("of the medium" in capsys.readouterr().out) == said


def test_inspect_says_which_volume_it_looks_at(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["split", str(bundle), "--size", "2MB", "-o", str(tmp_path), "--only", "2"]) == 0
    (volume,) = tmp_path.iterdir()
    capsys.readouterr()
    assert run(["inspect", str(volume)]) == 0
    assert "volume 2 of 3; what follows is of all of them" in capsys.readouterr().out
    assert run(["inspect", str(volume), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["volume"] == {"number": 2, "count": 3}
    assert run(["inspect", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["volume"] is None


def test_roots_that_leave_too_little_room_are_said_before_anything_is_written(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "roots").mkdir()
    for number in range(1, 301):
        (tmp_path / "bundle" / "roots" / f"{number}.root.json").write_bytes(bytes(10_000))
    argv = ["split", str(tmp_path / "bundle"), "--size", "2MB", "-o", str(tmp_path / "out")]
    assert run(argv) == 3
    assert "larger than the room that is kept for them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
