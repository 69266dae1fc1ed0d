"""`airgap receive`: volumes in any order, over any time, from any hand, until their bundle is whole."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from airgap.cli import run
from airgap.isolated import receive, taking
from airgap.isolated.arrival import Arrival, arrivals
from airgap.isolated.plan import Room
from airgap.isolated.site import Site
from airgap.progress import Silent
from airgap.trust.decide import survey
from airgap.trust.root import Role
from tests import bundles
from tests.isolated.sites import problems, snapshot

BIG = 900_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle` in four `volumes`, a blob over three of them; `other` in two `others`."""
    top = tmp_path_factory.mktemp("receive")
    files = {"big.bin": os.urandom(BIG), **{f"part-{n}.bin": os.urandom(30_000 + n) for n in range(6)}}
    bundles.write_bundle(top / "bundle", [bundles.model("weights", files)])
    bundles.write_bundle(top / "other", [bundles.file("notes", os.urandom(600_000))], name="other")
    for name, out in (("bundle", "volumes"), ("other", "others")):
        assert run(["split", str(top / name), "--size", "500kB", "-o", str(top / out)]) == 0
    return top


class Airgap:
    """Runs a verb on the site with --json, and returns what it said."""

    def __init__(self, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.site, self.capsys = site, capsys

    def __call__(self, *arguments: str | Path, code: int) -> Any:
        self.capsys.readouterr()
        found = run([*map(str, arguments), "--site", str(self.site), "--json"])
        said = self.capsys.readouterr()
        assert found == code, said
        return json.loads(said.out) if said.out else None


@pytest.fixture
def airgap(site: Path, capsys: pytest.CaptureFixture[str]) -> Airgap:
    return Airgap(site, capsys)


def only(document: Any) -> str | None:
    (arrival,) = document["arrivals"]
    result: str | None = arrival["only"]
    return result


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def item(volume: Path, number: int) -> Path:
    return volume / (volume / "SHA384SUMS").read_text().splitlines()[number - 1][98:]


def installed(site: Path) -> dict[str, bytes]:
    found = snapshot(site)
    assert found is not None
    return found


def test_one_by_one_in_any_order_then_installed_without_media(
    made: Path, volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    lacking = ["1-2,4", "1,4", "1", None]
    for volume, expected in zip((volumes[2], volumes[1], volumes[3], volumes[0]), lacking, strict=True):
        document = airgap("receive", volume, code=10 if expected else 0)
        assert only(document) == expected
        shutil.rmtree(volume)
    airgap("install", code=0)
    whole = bundles.pin(site.parent / "whole")
    assert run(["install", str(made / "bundle"), "--site", str(whole)]) == 0
    assert {p: d for p, d in installed(site).items() if p != "env.sh"} == {
        p: d for p, d in installed(whole).items() if p != "env.sh"
    }
    assert problems(site) == []
    assert list((site / "arrivals").iterdir()) == []
    assert run(["status", "--site", str(site), "--verify"]) == 0


def test_install_of_volumes_is_receive_until_all_are_here(
    volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    assert only(airgap("install", *volumes[:2], code=10)) == "3-4"
    assert snapshot(site) is None
    assert airgap("install", *volumes[2:], code=0)["generation"] == 1
    assert airgap("install", *volumes, code=0)["unchanged"]


def test_blobs_are_linked_into_the_site_not_copied(volumes: list[Path], site: Path, airgap: Airgap) -> None:
    airgap("receive", *volumes, code=0)
    arrived = {path.name: path.stat().st_ino for path in site.glob("arrivals/*/bundle/blobs/sha256/*")}
    airgap("install", code=0)
    held = {path.name: path.stat().st_ino for path in (site / "blobs" / "sha256").iterdir()}
    big = max(arrived, key=lambda name: (site / "blobs" / "sha256" / name).stat().st_size)
    assert held[big] == arrived[big]


def test_each_byte_of_the_media_is_read_once(
    volumes: list[Path], site: Path, airgap: Airgap, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[str] = Counter()
    original = taking.Taker.take

    def counting(self: Any, offer: Any, stop: Any) -> Any:
        opened[f"{offer.path} of {id(self)}"] += 1
        return original(self, offer, stop)

    monkeypatch.setattr(taking.Taker, "take", counting)
    airgap("receive", *volumes, code=0)
    airgap("receive", *volumes, code=0)
    assert set(opened.values()) == {1}
    items = sum(len(list(volume.glob("parts/*/*"))) for volume in volumes)
    assert len([key for key in opened if key.startswith("parts/")]) == items


def test_a_volume_twice_or_already_taken_changes_nothing(
    volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    airgap("receive", volumes[1], volumes[1], code=10)
    before = {path: path.stat().st_mtime_ns for path in site.glob("arrivals/*/[pb]*/**/*") if path.is_file()}
    document = airgap("receive", volumes[1], code=10)
    assert document["volumes"][0]["taken"] == {"files": 0, "bytes": 0}
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_damage_missing_foreign_twice_then_convergence(
    made: Path, volumes: list[Path], site: Path, airgap: Airgap, tmp_path: Path
) -> None:
    flip(item(volumes[0], 2))
    (foreign, second) = sorted((made / "others").iterdir())
    document = airgap("receive", volumes[3], volumes[0], foreign, volumes[2], volumes[3], code=6)
    mine, others = document["arrivals"]
    assert (mine["only"], others["only"]) == ("2,1:2", "2")
    assert [found["code"] for found in document["volumes"][1]["findings"]] == ["integrity-changed"]
    assert [one["sound"] for one in document["volumes"]] == [True, False, True, True, True]
    argv = [
        "split",
        str(made / "bundle"),
        "--size",
        "500kB",
        "--only",
        mine["only"],
        "-o",
        str(tmp_path / "a"),
    ]
    assert run(argv) == 0
    document = airgap("install", *sorted((tmp_path / "a").iterdir()), code=0)
    assert [bundle["name"] for bundle in document["bundles"]] == ["quickstart"]
    airgap("install", second, code=0)
    assert {bundle["name"] for bundle in airgap("status", "--verify", code=0)["bundles"]} == {
        "quickstart",
        "other",
    }


def test_a_volume_whose_signatures_do_not_hold_gives_nothing(
    volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    flip(volumes[0] / "bundle.dsse.json")
    document = airgap("receive", *volumes, code=7)
    assert document["volumes"][0]["refused"]
    assert only(document) == "1"
    others = bundles.make_trust("mallory", "eve")
    forged = bundles.write_bundle(
        site.parent / "forged", [bundles.file("notes", b"evil" * 100)], by=others, signers=("mallory", "eve")
    )
    assert run(["split", str(forged), "--size", "500kB", "-o", str(site.parent / "f")]) == 0
    airgap("receive", site.parent / "f" / "quickstart-2026.11.1of1", code=7)
    assert len(list((site / "arrivals").iterdir())) == 1


def test_a_volume_without_its_statement_gives_nothing_and_stops_nothing(
    made: Path, volumes: list[Path], airgap: Airgap
) -> None:
    (volumes[0] / "bundle.dsse.json").unlink()
    document = airgap("install", *volumes, code=6)
    assert [bool(one["refused"]) for one in document["volumes"]] == [True, False, False, False]
    assert only(document) == "1"
    airgap("install", made / "volumes" / volumes[0].name, code=0)


def test_ranges_that_lie_are_dropped_with_their_volumes_named_and_come_again(
    made: Path, volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    part = next(volumes[1].glob("parts/*/*"))
    path = str(part.relative_to(volumes[1]))
    flip(part)
    listing = volumes[1] / "SHA384SUMS"
    forged = f"{hashlib.sha384(part.read_bytes()).hexdigest()}  {path}"
    lines = [forged if path in line else line for line in listing.read_text().splitlines()]
    listing.write_text("\n".join(lines) + "\n")
    document = airgap("receive", *volumes, code=6)
    (finding,) = [finding for one in document["volumes"] for finding in one["findings"]]
    assert finding["code"] == "volume-ranges"
    assert "2" in finding["evidence"]
    assert not list(site.glob("arrivals/*/parts/*")) + list(site.glob("arrivals/*/ranges/*"))
    wanted = only(document)
    assert wanted
    airgap("receive", *sorted((made / "volumes").iterdir()), code=0)


def test_ranges_of_another_cut_fill_what_lacks(
    made: Path, volumes: list[Path], site: Path, airgap: Airgap, tmp_path: Path
) -> None:
    argv = ["split", str(made / "bundle"), "--size", "600kB", "-o", str(tmp_path / "larger")]
    assert run(argv) == 0
    larger = sorted((tmp_path / "larger").iterdir())
    airgap("receive", volumes[2], code=10)
    airgap("receive", larger[1], volumes[0], code=10)
    airgap("receive", *larger, code=0)
    airgap("install", code=0)
    assert run(["status", "--site", str(site), "--verify"]) == 0


def test_what_the_site_holds_is_not_read_again(
    made: Path, site: Path, airgap: Airgap, tmp_path: Path
) -> None:
    assert run(["install", str(made / "bundle"), "--site", str(site)]) == 0
    big = next(path.read_bytes() for path in (site / "current" / "models" / "weights").glob("big.bin"))
    newer = [bundles.model("weights", {"big.bin": big, "config.json": b"{}"})]
    bundles.write_bundle(tmp_path / "newer", newer, sequence=2)
    assert run(["split", str(tmp_path / "newer"), "--size", "500kB", "-o", str(tmp_path / "n")]) == 0
    first, *_, last = sorted((tmp_path / "n").iterdir())
    document = airgap("receive", first, last, code=0)
    assert document["arrivals"][0]["complete"]
    assert sum(one["taken"]["bytes"] for one in document["volumes"]) < 20_000
    assert run(["gc", "--site", str(site), "--keep", "1"]) == 0
    airgap("install", code=0)
    assert run(["status", "--site", str(site), "--verify"]) == 0


def test_what_the_site_holds_is_not_taken_for_what_another_statement_says_of_it(
    made: Path, site: Path, airgap: Airgap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["install", str(made / "bundle"), "--site", str(site)]) == 0
    before = installed(site)
    true = (site / "current" / "models" / "weights" / "big.bin").read_bytes()
    honest = bundles.model("weights", {"big.bin": true})
    lie = bytes(len(true))
    digest = hashlib.sha256(true).hexdigest()
    lying = replace(
        honest, blobs={name: lie if name == digest else data for name, data in honest.blobs.items()}
    )
    bundles.write_bundle(tmp_path / "lying", [lying], sequence=2)
    assert run(["split", str(tmp_path / "lying"), "--size", "500kB", "-o", str(tmp_path / "l")]) == 0
    first, *others = sorted((tmp_path / "l").iterdir())
    for options in (["--dry-run"], []):
        lacking = only(airgap("receive", *others, *options, code=10))
        assert lacking == "1", "the site has a blob of this name, and not the one that is stated"
    document = airgap("receive", first, code=0)
    assert document["arrivals"][0]["complete"]
    [arrived] = site.glob(f"arrivals/*/bundle/blobs/sha256/{digest}")
    assert arrived.read_bytes() == lie
    assert run(["install", "--site", str(site)]) == 7
    assert "someone signed a lie" in capsys.readouterr().err
    assert installed(site) == before and problems(site) == []


@pytest.mark.parametrize("verb", ["verify", "receive", "install"])
def test_what_is_to_be_said_of_a_bundle_is_said_once_not_for_each_volume(
    verb: str, made: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["install", str(made / "bundle"), "--site", str(site)]) == 0
    later = [bundles.model("weights", {"big.bin": os.urandom(BIG)})]
    bundles.write_bundle(tmp_path / "later", later, sequence=4)
    assert run(["split", str(tmp_path / "later"), "--size", "500kB", "-o", str(tmp_path / "l")]) == 0
    found = sorted((tmp_path / "l").iterdir())
    assert len(found) > 2
    capsys.readouterr()
    assert run([verb, *map(str, found), "--site", str(site)]) == 0
    assert capsys.readouterr().out.count("[sequence-gap]") == 1


def test_gc_recover_and_rollback_leave_an_arrival_alone(
    made: Path, volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    airgap("receive", *volumes[:3], code=10)
    before = {str(path): path.stat().st_ino for path in site.glob("arrivals/**/*")}
    for sequence in (1, 2, 3):
        notes = bundles.write_bundle(
            site.parent / "notes", [bundles.file("n", b"%d" % sequence)], name="notes", sequence=sequence
        )
        assert run(["install", str(notes), "--site", str(site)]) == 0
    assert run(["rollback", "--site", str(site)]) == 0
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    assert {str(path): path.stat().st_ino for path in site.glob("arrivals/**/*")} == before
    airgap("install", volumes[3], code=0)


def test_status_shows_what_arrives_and_forget_removes_it(
    volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    airgap("receive", volumes[0], code=10)
    (found,) = airgap("status", code=0)["arriving"]
    assert (found["name"], found["only"], found["complete"]) == ("quickstart", "2-4", False)
    airgap("receive", "--forget", "nothing", code=3)
    airgap("receive", "--forget", "quickstart", "--dry-run", code=0)
    assert airgap("status", code=0)["arriving"]
    airgap("receive", "--forget", found["payload_sha384"][:10], code=0)
    assert airgap("status", code=0)["arriving"] == []
    assert problems(site) == []


def test_a_damaged_arrival_is_shown_and_mended_by_the_next_volume(
    volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    airgap("receive", volumes[0], code=10)
    (envelope,) = site.glob("arrivals/*/bundle/bundle.dsse.json")
    envelope.write_bytes(b"nonsense")
    assert airgap("status", code=0)["arriving"][0]["damaged"]
    airgap("install", *volumes[1:], code=0)


def test_a_dry_run_writes_nothing(volumes: list[Path], site: Path, airgap: Airgap) -> None:
    before = sorted(site.rglob("*"))
    assert airgap("receive", *volumes, "--dry-run", code=0)["arrivals"][0]["complete"]
    assert only(airgap("install", *volumes[1:], "--dry-run", code=10)) == "1"
    assert sorted(site.rglob("*")) == before


def test_a_dry_run_after_a_kill_before_the_ranges_were_put_together(
    volumes: list[Path], site: Path, airgap: Airgap, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Arrival, "assemble", killed)
        airgap("receive", *volumes, code=130)
        for volume in volumes:
            run(["receive", str(volume), "--site", str(site)])
    capsys.readouterr()
    assert run(["install", "--dry-run", "--site", str(site)]) == 10
    said = capsys.readouterr().err
    assert "all of it has arrived, and 1 blobs of it are not yet put together" in said
    airgap("install", code=0)
    assert problems(site) == []


def test_ranges_stay_where_putting_them_together_was_given_up(
    volumes: list[Path], site: Path, airgap: Airgap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, or a failure with another blob: what was read by then says nothing about the bytes."""
    with monkeypatch.context() as patch:
        patch.setattr(Arrival, "assemble", lambda *_: [])
        airgap("receive", *volumes, code=0)
    (arrival,) = arrivals(Site(site))
    statement = survey(arrival.envelope()).statement
    (digest,) = arrival.pending(statement)
    given_up = Event()
    given_up.set()
    arrival._assemble(statement, Silent(), digest, given_up)
    assert arrival.pending(statement) == [digest]
    airgap("install", code=0)
    assert problems(site) == []


def test_no_room_is_said_before_anything_is_read(
    volumes: list[Path], site: Path, airgap: Airgap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "free_room", lambda site: Room(1_000_000, None))
    airgap("receive", volumes[0], code=9)
    assert not list(site.glob("arrivals/*/bundle/blobs/sha256/*"))


def test_what_lacks_nothing_needs_no_room(
    volumes: list[Path], site: Path, airgap: Airgap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for volume in volumes:
        airgap("receive", volume, code=0 if volume == volumes[-1] else 10)
    monkeypatch.setattr(receive, "free_room", lambda site: Room(1_000_000, None))
    airgap("receive", volumes[0], code=0)


def test_nothing_whole_nothing_installed(site: Path, volumes: list[Path], airgap: Airgap) -> None:
    airgap("install", code=10)
    airgap("receive", volumes[0], code=10)
    airgap("install", code=10)


def test_a_whole_bundle_is_not_received(made: Path, airgap: Airgap) -> None:
    airgap("receive", made / "bundle", code=3)


def test_a_site_that_lost_a_blob_is_repaired_from_volumes(
    made: Path, volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    airgap("install", *volumes, code=0)
    big = max((site / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    flip(big)
    airgap("install", *volumes, code=10)  # only now it is seen that what the site held is damaged
    airgap("install", *volumes, code=0)
    assert run(["gc", "--keep", "1", "--site", str(site)]) == 0
    assert run(["status", "--verify", "--site", str(site)]) == 0


def cut_short(part: Path) -> None:
    os.truncate(part, 100)


def lengthen(part: Path) -> None:
    part.write_bytes(part.read_bytes() + b"more")


def make_link(part: Path) -> None:
    part.unlink()
    part.symlink_to("/etc/passwd")


def make_fifo(part: Path) -> None:
    part.unlink()
    os.mkfifo(part)


def spoil_the_list(part: Path) -> None:
    (part.parents[2] / "SHA384SUMS").write_text("x\n")


def spoil_the_mark(part: Path) -> None:
    (part.parents[2] / "volume.json").write_text("[]")


@pytest.mark.parametrize(
    "spoil", [cut_short, lengthen, make_link, make_fifo, flip, spoil_the_list, spoil_the_mark]
)
def test_of_a_hostile_volume_nothing_wrong_is_taken(
    made: Path, volumes: list[Path], airgap: Airgap, spoil: Callable[[Path], None]
) -> None:
    spoil(next(volumes[1].glob("parts/*/*")))
    document = airgap("receive", *volumes, code=6)
    assert [one["sound"] for one in document["volumes"]] == [True, False, True, True]
    airgap("receive", made / "volumes" / volumes[1].name, code=0)


def test_a_range_beyond_the_end_of_its_blob_is_nobodys(volumes: list[Path], airgap: Airgap) -> None:
    part = next(volumes[1].glob("parts/*/*"))
    beyond = part.with_name(f"{BIG - 10:015}")
    beyond.write_bytes(b"x" * 1000)
    listed = volumes[1] / "SHA384SUMS"
    path = beyond.relative_to(volumes[1])
    listed.write_text(listed.read_text() + f"{hashlib.sha384(b'x' * 1000).hexdigest()}  {path}\n")
    for verb in ("verify", "receive"):
        found = airgap(verb, *volumes, code=6)
        volume = (found["collections"][0] if verb == "verify" else found)["volumes"][1]
        assert ("integrity-unexpected", str(path)) in {(f["code"], f["subject"]) for f in volume["findings"]}


def test_what_was_cut_short_of_an_arrival_comes_again(
    volumes: list[Path], site: Path, airgap: Airgap
) -> None:
    airgap("receive", volumes[0], code=10)
    arrived = max(site.glob("arrivals/*/bundle/blobs/sha256/*"), key=lambda path: path.stat().st_size)
    before = airgap("status", code=0)["arriving"][0]["missing_bytes"]
    size = arrived.stat().st_size
    os.truncate(arrived, 100)
    assert airgap("status", code=0)["arriving"][0]["missing_bytes"] == before + size
    airgap("install", *volumes, code=0)
    assert problems(site) == []


def test_ranges_whose_bytes_were_removed_come_again(volumes: list[Path], site: Path, airgap: Airgap) -> None:
    airgap("receive", *volumes[:2], code=10)
    (part,) = site.glob("arrivals/*/parts/*")
    part.unlink()
    assert airgap("status", code=0)["arriving"][0]["missing_bytes"] == BIG
    assert only(airgap("receive", volumes[2], code=10)) == "2,4,1:8"
    airgap("install", *volumes, code=0)
    assert problems(site) == []


def test_signatures_of_whom_the_root_trusts_no_more_are_replaced(
    made: Path, site: Path, airgap: Airgap, tmp_path: Path
) -> None:
    contents = [bundles.file("notes", os.urandom(900_000))]
    first = bundles.write_bundle(tmp_path / "first", contents)
    second = bundles.write_bundle(tmp_path / "second", contents, signers=("bob", "carol"))
    before = bundles.trust()
    role = Role(2, ("bob", "carol"))
    left = tuple(holder for holder in before.root.holders if holder.name != "alice")
    bundles.carry(second, bundles.next_trust(before, holders=left, root=role, release=role))
    for bundle in (first, second):
        assert run(["split", str(bundle), "--size", "500kB", "-o", f"{bundle}-volumes"]) == 0
    old, new = (sorted(Path(f"{bundle}-volumes").iterdir()) for bundle in (first, second))
    airgap("receive", old[0], code=10)
    airgap("receive", old[1], code=10)
    airgap("receive", new[1], code=10)
    airgap("receive", *new, code=0)
    airgap("install", code=0)
    assert airgap("status", code=0)["bundles"][0]["signers"] == ["bob", "carol"]


def test_a_damaged_range_of_another_cut_spoils_nothing_that_is_there(
    made: Path, volumes: list[Path], site: Path, airgap: Airgap, tmp_path: Path
) -> None:
    assert run(["split", str(made / "bundle"), "--size", "600kB", "-o", str(tmp_path / "larger")]) == 0
    larger = sorted((tmp_path / "larger").iterdir())
    for part in (tmp_path / "larger").glob("*/parts/*/*"):
        part.write_bytes(bytes(part.stat().st_size))
    airgap("receive", volumes[1], code=10)
    airgap("receive", *larger, code=6)
    airgap("receive", volumes[0], volumes[2], volumes[3], code=0)
    airgap("install", code=0)
    assert problems(site) == []
