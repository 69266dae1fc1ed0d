"""Receipts travel back, and only what they say is believed to be there."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airgap.model import Sha256, Sha384
from airgap.receipt import PAYLOAD_TYPE, parse_receipt, render_receipt
from airgap.trust.envelope import parse, render
from tests.delta.chain import Sides, shipped
from tests.isolated.sites import problems

NOTHING = Sha384("0" * 96)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """Two whole releases."""
    sides = Sides.at(tmp_path_factory.mktemp("sides"))
    sides.release(1)
    sides.release(2)
    sides.stage.run("key", "generate", "operator", "--out", "keys", "--no-passphrase")
    return sides


@pytest.fixture
def sides(made: Sides) -> Iterator[Sides]:
    """The releases, a new site called site-a, and a store that no site has told anything."""
    for gone in ("site", "cache/acknowledged", "later"):
        shutil.rmtree(made.stage.directory / gone, ignore_errors=True)
    made.site(called="site-a")
    yield made


def line_of(sides: Sides, *options: str) -> str:
    document = sides.stage.run("receipt", *options, "--site", "site", "--json").document
    return str(document["line"])


def _print(sides: Sides) -> str:
    return sides.stage.run("trust", "fingerprint", "trust/1.root.json").out.strip()


def acknowledge(sides: Sides, *words: str, code: int | None = 0) -> str:
    done = sides.stage.run("acknowledge", *words, code=code)
    return done.out + done.err


def release_3(sides: Sides, *options: str, code: int | None = 0) -> str:
    """A delta on what was acknowledged, in later/demo-3, and what was said while it was built."""
    done = sides.release(3, "--base", "acknowledged", "--out", "later", *options, code=code)
    return done.out + done.err


def test_a_line_that_was_read_out_makes_the_next_bundle_a_delta(sides: Sides) -> None:
    sides.install(1)
    said = sides.stage.run("receipt", "--site", "site").out
    line = said.splitlines()[-1]
    assert line.startswith("site-a 1 demo/1 ")
    assert "  + demo 1, channel demo, sequence 1" in said
    heard = acknowledge(sides, *line.lower().replace("-", " ").replace("site a", "site-a").split())
    assert "site-a: receipt 1 holds 10 blobs" in heard
    assert sides.inventory()["id"] in heard
    built = release_3(sides)
    assert "which is what site-a holds since its receipt 1" in built
    sides.stage.run("install", "later/demo-3", "--site", "site")
    assert problems(sides.stage.directory / "site") == []


def test_the_line_of_a_nameless_site_may_be_quoted(sides: Sides) -> None:
    sides.stage.run("trust", "pin", "trust/1.root.json", "--site", "nameless", "--fingerprint", _print(sides))
    sides.install(1, "nameless")
    line = sides.stage.run("receipt", "--site", "nameless").out.splitlines()[-1]
    assert line.startswith("- 1 demo/1 ")
    assert "a site without a name: receipt 1 holds 10 blobs" in acknowledge(sides, line)
    assert "low: receipt 1 holds 10 blobs" in acknowledge(sides, line, "--as", "low")
    assert "low: receipt 1 holds 10 blobs" in acknowledge(sides, *line.split(), "--as", "low")
    assert "No such option" in acknowledge(sides, line, "--sa", "low", code=2)


def test_what_was_built_and_never_acknowledged_is_not_believed_to_be_there(sides: Sides) -> None:
    assert "nothing was acknowledged by any site" in release_3(sides, code=10)
    sides.install(1)
    acknowledge(sides, line_of(sides))
    release_3(sides)
    lost = shipped(sides.bundle(2)) - shipped(sides.bundle(1))  # its disc never arrived
    carried = shipped(sides.stage.directory / "later" / "demo-3")
    wanted = {file["sha256"] for artifact in _lock(sides)["artifacts"] for file in artifact["files"]}
    assert lost & wanted <= carried


def test_a_rollback_is_believed_when_it_is_told(sides: Sides) -> None:
    for number in (1, 2):
        sides.install(number)
    acknowledge(sides, line_of(sides))
    sides.stage.run("rollback", "--site", "site")
    line = line_of(sides)
    assert line.startswith("site-a 3 demo/1 ")
    assert "(demo/1)" in acknowledge(sides, line)
    release_3(sides)
    sides.stage.run("gc", "--site", "site", "--keep", "1")
    sides.stage.run("install", "later/demo-3", "--site", "site")


def test_a_rollback_that_nobody_told_of_is_refused_by_the_site(sides: Sides) -> None:
    for number in (1, 2):
        sides.install(number)
    acknowledge(sides, line_of(sides))
    sides.stage.run("rollback", "--site", "site")
    sides.stage.run("gc", "--site", "site", "--keep", "1")
    release_3(sides)
    refused = sides.stage.run("install", "later/demo-3", "--site", "site", code=10)
    assert "this site lacks 1 of them" in refused.err


def test_an_uninstall_needs_the_file(sides: Sides) -> None:
    sides.install(1)
    sides.stage.run("uninstall", "notes", "--site", "site")
    said = acknowledge(sides, line_of(sides), code=10)
    assert "site-a does not hold exactly what demo/1 state: something was uninstalled" in said
    sides.stage.run("receipt", "--site", "site", "-o", "back.json")
    assert "site-a: receipt 2 holds 9 blobs" in acknowledge(sides, "back.json")
    assert "which is what site-a holds since its receipt 2" in release_3(sides)


def test_a_bundle_built_elsewhere_needs_the_file(sides: Sides) -> None:
    sides.install(1)
    sides.stage.run("receipt", "--site", "site", "-o", "elsewhere.json")
    elsewhere = str(sides.stage.directory / "elsewhere")
    heard = sides.stage.run("acknowledge", line_of(sides), code=10, AIRGAP_CACHE=elsewhere)
    assert "this host remembers no bundle demo/1" in heard.err
    assert "holds 10 blobs" in sides.stage.run("acknowledge", "elsewhere.json", AIRGAP_CACHE=elsewhere).out


def test_a_signed_file_says_who_signed(sides: Sides) -> None:
    sides.install(1)
    said = sides.stage.run("receipt", "--site", "site", "-o", "signed.json", "--key", "keys/operator.key").out
    assert "written to signed.json, signed by operator" in said
    assert "signed by operator" in acknowledge(sides, "signed.json", "--signer", "keys/operator.pub")
    assert "0 of 1 required signed" in acknowledge(sides, "signed.json", "--signer", "keys/alice.pub", code=7)
    said = sides.stage.run("receipt", "--site", "site", "-o", "unsigned.json").out
    assert "not signed: --key F.key signs it" in said
    acknowledge(sides, "unsigned.json", "--signer", "keys/operator.pub", code=7)


def test_a_file_that_contradicts_what_was_built_is_refused(sides: Sides) -> None:
    sides.install(1)
    sides.stage.run("receipt", "--site", "site", "-o", "lies.json")
    path = sides.stage.directory / "lies.json"
    told = parse_receipt(parse(path.read_bytes()).payload, "receipt")
    held = told.inventory
    digest, blob = next(iter(held.blobs.items()))
    lies = {
        "has sha384": replace(held, blobs={**held.blobs, digest: replace(blob, sha384=NOTHING)}),
        "two bundles under one number": replace(
            held, bundles=tuple(replace(bundle, payload=NOTHING) for bundle in held.bundles)
        ),
        "none of its bundles state": replace(held, blobs={**held.blobs, Sha256("0" * 64): blob}),
    }
    for message, lie in lies.items():
        path.write_bytes(render(render_receipt(replace(told, inventory=lie)), PAYLOAD_TYPE, ()))
        assert message in acknowledge(sides, "lies.json", code=6)
    assert "no site has acknowledged anything" in acknowledge(sides)


def test_an_old_line_changes_nothing(sides: Sides) -> None:
    sides.install(1)
    old = line_of(sides)
    sides.install(2)
    acknowledge(sides, line_of(sides))
    assert "is older than receipt 2" in acknowledge(sides, old, code=3)
    assert "receipt 2 holds" in acknowledge(sides)
    acknowledge(sides, old, "--replace")
    assert "receipt 1 holds" in acknowledge(sides)


def test_the_same_line_twice_is_no_mistake(sides: Sides) -> None:
    sides.install(1)
    acknowledge(sides, line_of(sides))
    acknowledge(sides, line_of(sides))


def test_an_older_receipt_is_of_its_own_generation(sides: Sides) -> None:
    for number in (1, 2):
        sides.install(number)
    assert line_of(sides, "1").startswith("site-a 1 demo/1 ")
    sides.stage.run("gc", "--site", "site", "--keep", "1")
    said = sides.stage.run("receipt", "1", "--site", "site", code=3).err
    assert "its generation 1 was removed" in said
    assert "no receipt 9; the last are 1, 2" in sides.stage.run("receipt", "9", "--site", "site", code=3).err


def test_for_several_sites_only_what_all_hold_is_left_out(sides: Sides) -> None:
    sides.install(1)
    acknowledge(sides, line_of(sides))
    shutil.rmtree(sides.stage.directory / "site")
    sides.site()
    sides.install(2)
    line = line_of(sides)
    assert line.startswith("- 1 demo/2 ")
    acknowledge(sides, *line.split(), "--as", "annex")
    document = json.loads(acknowledge(sides, "--json"))
    assert [site["site"] for site in document["sites"]] == ["annex", "site-a"]
    sides.lock(3)
    travels = {
        base: sides.stage.run("plan", "demo.toml", "--base", base, "--json").document["travels"]
        for base in ("acknowledged", "acknowledged:site-a", "acknowledged:annex")
    }
    assert travels == {
        "acknowledged": 400_010,
        "acknowledged:site-a": 400_010,
        "acknowledged:annex": 200_010,
    }
    assert "nothing was acknowledged by site-c" in (
        sides.stage.run("plan", "demo.toml", "--base", "acknowledged:site-c", code=10).err
    )


def test_a_mistyped_line_is_noticed(sides: Sides) -> None:
    sides.install(1)
    line = line_of(sides)
    assert "mistyped or misheard" in acknowledge(sides, line.replace("demo/1", "demo/2"), code=3)
    assert "expected a line such as" in acknowledge(sides, "nonsense", code=3)


def _lock(sides: Sides) -> dict[str, list[dict[str, list[dict[str, str]]]]]:
    found: dict[str, list[dict[str, list[dict[str, str]]]]] = json.loads(
        (sides.stage.directory / "demo.lock.json").read_bytes()
    )
    return found
