"""Volumes on their media: each by itself, then what they are together, then what must be burnt again."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from tests import bundles

BIG = 900_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle`, cut into four `volumes`, one blob over three of them; `other` is another bundle."""
    top = tmp_path_factory.mktemp("volumes")
    files = {"big.bin": os.urandom(BIG), **{f"part-{n}.bin": os.urandom(30_000 + n) for n in range(6)}}
    bundles.write_bundle(top / "bundle", [bundles.model("weights", files)])
    bundles.write_bundle(top / "other", [bundles.file("notes", os.urandom(600_000))], name="other")
    bundles.pin(top / "site")
    assert run(["split", str(top / "bundle"), "--size", "500kB", "-o", str(top / "volumes")]) == 0
    assert run(["split", str(top / "other"), "--size", "500kB", "-o", str(top / "others")]) == 0
    assert len(list((top / "volumes").iterdir())) == 4
    return top


@pytest.fixture
def volumes(made: Path, tmp_path: Path) -> list[Path]:
    shutil.copytree(made / "volumes", tmp_path / "volumes")
    return sorted((tmp_path / "volumes").iterdir())


class Verify:
    """Runs `airgap verify --json` and keeps what it said."""

    def __init__(self, site: Path, capsys: pytest.CaptureFixture[str], options: Sequence[str]) -> None:
        self.site, self.capsys, self.options = site, capsys, options

    def __call__(self, *volumes: Path, code: int) -> Any:
        self.capsys.readouterr()
        found = run(["verify", *map(str, volumes), "--site", str(self.site), "--json", *self.options])
        said = self.capsys.readouterr()
        assert found == code, said
        return json.loads(said.out)


@pytest.fixture(params=["verified", "and looked into"])
def verify(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Verify:
    """With a policy that forbids nothing, too: then the reading that looks inside judges the bytes."""
    (tmp_path / "policy.toml").write_text("format = 1\n")
    looked = ["--policy", str(tmp_path / "policy.toml")] if request.param == "and looked into" else []
    return Verify(made / "site", capsys, looked)


def codes(document: Any) -> set[tuple[int, str, str]]:
    """Position of the volume, code and subject of every finding; position 0 is about all together."""
    (found,) = document["collections"]
    together = {(0, finding["code"], finding["subject"]) for finding in found["findings"]}
    return together | {
        (position, finding["code"], finding["subject"])
        for position, volume in enumerate(found["volumes"], 1)
        for finding in volume["findings"]
    }


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def item(volume: Path, number: int) -> Path:
    return volume / (volume / "SHA384SUMS").read_text().splitlines()[number - 1][98:]


def only(document: Any) -> str | None:
    (found,) = document["collections"]
    result: str | None = found["only"]
    return result


def test_all_in_any_order_are_the_bundle(volumes: list[Path], verify: Verify) -> None:
    document = verify(*reversed(volumes), code=0)
    assert codes(document) == set()
    assert document["collections"][0]["complete"]
    assert document["collections"][0]["missing_bytes"] == 0


def test_each_alone_is_sound_and_says_what_lacks(volumes: list[Path], verify: Verify) -> None:
    for number, volume in enumerate(volumes, 1):
        document = verify(volume, code=10)
        assert codes(document) == set()
        assert only(document) == {1: "2-4", 2: "1,3-4", 3: "1-2,4", 4: "1-3"}[number]


def test_a_whole_bundle_and_volumes_are_judged_side_by_side(
    made: Path, volumes: list[Path], verify: Verify
) -> None:
    document = verify(made / "other", *volumes, code=0)
    assert [one["name"] for one in document["bundles"]] == ["other"]
    assert [one["name"] for one in document["collections"]] == ["quickstart"]


def test_any_flipped_byte_is_found_and_the_least_is_burnt_again(volumes: list[Path], verify: Verify) -> None:
    """Documents lie on every volume, so one that is damaged on one of them need not travel again."""
    volume = volumes[1]
    numbered = (volume / "SHA384SUMS").read_text().splitlines()
    for path in sorted(path for path in volume.rglob("*") if path.is_file()):
        subject = str(path.relative_to(volume))
        if subject == "bundle.dsse.json":
            continue
        before = path.read_bytes()
        flip(path)
        document = verify(*volumes, code=6)
        findings = {finding for finding in codes(document) if finding[0] == 2}
        assert findings, subject
        lines = [number for number, line in enumerate(numbered, 1) if line.endswith(f"  {subject}")]
        parts = subject.startswith(("parts/", "blobs/"))
        items = [n for n in lines if parts and n <= len(_items(volume))]
        if items:
            assert {(2, "integrity-changed", subject)} == findings
            assert only(document) in (f"2:{items[0]}", "2" if len(_items(volume)) == 1 else "")
        elif subject not in ("SHA384SUMS", "volume.json"):
            assert only(document) is None, subject
        path.write_bytes(before)


def _items(volume: Path) -> list[str]:
    """Paths of the numbered items: what comes before the documents in the list."""
    paths = [line[98:] for line in (volume / "SHA384SUMS").read_text().splitlines()]
    documents = {str(p.relative_to(volume)) for p in volume.rglob("*") if p.is_file()} & set(_company(volume))
    return [path for path in paths if path not in documents]


def _company(volume: Path) -> list[str]:
    others = [other for other in volume.parent.iterdir() if other != volume]
    return [
        str(path.relative_to(volume))
        for path in volume.rglob("*")
        if (others[0] / path.relative_to(volume)).exists()
    ]


def test_a_damaged_envelope_condemns_its_volume_alone(volumes: list[Path], verify: Verify) -> None:
    flip(volumes[2] / "bundle.dsse.json")
    document = verify(*volumes, code=7)
    assert [one["volume"] for one in document["refused"]] == [str(volumes[2])]
    assert only(document) == "3"


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [Path.unlink, replace_by_fifo])
def test_a_volume_without_its_statement_condemns_itself_alone(
    volumes: list[Path], verify: Verify, spoil: Callable[[Path], None]
) -> None:
    spoil(volumes[2] / "bundle.dsse.json")
    document = verify(*volumes, code=6)
    assert [one["volume"] for one in document["refused"]] == [str(volumes[2])]
    assert only(document) == "3"


def test_one_damaged_one_missing_one_twice_one_of_another_bundle(
    made: Path, volumes: list[Path], verify: Verify, tmp_path: Path
) -> None:
    flip(item(volumes[0], 2))
    twice = Path(shutil.copytree(volumes[3], tmp_path / "twice"))
    (foreign, *_) = sorted((made / "others").iterdir())
    document = verify(twice, volumes[0], foreign, volumes[3], volumes[2], code=6)
    mine, others = document["collections"]
    assert mine["only"] == "2,1:2"
    assert [finding["code"] for finding in mine["findings"]] == ["volume-twice"]
    assert (others["name"], others["only"]) == ("other", "2")


def test_what_was_burnt_again_completes_what_was_damaged(
    made: Path, volumes: list[Path], verify: Verify, tmp_path: Path
) -> None:
    flip(item(volumes[0], 2))
    flip(item(volumes[2], 1))
    shutil.rmtree(volumes[1])
    left = [volumes[0], volumes[2], volumes[3]]
    wanted = only(verify(*left, code=6))
    assert wanted
    argv = ["split", str(made / "bundle"), "--size", "500kB", "--only", wanted, "-o", str(tmp_path / "again")]
    assert run(argv) == 0
    again = sorted((tmp_path / "again").iterdir())
    document = verify(*again, code=10)
    assert codes(document) == set()
    document = verify(*again, *left, code=6)  # the damaged ones are still damaged
    assert document["collections"][0]["complete"]


def test_the_documents_alone_are_a_volume_too(made: Path, verify: Verify, tmp_path: Path) -> None:
    argv = ["split", str(made / "bundle"), "--size", "500kB", "--only", "2:0", "-o", str(tmp_path / "none")]
    assert run(argv) == 0
    document = verify(*(tmp_path / "none").iterdir(), code=10)
    assert codes(document) == set()
    assert only(document) == "1-4"


def test_a_volume_cut_with_other_parameters_counts(
    made: Path, volumes: list[Path], verify: Verify, tmp_path: Path
) -> None:
    argv = ["split", str(made / "bundle"), "--size", "600kB", "-o", str(tmp_path / "larger")]
    assert run(argv) == 0
    larger = sorted((tmp_path / "larger").iterdir())
    assert len(larger) == 3
    document = verify(volumes[0], volumes[1], *larger[1:], code=0)
    assert document["collections"][0]["complete"]
    document = verify(*larger, *volumes, code=0)  # ranges that lie in others, and say nothing new
    assert document["collections"][0]["complete"]


def edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def act(volume: Path) -> None:
        mark = json.loads((volume / "volume.json").read_bytes())
        change(mark)
        (volume / "volume.json").write_text(json.dumps(mark))

    return act


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (edit(lambda mark: mark.update(number=3)), "integrity-missing"),
        (edit(lambda mark: mark.update(number=9)), "volume-mark"),
        (edit(lambda mark: mark.update(count=5)), "volume-mark"),
        (edit(lambda mark: mark.update(capacity=2**50)), "volume-mark"),
        (edit(lambda mark: mark.update(capacity=2**62)), "volume-mark"),
        (edit(lambda mark: mark.update(capacity=1)), "volume-mark"),
        (edit(lambda mark: mark.update(fileLimit=65536, capacity=2**50)), "volume-mark"),
        (edit(lambda mark: mark.update(statement="00" * 48)), "volume-mark"),
        (edit(lambda mark: mark.update(items=[99])), "volume-mark"),
        (edit(lambda mark: mark.update(items=[0] * 200_000)), "integrity-changed"),
        (lambda volume: (volume / "volume.json").write_bytes(b" " * (1 << 20) + b"{}"), "volume-mark"),
        (lambda volume: (volume / "volume.json").write_bytes(b"[" * 100_000), "volume-mark"),
        (lambda volume: (volume / "volume.json").unlink(), "integrity-missing"),
        (lambda volume: (volume / "SHA384SUMS").unlink(), "integrity-missing"),
        (lambda volume: (volume / "SHA384SUMS").write_text("nonsense\n"), "volume-list"),
        (lambda volume: (volume / "extra").write_text("x"), "integrity-unexpected"),
        (lambda volume: (volume / "parts" / "extra").mkdir(), "integrity-unexpected"),
        (lambda volume: replace_by_link(next(volume.glob("parts/*/*"))), "integrity-type"),
        (lambda volume: replace_by_fifo(next(volume.glob("blobs/sha256/*"))), "integrity-type"),
        (lambda volume: replace_by_fifo(volume / "volume.json"), "integrity-type"),
        (lambda volume: replace_by_link(volume / "SHA384SUMS"), "integrity-type"),
        (lambda volume: os.truncate(next(volume.glob("parts/*/*")), 1000), "integrity-size"),
    ],
)
def test_a_hostile_volume_is_named_and_its_neighbours_are_not(
    volumes: list[Path], verify: Verify, act: Callable[[Path], None], code: str
) -> None:
    act(volumes[1])
    document = verify(*volumes, code=6)
    assert code in {found for position, found, _ in codes(document) if position == 2}
    assert {position for position, found, _ in codes(document) if found != "volume-twice"} == {2}


def replace_by_link(path: Path) -> None:
    target = path.with_name("moved")
    path.rename(target)
    path.symlink_to(target)


def test_good_blobs_on_a_volume_that_calls_itself_another_still_count(
    volumes: list[Path], verify: Verify
) -> None:
    edit(lambda mark: mark.update(number=3))(volumes[1])
    document = verify(*volumes, code=6)
    assert document["collections"][0]["complete"]


def test_ranges_that_are_listed_and_yet_not_signed_are_never_believed(
    volumes: list[Path], verify: Verify
) -> None:
    """A volume made by an attacker: the range and its list agree, and no holder signed either."""
    part = next(volumes[1].glob("parts/*/*"))
    flip(part)
    lines = (volumes[1] / "SHA384SUMS").read_text().splitlines()
    path = str(part.relative_to(volumes[1]))
    forged = f"{hashlib.sha384(part.read_bytes()).hexdigest()}  {path}"
    (volumes[1] / "SHA384SUMS").write_text(
        "\n".join(forged if path in line else line for line in lines) + "\n"
    )
    document = verify(*volumes, code=6)
    assert {code for _, code, _ in codes(document)} == {"volume-ranges"}
    assert not document["collections"][0]["complete"]
    wanted = only(document)
    assert wanted is not None
    assert {part.split(":")[0] for part in wanted.split(",")} >= {"2-4"} or "2" in wanted
    alone = verify(volumes[1], code=10)
    assert "2" not in (only(alone) or "").split(",")  # by itself nothing says that it lies


def test_a_list_that_lies_of_a_good_range_decides_only_while_others_lack(
    volumes: list[Path], verify: Verify
) -> None:
    """Together the ranges are the signed bytes, whatever a list says that nobody signed."""
    part = next(volumes[1].glob("parts/*/*"))
    path = str(part.relative_to(volumes[1]))
    text = (volumes[1] / "SHA384SUMS").read_text()
    right = hashlib.sha384(part.read_bytes()).hexdigest()
    (volumes[1] / "SHA384SUMS").write_text(text.replace(right, right[::-1]))
    assert codes(verify(volumes[1], code=6)) == {(1, "integrity-changed", path)}
    document = verify(*volumes, code=0)
    assert codes(document) == set()
    assert document["collections"][0]["complete"]


def test_of_ranges_that_overlap_every_byte_is_judged(
    made: Path, volumes: list[Path], verify: Verify, tmp_path: Path
) -> None:
    assert run(["split", str(made / "bundle"), "--size", "600kB", "-o", str(tmp_path / "larger")]) == 0
    larger = sorted((tmp_path / "larger").iterdir())
    together = [*volumes, *larger]
    parts = [part for volume in together for part in sorted(volume.glob("parts/*/*"))]
    assert len(parts) > 4
    for part in parts:
        before = part.read_bytes()
        for at in (0, len(before) - 1):
            part.write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
            position = 1 + next(n for n, volume in enumerate(together) if part.is_relative_to(volume))
            path = str(part.relative_to(together[position - 1]))
            damaged = {found for found in codes(verify(*together, code=6)) if found[1] != "volume-twice"}
            assert damaged == {(position, "integrity-changed", path)}
        part.write_bytes(before)
    # The list of a range says the digest of those of its bytes that no shorter range has.
    shorter, longer = sorted((part for part in parts if int(part.name) == 0), key=lambda p: p.stat().st_size)
    rest = longer.read_bytes()[shorter.stat().st_size :]
    sums = next(volume for volume in together if longer.is_relative_to(volume)) / "SHA384SUMS"
    right, forged = (hashlib.sha384(data).hexdigest() for data in (longer.read_bytes(), rest))
    sums.write_text(sums.read_text().replace(right, forged))
    assert "integrity-changed" in {code for _, code, _ in codes(verify(*together, code=6))}


def test_many_unexpected_names_do_not_fill_the_memory(volumes: list[Path], verify: Verify) -> None:
    directory = next(volumes[1].glob("parts/*"))
    for number in range(1200):
        (directory / f"{number:015}").touch()
    document = verify(volumes[1], code=6)
    assert len(codes(document)) <= 1001


def test_it_reads_for_a_person(made: Path, volumes: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    flip(item(volumes[0], 2))
    capsys.readouterr()
    code = run(["verify", str(volumes[0]), str(volumes[2]), "--site", str(made / "site")])
    out = capsys.readouterr().out
    assert code == 6
    assert "missing: volumes 2,4\n" in out
    assert "missing: of volume 1 item 2\n" in out
    assert "airgap split BUNDLE --size 500000 --only 2,4,1:2\n" in out


def test_inspect_reads_any_single_volume(
    made: Path, volumes: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for volume in volumes:
        assert run(["inspect", str(volume), "--site", str(made / "site")]) == 0
        assert "model weights" in capsys.readouterr().out
