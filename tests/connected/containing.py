"""A place to lock and fetch containers in: context, request, and an environment without credentials."""

import json
from pathlib import Path

import pytest

from airgap.connected import containers
from airgap.connected.source import Context, Resolved
from airgap.connected.transfer import Transfer
from airgap.manifest import ContainerRequest
from airgap.model import ContainerArtifact, Platform, Target
from airgap.progress import Silent
from airgap.store import Store


def bare_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """No credentials, no mirrors: what a fresh account has."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "AIRGAP_REGISTRY_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))


def context(directory: Path, platform: str = "linux/amd64") -> Context:
    store = Store(directory / "store")
    store.prepare()
    transfer = Transfer(store, Silent(), first_wait=0.01)
    return Context(Target("3.12", Platform.parse(platform), "2.35"), directory, store, transfer, Silent())


def image_request(image: str, *platforms: str, plain: bool = True) -> ContainerRequest:
    return ContainerRequest("app", image, "", "", platforms, plain)


def archive_request(archive: str, *platforms: str) -> ContainerRequest:
    return ContainerRequest("app", "", archive, "", platforms, False)


def layout_request(layout: str, *platforms: str) -> ContainerRequest:
    return ContainerRequest("app", "", "", layout, platforms, False)


def lock(
    request: ContainerRequest, where: Context, previous: ContainerArtifact | None = None
) -> tuple[ContainerArtifact, list[str]]:
    """The artifact and the codes of its findings."""
    resolved: Resolved = containers.resolve(request, previous, where)
    assert isinstance(resolved.artifact, ContainerArtifact)
    return resolved.artifact, [finding.code for finding in resolved.findings]


def write_layout(artifact: ContainerArtifact, where: Context, path: Path) -> str:
    """The fetched image as an OCI layout that skopeo reads; its reference."""
    (path / "blobs").mkdir(parents=True)
    (path / "blobs" / "sha256").symlink_to(where.store.path(artifact.root).parent)
    (path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    root = next(file for file in artifact.files if file.sha256 == artifact.root)
    descriptor = {
        "mediaType": root.media_type,
        "digest": f"sha256:{root.sha256}",
        "size": root.size,
        "annotations": {"org.opencontainers.image.ref.name": "x"},
    }
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    return f"oci:{path}:x"
