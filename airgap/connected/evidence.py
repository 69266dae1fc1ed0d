"""Opens what `check` judges: blobs of a bundle or the store, local files, and by ranges what nobody fetched.

A component whose source fails becomes `Unread`, or an unread package: what could not be looked at is
unknown, and says so, while the rest is judged.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Self

from requests.auth import AuthBase

from airgap.connected.hub import Hub
from airgap.connected.index import login_for
from airgap.connected.ranges import RemoteSource, fetch_metadata
from airgap.connected.source import Context
from airgap.connected.workers import run_all
from airgap.errors import AirgapError, InputError, SourceError
from airgap.layout import blob_path
from airgap.lock import Lock as LockDocument
from airgap.model import (
    ContainerArtifact,
    FileArtifact,
    Kind,
    Local,
    LockedFile,
    ModelArtifact,
    Package,
    Remote,
    Target,
    WheelsArtifact,
)
from airgap.readers.checkpoint import read_checkpoints
from airgap.readers.source import FileSource, Source
from airgap.readers.zip import Archive
from airgap.readiness.components import Composition, Model, Stack, Unread
from airgap.readiness.judgement import Evidence
from airgap.readiness.reading import ENGINES, Seen, read_metadata, read_package, stack_of
from airgap.tags import normalized_name

JOBS = 8
"""Requests at a time."""

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Gathered:
    """The facts, how far they reach, and the bytes fetched to learn them."""

    composition: Composition
    notes: tuple[str, ...]
    traffic: int


class Opener:
    """Opens files where their bytes are: in the bundle, in the store, locally, else by ranges.

    A context manager; `traffic` counts what was fetched. Without a bundle the store is asked first.
    """

    def __init__(self, context: Context, bundle: Path | None = None) -> None:
        self.context = context
        self._bundle = bundle
        self._open = ExitStack()
        self._remote: list[RemoteSource] = []
        self._metadata = 0
        self._counting = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def traffic(self) -> int:
        return self._metadata + sum(source.traffic for source in self._remote)

    def locked(self, file: LockedFile, auth: AuthBase | None) -> Source:
        """A file of a lock. Raises InputError or SourceError."""
        store = self.context.store
        if self._bundle:
            return self._sized(self.local(self._bundle / blob_path(file.sha256), file.sha256), file)
        if store.holds(file.sha256, file.size):
            return self.local(store.path(file.sha256), file.sha256)
        match file.origin:
            case Local(path=path, member=""):
                return self._sized(self.local(self.context.directory / path, file.sha256), file)
            case Remote(url=url):
                return self.remote(url, auth, size=file.size, digest=file.sha256)
        raise InputError(
            f"{file.path}: is made while the bundle is built, and is not in the store",
            remedy="run: airgap build, then check the bundle",
        )

    def local(self, path: Path, digest: str) -> FileSource:
        return self._open.enter_context(FileSource(path, digest=digest))

    def remote(
        self, url: str, auth: AuthBase | None, *, size: int | None = None, digest: str = ""
    ) -> RemoteSource:
        source = RemoteSource(url, self.context.transfer, auth, size=size, digest=digest)
        with self._counting:
            self._remote.append(source)
        return source

    def package(self, name: str, file: str, source: Source, url: str, auth: AuthBase | None) -> Seen:
        """A wheel's METADATA, apart where its index offers that (PEP 658), and an engine's tables."""
        if isinstance(source, RemoteSource) and normalized_name(name) not in ENGINES:
            metadata = fetch_metadata(url, self.context.transfer, auth)
            if metadata is not None:
                with self._counting:
                    self._metadata += len(metadata)
                return read_metadata(metadata, file, source.digest)
        return read_package(Archive(source, file), file)

    def count(self, traffic: int) -> None:
        """Traffic of requests that no source made."""
        with self._counting:
            self._metadata += traffic

    def _sized(self, source: FileSource, file: LockedFile) -> FileSource:
        if source.size != file.size:
            raise InputError(
                f"{file.path}: expected {file.size} bytes, as locked; found {source.size}",
                remedy="run: airgap lock, or for a bundle: airgap verify",
            )
        return source


def gather_lock(lock: LockDocument, target: Target, opener: Opener) -> Gathered:
    """The facts of everything that is locked. What cannot be read is `Unread`, with the reason."""
    stacks = tuple(_wheels(a, opener) for a in lock.artifacts if isinstance(a, WheelsArtifact))
    models: list[Model] = []
    others: list[Unread] = []
    for artifact in lock.artifacts:
        match artifact:
            case ModelArtifact():
                try:
                    models.append(_model(artifact, stacks, opener))
                except (InputError, SourceError) as error:
                    others.append(unread_model(artifact.name, error))
            case ContainerArtifact():
                others.append(unread_container(artifact.name))
    files = sum(isinstance(artifact, FileArtifact) for artifact in lock.artifacts)
    composition = Composition(target, stacks, tuple(models), tuple(others))
    return Gathered(composition, files_note(files), opener.traffic)


def unread_container(name: str) -> Unread:
    return Unread(
        name,
        Kind.CONTAINER,
        "the packages inside its layers are not read",
        "run 'pip list' in it, and check those releases as a wheels set",
    )


def unread_model(name: str, error: AirgapError) -> Unread:
    return Unread(name, Kind.MODEL, error.message, error.remedy or "mend its source, then check again")


def files_note(count: int) -> tuple[str, ...]:
    return (f"{count} files are carried as they are; no rule reads them",) if count else ()


def read_all(
    works: Mapping[str, Callable[[], Seen]],
) -> tuple[tuple[Seen, ...], dict[str, str]]:
    """The packages that could be read, and why the others could not."""

    def attempt(work: Callable[[], Seen]) -> Seen | str:
        try:
            return work()
        except AirgapError as error:
            return error.message

    found = run_all([partial(attempt, work) for work in works.values()], JOBS, Event())
    seen = tuple(one for one in found if isinstance(one, Seen))
    return seen, {name: one for name, one in zip(works, found, strict=True) if isinstance(one, str)}


def _wheels(artifact: WheelsArtifact, opener: Opener) -> Stack:
    files = {file.path: file for file in artifact.files}

    def read(package: Package) -> Seen:
        file = files[package.file]
        url = file.origin.url if isinstance(file.origin, Remote) else ""
        auth = login_for(url, opener.context.logins)
        return opener.package(package.name, file.path, opener.locked(file, auth), url, auth)

    works = {p.name: partial(read, p) for p in artifact.packages if p.file in files}
    seen, unread = read_all(works)
    return stack_of(
        artifact.name, Kind.WHEELS, seen, closed=True, unread=unread, requirements=artifact.requirements
    )


def _model(artifact: ModelArtifact, stacks: Sequence[Stack], opener: Opener) -> Model:
    files = {str(file.path): file for file in artifact.files}
    auth = Hub.from_environment().auth() if artifact.repo else None
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
            server=artifact.served_by,
            licence=artifact.licence,
            digests=frozenset(file.sha256 for file in artifact.files),
        ),
        lambda path: opener.locked(files[path], auth),
        stacks,
    )


def read_model(model: Model, open_file: Callable[[str], Source], stacks: Sequence[Stack]) -> Model:
    """Complete a model with its configs and headers. Raises what opening and reading its files raises."""
    sources: dict[str, Source] = {}

    def read(path: str, start: int, count: int) -> bytes:
        if path not in sources:
            sources[path] = open_file(path)
        return sources[path].read(start, count)

    checkpoints = read_checkpoints(model.files, read)
    top = next((c for c in checkpoints if c.directory == ""), None)
    return replace(
        model,
        config=top.config if top else None,
        checkpoints=checkpoints,
        served_by=next((stack for stack in stacks if stack.name == model.server), None),
    )
