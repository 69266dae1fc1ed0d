"""What the tests of wheels share: a context for a target that is not this machine, and requests."""

from pathlib import Path
from typing import Any

from airgap.connected.source import Context
from airgap.connected.transfer import Transfer
from airgap.manifest import WheelsRequest
from airgap.model import Platform, Target, WheelsArtifact
from airgap.progress import Silent
from airgap.store import Store

ARM = Target("3.10", Platform("linux", "arm64"), "2.28")


def context_at(directory: Path, target: Target = ARM, *, store: str = "store", **more: Any) -> Context:
    """A context whose manifest would lie in `directory`, with a store below it."""
    made = Store(directory / store)
    made.prepare()
    return Context(target, directory, made, Transfer(made, Silent(), retries=0), Silent(), **more)


def request_for(*requirements: str, **more: Any) -> WheelsRequest:
    """A `[[wheels]]` table; `more` names its other keys."""
    empty: dict[str, Any] = {
        "requirements_file": "",
        "constraints": (),
        "index_url": "",
        "extra_index_urls": (),
        "find_links": (),
        "allow_sdist": (),
    }
    return WheelsRequest(name="serving", requirements=requirements, **(empty | more))


def pins(artifact: object) -> dict[str, str]:
    assert isinstance(artifact, WheelsArtifact)
    return {package.name: package.version for package in artifact.packages}


def names(artifact: object) -> list[str]:
    """The file names, in the artifact's order."""
    assert isinstance(artifact, WheelsArtifact)
    return [file.path for file in artifact.files]
