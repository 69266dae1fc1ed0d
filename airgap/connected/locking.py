"""`airgap lock`: from what is wanted to exactly what that is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from airgap import __version__
from airgap.connected import containers, files, installer, wheels
from airgap.connected.source import Context, Resolved
from airgap.lock import Lock
from airgap.manifest import (
    ContainerRequest,
    FileRequest,
    InstallerRequest,
    Manifest,
    ModelRequest,
    Request,
    VariantsRequest,
    WheelsRequest,
)
from airgap.model import (
    Artifact,
    ContainerArtifact,
    FileArtifact,
    Finding,
    ModelArtifact,
    WheelsArtifact,
)


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock, and what a person should know about how it was made."""

    lock: Lock
    findings: tuple[Finding, ...]


def make_lock(
    manifest: Manifest, previous: Lock | None, moves: Callable[[str], bool], context: Context
) -> Locked:
    """Resolve every request. Pins of `previous` stay unless `moves(artifact name)`.

    Raises InputError for what cannot be resolved, SourceError for what cannot be asked.
    """
    artifacts: list[Artifact] = []
    findings: list[Finding] = []
    for request in manifest.requests:
        kept = previous.find(request.name) if previous and not moves(request.name) else None
        with context.progress.task(f"locking {request.name}", None):
            resolved = _resolve(request, kept, context)
        artifacts.append(resolved.artifact)
        findings.extend(resolved.findings)
    lock = Lock(
        manifest.name,
        manifest.version,
        manifest.channel,
        manifest.sha256,
        manifest.target,
        _tools(manifest),
        tuple(artifacts),
        manifest.audience,
    )
    return Locked(lock, tuple(findings))


def _resolve(request: Request, kept: Artifact | None, context: Context) -> Resolved:
    match request:
        case WheelsRequest():
            return wheels.resolve(request, kept if isinstance(kept, WheelsArtifact) else None, context)
        case ModelRequest():
            from airgap.connected import models  # noqa: PLC0415 - the hub's client takes 0.1 s to import

            return models.resolve(request, kept if isinstance(kept, ModelArtifact) else None, context)
        case VariantsRequest():
            from airgap.connected import model_variants  # noqa: PLC0415 - as above

            return model_variants.resolve(request, kept if isinstance(kept, ModelArtifact) else None, context)
        case ContainerRequest():
            return containers.resolve(request, kept if isinstance(kept, ContainerArtifact) else None, context)
        case FileRequest():
            return files.resolve(request, kept if isinstance(kept, FileArtifact) else None, context)
        case InstallerRequest():
            return installer.resolve(request, kept if isinstance(kept, FileArtifact) else None, context)


def fetch(artifact: Artifact, context: Context) -> None:
    """Bring every blob of an artifact into the store. Raises SourceError, IntegrityError, HostError."""
    match artifact:
        case WheelsArtifact():
            wheels.fetch(artifact, context)
        case ModelArtifact():
            from airgap.connected import models  # noqa: PLC0415 - as above

            models.fetch(artifact, context)
        case ContainerArtifact():
            containers.fetch(artifact, context)
        case FileArtifact() if installer.is_installer(artifact):
            installer.fetch(artifact, context)
        case FileArtifact():
            files.fetch(artifact, context)


def _tools(manifest: Manifest) -> Mapping[str, str]:
    """The versions that can change the answer, and only those, so that a lock names no bystander."""
    tools = {"airgap": __version__}
    if any(isinstance(request, WheelsRequest) for request in manifest.requests):
        tools |= wheels.tool_versions()
    if any(_asks_hub(request) for request in manifest.requests):
        tools["huggingface_hub"] = version("huggingface_hub")
    return tools


def _asks_hub(request: Request) -> bool:
    variants = request.variants if isinstance(request, VariantsRequest) else (request,)
    return any(isinstance(variant, ModelRequest) and variant.repo for variant in variants)
