"""What the four kinds of source have in common.

Each kind is a module with two functions, and the verbs know nothing else of it:

    resolve(request, previous, context) -> Resolved    what exactly is wanted; pins of `previous` stay
    fetch(artifact, context) -> None                   every blob of it into the store, or an error
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from requests.auth import AuthBase

from airgap.connected.transfer import Download, Transfer
from airgap.errors import InputError, IntegrityError
from airgap.model import Artifact, Finding, Local, LockedFile, Remote, Target
from airgap.progress import Progress
from airgap.store import Store


@dataclass(frozen=True, slots=True)
class Context:
    """Where and for whom a source works. `directory` is what the manifest's local paths are relative to."""

    target: Target
    directory: Path
    store: Store
    transfer: Transfer
    progress: Progress
    logins: tuple[str, ...] = field(default=(), repr=False)
    """Index URLs of the manifest as written: their logins serve `fetch`, and are never written down."""
    provenance: bool = False
    """Whether `resolve` looks for what is published about who made a thing."""

    @property
    def asks(self) -> Mapping[str, str]:
        """What of this, besides the target, can change an answer: for the digests of requests."""
        return {} if self.provenance else {"provenance": "false"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """An artifact, and what a person should know about how it was chosen."""

    artifact: Artifact
    findings: tuple[Finding, ...] = ()


def fetch_files(
    files: Sequence[LockedFile], context: Context, auth: Callable[[LockedFile], AuthBase | None]
) -> None:
    """Bring plain remote and local files into the store; those it holds cost nothing.

    Raises SourceError, IntegrityError or HostError; what was complete by then stays in the store.
    """
    missing = [f for f in files if not context.store.holds(f.sha256, f.size)]
    for file in missing:
        if isinstance(file.origin, Local) and not file.origin.member:
            copy_local(file, context)
    downloads = [
        Download(f.origin.url, f.path, f.sha256, f.size, auth(f))
        for f in missing
        if isinstance(f.origin, Remote)
    ]
    context.transfer.fetch(downloads)


def copy_local(file: LockedFile, context: Context) -> None:
    """Copy one local file into the store. Raises IntegrityError when it is not what was locked."""
    assert isinstance(file.origin, Local)
    path = context.directory / file.origin.path
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            blob = context.store.add_stream(stream, name=str(path.absolute()), expected=file.sha256)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    context.progress.advance(blob.size)
    if (blob.sha256, blob.size) != (file.sha256, file.size):
        raise IntegrityError(
            f"{path}: expected sha256 {file.sha256} and {file.size} bytes, as locked;"
            f" found {blob.sha256} and {size}",
            remedy="run 'airgap lock' again if the change is meant",
        )
