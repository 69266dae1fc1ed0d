"""Signed bundles whose OCI documents lie: by a signer's faulty or hostile software, before a real site."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airgap import layout
from airgap.decode import canonical_json
from airgap.layout import BundledArtifact, digest_of
from airgap.lock import render_lock
from airgap.model import Artifact, Sha256
from tests import bundles

from .refusals import Capture, accepted, notes, refused

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return bundles.pin(tmp_path / "site")


def lying_index(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """The signers' `build` writes this index.json, and they sign it."""

    def render(artifacts: Sequence[BundledArtifact], lock: Sha256) -> bytes:
        document = json.loads(layout.render_index(artifacts, lock))
        change(document)
        return canonical_json(document)

    monkeypatch.setattr("tests.bundles.render_index", render)


def lying_manifest(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """The signers' `build` writes this manifest; index, statement and lock agree with its digest."""

    def pack(artifact: Artifact) -> BundledArtifact:
        honest = layout.pack(artifact)
        documents: Mapping[Sha256, bytes] = honest.documents
        document = json.loads(documents[honest.digest])
        change(document)
        data = canonical_json(document)
        kept = {digest: held for digest, held in documents.items() if digest != honest.digest}
        return replace(
            honest, digest=digest_of(data), size=len(data), documents=kept | {digest_of(data): data}
        )

    monkeypatch.setattr("tests.bundles.pack", pack)


def test_the_two_liars_can_tell_the_truth(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying_index(monkeypatch, lambda index: None)
    lying_manifest(monkeypatch, lambda manifest: None)
    accepted(notes(tmp_path / "b"), site, capsys)


def test_manifest_that_also_has_manifests(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2021-41190: one reader would see an image, another an index."""
    lying_manifest(monkeypatch, lambda manifest: manifest.update(manifests=[]))
    said = refused(notes(tmp_path / "b"), site, capsys, 6)
    assert "both an image index and an image manifest" in said


def test_index_that_also_has_layers(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying_index(monkeypatch, lambda index: index.update(layers=[]))
    said = refused(notes(tmp_path / "b"), site, capsys, 6)
    assert "both an image index and an image manifest" in said


OTHER = "sha256:" + "0" * 64

WRONG: dict[str, Change] = {
    "size": lambda d: d.update(size=d["size"] + 1),
    "mediaType": lambda d: d.update(mediaType="application/vnd.oci.image.index.v1+json"),
    "digest": lambda d: d.update(digest=OTHER),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_in_a_descriptor_of_the_index(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    lying_index(monkeypatch, lambda index: WRONG[what](index["manifests"][0]))
    assert "layout-disagrees" in refused(notes(tmp_path / "b"), site, capsys, 6)


@pytest.mark.parametrize("what", ["size", "digest"])
def test_wrong_in_a_descriptor_of_a_manifest(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    lying_manifest(monkeypatch, lambda manifest: WRONG[what](manifest["layers"][0]))
    assert "notes.txt is not as locked" in refused(notes(tmp_path / "b"), site, capsys, 6)


def test_wrong_media_type_of_a_manifest(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying_manifest(monkeypatch, lambda m: m.update(mediaType="application/vnd.oci.image.index.v1+json"))
    assert "layout-disagrees" in refused(notes(tmp_path / "b"), site, capsys, 6)


def test_index_that_names_what_is_not_signed(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(index: dict[str, Any]) -> None:
        entry = json.loads(json.dumps(index["manifests"][0]))
        entry["digest"] = OTHER
        entry["annotations"]["org.opencontainers.image.ref.name"] = "stowaway"
        index["manifests"].append(entry)

    lying_index(monkeypatch, add)
    assert "found ['notes', 'stowaway']" in refused(notes(tmp_path / "b"), site, capsys, 6)


def test_two_artifacts_of_one_name_in_the_index(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying_index(monkeypatch, lambda index: index["manifests"].append(index["manifests"][0]))
    assert "found ['notes', 'notes']" in refused(notes(tmp_path / "b"), site, capsys, 6)


def test_two_artifacts_of_one_name_in_the_lock(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement cannot even be written; a lock that says so is refused where it is read."""
    made = bundles.write_bundle(tmp_path / "b", [bundles.file("notes", b"one"), bundles.file("more", b"two")])
    accepted(made, site, capsys)
    honest = render_lock

    def twice(lock: Any) -> bytes:
        return honest(lock).replace(b'"name": "more"', b'"name": "notes"')

    monkeypatch.setattr("tests.bundles.render_lock", twice)
    lying = bundles.write_bundle(
        tmp_path / "c", [bundles.file("notes", b"one"), bundles.file("more", b"two")], sequence=2
    )
    assert "two artifacts are named 'notes'" in refused(lying, site, capsys, 6)
