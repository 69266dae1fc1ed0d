"""Plain files: one URL or one local path each."""

import hashlib
import stat
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urldefrag, urlsplit

from airgap.connected.source import Context, Resolved, fetch_files
from airgap.connected.transfer import Download, public_url
from airgap.errors import InputError, IntegrityError
from airgap.manifest import FileRequest, request_digest
from airgap.model import (
    BundlePath,
    FileArtifact,
    Finding,
    Local,
    LockedFile,
    Remote,
    Severity,
    Sha256,
    bundle_path,
)
from airgap.store import Blob


def resolve(request: FileRequest, previous: FileArtifact | None, context: Context) -> Resolved:
    """The exact bytes wanted. Those of a URL are then in the store.

    A URL that `previous` answers already stays as it was locked, and costs no connection; a local
    path is always read again. Raises InputError, SourceError, IntegrityError or HostError.
    """
    answered = _digest(request)
    if request.path:
        file = _read_local(request, context)
    elif previous and previous.request == answered:
        return Resolved(previous)
    else:
        file = _download(request, context)
    findings = [] if request.sha256 else [_recorded(request, file)]
    if public_url(request.url) != urldefrag(request.url).url:
        findings.append(_left_out(request))
    return Resolved(FileArtifact(request.name, answered, (file,)), tuple(findings))


def fetch(artifact: FileArtifact, context: Context) -> None:
    """The file into the store. Raises SourceError, InputError, IntegrityError or HostError."""
    fetch_files(artifact.files, context, lambda file: None)


def _digest(request: FileRequest) -> str:
    """Over the URL without its credentials: a lock must not hold a hash of a password."""
    return request_digest(replace(request, url=public_url(request.url)))


def _download(request: FileRequest, context: Context) -> LockedFile:
    url = public_url(request.url)
    path = _file_name(request, unquote(urlsplit(url).path))
    expected = Sha256(request.sha256) if request.sha256 else None
    [blob] = context.transfer.fetch([Download(request.url, request.name, expected)])
    return LockedFile(path, blob.size, blob.sha256, Remote(url))


def _read_local(request: FileRequest, context: Context) -> LockedFile:
    path = _file_name(request, request.path)
    blob = _hash_local(request, context)
    if request.sha256 not in ("", blob.sha256):
        raise IntegrityError(
            f"{request.name}: {request.path}: expected sha256 {request.sha256}, as the manifest says;"
            f" found {blob.sha256} ({blob.size} bytes)",
            remedy="put the right file there, or correct sha256 in the manifest",
        )
    return LockedFile(path, blob.size, blob.sha256, Local(request.path))


def _hash_local(request: FileRequest, context: Context) -> Blob:
    """Only read: the bytes go into the store when they are fetched."""
    source = context.directory / request.path
    remedy = f"correct the path of the file {request.name!r}; it is relative to the manifest"
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            raise InputError(f"{request.name}: {source}: expected a regular file", remedy=remedy)
        with open(source, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return Blob(Sha256(digest), stream.tell())
    except OSError as error:
        raise InputError(f"{request.name}: {source}: {error.strerror}", remedy=remedy) from None


def _file_name(request: FileRequest, path: str) -> BundlePath:
    try:
        return bundle_path(PurePosixPath(path).name)
    except InputError as error:
        raise InputError(
            f"{request.name}: {error.message}", remedy="give a URL or path that ends in a plain file name"
        ) from None


def _recorded(request: FileRequest, file: LockedFile) -> Finding:
    return Finding(
        "file-recorded-at-lock",
        Severity.INFO,
        request.name,
        "its sha256 was recorded from the bytes found now, not given in the manifest",
        evidence=f"sha256 {file.sha256}, {file.size} bytes",
        remedy=f'compare it with what the publisher states, then write sha256 = "{file.sha256}"',
    )


def _left_out(request: FileRequest) -> Finding:
    return Finding(
        "file-url-credentials",
        Severity.INFO,
        request.name,
        "the credentials in its URL are used now and are not written into the lock",
        evidence=public_url(request.url),
        remedy="a build with another store needs them in ~/.netrc",
    )
