"""Gathers what `airgap gap` judges: a model's configs, and the releases of vLLM and transformers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Event

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from airgap.connected.catalogue import Catalogue
from airgap.connected.evidence import CONFIG, JOBS, read_model
from airgap.connected.hub import Hub
from airgap.connected.offers import Release
from airgap.connected.opener import Opener
from airgap.errors import AirgapError, InputError
from airgap.model import Target
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.python_tables import Entry
from airgap.readers.source import Source
from airgap.readiness.components import Model
from airgap.readiness.gap import Candidate, Gap, Since, judge_pairs, looked_up, registered
from airgap.readiness.judgement import Evidence
from airgap.readiness.search import Depth
from airgap.readiness.steps import find_edge, lines
from airgap.workers import run_all

PROJECTS = ("vllm", "transformers")
DOCUMENTS = (CONFIG, "hf_quant_config.json")
"""Of a model, what says which releases can run it; its weights are for `check`."""

MAX_CANDIDATES = 40
"""Releases of one project in one matrix."""


def read_asked(text: str, opener: Opener) -> Model:
    """A config.json, a directory that holds one, or `org/name[@revision]` on the hub.

    Raises InputError where it is none of these or has no config.json that can be read, else SourceError.
    """
    path = Path(text)
    model = _on_disk(path, opener) if path.exists() else _on_hub(text, opener)
    if model.config is None:
        damaged = [damage.message for c in model.checkpoints for damage in c.damaged]
        raise InputError(
            f"{text}: expected a model with a {CONFIG}, found {damaged[0] if damaged else 'none'}",
            remedy="for an adapter or a GGUF name the model that it was made from",
        )
    return model


def _on_disk(path: Path, opener: Opener) -> Model:
    here = {name: path / name for name in DOCUMENTS if (path / name).is_file()}
    sources = {name: opener.local(p, "") for name, p in here.items()} if path.is_dir() else {}
    if not path.is_dir():
        sources = {CONFIG: opener.local(path, "")}
    sizes = {name: source.size for name, source in sources.items()}
    directory = path if path.is_dir() else path.absolute().parent
    begun = _begun(directory.resolve().name, str(path), sizes)
    return read_model(begun, lambda name: sources[name], ())


def _on_hub(text: str, opener: Opener) -> Model:
    asked = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text)
    if not asked:
        raise InputError(
            f"{text}: expected a {CONFIG}, its directory, or a repository org/name[@revision] of the hub",
            remedy="check its spelling",
        )
    repo = asked[1]
    hub = Hub.from_environment()
    listing = hub.listing(repo, asked[2] or "main")
    files = {str(file.path): file for file in listing.files if file.path in DOCUMENTS}

    def open_file(path: str) -> Source:
        file = files[path]
        url = hub.url(repo, listing.commit, path)
        return opener.remote(url, hub.auth(), size=file.size, digest=file.sha256 or "")

    begun = _begun(f"{repo}@{listing.commit[:12]}", repo, {path: file.size for path, file in files.items()})
    return read_model(begun, open_file, (), hub)


def _begun(name: str, where: str, sizes: dict[str, int]) -> Model:
    source = where if where.endswith(CONFIG) else f"{where}/{CONFIG}"
    return Model(name, "", "", "", None, Evidence(source), sizes)


def choose_releases(offers: Sequence[Release], asked: Sequence[str], last: int) -> tuple[Release, ...]:
    """Those that any of the `asked` specifiers matches; without one the newest of each of the `last` lines.

    A bare version is taken for `==`. Raises InputError for what is neither, matches nothing, or too much.
    """
    if not asked:
        newest = {line[-1] for line in lines([offer.version for offer in offers])[-last:]}
        return tuple(offer for offer in offers if offer.version in newest)
    chosen: set[Version] = set()
    for text in asked:
        wanted = _specifier(text)
        found = {o.version for o in offers if wanted.contains(o.version, prereleases=True)}
        if not found:
            raise InputError(f"no release on the index matches {text!r}", remedy="widen it, or correct it")
        chosen |= found
    if len(chosen) > MAX_CANDIDATES:
        raise InputError(
            f"{len(chosen)} releases match; a matrix holds {MAX_CANDIDATES} at most", remedy="narrow it"
        )
    return tuple(offer for offer in offers if offer.version in chosen)


def _specifier(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(f"=={Version(text)}")
    except InvalidVersion:
        pass
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        raise InputError(
            f"expected a version or a specifier such as '>=0.19,<0.21', found {text!r}"
        ) from None


def gather_gap(
    model: Model, target: Target, catalogue: Catalogue, asked: dict[str, Sequence[str]], last: int
) -> Gap:
    """The matrix, and since when each project knows the model. Raises InputError or SourceError.

    A release that cannot be read, for want of requests too, is in the matrix with the reason.
    """
    chosen = {
        project: choose_releases(
            catalogue.offers(project, prereleases=bool(asked[project])), asked[project], last
        )
        for project in PROJECTS
    }
    works: list[Callable[[], Candidate]] = [
        partial(_candidate, project, release, catalogue)
        for project in PROJECTS
        for release in chosen[project]
    ]
    candidates = run_all(works, JOBS, Event())
    by_project = {name: [c for c in candidates if c.project == name] for name in PROJECTS}
    gap = judge_pairs(model, target, *by_project.values())
    since, notes = [], []
    for project in PROJECTS:
        found = _since(model, project, by_project[project], catalogue)
        if isinstance(found, Since):
            since.append(found)
        else:
            notes.append(found)
    return replace(gap, since=tuple(since), notes=tuple(notes))


def _candidate(project: str, release: Release, catalogue: Catalogue) -> Candidate:
    version, uploaded = release.version, release.file.uploaded
    try:
        return Candidate(project, str(version), uploaded, catalogue.read(project, version, Depth.TABLES))
    except AirgapError as error:
        return Candidate(project, str(version), uploaded, error.message)


def _since(model: Model, project: str, looked: Sequence[Candidate], catalogue: Catalogue) -> Since | str:
    """The release that first had the model, next to one that proves to have it not; else why not."""
    what = looked_up(model, project)
    having = next((c for c in looked if isinstance(registered(model, c), Entry)), None)
    if having is None:
        return f"no {project} that was looked at is proven to have {what or 'what its config.json lacks'}"
    offers = catalogue.offers(project, prereleases=Version(having.version).is_prerelease)
    places = {str(offer.version): place for place, offer in enumerate(offers)}

    @cache
    def at(place: int) -> Candidate:
        return _candidate(project, offers[place], catalogue)

    def has(place: int) -> bool | None:
        found = registered(model, at(place))
        return None if isinstance(found, NotUnderstood) else found is not None

    begin = places[having.version]
    lacking = [p for c in looked if (p := places.get(c.version, begin)) < begin and has(p) is False]
    edge = find_edge(begin, max(lacking, default=-1), has)
    found = registered(model, at(edge.has))
    assert isinstance(found, Entry), "the edge is where it is"
    before = at(edge.lacks) if edge.lacks >= 0 else None
    unclear = registered(model, at(edge.unclear)) if edge.unclear >= 0 else None
    why = "" if before else "the oldest on the index"
    if isinstance(unclear, NotUnderstood):
        why = f"or earlier: of {at(edge.unclear).version} it cannot be read ({unclear})"
    return Since(what, at(edge.has), found, before, why)
