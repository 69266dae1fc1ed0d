"""`airgap trust rotate`, `revoke`, `sign`, `show`, `update`, `recall` as a person runs them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.pinned import trusted_root
from tests import bundles

from .refusals import Capture, accepted, notes, refused


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of four, and root 1 of alice and bob, both of whom must sign."""
    desk = tmp_path_factory.mktemp("desk")
    for name in ("alice", "bob", "carol", "dave"):
        assert run(["key", "generate", name, "--out", str(desk / "keys"), "--no-passphrase"]) == 0
    holders = [f"--holder={desk}/keys/{name}.pub" for name in ("alice", "bob")]
    signing = [f"--key={desk}/keys/{name}.key" for name in ("alice", "bob")]
    assert run(["trust", "init", *holders, "--threshold=2", *signing, f"--out={desk}/trust"]) == 0
    return desk


@pytest.fixture
def desk(master: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(master, tmp_path / "desk"))


def key(desk: Path, *names: str) -> list[str]:
    return [f"--key={desk}/keys/{name}.key" for name in names]


def add(desk: Path, name: str) -> str:
    return f"--add-holder={desk}/keys/{name}.pub"


def succeed(desk: Path, verb: str, version: int, *options: str, code: int = 0) -> Path:
    root, out = desk / "trust" / f"{version}.root.json", desk / "trust"
    assert run(["trust", verb, str(root), *options, f"--out={out}"]) == code
    return out / f"{version + 1}.root.json"


def shown(root: Path, capsys: Capture, *options: str) -> Any:
    capsys.readouterr()
    assert run(["trust", "show", str(root), *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def pinned(desk: Path, capsys: Capture) -> Path:
    root, site = desk / "trust" / "1.root.json", desk / "site"
    pin = ["trust", "pin", str(root), "--site", str(site), "--fingerprint"]
    assert run([*pin, shown(root, capsys)["fingerprint"]]) == 0
    return site


def test_a_rotation_is_written_says_who_is_missing_and_is_signed_on(desk: Path, capsys: Capture) -> None:
    options = [add(desk, "carol"), "--remove-holder=bob", *key(desk, "alice")]
    two = succeed(desk, "rotate", 1, *options)
    said = capsys.readouterr()
    assert "by the holders of version 1: 1 of 2 required signed: alice; missing: bob" in said.out
    assert "by the holders of version 2: 1 of 2 required signed: alice; missing: carol" in said.out
    assert "not to be followed yet" in said.err
    assert run(["trust", "sign", str(two), *key(desk, "carol")]) == 0
    half = shown(two, capsys)
    assert (half["complete"], half["previous"]["missing"], half["missing"]) == (False, ["bob"], [])
    site = pinned(desk, capsys)
    assert run(["trust", "update", str(two), "--site", str(site)]) == 7
    assert "1 of 2 required signed: alice; missing: bob" in capsys.readouterr().err
    assert run(["trust", "sign", str(two), *key(desk, "bob")]) == 0
    assert shown(two, capsys)["complete"] is True
    assert run(["trust", "update", str(two), "--site", str(site)]) == 0
    assert "trusts root version 2" in capsys.readouterr().out
    assert trusted_root(site, None, None).version == 2


def test_the_order_of_signing_and_signing_again_do_not_matter(desk: Path, capsys: Capture) -> None:
    two = succeed(desk, "rotate", 1, add(desk, "carol"))
    site = pinned(desk, capsys)
    for name in ("carol", "bob", "alice", "bob"):
        assert run(["trust", "sign", str(two), *key(desk, name)]) == 0
    found = shown(two, capsys)
    assert (found["signers"], found["previous"]["signers"]) == (["alice", "bob", "carol"], ["alice", "bob"])
    assert run(["trust", "update", str(two), "--site", str(site)]) == 0


def test_a_holder_of_the_version_before_needs_it_at_hand(desk: Path, capsys: Capture) -> None:
    two = succeed(desk, "rotate", 1, add(desk, "carol"), "--remove-holder=bob", *key(desk, "alice", "carol"))
    (desk / "trust" / "1.root.json").rename(desk / "elsewhere.json")
    sign = ["trust", "sign", str(two), *key(desk, "bob")]
    assert run(sign) == 7
    assert "--previous FILE" in capsys.readouterr().err
    assert shown(two, capsys)["previous"] is None
    assert run([*sign, f"--previous={two}"]) == 3
    assert run([*sign, f"--previous={desk}/elsewhere.json"]) == 0
    assert shown(two, capsys, f"--previous={desk}/elsewhere.json")["complete"] is True


def test_thresholds_floors_and_expiry(desk: Path, capsys: Capture) -> None:
    options = [add(desk, "carol"), "--root-threshold=3", "--release-threshold=1", "--expires-in=30d"]
    two = succeed(desk, "rotate", 1, *options, "--floor=main=0:12", *key(desk, "alice", "bob", "carol"))
    found = shown(two, capsys)
    assert found["roles"] == {
        "root": {"threshold": 3, "holders": ["alice", "bob", "carol"]},
        "release": {"threshold": 1, "holders": ["alice", "bob", "carol"]},
    }
    assert found["floors"] == {"main": {"epoch": 0, "sequence": 12}}
    three = succeed(desk, "rotate", 2, "--threshold=2", "--floor=main=1:0", *key(desk, "alice"))
    assert shown(three, capsys)["floors"] == {"main": {"epoch": 1, "sequence": 0}}
    succeed(desk, "rotate", 2, "--floor=main=0:11", code=3)
    assert not (desk / "trust" / "4.root.json").exists()


@pytest.mark.parametrize(
    ("verb", "options", "code"),
    [
        ("rotate", ["--remove-holder=mallory"], 3),
        ("rotate", ["--remove-holder=bob"], 3),
        ("rotate", ["--add-holder=/nonexistent"], 3),
        ("rotate", ["--floor=main"], 2),
        ("rotate", ["--floor=main=0:9007199254740992"], 2),
        ("rotate", ["--expires-in=1y"], 2),
        ("revoke", [], 2),
        ("revoke", ["--holder-key=mallory"], 3),
        ("revoke", ["--bundle=/nonexistent"], 3),
    ],
)
def test_what_is_refused(desk: Path, verb: str, options: list[str], code: int) -> None:
    assert not succeed(desk, verb, 1, *options, code=code).exists()


def test_nothing_follows_a_root_that_lacks_signatures(desk: Path) -> None:
    succeed(desk, "rotate", 1, *key(desk, "alice"))
    assert not succeed(desk, "rotate", 2, code=7).exists()
    succeed(desk, "rotate", 1, code=3)  # 2.root.json is there already


def test_a_stranger_cannot_sign_a_rotation(desk: Path) -> None:
    assert not succeed(desk, "rotate", 1, *key(desk, "dave"), code=7).exists()


def test_revoke_a_holder_and_a_bundle(desk: Path, capsys: Capture, tmp_path: Path) -> None:
    bad = notes(tmp_path / "bad")
    digest = "f" * 96
    options = ["--holder-key=bob", f"--bundle={bad}", f"--bundle={digest}", add(desk, "carol")]
    two = succeed(desk, "revoke", 1, *options, *key(desk, "alice", "bob", "carol"))
    found = shown(two, capsys)
    before = shown(desk / "trust" / "1.root.json", capsys)
    assert found["revoked"]["keys"] == sorted(before["holders"]["bob"].values())
    assert sorted(found["holders"]) == ["alice", "carol"]
    assert len(found["revoked"]["bundles"]) == 2
    assert digest in found["revoked"]["bundles"]
    three = succeed(desk, "revoke", 2, f"--holder-key={'e' * 64}", *key(desk, "alice", "carol"))
    assert set(shown(three, capsys)["revoked"]["keys"]) == {*found["revoked"]["keys"], "e" * 64}


def test_update_follows_several_and_names_what_is_missing(desk: Path, capsys: Capture) -> None:
    site = pinned(desk, capsys)
    for version in (1, 2, 3):
        succeed(desk, "rotate", version, *key(desk, "alice", "bob"))
    roots = [str(desk / "trust" / f"{version}.root.json") for version in (1, 2, 3, 4)]
    assert run(["trust", "update", roots[3], roots[1], "--site", str(site)]) == 7
    assert "missing: 3" in capsys.readouterr().err
    assert trusted_root(site, None, None).version == 1
    assert run(["trust", "update", *reversed(roots), "--site", str(site)]) == 0
    assert trusted_root(site, None, None).version == 4
    assert run(["trust", "update", *roots, "--site", str(site)]) == 0, "again changes nothing"
    pin = ["trust", "pin", roots[0], "--site", str(site), "--fingerprint"]
    assert run([*pin, shown(Path(roots[0]), capsys)["fingerprint"]]) == 0
    assert trusted_root(site, None, None).version == 4, "pinning what it came from does not set it back"


def test_update_needs_a_site_with_a_root(desk: Path, tmp_path: Path) -> None:
    assert run(["trust", "update", str(desk / "trust/1.root.json"), "--site", str(tmp_path / "x")]) == 7
    assert not (tmp_path / "x").exists()
    assert run(["trust", "recall", "--site", str(tmp_path / "x")]) == 7


def test_any_version_can_be_pinned_by_its_fingerprint(desk: Path, capsys: Capture, tmp_path: Path) -> None:
    two = succeed(desk, "rotate", 1, *key(desk, "alice", "bob"))
    spoken, site = shown(two, capsys)["fingerprint"], tmp_path / "fresh"
    assert run(["trust", "pin", str(two), "--site", str(site), "--fingerprint", spoken]) == 0
    assert trusted_root(site, None, None).version == 2


def test_recall_refuses_where_nothing_was_installed(tmp_path: Path, capsys: Capture) -> None:
    site = bundles.pin(tmp_path / "site")
    assert run(["trust", "recall", "--site", str(site)]) == 3
    accepted(notes(tmp_path / "b", sequence=4), site, capsys)
    assert run(["trust", "recall", "--site", str(site), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["channels"]["quickstart"]["sequence"] == 4


def test_recall_never_lowers_what_is_legible(tmp_path: Path, capsys: Capture) -> None:
    site = bundles.pin(tmp_path / "site")
    accepted(notes(tmp_path / "b", sequence=4), site, capsys)
    path = site / "trust" / "accepted.json"
    path.write_bytes(path.read_bytes().replace(b'"sequence":4', b'"sequence":9'))
    assert run(["trust", "recall", "--site", str(site)]) == 0
    assert b'"sequence":9' in path.read_bytes()
    refused(notes(tmp_path / "c", b"c", sequence=8), site, capsys)


@pytest.mark.parametrize("verb", ["rotate", "revoke", "update", "recall"])
def test_every_command_shows_an_example(verb: str, capsys: Capture) -> None:
    assert run(["trust", verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"  airgap trust {verb} " in said
    assert "Exit codes: 0 " in said
