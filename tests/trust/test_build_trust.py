"""What `build` and `sign` state of epoch, audience and roots, by real commands from manifest to site."""

import json
from pathlib import Path

import pytest

from tests.stage import MANIFEST, Stage

NOTES = '[[files]]\nname = "notes"\npath = "notes.txt"\n'
MAX = 2**53 - 1


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    made.holders("alice", "bob", threshold=1)
    made.write("notes.txt", "notes\n")
    made.manifest(NOTES)
    made.run("lock", "demo.toml")
    return made


def lock_with(stage: Stage, line: str, code: int = 0) -> str:
    stage.write("demo.toml", MANIFEST.replace('version = "1"\n', f'version = "1"\n{line}\n') + NOTES)
    return stage.run("lock", "demo.toml", code=code).err


def test_an_epoch_recovers_from_the_last_sequence(stage: Stage) -> None:
    stage.pin()
    stage.build("--sequence", str(MAX))
    stage.run("install", stage.bundle, "--site", "site")
    full = stage.build("--replace", code=3)
    assert f"epoch 0 of this channel has used its last sequence, {MAX}" in full.err
    assert "--epoch 1" in full.err
    fresh = stage.build("--replace", "--epoch", "1")
    assert "channel demo, epoch 1, sequence 1, expires" in fresh.out
    done = stage.run("install", stage.bundle, "--site", "site")
    assert "already installed" not in done.out
    again = stage.build("--replace", "--json").document
    assert (again["epoch"], again["sequence"]) == (1, 2), "the newest epoch goes on by itself"
    stated = json.loads((stage.bundle / "verify" / "pae.bin").read_bytes().split(b" ", 4)[4])["predicate"]
    assert stated["previous"]["sequence"] == 1


def test_each_epoch_counts_for_itself(stage: Stage) -> None:
    assert stage.build("--epoch", "3", "--json").document["sequence"] == 1
    assert stage.build("--epoch", "3", "--sequence", "9", "--replace", "--json").document["epoch"] == 3
    assert stage.build("--epoch", "0", "--replace", "--json").document["sequence"] == 1
    again = stage.build("--sequence", "9", "--expires-in", "9d", "--replace", code=3)
    assert "already given to another bundle" in again.err


def test_the_audience_of_the_manifest_is_locked_stated_shown_and_obeyed(stage: Stage) -> None:
    lock_with(stage, 'audience = ["plant-7", "plant-8"]')
    assert json.loads((stage.directory / "demo.lock.json").read_bytes())["bundle"]["audience"] == [
        "plant-7",
        "plant-8",
    ]
    assert stage.build("--json").document["audience"] == ["plant-7", "plant-8"]
    signing = stage.run("sign", stage.bundle, "--key", "keys/bob.key")
    assert "demo 1, channel demo, sequence 1, for plant-7, plant-8 only" in signing.out
    stage.pin()
    inspected = stage.run("inspect", stage.bundle, "--site", "site")
    assert "for plant-7, plant-8 only" in inspected.out
    assert "--site-name NAME" in stage.run("install", stage.bundle, "--site", "site", code=7).err
    spoken = stage.run("trust", "fingerprint", "trust/1.root.json").out.strip()
    pin = ["trust", "pin", "trust/1.root.json", "--site", "site", "--fingerprint", spoken]
    assert "it is the site plant-8" in stage.run(*pin, "--site-name", "plant-8").out
    stage.run("install", stage.bundle, "--site", "site")


@pytest.mark.parametrize(
    "line", ["audience = []", 'audience = ["a", "a"]', 'audience = ["No Name"]', 'audience = "plant-7"']
)
def test_an_audience_that_is_none_is_refused(stage: Stage, line: str) -> None:
    assert "bundle.audience: expected" in lock_with(stage, line, code=3)


def test_roots_travel_with_the_bundle_that_is_built_by_them(stage: Stage) -> None:
    stage.pin()
    sign = ["--key", "keys/alice.key", "--key", "keys/bob.key", "--out", "trust"]
    stage.run("trust", "rotate", "trust/1.root.json", *sign)
    stage.run("trust", "revoke", "trust/2.root.json", "--holder-key", "alice", *sign)
    build = ["build", "demo.toml", "--key", "keys/bob.key", "--root", "trust/3.root.json", "--out", "out"]
    stage.run(*build)
    assert sorted(p.name for p in (stage.bundle / "roots").iterdir()) == ["2.root.json", "3.root.json"]
    shown = stage.run("inspect", stage.bundle, "--site", "site")
    assert "1 of 1 required signed: bob" in shown.out
    stage.run("install", stage.bundle, "--site", "site")
    assert json.loads((stage.directory / "site/trust/accepted.json").read_bytes())["root"] == 3
    stage.build("--replace", "--root", "trust/3.root.json", code=7)  # alice's keys are revoked
    (stage.directory / "trust" / "2.root.json").unlink()
    stage.run(*build, "--replace")
    assert [p.name for p in (stage.bundle / "roots").iterdir()] == ["3.root.json"]


def test_a_root_beside_it_that_does_not_lead_on_stops_the_build(stage: Stage) -> None:
    sign = ["--key", "keys/alice.key", "--out", "trust"]
    stage.run("trust", "rotate", "trust/1.root.json", *sign)
    stage.run("trust", "rotate", "trust/2.root.json", *sign)
    trust = stage.directory / "trust"
    (trust / "2.root.json").write_bytes((trust / "1.root.json").read_bytes())
    refused = stage.build("--root", "trust/3.root.json", code=3)
    assert "2.root.json: expected root version 2, found 1" in refused.err
    assert not stage.bundle.exists()


def test_a_strangers_root_beside_it_stops_the_build(stage: Stage) -> None:
    sign = ["--key", "keys/alice.key", "--out", "trust"]
    stage.run("trust", "rotate", "trust/1.root.json", *sign)
    stage.run("trust", "rotate", "trust/2.root.json", *sign)
    stage.run("key", "generate", "eve", "--out", "eve", "--no-passphrase")
    eve = ["--key", "eve/eve.key", "--out", "eve"]
    stage.run("trust", "init", "--holder", "eve/eve.pub", "--threshold", "1", *eve)
    stage.run("trust", "rotate", "eve/1.root.json", *eve)
    (stage.directory / "eve/2.root.json").rename(stage.directory / "trust/2.root.json")
    refused = stage.build("--root", "trust/3.root.json", code=7)
    assert "3.root.json: 0 of 1 required signed: nobody; missing: eve" in refused.err
