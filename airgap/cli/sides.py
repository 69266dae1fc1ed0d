"""The two sides of `airgap diff`: a lock, a bundle or a site, as what it holds, whoever signed it."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from airgap.audit.difference import Side, SideKind
from airgap.audit.findings import UNJUDGED
from airgap.audit.licences import of_package
from airgap.audit.run import Judge, audit_bundle
from airgap.audit.site import audit_members
from airgap.audit.tensors import ReadInto
from airgap.cli.policing import judged
from airgap.cli.stated import read_stated_lock
from airgap.decode import read_capped
from airgap.errors import InputError, IntegrityError
from airgap.isolated.generation import load_member
from airgap.isolated.site import Site
from airgap.layout import blob_path, read_envelope
from airgap.lock import Lock, distinct_files, parse_lock
from airgap.media import Media, is_volume, shown
from airgap.model import Finding, ModelArtifact, Sha256, WheelsArtifact
from airgap.progress import Progress
from airgap.readers.source import FileSource
from airgap.readers.wheel import Metadata, read_wheel
from airgap.readers.zip import Archive
from airgap.trust.decide import survey


@dataclass(slots=True)
class OpenSide:
    """A side and, except for a lock and a volume, the place its blobs lie in; a context manager."""

    side: Side
    media: Media | None = None
    without: str = ""
    """What has no blobs: `a lock`, or `a volume`."""
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        if self.media:
            self._open.enter_context(self.media)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def open(self, digest: Sha256) -> AbstractContextManager[ReadInto]:
        """A blob from its start; only where there are bytes."""
        assert self.media, "the caller looked"
        return self.media.open(blob_path(digest))


def open_side(path: Path) -> OpenSide:
    """What lies at `path`. Raises InputError when it is neither lock nor bundle nor site, IntegrityError."""
    if path.is_dir() and (path / "trust").is_dir() and not (path / "bundle.dsse.json").exists():
        return _site(path)
    return _bundle(path) if path.is_dir() else _lock(path)


def licences_of(side: Side, root: Path | None, notes: list[str]) -> dict[str, str]:
    """Subject -> licence of every model, and of every wheel where their bytes lie below `root`.

    Adds to `notes` what could not be read.
    """
    found: dict[str, str] = {}
    for name, artifact in side.artifacts.items():
        if isinstance(artifact, ModelArtifact):
            found[name] = artifact.licence
        elif isinstance(artifact, WheelsArtifact) and root:
            found |= dict(_wheel_licences(root, artifact, notes))
    return found


def findings_of(opened: OpenSide, side: Side, progress: Progress) -> tuple[Finding, ...]:
    """What an audit finds in it, advisories among its artifacts included; who signed is left aside."""
    assert opened.media, "the caller looked"
    judging = Judge(datetime.now(UTC).replace(microsecond=0))
    if side.kind is SideKind.BUNDLE:
        envelope = read_envelope(opened.media)
        audit = audit_bundle(opened.media, side.where, judging, envelope, progress=progress)
    else:
        site = Site(opened.media.root)
        members = [load_member(site, one) for one in site.record().bundles if one.name in side.bundles]
        audit = audit_members(site, members, side.where, "", judging, progress=progress)
    audit = judged(audit, opened.media, None, (), progress)
    return tuple(finding for finding in audit.findings if finding.code != UNJUDGED.code)


def said_licence(metadata: Metadata) -> str:
    """As an audit reads it, so that two spellings are one licence; else all that the classifiers name."""
    classifiers = [name for name in metadata.classifiers if name.startswith("License ::")]
    named = sorted({name.rpartition(" :: ")[2] for name in classifiers})
    return of_package(metadata.license, classifiers) or ", ".join(named)


def _wheel_licences(root: Path, artifact: WheelsArtifact, notes: list[str]) -> Iterator[tuple[str, str]]:
    digests = {file.path: file.sha256 for file in artifact.files}
    for package in artifact.packages:
        digest = digests[package.file]
        try:
            with FileSource(root / blob_path(digest), digest=digest) as source:
                wheel = read_wheel(Archive(source, package.file), package.file)
        except (InputError, IntegrityError) as error:
            notes.append(f"the licence of {package.name} is not known: {error.message}")
        else:
            yield f"{artifact.name}: {package.name}", said_licence(wheel.metadata)


def _lock(path: Path) -> OpenSide:
    lock = parse_lock(read_capped(path), str(path))
    return OpenSide(_of_lock(SideKind.LOCK, path, lock, {}), without="a lock")


def _bundle(path: Path) -> OpenSide:
    media = Media(path)
    with ExitStack() as failing:
        failing.enter_context(media)
        envelope = read_envelope(media, also=", a lock, or a site")
        stated = survey(envelope, None).statement
        lock = read_stated_lock(media, stated)
        side = _of_lock(SideKind.BUNDLE, path, lock, {d: blob.size for d, blob in stated.blobs.items()})
        if is_volume(media):  # each holds the statement and the lock, and some of the blobs
            return OpenSide(side, without="a volume")
        failing.pop_all()
    return OpenSide(side, media)


def _site(path: Path) -> OpenSide:
    site = Site(path)
    members = [load_member(site, bundle) for bundle in site.record().bundles]
    return OpenSide(
        Side(
            SideKind.SITE,
            shown(str(path)),
            {m.bundle.name: tuple(b.artifact for b in m.artifacts) for m in members},
            {m.bundle.name: str(m.bundle) for m in members},
            {digest: blob.size for m in members for digest, blob in m.needed.items()},
        ),
        Media(site.root),
    )


def _of_lock(kind: SideKind, path: Path, lock: Lock, blobs: Mapping[Sha256, int]) -> Side:
    files = {digest: file.size for digest, file in distinct_files(lock.artifacts).items()}
    return Side(
        kind,
        shown(str(path)),
        {lock.name: lock.artifacts},
        {lock.name: f"{lock.name} {lock.version}"},
        files | dict(blobs),
    )
