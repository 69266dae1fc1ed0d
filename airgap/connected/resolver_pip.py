"""pip-tools made to resolve for the target: the one module that touches pip's internals.

Three places decide for whom pip resolves, and pip-tools sets none of them: the marker environment, the
finder's `target_python`, and the resolver's `py_version_info`. The rest of this module listens to what
pip sees on the way: which index a file came from, its size, and why nothing fits.
"""

import os
import re
from collections.abc import Iterable, Iterator
from optparse import Values
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pip._internal.commands import create_command
from pip._internal.exceptions import (
    ConnectionFailedError,
    ConnectionTimeoutError,
    DiagnosticPipError,
    DistributionNotFound,
    NetworkConnectionError,
    PipError,
    ProxyConnectionError,
    SSLVerificationError,
)
from pip._internal.models.format_control import FormatControl
from pip._internal.models.link import Link
from pip._internal.models.target_python import TargetPython
from pip._internal.req import InstallRequirement
from pip._vendor.packaging import markers
from pip._vendor.packaging.specifiers import SpecifierSet
from pip._vendor.packaging.tags import Tag
from pip._vendor.packaging.utils import canonicalize_name
from pip._vendor.requests.exceptions import RequestException
from pip._vendor.resolvelib.resolvers import ResolutionImpossible
from piptools._compat import parse_requirements
from piptools._internal import _pip_api
from piptools.exceptions import PipToolsError
from piptools.repositories import PyPIRepository
from piptools.resolver import BacktrackingResolver
from piptools.utils import key_from_ireq

from airgap.connected.http import public_url
from airgap.connected.index import strip_logins
from airgap.connected.resolver_evidence import Evidence, conflict
from airgap.connected.resolver_protocol import Question, Refusal

_NETWORK = (
    NetworkConnectionError,
    ConnectionFailedError,
    ConnectionTimeoutError,
    ProxyConnectionError,
    SSLVerificationError,
    RequestException,
)


def answer(question: Question) -> dict[str, object]:
    """Resolve for the target. Raises Refusal."""
    settings = _user_settings()
    document: dict[str, object] = {
        "index_url": question.index_url or settings.index_url,
        "cert": settings.cert or "",
        "roots": [],
        "refusing": [],
        "choices": [],
    }
    if question.python:
        _forget_user_settings()
        try:
            document |= _resolve(question, settings)
        except _NETWORK as error:
            raise Refusal("source", f"an index failed: {_said(error)}") from error
        except (PipError, PipToolsError) as error:
            raise Refusal("input", _said(error)) from error
    return document


def _user_settings() -> Values:
    """What pip would do for this user: its files and its environment variables together."""
    options, _ = create_command("install").parse_args([])
    return options


def _forget_user_settings() -> None:
    """A manifest names every source: pip's own find-links and extra-index-url must add none."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        del os.environ[name]
    os.environ["PIP_CONFIG_FILE"] = os.devnull


def _resolve(question: Question, settings: Values) -> dict[str, object]:
    repository = PyPIRepository(_pip_arguments(question, settings), cache_dir=question.cache)
    finder = repository.finder
    finder.format_control = _Formats(question.allow_sdist)
    resolvers = _aim(repository, question)
    evidence = Evidence(finder)
    requirements = _read_requirements(question, repository)
    try:
        chosen = BacktrackingResolver(
            constraints=requirements,
            existing_constraints=_pins(question),
            repository=repository,
            allow_unsafe=True,
        ).resolve()
    except DistributionNotFound as error:
        raise _nothing_fits(error, evidence, question) from error
    dists = {
        canonicalize_name(candidate.project_name): candidate
        for candidate in resolvers[-1]._result.mapping.values()
        if candidate.name == candidate.project_name and candidate.source_link
    }
    choices = [
        _choice(ireq, dists[canonicalize_name(key_from_ireq(ireq))], evidence, requirements)
        for ireq in sorted(chosen, key=key_from_ireq)
    ]
    _link_parents(choices, chosen)
    roots = [str(ireq.req or ireq.link) for ireq in requirements if not ireq.constraint]
    return {"roots": roots, "refusing": sorted(evidence.refusing), "choices": choices}


def _pip_arguments(question: Question, settings: Values) -> list[str]:
    """The sources of the manifest; the CA bundle, proxy, time-out and keyring of the user."""
    arguments = ["--index-url", question.index_url or settings.index_url]
    for url in question.extra_index_urls:
        arguments += ["--extra-index-url", url]
    for place in question.find_links:
        arguments += ["--find-links", place]
    for name in ("cert", "client_cert", "proxy", "timeout", "retries", "keyring_provider"):
        value = getattr(settings, name)
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    for host in settings.trusted_hosts:
        arguments += ["--trusted-host", host]
    # fast-deps reads METADATA by ranges: a lock must not cost the gigabytes it describes.
    return [*arguments, "--no-input", "--use-feature", "fast-deps", "--cache-dir", question.cache]


class _Formats(FormatControl):
    """Wheels for all, sdists as well for the named: pip's own options cannot say that."""

    __slots__ = ("_sdists",)

    def __init__(self, sdists: Iterable[str]) -> None:
        super().__init__(set(), set())
        self._sdists = {canonicalize_name(name) for name in sdists}

    def get_allowed_formats(self, canonical_name: str) -> frozenset[str]:
        return frozenset(("binary", "source") if canonical_name in self._sdists else ("binary",))


def _aim(repository: PyPIRepository, question: Question) -> list[Any]:
    """Set the three places; the list will hold the resolvers that pip-tools makes."""
    environment = dict(question.markers or {})
    markers.default_environment = lambda: dict(environment)  # type: ignore[assignment, return-value]

    version = tuple(int(part) for part in question.python.split("."))
    target = TargetPython(py_version_info=version)
    target._valid_tags = [Tag(*tag.split("-")) for tag in question.tags]
    repository.finder._target_python = target

    made: list[Any] = []
    make = repository.command.make_resolver

    def make_for_target(**arguments: Any) -> Any:
        made.append(make(**arguments, py_version_info=version))
        return made[-1]

    repository.command.make_resolver = make_for_target  # type: ignore[method-assign, assignment]
    return made


def _read_requirements(question: Question, repository: PyPIRepository) -> list[InstallRequirement]:
    """The manifest's lines, its requirements file and its constraints, judged. Raises Refusal."""
    before = _sources(repository)
    read: list[InstallRequirement] = []
    with TemporaryDirectory() as directory:
        inline = Path(directory, "requirements")
        inline.write_text("\n".join(question.requirements), encoding="utf-8")
        sources = [(str(inline), False), (question.requirements_file, False)]
        sources += [(path, True) for path in question.constraints]
        for path, is_constraint in sources:
            if path:
                read += parse_requirements(
                    path,
                    session=repository.session,
                    finder=repository.finder,
                    options=repository.options,
                    constraint=is_constraint,
                )
                _judge_options(path, before, repository)
    for ireq in read:
        ireq.comes_from = None if str(inline) in str(ireq.comes_from) else ireq.comes_from
        _judge_requirement(ireq, question)
    read = [ireq for ireq in read if ireq.match_markers()]
    if not any(not ireq.constraint for ireq in read):
        raise Refusal("input", "no requirement applies to the target", remedy="check the markers")
    # Resolving must not download what it only has to read; the digests are compared in _choice.
    repository.options.require_hashes = False
    return read


def _sources(repository: PyPIRepository) -> tuple[list[str], list[str], bool]:
    scope = repository.finder.search_scope
    return list(scope.index_urls), list(scope.find_links), scope.no_index


def _judge_options(path: str, before: object, repository: PyPIRepository) -> None:
    if _sources(repository) != before:
        raise Refusal(
            "input",
            f"{path}: names an index or find-links; every source belongs in the manifest",
            remedy="move it to index-url, extra-index-urls or find-links of the manifest",
        )
    if repository.finder.format_control.no_binary:
        raise Refusal("input", f"{path}: --no-binary cannot be honoured", remedy="use allow-sdist")


def _judge_requirement(ireq: InstallRequirement, question: Question) -> None:
    link = ireq.link
    shown = strip_logins(str(ireq.req or link))
    if ireq.editable or (link and (link.is_vcs or link.is_existing_dir())):
        raise Refusal(
            "input",
            f"{shown}: a source tree is not a wheel",
            remedy="build a wheel of it and name its directory in find-links",
        )
    allowed = {canonicalize_name(name) for name in question.allow_sdist}
    if link and not link.is_wheel and canonicalize_name(ireq.name or "") not in allowed:
        raise Refusal("input", f"{shown}: not a wheel", remedy="name the package in allow-sdist")
    if ireq.hash_options and "sha256" not in ireq.hash_options:
        raise Refusal("input", f"{shown}: expected a --hash=sha256:…", remedy="add the sha256")


def _pins(question: Question) -> dict[str, InstallRequirement]:
    return {
        name: _pip_api.create_install_requirement_from_line(f"{name}=={version}")
        for name, version in (question.pins or {}).items()
    }


def _choice(
    ireq: InstallRequirement, candidate: Any, evidence: Evidence, requirements: list[InstallRequirement]
) -> dict[str, object]:
    link: Link = candidate.source_link
    name = key_from_ireq(ireq)
    wanted = [r for r in requirements if r.name and key_from_ireq(r) == name]
    sha256 = link._hashes.get("sha256", "").lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise Refusal("source", f"{public_url(link.url)}: its index gives {sha256[:80]!r} as its sha256")
    _judge_hashes(ireq, sha256, wanted)
    asked = any("+" in str(r.req) or r.link for r in wanted)
    choice: dict[str, object] = {
        "name": name,
        "version": str(candidate.version),
        "file": link.filename,
        "url": public_url(link.url),
        "sha256": sha256,
        "size": evidence.size(link),
        "provenance": evidence.provenance(link),
        "index": evidence.index(link),
        "found_on": evidence.found_on(name),
        "requires_python": str(candidate.dist.metadata.get("Requires-Python") or ""),
        "requires": [],
        "unasked_local": bool(candidate.version.local) and not asked,
    }
    if link.is_yanked:
        choice["yanked"] = link.yanked_reason
    return choice


def _judge_hashes(ireq: InstallRequirement, sha256: str, wanted: list[InstallRequirement]) -> None:
    for requirement in wanted:
        allowed = requirement.hash_options.get("sha256", [])
        if allowed and sha256 not in allowed:
            raise Refusal(
                "input",
                f"{ireq.req}: the file chosen for the target has a sha256 that the requirements do not allow",
                (f"expected one of {', '.join(allowed)}", f"found {sha256 or 'none on the index'}"),
                "check the file, then add its --hash, or drop the hashes",
            )


def _link_parents(choices: list[dict[str, object]], chosen: set[InstallRequirement]) -> None:
    requires: dict[str, set[str]] = {}
    for ireq in chosen:
        for parent in ireq._required_by:  # type: ignore[attr-defined]
            requires.setdefault(parent, set()).add(key_from_ireq(ireq))
    for choice in choices:
        choice["requires"] = sorted(requires.get(str(choice["name"]), ()))


def _nothing_fits(error: DistributionNotFound, evidence: Evidence, question: Question) -> Refusal:
    """pip's words, and for every package of the conflict that has files but none for the target, its tags."""
    problems = list(conflict(evidence.log))
    remedies = []
    cause = error.__cause__
    causes = cause.causes if isinstance(cause, ResolutionImpossible) else []
    for name, specifier in _wanted(causes):
        problem, remedy = evidence.nothing_for_target(name, specifier)
        if problem and problem not in problems:
            problems.append(problem)
            remedies.append(remedy)
    remedy = "; ".join(dict.fromkeys(remedies)) or "loosen one of these requirements"
    machine = (question.markers or {}).get("platform_machine", "")
    return Refusal(
        "input",
        f"the requirements cannot be met for Python {question.python} on {machine} Linux",
        tuple(problems),
        remedy,
    )


def _wanted(causes: Iterable[Any]) -> Iterator[tuple[str, SpecifierSet]]:
    for cause in causes:
        _, ireq = cause.requirement.get_candidate_lookup()
        if ireq is not None and ireq.req is not None:
            yield canonicalize_name(ireq.req.name), ireq.req.specifier


def _said(error: BaseException) -> str:
    """pip's message on one line, without its terminal markup or a login."""
    text = str(error)
    if isinstance(error, DiagnosticPipError):
        text = f"{error.message} {error.context or ''}"
    return strip_logins(re.sub(r"\s+", " ", text)).strip()
