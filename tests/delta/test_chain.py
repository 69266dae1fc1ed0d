"""Deltas, from one side to the other: what travels, what is refused, and that it converges."""

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.inventory import inventory_id as render_id
from airgap.model import Sha384
from tests.delta.chain import Sides, shard, shipped
from tests.isolated.sites import problems, snapshot


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """Three releases: a whole one, and two deltas, each against what a site had after the one before."""
    sides = Sides.at(tmp_path_factory.mktemp("chain"))
    sides.site()
    sides.release(1)
    for number in (2, 3):
        sides.install(number - 1)
        sides.release(number, "--base", sides.inventory()["id"])
    return sides


@pytest.fixture
def sides(made: Sides, tmp_path: Path) -> Iterator[Sides]:
    """The chain, and a new site."""
    shutil.rmtree(made.stage.directory / "site")
    made.site()
    yield made


def test_a_delta_carries_only_what_the_base_lacks(made: Sides) -> None:
    assert name_of(shard(3)) in shipped(made.bundle(1))
    assert shipped(made.bundle(2)) & {name_of(shard(n)) for n in range(10)} == {name_of(shard(4))}
    assert shipped(made.bundle(3)) & {name_of(shard(n)) for n in range(10)} == {name_of(shard(5))}


def test_it_is_whole_for_coreutils_too(made: Sides) -> None:
    check = ["sha384sum", "-c", "--strict", "--quiet", "verify/SHA384SUMS"]
    subprocess.run(check, cwd=made.bundle(2), check=True)


def test_in_order_it_becomes_what_a_whole_bundle_would_make_it(sides: Sides, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        sides.install(number)
    site = sides.stage.directory / "site"
    assert problems(site) == []
    assert (site / "current" / "models" / "tuned" / "shard-0.bin").read_bytes() == shard(3)
    sides.stage.run("status", "--site", "site", "--verify")
    assert sides.stage.run("inventory", "--site", "site", "--verify").code == 0


def test_out_of_order_it_is_refused_with_what_is_lacking_and_then_converges(sides: Sides) -> None:
    sides.install(1)
    site = sides.stage.directory / "site"
    before, blobs = snapshot(site), shipped(site)
    refused = sides.install(3, code=10)
    assert "counts on 3 blobs; this site lacks 1 of them, 200.0 kB" in refused.err
    assert f"model tuned: shard-1.bin: 200.0 kB, sha256 {name_of(shard(4))}" in refused.err
    assert (snapshot(site), shipped(site)) == (before, blobs)
    assert sides.install(3, "site", "--dry-run", code=10).out == ""
    for number in (2, 3):
        sides.install(number)
    assert problems(site) == []


def test_on_the_wrong_site_all_of_it_is_lacking(sides: Sides) -> None:
    site = sides.stage.directory / "site"
    refused = sides.install(2, code=10)
    assert "counts on 3 blobs; this site lacks 3 of them" in refused.err
    assert snapshot(site) is None
    assert shipped(site) == set()


def test_after_gc_took_what_it_needs_it_is_refused_and_then_converges(sides: Sides) -> None:
    site = sides.stage.directory / "site"
    sides.install(1)
    sides.stage.run("uninstall", "tuned", "--site", "site")
    sides.stage.run("gc", "--site", "site", "--keep", "1")
    before = snapshot(site)
    assert "this site lacks 3 of them" in sides.install(2, code=10).err
    assert snapshot(site) == before
    sides.install(1)
    sides.install(2)
    assert problems(site) == []


def test_gc_keeps_what_a_delta_against_the_current_generation_needs(sides: Sides) -> None:
    for number in (1, 2):
        sides.install(number)
    sides.stage.run("gc", "--site", "site", "--keep", "1")
    sides.install(3)


def test_a_blob_that_the_site_damaged_is_not_counted_on(sides: Sides) -> None:
    """Installing the delta again checks all of it; it cannot mend what it does not carry."""
    site = sides.stage.directory / "site"
    for number in (1, 2):
        sides.install(number)
    blob = site / "blobs" / "sha256" / name_of(shard(2))
    blob.write_bytes(b"x" * 200_000)
    assert f"sha256 {name_of(shard(2))}" in sides.install(2, code=10).err
    assert blob.read_bytes() == b"x" * 200_000
    blob.unlink()
    assert sides.inventory(code=6)["lost"] == [name_of(shard(2))]


def test_what_is_lost_travels_again(sides: Sides) -> None:
    site = sides.stage.directory / "site"
    sides.install(1)
    (site / "blobs" / "sha256" / name_of(shard(2))).unlink()
    taken = sides.stage.directory / "inventory.json"
    sides.inventory("site", "-o", str(taken), code=6)
    sides.release(2, "--base", str(taken), "--out", "again")
    again = sides.stage.directory / "again" / "demo-2"
    assert {name_of(shard(2)), name_of(shard(4))} <= shipped(again)
    sides.stage.run("install", again, "--site", "site")
    assert problems(site) == []


def test_verify_says_what_it_counts_on_and_whether_the_site_has_it(sides: Sides) -> None:
    sides.install(1)
    fingerprint = sides.stage.run("trust", "fingerprint", "trust/1.root.json").out.strip()
    root = ("--root", "trust/1.root.json", "--fingerprint", fingerprint)
    said = sides.stage.run("verify", sides.bundle(2), *root).out
    assert "a delta: counts on 3 blobs more, 400.0 kB, of inventory" in said
    assert "every byte is as signed" in said
    has = sides.stage.run("verify", sides.bundle(2), "--site", "site")
    assert "which the site holds" in has.out
    lacks = sides.stage.run("verify", sides.bundle(3), "--site", "site", code=10)
    assert "of which the site LACKS 1, 200.0 kB: it will be refused" in lacks.out
    document = sides.stage.run("verify", sides.bundle(3), "--site", "site", "--json", code=10).document
    assert document["bundles"][0]["lacking"] == [name_of(shard(4))]


def test_a_file_of_the_base_on_the_medium_is_nobodys(sides: Sides, tmp_path: Path) -> None:
    bundle = tmp_path / "b"
    shutil.copytree(sides.bundle(2), bundle)
    (bundle / "blobs" / "sha256" / name_of(shard(2))).write_bytes(shard(2))
    sides.install(1)
    refused = sides.stage.run("verify", bundle, "--site", "site", code=6)
    assert "a file that no holder signed" in refused.out


def test_inspect_and_sign_say_that_it_is_a_delta(made: Sides) -> None:
    said = made.stage.run("inspect", made.bundle(2)).out
    assert "a delta: counts on 3 blobs more" in said
    assert "weights not known: 3 of 4 files left out of this delta" in said
    signed = made.stage.run("sign", made.bundle(2), "--key", "keys/alice.key", "--yes").out
    assert "a delta: counts on 3 blobs more" in signed


def test_plan_shows_what_would_travel(made: Sides) -> None:
    made.lock(2)
    said = made.stage.run("plan", "demo.toml", "--base", made.bundle(1)).out
    assert "there    travels" in said
    assert "400.0 kB are there; 200.0 kB travel" in said
    document = made.stage.run("plan", "demo.toml", "--base", made.bundle(1), "--json").document
    rows = {row["name"]: (row["there"], row["travels"]) for row in document["artifacts"]}
    assert rows == {"tuned": (400_013, 200_000), "notes": (0, 10)}


# ------------------------------------------------------------------ bases


def test_an_id_is_believed_only_of_what_has_it(made: Sides) -> None:
    sequence = ("--sequence", "2", "--replace")
    for lock in (made.bundle(2), "demo.lock.json"):
        made.lock(2)
        refused = made.release(
            2, "--base", inventory_id(made, 1), "--base", str(lock), *sequence, code=10, lock=False
        )
        assert "expected a base whose inventory is" in refused.err


def test_an_inventory_that_lies_about_a_blob_stops_the_build(sides: Sides) -> None:
    sides.install(1)
    sides.inventory("site", "-o", "held.json")
    held = json.loads((sides.stage.directory / "held.json").read_bytes())
    held["blobs"][name_of(shard(2))]["sha384"] = "0" * 96
    sides.stage.write("held.json", json.dumps(held))
    refused = sides.release(2, "--base", "held.json", "--out", "lied", code=6)
    assert "generation 1 of a site without a name has sha384 000" in refused.err
    assert not (sides.stage.directory / "lied" / "demo-2").exists()


def test_a_lock_or_a_bundle_stands_for_what_the_site_holds(made: Sides) -> None:
    made.lock(1)
    lock = made.stage.directory / "demo.lock.json"
    lock.rename(made.stage.directory / "first.lock.json")
    made.lock(2)
    wanted = inventory_id(made, 1)
    for given in ("first.lock.json", str(made.bundle(1)), wanted):
        document = made.stage.run("plan", "demo.toml", "--base", given, "--json").document
        assert (document["base"], document["travels"]) == (wanted, 200_010)


def test_a_mistyped_id_is_noticed(made: Sides) -> None:
    good = inventory_id(made, 1)
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    assert "mistyped or misheard" in made.stage.run("plan", "demo.toml", "--base", wrong, code=3).err
    refused = made.stage.run("plan", "demo.toml", "--base", "nonsense", code=3)
    assert "--base nonsense: no file of that name, and no inventory ID: expected 8 groups" in refused.err


def test_what_is_no_base_is_refused(made: Sides) -> None:
    made.stage.write("odd.json", "{}")
    for base, message in (
        ("", "--base : no file of that name, and no inventory ID"),
        ("out", "--base out: not a bundle: it has no bundle.dsse.json"),
        ("odd.json", "odd.json: 6 problems"),
        ("gone/demo-1", "gone/demo-1: cannot be read: No such file"),
    ):
        assert message in made.stage.run("plan", "demo.toml", "--base", base, code=3).err


def test_an_id_of_nothing_at_hand_says_so(made: Sides) -> None:
    unknown = render_id(Sha384("0" * 96))
    refused = made.stage.run("plan", "demo.toml", "--base", unknown, code=10)
    assert "no bundles that this host remembers make up the inventory" in refused.err


def inventory_id(made: Sides, number: int) -> str:
    """Of a site that holds release `number`, computed as the format says."""
    envelope = json.loads((made.bundle(number) / "bundle.dsse.json").read_bytes())
    blobs = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["blobs"]
    listed = "".join(f"{digest}\n" for digest in sorted(blobs))
    return render_id(Sha384(hashlib.sha384(listed.encode()).hexdigest()))
