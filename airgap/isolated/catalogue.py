"""`install --models-dir`: a catalogue of models outside of the site, that outlives containers.

    DIR/<model>                       -> .airgap/<model>-<digest>-<random>
    DIR/.airgap/<model>-…/            the files of one model: hard links to the site's blobs, else copies
    DIR/.airgap/catalogue.json        which site feeds it
    DIR/.airgap/….tmp                 what is not whole yet

    <site>/catalogue.json             which catalogue the site feeds

A model changes by one rename of its link (docs/adr/0018-a-catalogue-is-links.md), after every file of it
is durable. A name in DIR that is no such link is someone else's: it is refused, never replaced. What was
replaced stays until the next change or `gc`, so that a server that runs on it can end.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from airgap.decode import Fields, read_capped, read_document
from airgap.errors import HostError, InputError, IntegrityError
from airgap.isolated.drift import fault, missing_file, wrong_file
from airgap.isolated.generation import Member, load_member
from airgap.isolated.record import InstalledBundle
from airgap.isolated.site import Site
from airgap.isolated.tree import inode, look, tree_directories, walk
from airgap.media import Media, shown
from airgap.model import BundlePath, Finding, ModelArtifact, Severity, Sha256
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.verify import hash_files

FILE = "catalogue.json"
OWN = ".airgap"
FORMAT = 1
MAX_FILE = 64 * 1024
"""Bytes."""

AGAIN = "airgap install BUNDLE --site SITE --models-dir DIR"
REFILL = "install a bundle of that model again: what is damaged is replaced, here too"

_PLACED = re.compile(r"(.+)-([0-9a-f]{16})-[0-9a-f]{8}")
_HALF = re.compile(rf"\.{re.escape(FILE)}\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the site. `digest` is its manifest's; `files` what is signed of each, by its path."""

    name: str
    digest: Sha256
    files: Mapping[BundlePath, tuple[Sha256, StatedBlob]]

    def is_in(self, place: str) -> bool:
        """Whether the directory of that name below `.airgap` is one of it."""
        match = _PLACED.fullmatch(place)
        return match is not None and (match[1], match[2]) == (self.name, self.digest[:16])

    @property
    def bytes(self) -> int:
        return sum(blob.size for _, blob in self.files.values())


def models_of(members: Iterable[Member]) -> dict[str, Model]:
    """The models that bundles bring, by name."""
    return {
        bundled.artifact.name: Model(
            bundled.artifact.name,
            bundled.digest,
            {file.path: (file.sha256, member.blobs[file.sha256]) for file in bundled.artifact.files},
        )
        for member in members
        for bundled in member.artifacts
        if isinstance(bundled.artifact, ModelArtifact)
    }


def fed_by(site: Site) -> Path | None:
    """The catalogue that a site feeds. Raises IntegrityError when the site's note of it is damaged."""
    path = site.root / FILE
    if look(path) is None:
        return None
    directory = _read_path(path, "directory", f"remove it, and name the catalogue again: {AGAIN}")
    return Path(directory)


def owner_of(directory: Path) -> str:
    """The site that feeds a catalogue; '' where none does yet."""
    own = directory / OWN
    if look(own) is not None and (own.is_symlink() or not own.is_dir()):
        raise HostError(
            f"{own}: expected a directory, found something else", remedy="choose another directory"
        )
    path = own / FILE
    return "" if look(path) is None else _read_path(path, "site", f"remove it, then: {AGAIN}")


def _read_path(path: Path, key: str, remedy: str) -> str:
    def read(fields: Fields) -> str:
        if fields.integer("format") != FORMAT:
            fields.problem("format", f"this airgap reads catalogue format {FORMAT}")
        return fields.text(key, pattern="/.*", expected="an absolute path")

    try:
        return read_document(read_capped(path, max_bytes=MAX_FILE), str(path), read)
    except InputError as error:
        raise IntegrityError(error.message, remedy=remedy) from None


def pointed_in(directory: Path) -> Iterator[tuple[str, str]]:
    """Names in a catalogue that are links which airgap made, and the directory each names."""
    names = os.listdir(directory) if directory.is_dir() else []
    for name in names:
        path = directory / name
        target = os.readlink(path) if path.is_symlink() else ""
        parent, _, place = target.partition("/")
        match = _PLACED.fullmatch(place)
        if parent == OWN and match and match[1] == name:
            yield name, place


def unused_in(directory: Path, used: Iterable[str]) -> Iterator[Path]:
    """What lies below `.airgap` and is in use by no name: it was replaced, or a killed run left it."""
    own, kept = directory / OWN, set(used)
    for name in sorted(os.listdir(own)) if own.is_dir() else []:
        if name.endswith(".tmp") or _HALF.fullmatch(name) or (_PLACED.fullmatch(name) and name not in kept):
            yield own / name


def survey_place(
    site: Site, directory: Path, place: str, model: Model
) -> tuple[list[Finding], dict[str, StatedBlob]]:
    """What is wrong with a model's files without reading them, and those whose bytes must be these.

    Both by their path below `directory`. A file that is the site's own blob is left to the site's verify.
    """
    findings, files = [], {}
    base = f"{OWN}/{place}"
    parents = {str(parent) for parent in tree_directories(model.files)}
    seen = set()
    for name, found in walk(directory / base):
        seen.add(name)
        expected = model.files.get(BundlePath(name))
        if expected is None:
            if not (stat.S_ISDIR(found.st_mode) and name in parents):
                message = "a file or directory that is no part of the model"
                findings.append(fault("integrity-unexpected", f"{base}/{name}", message, REFILL))
            continue
        digest, stated = expected
        blob = look(site.store.path(digest))
        if problem := wrong_file(f"{base}/{name}", found, stated.size):
            findings.append(replace(problem, remedy=REFILL))
        elif blob is None or inode(blob) != inode(found):
            files[f"{base}/{name}"] = stated
    findings += (missing_file(f"{base}/{name}", REFILL) for name in sorted(model.files.keys() - seen))
    return findings, files


def is_whole(site: Site, directory: Path, place: str, model: Model, checking: Progress | None) -> bool:
    """Whether a model's files are as they were placed; with `checking` the bytes of copies too."""
    findings, files = survey_place(site, directory, place, model)
    return not findings and not (checking and files and _hash(directory, files, checking, None))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a catalogue names: whole models by the directory that holds each; `findings` about the names."""

    directory: Path
    models: Mapping[str, Model]
    findings: tuple[Finding, ...]


def read_catalogue(site: Site) -> Catalogue | None:
    """The catalogue that a site feeds, by its names alone; None where it feeds none.

    A model of another generation is a warning: a run was killed before it gave the new one its name.
    """
    directory = fed_by(site)
    if directory is None:
        return None
    if owner_of(directory) != str(site.root):
        message = f"expected the catalogue of models that {site.root} feeds, found none: is it mounted?"
        missing = fault("catalogue-missing", str(directory), message, f"mount it, or make it anew: {AGAIN}")
        return Catalogue(directory, {}, (missing,))
    wanted = models_of(_members(site, [site.current()]))
    known = [model for member in _members(site, site.numbers()) for model in models_of([member]).values()]
    findings: list[Finding] = []
    models: dict[str, Model] = {}
    pointed = dict(pointed_in(directory))
    for name, place in sorted(pointed.items()):
        model = next((model for model in known if model.is_in(place)), None)
        if model is None or not (directory / OWN / place).is_dir():
            message = "no generation of the site has what this names"
            findings.append(fault("catalogue-unknown", str(directory / name), message, REFILL))
            continue
        models[place] = model
        if wanted.get(name) != model:
            findings.append(_behind(directory / name, "it is another generation's"))
    for name in sorted(wanted.keys() - pointed.keys()):
        if look(directory / name):
            message = "expected the link that airgap makes, found something else"
            remedy = f"move it away, then: {AGAIN}"
            findings.append(fault("catalogue-foreign", str(directory / name), message, remedy))
        else:
            findings.append(_behind(directory / name, "it is not there"))
    return Catalogue(directory, models, tuple(findings))


def verify_catalogue(site: Site, progress: Progress, jobs: int | None = None) -> tuple[Finding, ...]:
    """Every way in which the catalogue that a site feeds is not what it should be; every copy is hashed."""
    catalogue = read_catalogue(site)
    if catalogue is None:
        return ()
    findings: list[Finding] = []
    files: dict[str, StatedBlob] = {}
    for place, model in catalogue.models.items():
        wrong, unread = survey_place(site, catalogue.directory, place, model)
        findings += wrong
        files |= unread
    findings += _hash(catalogue.directory, files, progress, jobs)
    return (*catalogue.findings, *(_named(found, catalogue) for found in findings))


def _hash(
    directory: Path, files: Mapping[str, StatedBlob], progress: Progress, jobs: int | None
) -> list[Finding]:
    if not files:
        return []
    with Media(directory) as media:
        found = hash_files(media, files, progress, jobs)
    return [replace(one, message=one.message.replace("signed", "installed"), remedy=REFILL) for one in found]


def _members(site: Site, numbers: Iterable[int | None]) -> list[Member]:
    """The bundles of these generations, as far as they can be read: verify of the site names what is not."""
    bundles: set[InstalledBundle] = set()
    for number in numbers:
        with suppress(IntegrityError):
            bundles.update(site.record(number).bundles)
    members = []
    for bundle in sorted(bundles, key=lambda bundle: bundle.payload):
        with suppress(IntegrityError):
            members.append(load_member(site, bundle))
    return members


def _behind(path: Path, what: str) -> Finding:
    message = f"not what the current generation has: {what}"
    remedy = "run the interrupted command again; any install, rollback or uninstall brings it in step too"
    return replace(fault("catalogue-behind", str(path), message, remedy), severity=Severity.WARNING)


def _named(found: Finding, catalogue: Catalogue) -> Finding:
    """By the path that people use: DIR/<model>/<file>."""
    _, place, path = found.subject.split("/", 2)
    name = catalogue.models[place].name
    evidence = found.evidence.replace("signed", "installed")
    return replace(found, subject=shown(str(catalogue.directory / name / path)), evidence=evidence)
