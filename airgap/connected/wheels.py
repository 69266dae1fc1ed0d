"""Wheels on the connected side: requirements in, one wheel a package for the target out.

pip chooses (`resolver`), uv checks the choice (`wheels_uv`), and what the index leaves unsaid is found
out here: sizes, missing digests, the wheels that allowed sdists become.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airgap.connected import provenance
from airgap.connected.index import login_for, strip_logins, with_login
from airgap.connected.resolver import PINNED
from airgap.connected.resolver_protocol import Answer, Choice, Question, ask
from airgap.connected.source import Context, Resolved, fetch_files
from airgap.connected.transfer import Download, HttpRefusal, public_url
from airgap.connected.wheels_sdist import built_wheel
from airgap.connected.wheels_uv import cross_check, uv_version
from airgap.decode import canonical_json, read_capped
from airgap.errors import InputError, IntegrityError
from airgap.manifest import WheelsRequest, request_digest
from airgap.model import (
    Finding,
    Local,
    LockedFile,
    Made,
    Package,
    Remote,
    Severity,
    WheelsArtifact,
    bundle_path,
)
from airgap.store import Blob
from airgap.tags import marker_environment, supported_tags

MAX_REQUIREMENTS = 8 * 1024 * 1024
"""Bytes of one requirements or constraints file; a thousand packages with hashes are below 1 MiB."""

WHEEL_FROM_SDIST = "wheel-from-sdist"


def resolve(request: WheelsRequest, previous: WheelsArtifact | None, context: Context) -> Resolved:
    """Choose one wheel a package for the target; the pins of `previous` stay where they still fit.

    Raises InputError (nothing fits, or pip and uv disagree), SourceError (an index failed), or HostError.
    """
    context.store.prepare()
    digest = _digest(request, context)
    if previous and previous.request == digest and _local_unchanged(previous, context):
        return Resolved(previous)
    question = _question(request, previous, context)
    answer = ask(question)
    findings = [*_judge(request.name, answer), *cross_check(request.name, question, answer, context.target)]
    sources = _Sources.of(answer, (request.index_url, *request.extra_index_urls, *request.find_links))
    files = _lock_files(answer.choices, sources, context)
    attested = _attested(answer.choices, files, sources, context)
    packages = tuple(
        Package(c.name, c.version, file.path, c.index, c.requires_python, c.requires, c.yanked, found)
        for c, file, (found, _) in zip(answer.choices, files, attested, strict=True)
    )
    findings += provenance.judge(request.name, [(p.name, p.provenance) for p in packages if p.provenance])
    files += [document for _, document in attested if document]
    roots = tuple(strip_logins(root) for root in answer.roots)
    artifact = WheelsArtifact(request.name, digest, roots, context.target.python, packages, tuple(files))
    return Resolved(artifact, tuple(findings))


def _attested(
    choices: Sequence[Choice], files: Sequence[LockedFile], sources: "_Sources", context: Context
) -> Sequence[provenance.Carried]:
    if not context.provenance:
        return [(None, None)] * len(files)
    return provenance.attestations_of(files, choices, sources.logins, context)


def fetch(artifact: WheelsArtifact, context: Context) -> None:
    """Every wheel into the store; allowed sdists are built again where it lacks their wheel.

    Raises SourceError, InputError, IntegrityError or HostError.
    """
    missing = [file for file in artifact.files if not context.store.holds(file.sha256, file.size)]
    try:
        _fetch_files(missing, context.logins, context)
    except HttpRefusal as refusal:
        if refusal.status not in (401, 403):
            raise
        # Only now, because asking costs a process: the login may be that of the user's own default index.
        _fetch_files(missing, (*context.logins, ask(Question()).index_url), context)
    made = [file for file in missing if isinstance(file.origin, Made)]
    if made:
        sources = _Sources.of(ask(Question()), context.logins)
        indexes = sorted({package.index for package in artifact.packages if package.index})
        for file in made:
            _rebuild(file, sources, indexes, context)


def _fetch_files(files: Sequence[LockedFile], logins: tuple[str, ...], context: Context) -> None:
    fetch_files(files, context, lambda file: login_for(_url(file), logins))


def tool_versions() -> dict[str, str]:
    """What decides a resolution besides the indexes, for the lock's table of tools."""
    uv = uv_version()
    return dict(PINNED) | ({"uv": uv} if uv else {})


@dataclass(frozen=True, slots=True)
class _Sources:
    """URLs that carry the logins of manifest and user, the user's default index, and the CA bundle."""

    logins: tuple[str, ...]
    index: str
    cert: str

    @classmethod
    def of(cls, settings: Answer, urls: Sequence[str]) -> "_Sources":
        return cls((*urls, settings.index_url), settings.index_url, settings.cert)

    def indexes(self, named: Iterable[str]) -> list[str]:
        """The indexes a set was locked from, as pip wants them told; else the user's own."""
        return [with_login(url, self.logins) for url in named] or [self.index]


def _digest(request: WheelsRequest, context: Context) -> str:
    """Over everything that can change the answer, and no login: a lock must not hold a password's hash."""
    public = replace(
        request,
        requirements=tuple(map(strip_logins, request.requirements)),
        index_url=public_url(request.index_url),
        extra_index_urls=tuple(map(public_url, request.extra_index_urls)),
        find_links=tuple(map(strip_logins, request.find_links)),
    )
    named = [*filter(None, [request.requirements_file]), *request.constraints]
    texts = dict(_texts([context.directory / path for path in named], context.directory))
    target = context.target
    described = canonical_json([target.python, str(target.platform), target.glibc]).decode()
    return request_digest(public, {"target": described, **context.asks, **texts})


_INCLUDE = re.compile(r"\s*(?:-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S+)")


def _texts(paths: Sequence[Path], directory: Path) -> Iterator[tuple[str, str]]:
    """Requirements and constraints files and all they include, each once. Raises InputError."""
    waiting, seen = list(paths), set[Path]()
    while waiting:
        path = waiting.pop(0).absolute()
        if path in seen:
            continue
        seen.add(path)
        text = read_capped(path, max_bytes=MAX_REQUIREMENTS).decode("utf-8", "replace")
        yield os.path.relpath(path, directory), strip_logins(text)
        for name in filter(None, (match[1] for match in map(_INCLUDE.match, text.splitlines()) if match)):
            if "://" in name:
                raise InputError(
                    f"{path}: includes {strip_logins(name)}; expected a file",
                    remedy="download it and name the copy: what is locked must not change elsewhere",
                )
            waiting.append(path.parent / name)


def _question(request: WheelsRequest, previous: WheelsArtifact | None, context: Context) -> Question:
    for requirement in request.requirements:
        if requirement.lstrip().startswith("-"):
            raise InputError(
                f"{request.name}: expected a requirement such as vllm==0.19.1, found {requirement[:80]!r}",
                remedy="give options by the manifest's keys, files by requirements-file",
            )
    return Question(
        requirements=request.requirements,
        requirements_file=_absolute(request.requirements_file, context.directory),
        constraints=tuple(_absolute(path, context.directory) for path in request.constraints),
        index_url=request.index_url,
        extra_index_urls=request.extra_index_urls,
        find_links=tuple(_find_links(place, request.name, context.directory) for place in request.find_links),
        allow_sdist=request.allow_sdist,
        python=context.target.python,
        tags=supported_tags(context.target),
        markers=marker_environment(context.target),
        pins={package.name: package.version for package in previous.packages} if previous else {},
        cache=str((context.store.root / "pip").absolute()),
        directory=str(context.directory.absolute()),
    )


def _absolute(path: str, directory: Path) -> str:
    return str((directory / path).absolute()) if path else ""


def _find_links(place: str, name: str, directory: Path) -> str:
    if "://" in place:
        return place
    path = (directory / place).absolute()
    if not path.exists():
        # pip only warns, and resolves without it.
        raise InputError(f"{name}: find-links: {path} does not exist", remedy="correct find-links")
    return str(path)


def _local_unchanged(artifact: WheelsArtifact, context: Context) -> bool:
    """Whether the local files it was locked from still hold the same bytes."""
    for file in artifact.files:
        source = file.origin.source if isinstance(file.origin, Made) else file.origin
        expected = file.origin.source_sha256 if isinstance(file.origin, Made) else file.sha256
        if isinstance(source, Local):
            path = context.directory / source.path
            if not path.is_file() or _add_local(path, context).sha256 != expected:
                return False
    return True


def _lock_files(choices: Sequence[Choice], sources: _Sources, context: Context) -> list[LockedFile]:
    """The choices as locked files. What has no digest on its index, and every sdist, is downloaded now."""
    unsaid = [c for c in choices if not _local_path(c.url) and (not c.sha256 or not _is_wheel(c))]
    downloads = [Download(c.url, c.file, c.sha256, auth=login_for(c.url, sources.logins)) for c in unsaid]
    blobs = dict(zip((c.url for c in unsaid), context.transfer.fetch(downloads), strict=True))
    for choice in choices:
        path = _local_path(choice.url)
        if path:
            blobs[choice.url] = _add_local(path, context)
    named = list(dict.fromkeys(choice.index for choice in choices if choice.index))
    return [_lock_file(c, blobs.get(c.url), sources, sources.indexes(named), context) for c in choices]


def _lock_file(
    choice: Choice, blob: Blob | None, sources: _Sources, indexes: Sequence[str], context: Context
) -> LockedFile:
    local = _local_path(choice.url)
    origin = Local(os.path.relpath(local, context.directory.absolute())) if local else Remote(choice.url)
    if blob and choice.sha256 not in (None, blob.sha256):
        raise IntegrityError(f"{choice.url}: expected sha256 {choice.sha256}, found {blob.sha256}")
    if blob and not _is_wheel(choice):
        with built_wheel(context.store.path(blob.sha256), choice.file, indexes, sources.cert) as wheel:
            made = _add_local(wheel, context)
            return LockedFile(
                bundle_path(wheel.name), made.size, made.sha256, Made(WHEEL_FROM_SDIST, origin, blob.sha256)
            )
    if blob:
        return LockedFile(choice.file, blob.size, blob.sha256, origin)
    assert choice.sha256, "what has no digest was downloaded"
    return LockedFile(choice.file, choice.size or _size(choice, sources, context), choice.sha256, origin)


def _size(choice: Choice, sources: _Sources, context: Context) -> int:
    """Bytes, from Content-Length where the index has no sizes, else from the file itself."""
    login = login_for(choice.url, sources.logins)
    plain = {"Accept-Encoding": "identity"}
    reply = context.transfer.get(
        choice.url, what=choice.file, max_bytes=0, method="HEAD", headers=plain, auth=login
    )
    length = reply.headers.get("content-length", "")
    if re.fullmatch(r"[1-9][0-9]{0,17}", length):
        return int(length)
    [blob] = context.transfer.fetch([Download(choice.url, choice.file, choice.sha256, auth=login)])
    return blob.size


def _rebuild(file: LockedFile, sources: _Sources, named: Sequence[str], context: Context) -> None:
    """Build the wheel of a locked sdist again and compare. Raises IntegrityError when it came out changed."""
    origin = file.origin
    assert isinstance(origin, Made)
    if isinstance(origin.source, Local):
        path = context.directory / origin.source.path
        blob = _add_local(path, context)
    else:
        path = Path(urlsplit(origin.source.url).path)
        login = login_for(origin.source.url, sources.logins)
        [blob] = context.transfer.fetch(
            [Download(origin.source.url, path.name, origin.source_sha256, auth=login)]
        )
    if blob.sha256 != origin.source_sha256:
        raise IntegrityError(f"{path.name}: expected sha256 {origin.source_sha256}, found {blob.sha256}")
    sdist = context.store.path(blob.sha256)
    with built_wheel(sdist, path.name, sources.indexes(named), sources.cert) as wheel:
        made = _add_local(wheel, context)
    if made.sha256 != file.sha256:
        raise IntegrityError(
            f"{file.path}: expected sha256 {file.sha256}, as locked; built again from {path.name} it has"
            f" {made.sha256}: its build backend or this Python has changed",
            remedy="run 'airgap lock --upgrade' to lock the wheel as it is built now",
        )


def _add_local(path: Path, context: Context) -> Blob:
    try:
        with open(path, "rb") as stream:
            return context.store.add_stream(stream, name=str(path.absolute()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _local_path(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _is_wheel(choice: Choice) -> bool:
    return choice.file.endswith(".whl")


def _url(file: LockedFile) -> str:
    return file.origin.url if isinstance(file.origin, Remote) else ""


def _judge(name: str, answer: Answer) -> Iterator[Finding]:
    """What a person should know about how the packages were chosen."""
    for choice in answer.choices:
        subject = f"{name}: {choice.name}"
        if choice.unasked_local:
            yield Finding(
                "wheels-local-version",
                Severity.WARNING,
                subject,
                f"the local version {choice.version} was chosen though no requirement names it",
                evidence=choice.url,
                remedy=f"write {choice.name}=={choice.version} if it is meant, else drop its index",
            )
        if choice.yanked is not None:
            yield Finding(
                "wheels-yanked",
                Severity.WARNING,
                subject,
                f"{choice.file} is yanked: {choice.yanked or 'no reason given'}",
                evidence=choice.url,
                remedy="choose another version",
            )
        if len(choice.found_on) > 1:
            yield Finding(
                "wheels-on-several-indexes",
                Severity.WARNING,
                subject,
                f"is on {' and on '.join(choice.found_on)}; locked to {choice.index}",
                evidence=choice.url,
                remedy="make sure that this is the project meant (dependency confusion), or drop an index",
            )
        if choice.sha256 is None and not _local_path(choice.url):
            yield Finding(
                "wheels-digest-recorded",
                Severity.INFO,
                subject,
                "its sha256 was recorded from the bytes found now: the index gives none",
                evidence=choice.url,
            )
    for index in answer.refusing:
        yield Finding(
            "wheels-index-refuses",
            Severity.WARNING,
            f"{name}: {index}",
            "answered 403 (forbidden) for some packages, which were taken to be absent there",
            remedy="give a login that may read it, or drop the index",
        )
