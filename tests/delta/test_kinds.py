"""A delta of all four kinds, as the verbs see it that read bundles without a site."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.connected.base import counted_on
from airgap.errors import MissingPartError
from airgap.inventory import inventory_digest
from airgap.isolated.push_source import BundleSource
from airgap.lock import Lock, parse_lock
from airgap.media import Media
from airgap.model import Sha256
from airgap.oci import INDEXES, MANIFESTS
from airgap.trust.blobs import Base
from airgap.verify import open_signed, read_contents, read_index
from tests import bundles
from tests.isolated.sites import problems, snapshot


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return bundles.write_bundle(tmp_path / "whole", bundles.one_of_each(tmp_path / "1"))


@pytest.fixture
def delta(tmp_path: Path, whole: Path) -> Path:
    """Other notes and another config.json; of the rest it counts on `whole`, as `airgap build` decides."""
    contents = bundles.one_of_each(tmp_path / "2", b" ")
    path = bundles.write_bundle(tmp_path / "delta", contents, sequence=2)
    held = blobs(whole)
    base = Base(inventory_digest(held), counted_on(lock_of(path), held))
    return bundles.write_bundle(path, contents, sequence=2, base=base)


def blobs(bundle: Path) -> frozenset[Sha256]:
    return frozenset(Sha256(path.name) for path in (bundle / "blobs" / "sha256").iterdir())


def lock_of(bundle: Path) -> Lock:
    index = json.loads((bundle / "index.json").read_bytes())
    digest = index["annotations"]["dev.airgap.lock"].removeprefix("sha256:")
    return parse_lock((bundle / "blobs" / "sha256" / digest).read_bytes(), "lock")


def test_it_makes_of_a_site_what_the_whole_bundle_would(tmp_path: Path, whole: Path, delta: Path) -> None:
    at_once = bundles.write_bundle(
        tmp_path / "at-once", bundles.one_of_each(tmp_path / "3", b" "), sequence=2
    )
    found = []
    for name, media in (("one", [whole, delta]), ("two", [at_once])):
        site = bundles.pin(tmp_path / name)
        for bundle in media:
            assert run(["install", str(bundle), "--site", str(site)]) == 0
        assert problems(site) == []
        files = snapshot(site)
        assert files and files.pop("env.sh")  # it names the site
        found.append(files)
    assert found[0] == found[1]


def test_wheels_weights_and_layers_stay_and_manifests_travel(whole: Path, delta: Path) -> None:
    artifacts = lock_of(delta).artifacts
    files = [file for artifact in artifacts for file in artifact.files]
    manifests = {file.sha256 for file in files if file.media_type in (*INDEXES, *MANIFESTS)}
    shared = {file.sha256 for file in files} & blobs(whole)
    assert manifests and manifests <= blobs(delta)
    assert len(shared - manifests) == 5  # two wheels, the weights, the image's config and layer
    assert blobs(delta).isdisjoint(shared - manifests)


def test_what_one_medium_brings_another_may_count_on(tmp_path: Path) -> None:
    shared = bundles.file("more", b"shared")
    brings = bundles.write_bundle(tmp_path / "a", [bundles.file("notes", b"shared")], name="a")
    base = Base(inventory_digest(blobs(brings)), frozenset(shared.blobs))
    counts = bundles.write_bundle(tmp_path / "b", [shared], name="b", base=base)
    site = bundles.pin(tmp_path / "site")
    assert run(["install", str(counts), "--site", str(site)]) == 10
    assert run(["install", str(counts), str(brings), "--site", str(site)]) == 0
    assert (site / "current" / "files" / "more" / "notes.txt").read_bytes() == b"shared"
    assert problems(site) == []


def test_push_sends_what_travels_and_says_what_does_not(delta: Path) -> None:
    with Media(delta) as media:
        signed = open_signed(media, bundles.trust().root, bundles.CREATED)
        index, _ = read_index(media, signed)
        assert index is not None
        source = BundleSource(media, signed, read_contents(media, signed, index))
        absent = next(iter(signed.statement.counted_on))
        assert source.holds(absent)  # where the registry has it already nothing is read
        with pytest.raises(MissingPartError, match="does not travel, and the registry lacks it"):
            source.open(absent)


def test_check_reads_from_the_store_what_does_not_travel(
    tmp_path: Path,
    whole: Path,
    delta: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wheels() -> Any:
        assert run(["check", str(delta), "--json"]) == 0
        components = json.loads(capsys.readouterr().out)["components"]
        return next(component for component in components if component["name"] == "serving")

    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "empty"))
    without = wheels()
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(whole / "blobs", tmp_path / "cache" / "blobs")
    assert "cannot be read" in json.dumps(without)
    assert "cannot be read" not in json.dumps(wheels())
