"""Container artifacts of any shape for the tests, made from OCI layouts."""

import json
from collections.abc import Iterator
from pathlib import Path

from airgap.layout import digest_of
from airgap.model import BundlePath, ContainerArtifact, Local, LockedFile, Sha256
from tests import bundles, images


def single(name: str, directory: Path, *layers: bytes, reference: str = "") -> bundles.Content:
    """An image for linux/amd64 with one layer for each of `layers`."""
    return _content(name, images.single(directory, *layers, compression=""), reference, ["linux/amd64"], [])


def several(
    name: str, directory: Path, *platforms: str, reference: str = "", left_out: tuple[str, ...] = ()
) -> bundles.Content:
    """A multi-platform index; of the platforms `left_out` nothing travels."""
    layout = images.multi(directory, *platforms, *left_out)
    return _content(name, layout, reference, list(platforms), list(left_out))


def _content(
    name: str, layout: images.Layout, reference: str, platforms: list[str], left_out: list[str]
) -> bundles.Content:
    root = Sha256(layout.digest)
    absent = {(layout.digests or {})[platform] for platform in left_out}
    blobs: dict[Sha256, bytes] = {}
    files = []
    for digest, media_type in _walk(layout.path, root, "", absent):
        data = (layout.path / "blobs" / "sha256" / digest).read_bytes()
        assert digest_of(data) == digest
        if digest not in blobs:
            path = BundlePath(f"blobs/sha256/{digest}")
            files.append(LockedFile(path, len(data), digest, Local(path), media_type))
        blobs[digest] = data
    artifact = ContainerArtifact(
        name, bundles.REQUEST, reference, root, root, tuple(platforms), tuple(left_out), tuple(files)
    )
    return bundles.Content(artifact, blobs)


def _walk(layout: Path, digest: Sha256, media_type: str, absent: set[str]) -> Iterator[tuple[Sha256, str]]:
    document = json.loads((layout / "blobs" / "sha256" / digest).read_bytes())
    yield digest, media_type or document["mediaType"]
    for child in document.get("manifests", []):
        if child["digest"][7:] not in absent:
            yield from _walk(layout, Sha256(child["digest"][7:]), child["mediaType"], absent)
    for blob in [document["config"], *document["layers"]] if "layers" in document else []:
        yield Sha256(blob["digest"][7:]), blob["mediaType"]
