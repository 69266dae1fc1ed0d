"""The bundle as an OCI layout: valid by the specification's schemas, and only what was locked."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from airgap.errors import IntegrityError
from airgap.layout import OCI_LAYOUT, BundledArtifact, digest_of, pack, read_layout, render_index
from airgap.lock import Lock
from airgap.model import Artifact, Sha256
from tests import bundles

SCHEMAS = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "schemas" / "oci"


@pytest.fixture
def contents(tmp_path: Path) -> list[bundles.Content]:
    name, data = bundles.wheel("alpha")
    return [
        bundles.wheels("set", {name: data}),
        bundles.model("tuned", {"config.json": b"{}", "sub/model.safetensors": b"w"}, repo="org/tuned"),
        bundles.container("image", tmp_path / "image"),
        bundles.file("notes", b"notes\n"),
    ]


def lock_of(artifacts: tuple[Artifact, ...]) -> Lock:
    return Lock("demo", "1", "demo", digest_of(b""), bundles.TARGET, {}, artifacts)


def blobs_of(contents: list[bundles.Content], packed: list[BundledArtifact]) -> dict[Sha256, bytes]:
    held: dict[Sha256, bytes] = {}
    for content in contents:
        held |= content.blobs
    for bundled in packed:
        held |= bundled.documents
    return held


def validate(name: str, data: bytes) -> None:
    """Judge a document by the image-spec's own JSON schema."""
    resources = []
    for path in SCHEMAS.glob("*.json"):
        schema = json.loads(path.read_bytes())
        resource = Resource.from_contents(schema, default_specification=DRAFT4)
        resources += [(path.name, resource), (f"https://opencontainers.org/schema/{path.name}", resource)]
        resources.append((f"https://opencontainers.org/schema/image/{path.name}", resource))
        resources.append((schema.get("id", path.name), resource))
    registry: Registry[Any] = Registry().with_resources(resources)
    schema = json.loads((SCHEMAS / name).read_bytes())
    Draft4Validator(schema, registry=registry).validate(json.loads(data))


@pytest.mark.skipif(not SCHEMAS.exists(), reason="the OCI schemas (shared/corpora) are not here")
def test_every_document_is_valid_by_the_specifications_schemas(contents: list[bundles.Content]) -> None:
    packed = [pack(content.artifact) for content in contents]
    validate("image-layout-schema.json", OCI_LAYOUT)
    validate("image-index-schema.json", render_index(packed, digest_of(b"")))
    blobs = blobs_of(contents, packed)
    for bundled in packed:
        validate("image-manifest-schema.json", blobs[bundled.digest])
    broken = json.loads(render_index(packed, digest_of(b"")))
    broken["manifests"][0]["digest"] = "md5"
    with pytest.raises(Exception, match="md5"):
        validate("image-index-schema.json", json.dumps(broken).encode())


def test_packing_is_a_function_of_the_lock(contents: list[bundles.Content]) -> None:
    for content in contents:
        assert pack(content.artifact) == pack(dataclasses.replace(content.artifact))


def test_what_is_packed_reads_back(contents: list[bundles.Content]) -> None:
    packed = [pack(content.artifact) for content in contents]
    blobs = blobs_of(contents, packed)
    lock = lock_of(tuple(content.artifact for content in contents))
    read = read_layout(render_index(packed, digest_of(b"")), lock, blobs.__getitem__)
    assert [(b.artifact, b.digest, b.size, b.layers) for b in read] == [
        (b.artifact, b.digest, b.size, b.layers) for b in packed
    ]


def _first_entry(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda index: change(index["manifests"][0])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda index: index["manifests"].pop(), "expected the artifacts"),
        (lambda index: index["manifests"].append(index["manifests"][0]), "expected the artifacts"),
        (lambda index: index["manifests"].reverse(), "expected the artifacts"),
        (_first_entry(lambda entry: entry.update(size=1)), "the descriptor names"),
        (_first_entry(lambda entry: entry.update(mediaType="text/plain")), "the descriptor names"),
        (_first_entry(lambda entry: entry["annotations"].update({"dev.airgap.kind": "file"})), "a wheels"),
        (lambda index: index.update(layers=[]), "both an image index and an image manifest"),
        (lambda index: index.update(mediaType="text/plain"), "mediaType"),
        (lambda index: index.pop("manifests"), "expected"),
    ],
)
def test_an_index_that_is_not_the_locks_is_refused(
    contents: list[bundles.Content], change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    packed = [pack(content.artifact) for content in contents]
    blobs = blobs_of(contents, packed)
    index = json.loads(render_index(packed, digest_of(b"")))
    change(index)
    lock = lock_of(tuple(content.artifact for content in contents))
    with pytest.raises(IntegrityError, match=expected):
        read_layout(json.dumps(index).encode(), lock, blobs.__getitem__)


def reread(content: bundles.Content, locked: Artifact) -> None:
    """Read back a bundle whose lock holds `locked` where the layout holds `content`."""
    packed = [pack(content.artifact)]
    held = blobs_of([content], packed)
    read_layout(render_index(packed, digest_of(b"")), lock_of((locked,)), held.__getitem__)


def test_a_manifest_with_other_files_than_the_lock_is_refused() -> None:
    content = bundles.model("tuned", {"config.json": b"{}", "weights.bin": b"w"})
    fewer = dataclasses.replace(content.artifact, files=content.artifact.files[:1])
    with pytest.raises(IntegrityError, match=r"weights\.bin is not as locked"):
        reread(content, fewer)
    first, second = content.artifact.files
    swapped = (dataclasses.replace(first, sha256=second.sha256), second)
    with pytest.raises(IntegrityError, match=r"config\.json is not as locked"):
        reread(content, dataclasses.replace(content.artifact, files=swapped))


def test_an_image_must_be_locked_whole_and_nothing_else(tmp_path: Path) -> None:
    content = bundles.container("image", tmp_path / "image")
    files = content.artifact.files
    without = dataclasses.replace(content.artifact, files=files[:-1])
    with pytest.raises(IntegrityError, match="a manifest names"):
        reread(content, without)
    extra = dataclasses.replace(files[-1], sha256=digest_of(b"extra"), size=5)
    more = dataclasses.replace(content.artifact, files=(*files, extra))
    with pytest.raises(IntegrityError, match="no manifest names it"):
        reread(content, more)
    longer = dataclasses.replace(files[-1], size=files[-1].size + 1)
    resized = dataclasses.replace(content.artifact, files=(*files[:-1], longer))
    with pytest.raises(IntegrityError, match="which is not locked so"):
        reread(content, resized)
