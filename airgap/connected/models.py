"""Models: a revision of a hub repository, or a local directory, as locked files."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

from airgap.connected.http import HttpRefusal
from airgap.connected.hub import Hub, HubFile, Listing, one_line
from airgap.connected.model_claims import judge_claim
from airgap.connected.model_directory import LocalFile, hash_all, is_hidden, walk
from airgap.connected.source import Context, Resolved, fetch_files
from airgap.connected.transfer import Download
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.manifest import ModelRequest, is_commit, request_digest
from airgap.model import (
    BundlePath,
    Finding,
    Local,
    LockedFile,
    ModelArtifact,
    Remote,
    Severity,
    Sha256,
    bundle_path,
)
from airgap.store import CHUNK

MAX_CARD = 1024 * 1024
"""Bytes of a README.md that are read for its licence."""


def resolve(request: ModelRequest, previous: ModelArtifact | None, context: Context) -> Resolved:
    """Lock a model. A pin of `previous` stays while the manifest asks for the same repository and revision.

    Raises SourceError when the source lacks, refuses or fails to give what is wanted, InputError
    when names cannot travel or the weights refute `quantization`, IntegrityError when a file is not
    what its git blob id says.
    """
    if request.path:
        return _from_directory(request, context)
    return _from_hub(request, previous, context)


def fetch(artifact: ModelArtifact, context: Context) -> None:
    """Bring every file of the model into the store.

    Raises SourceError (a gate in the words of `resolve`), IntegrityError or HostError.
    """
    missing = [f for f in artifact.files if not context.store.holds(f.sha256, f.size)]
    if not missing:
        return
    if not artifact.repo:
        return fetch_files(missing, context, lambda _: None)
    hub = Hub.from_environment()
    auth = hub.auth()
    try:
        fetch_files(missing, context, lambda _: auth)
    except HttpRefusal as error:
        raise hub.explain(artifact.repo, error) from None


def _from_hub(request: ModelRequest, previous: ModelArtifact | None, context: Context) -> Resolved:
    digest = request_digest(request)
    if previous is not None and previous.request == digest:
        return Resolved(previous, _duplicate_weights(previous))
    _judge_revision(request)
    pinned = previous if previous and _same_source(previous, request) else None
    hub = Hub.from_environment()
    listing = hub.listing(request.repo, pinned.commit if pinned else request.revision)
    taken = _select([f.path for f in listing.files], request, request.repo)
    chosen = [file for file in listing.files if file.path in taken]
    revision = _Revision(request.repo, hub, listing)
    files = _lock_files(revision, chosen, pinned, context)
    artifact = ModelArtifact(
        request.name,
        digest,
        request.repo,
        request.revision,
        listing.commit,
        request.quantization,
        request.served_by,
        listing.licence,
        listing.gated,
        files,
    )
    try:
        judged = judge_claim(artifact, context, hub.auth())
    except HttpRefusal as error:
        raise hub.explain(request.repo, error) from None
    return Resolved(artifact, (*judged, *_duplicate_weights(artifact)))


def _same_source(previous: ModelArtifact, request: ModelRequest) -> bool:
    return (previous.repo, previous.revision) == (request.repo, request.revision) and is_commit(
        previous.commit
    )


def _judge_revision(request: ModelRequest) -> None:
    """A revision becomes a path on the isolated side, `refs/<revision>`."""
    key = f"models.{request.name}.revision"
    if not re.fullmatch(r"[\w-][\w./-]*", request.revision):
        raise InputError(f"{key}: expected letters, digits and any of ._/-, found {request.revision[:80]!r}")
    try:
        bundle_path(request.revision)
    except InputError as error:
        raise InputError(f"{key}: {error.message}") from None


@dataclass(frozen=True, slots=True)
class _Revision:
    """A repository at one commit of a hub."""

    repo: str
    hub: Hub
    listing: Listing

    def url(self, path: str) -> str:
        return self.hub.url(self.repo, self.listing.commit, path)


def _lock_files(
    revision: _Revision, chosen: Sequence[HubFile], pinned: ModelArtifact | None, context: Context
) -> tuple[LockedFile, ...]:
    known = {file.path: file.sha256 for file in pinned.files} if pinned else {}
    known |= {file.path: file.sha256 for file in chosen if file.sha256}
    small = [file for file in chosen if file.path not in known]
    if revision.listing.gated and not small:
        # Listing a gated repository is free; learn now, not at the first gigabyte, that its files are not.
        revision.hub.require_access(revision.repo, revision.url(chosen[0].path), context.transfer)
    known |= _fetch_from_git(revision, small, context)
    return tuple(LockedFile(f.path, f.size, known[f.path], Remote(revision.url(f.path))) for f in chosen)


def _fetch_from_git(
    revision: _Revision, files: Sequence[HubFile], context: Context
) -> dict[BundlePath, Sha256]:
    """The hub knows only git's sha1 of files outside LFS: fetch them, check that, and record the sha256."""
    if not files:
        return {}
    auth = revision.hub.auth()
    downloads = [Download(revision.url(f.path), f.path, None, f.size, auth) for f in files]
    with context.progress.task(f"{revision.repo}: files outside LFS", sum(f.size for f in files)):
        try:
            blobs = context.transfer.fetch(downloads)
        except HttpRefusal as error:
            raise revision.hub.explain(revision.repo, error) from None
    for file, blob in zip(files, blobs, strict=True):
        found = _git_blob_id(context.store.path(blob.sha256), blob.size)
        if found != file.blob_id:
            raise IntegrityError(
                f"{revision.url(file.path)}: expected git blob {file.blob_id}, found {found}",
                remedy="repeat; if it stays, a proxy or mirror between here and the hub changes the file",
            )
    return {file.path: blob.sha256 for file, blob in zip(files, blobs, strict=True)}


def _git_blob_id(path: Path, size: int) -> str:
    """git's object id of a blob: sha1 over `blob <size>` NUL content (gitformat-objects)."""
    hasher = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _from_directory(request: ModelRequest, context: Context) -> Resolved:
    root = context.directory / request.path
    found = walk(root)
    hidden = [file for file in found if is_hidden(file.path) and not _asked_for(file.path, request.include)]
    visible = [file for file in found if file not in hidden]
    taken = _select([file.path for file in visible], request, str(root))
    chosen = [file for file in visible if file.path in taken]
    with context.progress.task(f"{request.name}: hashing", sum(file.size for file in chosen)):
        blobs = hash_all(chosen, context.progress)
    base = PurePosixPath(request.path)
    files = tuple(
        LockedFile(file.path, blob.size, blob.sha256, Local(str(base / file.path)))
        for file, blob in zip(chosen, blobs, strict=True)
    )
    artifact = ModelArtifact(
        request.name,
        request_digest(request),
        repo="",
        revision="",
        commit="",
        quantization=request.quantization,
        served_by=request.served_by,
        licence=_licence(chosen),
        gated="",
        files=files,
    )
    findings = (*judge_claim(artifact, context), *_hidden_left_out(request.name, hidden))
    return Resolved(artifact, (*findings, *_duplicate_weights(artifact)))


def _asked_for(path: str, include: Sequence[str]) -> bool:
    """A hidden file is wanted only by a pattern that itself names something hidden."""
    patterns = [pattern for pattern in include if is_hidden(pattern)]
    return any(filter_repo_objects([path], allow_patterns=patterns))


def _select(paths: Sequence[str], request: ModelRequest, what: str) -> set[str]:
    """The paths that include and exclude leave, by fnmatch as the hub's own client matches."""
    unmatched = [p for p in request.include if not any(filter_repo_objects(paths, allow_patterns=[p]))]
    shown = ", ".join(paths[:20]) + (f" and {len(paths) - 20} more" if len(paths) > 20 else "")
    shown = shown or "no file at all"
    if unmatched:
        raise SourceError(
            f"{what}: nothing matches include {', '.join(map(repr, unmatched))}; found {shown}",
            remedy=f"correct models.{request.name}.include",
        )
    taken = set(
        filter_repo_objects(
            paths, allow_patterns=list(request.include) or None, ignore_patterns=list(request.exclude) or None
        )
    )
    if not taken:
        raise SourceError(
            f"{what}: expected at least one file; include and exclude leave none of {shown}",
            remedy=f"correct models.{request.name}.include and exclude",
        )
    return taken


def _licence(files: Sequence[LocalFile]) -> str:
    """The `license` of the model card's front matter; '' where there is none."""
    card = next((file for file in files if file.path == "README.md"), None)
    if card is None:
        return ""
    try:
        with open(card.source, "rb") as stream:
            lines = stream.read(MAX_CARD).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise SourceError(f"{card.source}: cannot be read: {error.strerror}") from None
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if line.strip() == "---":
            break
        if key == "license":
            return one_line(value.strip().strip("'\""))
    return ""


def _hidden_left_out(name: str, hidden: Sequence[LocalFile]) -> tuple[Finding, ...]:
    if not hidden:
        return ()
    return (
        Finding(
            "model-hidden-files",
            Severity.INFO,
            name,
            f"{len(hidden)} hidden files ({sum(file.size for file in hidden)} bytes) are left out",
            evidence=", ".join(file.path for file in hidden[:5]),
            remedy="name one in include if the model needs it",
        ),
    )


def _duplicate_weights(artifact: ModelArtifact) -> tuple[Finding, ...]:
    """Many repositories hold their weights twice: engines that find safetensors read no pickles."""
    pickles = [
        f
        for f in artifact.files
        if f.path.endswith((".bin", ".pth", ".pt")) and not f.path.endswith("training_args.bin")
    ]
    if not pickles or not any(f.path.endswith(".safetensors") for f in artifact.files):
        return ()
    patterns = ", ".join(sorted({f'"*{PurePosixPath(f.path).suffix}"' for f in pickles}))
    return (
        Finding(
            "model-duplicate-weights",
            Severity.INFO,
            artifact.name,
            f"holds safetensors and also {len(pickles)} pickled files; {sum(f.size for f in pickles)} bytes"
            " could be left out",
            evidence=", ".join(f.path for f in pickles[:5]),
            remedy=f"exclude = [{patterns}]",
        ),
    )
