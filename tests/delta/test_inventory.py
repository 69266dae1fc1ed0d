"""The inventory document: what is written is read, what was altered is refused."""

import json
import subprocess
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.cli import run
from airgap.errors import InputError
from airgap.inventory import (
    HeldBundle,
    Inventory,
    inventory_digest,
    inventory_id,
    parse_inventory,
    read_inventory_id,
    render_inventory,
)
from airgap.model import Sha256
from airgap.trust.blobs import StatedBlob
from tests import bundles
from tests.trust.statements import hex_digits, names

held = st.builds(
    HeldBundle,
    names,
    st.sampled_from(["1", "2026.11"]),
    names,
    st.integers(0, 3),
    st.integers(1, 2**53 - 1),
    hex_digits(96),
    st.lists(names, max_size=2).map(tuple),
)
inventories = st.builds(
    Inventory,
    st.just("") | names,
    st.integers(1, 10**6),
    st.lists(held, max_size=3).map(tuple),
    st.dictionaries(hex_digits(64), st.builds(StatedBlob, hex_digits(96), st.integers(0, 2**60)), max_size=5),
)


@given(inventories)
@settings(max_examples=60)
def test_round_trip(inventory: Inventory) -> None:
    data = render_inventory(inventory)
    assert parse_inventory(data, "inventory") == inventory
    assert render_inventory(parse_inventory(data, "inventory")) == data
    assert read_inventory_id(inventory_id(inventory.digest)) is not None


@given(st.lists(hex_digits(64).map(Sha256), max_size=5, unique=True), st.randoms())
def test_the_digest_knows_no_order(digests: list[Sha256], random: Random) -> None:
    shuffled = random.sample(digests, len(digests))
    assert inventory_digest(digests) == inventory_digest(shuffled)


def test_a_changed_list_is_refused() -> None:
    data = render_inventory(Inventory("site-a", 1, (), {Sha256("2" * 64): StatedBlob("3" * 96, 4)}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the document is damaged"):
        parse_inventory(data.replace(b"2" * 64, b"4" * 64), "inventory")


def test_of_a_site_that_holds_one_bundle_it_is_what_coreutils_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(tmp_path / "site")
    bundle = bundles.write_bundle(tmp_path / "b", bundles.one_of_each(tmp_path))
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    capsys.readouterr()
    assert run(["inventory", "--site", str(site), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    command = f"ls {bundle}/blobs/sha256 | LC_ALL=C sort | sha384sum"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert document["digest"] == said.split()[0]
    assert document["id"] == inventory_id(document["digest"])


def test_what_was_uninstalled_does_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = bundles.pin(tmp_path / "site")
    bundle = bundles.write_bundle(tmp_path / "b", bundles.one_of_each(tmp_path))
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    assert run(["uninstall", "notes", "--site", str(site)]) == 0
    capsys.readouterr()
    written = tmp_path / "i.json"
    assert run(["inventory", "--site", str(site), "-o", str(written)]) == 0
    assert "without notes" in capsys.readouterr().out
    gone = bundles.file("notes", b"carried across\n").artifact.files[0].sha256
    assert gone not in parse_inventory(written.read_bytes(), "i").blobs
    kept = tmp_path / "kept.json"
    assert run(["inventory", "--site", str(site), "-o", str(kept), "--kept"]) == 0
    assert gone in parse_inventory(kept.read_bytes(), "i").blobs


def test_an_empty_site_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = bundles.pin(tmp_path / "site")
    assert run(["inventory", "--site", str(site)]) == 3
    assert "the first bundle must be a whole one" in capsys.readouterr().err


def test_with_verify_what_is_damaged_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = bundles.pin(tmp_path / "site")
    bundle = bundles.write_bundle(tmp_path / "b", [bundles.file("notes", b"one")])
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    digest = bundles.file("notes", b"one").artifact.files[0].sha256
    (site / "blobs" / "sha256" / digest).write_bytes(b"two")
    assert run(["inventory", "--site", str(site)]) == 0
    capsys.readouterr()
    assert run(["inventory", "--site", str(site), "--verify", "--json"]) == 6
    document = json.loads(capsys.readouterr().out)
    assert document["lost"] == [digest]
