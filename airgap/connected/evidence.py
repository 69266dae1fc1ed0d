"""Opens what `check` judges: blobs of a bundle or the store, local files, and by ranges what nobody fetched.

A component whose source fails becomes `Unread`, or an unread package: what could not be looked at is
unknown, and says so, while the rest is judged.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

from airgap.connected.http import HttpRefusal
from airgap.connected.hub import Hub
from airgap.connected.image_evidence import read_container
from airgap.connected.index import login_for
from airgap.connected.opener import Opener
from airgap.connected.serving_code import compare_given
from airgap.errors import AirgapError, InputError, IntegrityError, SourceError
from airgap.lock import Lock as LockDocument
from airgap.model import (
    Artifact,
    ContainerArtifact,
    FileArtifact,
    Kind,
    ModelArtifact,
    Package,
    Remote,
    Target,
    WheelsArtifact,
)
from airgap.readers.checkpoint import read_checkpoints
from airgap.readers.source import Source
from airgap.readiness.components import Composition, Model, NotRead, Stack, Unread
from airgap.readiness.judgement import Evidence
from airgap.readiness.reading import Seen, stack_of
from airgap.units import amount
from airgap.workers import run_all

JOBS = 8
"""Requests at a time."""

MEND = "mend its source, then check again"

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Gathered:
    """The facts, how far they reach, and the bytes fetched to learn them."""

    composition: Composition
    notes: tuple[str, ...]
    traffic: int


def gather_lock(lock: LockDocument, target: Target, opener: Opener) -> Gathered:
    """The facts of everything that is locked. What cannot be read is `Unread`, with the reason."""
    stacks = [_wheels(a, opener) for a in lock.artifacts if isinstance(a, WheelsArtifact)]
    models: list[Model] = []
    others: list[Unread] = []
    for artifact in lock.artifacts:
        if isinstance(artifact, ContainerArtifact):
            try:
                stacks.append(container_stack(artifact, target, opener))
            except (InputError, IntegrityError, SourceError) as error:
                others.append(unread(artifact.name, Kind.CONTAINER, error))
    for artifact in lock.artifacts:
        if isinstance(artifact, ModelArtifact):
            try:
                models.append(_model(artifact, stacks, opener))
            except (InputError, SourceError) as error:
                others.append(unread(artifact.name, Kind.MODEL, error))
    files = sum(isinstance(artifact, FileArtifact) for artifact in lock.artifacts)
    composition = Composition(target, tuple(stacks), tuple(models), tuple(others))
    return Gathered(composition, files_note(files), opener.traffic)


def container_stack(artifact: ContainerArtifact, target: Target, opener: Opener) -> Stack:
    """What an image holds. Raises as `read_container`."""
    return replace(read_container(artifact, target, opener), digests=_digests(artifact))


def unread(name: str, kind: Kind, error: AirgapError) -> Unread:
    """A component whose evidence could not be read, in the words of the error."""
    return Unread(name, kind, error.message, error.remedy or MEND)


def files_note(count: int) -> tuple[str, ...]:
    return (f"carried as they are, and read by no rule: {amount(count, 'file')}",) if count else ()


def read_all(
    works: Mapping[str, Callable[[], Seen]],
) -> tuple[tuple[Seen, ...], dict[str, NotRead]]:
    """The packages that could be read, and why the others could not."""

    def attempt(work: Callable[[], Seen]) -> Seen | NotRead:
        try:
            return work()
        except AirgapError as error:
            return NotRead(error.message, error.remedy or MEND)

    found = run_all([partial(attempt, work) for work in works.values()], JOBS, Event())
    seen = tuple(one for one in found if isinstance(one, Seen))
    return seen, {name: one for name, one in zip(works, found, strict=True) if isinstance(one, NotRead)}


def _wheels(artifact: WheelsArtifact, opener: Opener) -> Stack:
    files = {file.path: file for file in artifact.files}

    def read(package: Package) -> Seen:
        file = files[package.file]
        url = file.origin.url if isinstance(file.origin, Remote) else ""
        auth = login_for(url, opener.context.logins)
        return opener.package(package.name, file.path, opener.locked(file, auth), url, auth)

    works = {p.name: partial(read, p) for p in artifact.packages if p.file in files}
    seen, unread = read_all(works)
    stack = stack_of(
        artifact.name,
        Kind.WHEELS,
        seen,
        closed=True,
        unread=unread,
        requirements=artifact.requirements,
        serving=compare_given(opener.code, artifact.name, seen),
    )
    return replace(stack, digests=_digests(artifact))


def _digests(artifact: Artifact) -> frozenset[str]:
    return frozenset(file.sha256 for file in artifact.files)


def _model(artifact: ModelArtifact, stacks: Sequence[Stack], opener: Opener) -> Model:
    files = {str(file.path): file for file in artifact.files}
    hub = Hub.from_environment() if artifact.repo else None
    auth = hub.auth() if hub else None
    config = files.get(CONFIG)
    return read_model(
        Model(
            artifact.name,
            artifact.repo,
            artifact.quantization,
            artifact.gated,
            None,
            Evidence(f"{artifact.name}/{CONFIG}", config.sha256 if config else ""),
            {path: file.size for path, file in files.items()},
            sums={path: file.sha256 for path, file in files.items()},
            server=artifact.served_by,
            licence=artifact.licence,
            digests=_digests(artifact),
        ),
        lambda path: opener.locked(files[path], auth),
        stacks,
        hub,
    )


def read_model(
    model: Model, open_file: Callable[[str], Source], stacks: Sequence[Stack], hub: Hub | None = None
) -> Model:
    """Complete a model with its configs and headers.

    Raises what opening and reading its files raises; the refusals of `hub` in its own terms.
    """
    sources: dict[str, Source] = {}

    def read(path: str, start: int, count: int) -> bytes:
        if path not in sources:
            sources[path] = open_file(path)
        return sources[path].read(start, count)

    try:
        checkpoints = read_checkpoints(model.files, read)
    except HttpRefusal as refusal:
        raise (hub.explain(model.repo, refusal) if hub else refusal) from None
    top = next((c for c in checkpoints if c.directory == ""), None)
    digest = model.where.digest
    if not digest and top and top.config:  # it was read whole
        digest = hashlib.sha256(read(CONFIG, 0, model.files[CONFIG])).hexdigest()
    return replace(
        model,
        where=replace(model.where, digest=digest),
        config=top.config if top else None,
        checkpoints=checkpoints,
        served_by=next((stack for stack in stacks if stack.name == model.server), None),
    )
