"""What a manifest asks for, before anything is resolved: releases pinned with `==`, and models as they lie.

No resolver is needed, so this also judges what no resolver can satisfy: the pins in the METADATA of
exactly what was asked for are the evidence of why.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement

from airgap.connected import containers
from airgap.connected.evidence import (
    CONFIG,
    Gathered,
    container_stack,
    files_note,
    read_all,
    read_model,
    unread,
)
from airgap.connected.hub import Hub
from airgap.connected.index import strip_logins
from airgap.connected.model_directory import walk
from airgap.connected.offers import Places
from airgap.connected.opener import Opener
from airgap.connected.serving_code import compare_given
from airgap.connected.simple_index import IndexFile, choose
from airgap.decode import read_capped
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.manifest import (
    ContainerRequest,
    FileRequest,
    Manifest,
    ModelRequest,
    VariantsRequest,
    WheelsRequest,
)
from airgap.model import ContainerArtifact, Kind, Remote, Target
from airgap.oci import INDEXES, MANIFESTS
from airgap.readers.source import Source
from airgap.readiness.components import Composition, Model, NotRead, Stack, Unread
from airgap.readiness.judgement import Evidence
from airgap.readiness.reading import Seen, stack_of
from airgap.tags import WheelName, marker_environment, supported_tags
from airgap.units import amount

MAX_REQUIREMENTS = 8 * 1024 * 1024
NOT_LOCKED = "not locked: only the releases that the manifest pins with '==' were read, not what they need"


def gather_manifest(manifest: Manifest, target: Target, opener: Opener) -> Gathered:
    """The facts of exactly what was asked for. What cannot be read is unread, with the reason."""
    requests = manifest.requests
    stacks = [_wheels(r, target, opener) for r in requests if isinstance(r, WheelsRequest)]
    models: list[Model] = []
    others: list[Unread] = []
    notes = [NOT_LOCKED] if stacks else []
    for request in requests:
        if isinstance(request, ContainerRequest):
            try:
                artifact = _resolved(request, opener)
                notes.append(f"{artifact.name}: not locked: it is sha256:{artifact.digest} now")
                stacks.append(container_stack(artifact, target, opener))
            except (InputError, IntegrityError, SourceError) as error:
                others.append(unread(request.name, Kind.CONTAINER, error))
    for request in requests:
        if isinstance(request, ModelRequest):
            try:
                models.append(_model(request, stacks, opener))
            except (InputError, SourceError) as error:
                others.append(unread(request.name, Kind.MODEL, error))
        elif isinstance(request, VariantsRequest):
            reason = f"which of its {amount(len(request.variants), 'variant')} is meant is not chosen yet"
            others.append(Unread(request.name, Kind.MODEL, reason, "run: airgap lock, then check again"))
    notes += files_note(sum(isinstance(request, FileRequest) for request in requests))
    composition = Composition(target, tuple(stacks), tuple(models), tuple(others))
    return Gathered(composition, tuple(notes), opener.traffic)


def _resolved(request: ContainerRequest, opener: Opener) -> ContainerArtifact:
    """What an image's name stands for now; its manifests are in the store then."""
    artifact = containers.resolve(request, None, opener.context).artifact
    assert isinstance(artifact, ContainerArtifact), "what such a request resolves to"
    documents = [file for file in artifact.files if file.media_type in (*INDEXES, *MANIFESTS)]
    opener.count(sum(file.size for file in documents if isinstance(file.origin, Remote)))
    return artifact


def _wheels(request: WheelsRequest, target: Target, opener: Opener) -> Stack:
    directory = opener.context.directory
    places = Places.of(request, directory)
    lines = (*request.requirements, *_file_lines(request.requirements_file, directory))
    works: dict[str, Callable[[], Seen]] = {}
    skipped: dict[str, NotRead] = {}
    for line in lines:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            skipped[strip_logins(line)[:120]] = NotRead(
                "is no plain requirement (PEP 508), so it was not read"
            )
            continue
        if not _applies(wanted, target):
            continue
        if wanted.url or any(s.operator == "==" and "*" not in s.version for s in wanted.specifier):
            works[wanted.name] = partial(_read, wanted, places, target, opener)
        else:
            said = strip_logins(str(wanted))
            skipped[wanted.name] = NotRead(f"{said} names no single release, and nothing has chosen one yet")
    seen, failed = read_all(works)
    requirements = tuple(strip_logins(line) for line in lines)
    return stack_of(
        request.name,
        Kind.WHEELS,
        seen,
        closed=False,
        unread=skipped | failed,
        requirements=requirements,
        serving=compare_given(opener.code, request.name, seen),
    )


def _applies(wanted: Requirement, target: Target) -> bool:
    """By its marker. Raises InputError for a comparison that PEP 508 leaves undefined."""
    try:
        return wanted.marker is None or wanted.marker.evaluate(marker_environment(target) | {"extra": ""})
    except (UndefinedComparison, UndefinedEnvironmentName) as error:
        raise InputError(
            f"{strip_logins(str(wanted))}: {error}", remedy="correct the marker (PEP 508)"
        ) from None


def _read(wanted: Requirement, places: Places, target: Target, opener: Opener) -> Seen:
    """The wheel that a requirement names. Raises InputError or SourceError."""
    if wanted.url:
        return places.read(wanted.name, _direct(wanted), opener)
    files = places.files(wanted.name, opener)
    found = choose(files, wanted.name, wanted.specifier, supported_tags(target))
    if found is None:
        raise InputError(
            f"no wheel of {wanted.name}{wanted.specifier} is in {places}",
            remedy="name a release that is there, or the index that has it",
        )
    return places.read(wanted.name, found, opener)


def _direct(wanted: Requirement) -> IndexFile:
    assert wanted.url
    file = unquote(urlsplit(wanted.url).path.rpartition("/")[2])
    digest = re.search(r"sha256=([0-9a-f]{64})", urlsplit(wanted.url).fragment)
    return IndexFile(WheelName.parse(file), file, wanted.url, digest[1] if digest else "", None)


def _file_lines(name: str, directory: Path) -> tuple[str, ...]:
    """The requirements of a file: continued lines joined, comments and hashes dropped. Raises InputError."""
    if not name:
        return ()
    text = read_capped(directory / name, max_bytes=MAX_REQUIREMENTS).decode("utf-8", "replace")
    joined = re.sub(r"\\\r?\n", " ", text).splitlines()
    lines = (re.sub(r"(^|\s)#.*|\s--hash=\S+", "", line).strip() for line in joined)
    return tuple(line for line in lines if line)


def _model(request: ModelRequest, stacks: Sequence[Stack], opener: Opener) -> Model:
    return _on_disk(request, stacks, opener) if request.path else _on_hub(request, stacks, opener)


def _on_disk(request: ModelRequest, stacks: Sequence[Stack], opener: Opener) -> Model:
    """A local directory, which may hold no more than a config.json."""
    found = {str(file.path): file for file in walk(opener.context.directory / request.path)}
    taken = _taken(request, {path: file.size for path, file in found.items()})
    return read_model(_begun(request, taken), lambda path: opener.local(found[path].source, ""), stacks)


def _on_hub(request: ModelRequest, stacks: Sequence[Stack], opener: Opener) -> Model:
    hub = Hub.from_environment()
    listing = hub.listing(request.repo, request.revision)
    files = {str(file.path): file for file in listing.files}
    taken = _taken(request, {path: file.size for path, file in files.items()})

    def open_file(path: str) -> Source:
        file = files[path]
        url = hub.url(request.repo, listing.commit, path)
        return opener.remote(url, hub.auth(), size=file.size, digest=file.sha256 or "")

    sums = {path: files[path].sha256 or "" for path in taken}
    begun = replace(_begun(request, taken), gated=listing.gated, licence=listing.licence, sums=sums)
    return read_model(begun, open_file, stacks, hub)


def _begun(request: ModelRequest, files: Mapping[str, int]) -> Model:
    return Model(
        request.name,
        request.repo,
        request.quantization,
        "",
        None,
        Evidence(f"{request.name}/{CONFIG}"),
        files,
        server=request.served_by,
    )


def _taken(request: ModelRequest, files: Mapping[str, int]) -> dict[str, int]:
    """What include and exclude leave; a pattern that nothing matches is for `lock` to refuse."""
    kept = set(
        filter_repo_objects(
            files, allow_patterns=list(request.include) or None, ignore_patterns=list(request.exclude) or None
        )
    )
    return {path: size for path, size in files.items() if path in kept}
