"""One complete state of a site: the union of its bundles as a tree of hard links into the blobs.

Hard links, not symbolic ones, so that one model can be bind-mounted alone into a container and a
blob's link count says whether anything uses it (docs/adr/0005-generations-are-hard-links.md).
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from airgap import oci
from airgap.decode import MAX_DOCUMENT, canonical_json
from airgap.errors import InputError, IntegrityError, PolicyError, TrustError
from airgap.isolated import containers, files, models, wheels
from airgap.isolated.entries import Entry, Link, Text
from airgap.isolated.environment import render_environment
from airgap.isolated.record import InstalledBundle, Receipt, SiteRecord, render_receipt, render_record
from airgap.isolated.site import RECEIPT_FILE, RECORD_FILE, SUMS_FILE, Site
from airgap.isolated.tree import write_tree
from airgap.layout import INDEX_FILE, BundledArtifact, read_layout
from airgap.lock import Lock, parse_lock
from airgap.model import BundlePath, Kind, ModelArtifact, Sha256, path_collisions
from airgap.store import FILE_MODE, fsync_directory, host_errors
from airgap.trust import envelope, statement
from airgap.trust.blobs import StatedBlob


def _place_model(bundled: BundledArtifact) -> Iterator[Entry]:
    assert isinstance(bundled.artifact, ModelArtifact)
    yield from _below("models", models.catalogue_entries(bundled.artifact))
    yield from _below("hub", models.hub_cache_entries(bundled.artifact))


def _below(directory: str, entries: Iterable[Entry]) -> Iterator[Entry]:
    for entry in entries:
        yield replace(entry, path=BundlePath(f"{directory}/{entry.path}"))


PLACE: Mapping[Kind, Callable[[BundledArtifact], Iterable[Entry]]] = {
    Kind.WHEELS: wheels.place,
    Kind.MODEL: _place_model,
    Kind.CONTAINER: containers.place,
    Kind.FILE: files.place,
}
"""The four kinds are peers: each turns an artifact into the entries a generation has of it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One bundle of a generation, as its verified documents describe it; `index` is index.json.

    `artifacts` are in force; `left_out` were uninstalled, and only their documents remain.
    """

    bundle: InstalledBundle
    index: bytes
    lock: Lock
    artifacts: tuple[BundledArtifact, ...]
    left_out: tuple[BundledArtifact, ...]
    blobs: Mapping[Sha256, StatedBlob]
    """All that is signed of it."""

    @classmethod
    def of(
        cls,
        bundle: InstalledBundle,
        index: bytes,
        lock: Lock,
        artifacts: Iterable[BundledArtifact],
        blobs: Mapping[Sha256, StatedBlob],
    ) -> "Member":
        """Sorts `artifacts` by what `bundle` says was uninstalled."""
        found = tuple(artifacts)
        out = tuple(bundled for bundled in found if bundled.artifact.name in bundle.left_out)
        return cls(bundle, index, lock, tuple(b for b in found if b not in out), out, blobs)

    @property
    def needed(self) -> dict[Sha256, StatedBlob]:
        """The blobs the site must hold for it: all but those of what was left out alone.

        Documents stay: without them the bundle could not be read again.
        """
        layers = {layer.sha256: layer for bundled in self.left_out for layer in bundled.layers}
        used = {layer.sha256 for bundled in self.artifacts for layer in bundled.layers}
        documents = {d for d, layer in layers.items() if layer.media_type in (*oci.INDEXES, *oci.MANIFESTS)}
        documents |= {self.bundle.lock, *(bundled.digest for bundled in self.left_out)}
        return {d: blob for d, blob in self.blobs.items() if d not in layers or d in used | documents}


def load_member(site: Site, bundle: InstalledBundle) -> Member:
    """An installed bundle, read back from the site's own blobs. Raises IntegrityError."""

    def read(digest: Sha256) -> bytes:
        return site.store.read(digest, max_bytes=MAX_DOCUMENT)

    index = read(bundle.index)
    try:
        payload = envelope.parse(read(bundle.envelope), f"the envelope of {bundle}").payload
        stated = statement.parse(payload, f"the statement of {bundle}")
        lock = parse_lock(read(bundle.lock), f"the lock of {bundle}")
    except InputError as error:
        raise IntegrityError(error.message, remedy="install that bundle again from its media") from None
    if envelope.payload_digest(payload) != bundle.payload:
        raise IntegrityError(f"{bundle}: its envelope is not the one it was installed with")
    return Member.of(bundle, index, lock, read_layout(index, lock, read), stated.blobs)


Vouched = Mapping[Sha256, tuple[StatedBlob, InstalledBundle]]
"""What is signed of a blob, and a bundle whose statement says so."""


def vouched_blobs(site: Site) -> Vouched:
    """Every blob that a generation needs. A bundle whose documents are damaged vouches for nothing."""
    found: dict[Sha256, tuple[StatedBlob, InstalledBundle]] = {}
    for bundle in sorted(
        {b for number in site.numbers() for b in site.record(number).bundles}, key=lambda b: b.payload
    ):
        with suppress(IntegrityError):
            found |= {digest: (blob, bundle) for digest, blob in load_member(site, bundle).needed.items()}
    return found


def require_same(bundle: InstalledBundle, stated: Mapping[Sha256, StatedBlob], vouched: Vouched) -> None:
    """Raise TrustError when two statements name different bytes by one sha256: one of them lies."""
    for digest in stated.keys() & vouched.keys():
        before, other = vouched[digest]
        if before != stated[digest]:
            raise TrustError(
                f"blob {digest}: {other} states sha384 {before.sha384} of {before.size} bytes,"
                f" {bundle} states {stated[digest].sha384} of {stated[digest].size}",
                remedy="someone signed a lie: show both to the holders before anything is installed",
            )


def stated_blobs(members: Iterable[Member]) -> dict[Sha256, StatedBlob]:
    """What is signed of every blob the members need. Raises TrustError when two contradict each other."""
    found: dict[Sha256, tuple[StatedBlob, InstalledBundle]] = {}
    for member in members:
        require_same(member.bundle, member.needed, found)
        found |= {digest: (blob, member.bundle) for digest, blob in member.needed.items()}
    return {digest: blob for digest, (blob, _) in found.items()}


def unite(site: Path, members: Sequence[Member]) -> tuple[Entry, ...]:
    """Every entry of a generation; pure.

    Raises PolicyError naming both sides when two bundles bring different things under one name, and
    IntegrityError when one artifact's files cannot lie in one tree.
    """
    owners: dict[str, tuple[InstalledBundle, BundledArtifact]] = {}
    placed: dict[str, tuple[Entry, str]] = {}
    for member in members:
        for bundled in member.artifacts:
            name = bundled.artifact.name
            mine = f"{bundled.artifact.kind} {name!r} of {member.bundle}"
            other = owners.setdefault(name, (member.bundle, bundled))
            if other[1].digest != bundled.digest:
                theirs = f"{other[1].artifact.kind} {name!r} of {other[0]}"
                raise _collision(mine, theirs, name)
            for entry in PLACE[bundled.artifact.kind](bundled):
                before, theirs = placed.setdefault(entry.path, (entry, mine))
                if before != entry:
                    raise _collision(mine, theirs, entry.path)
    everything = [bundled.artifact for member in members for bundled in member.artifacts]
    locked_models = [artifact for artifact in everything if isinstance(artifact, ModelArtifact)]
    for entry in _below("hub", models.hub_cache(locked_models)):
        placed.setdefault(entry.path, (entry, ""))
    sets = {artifact.name for artifact in everything if artifact.kind is Kind.WHEELS}
    index = Text(BundlePath(INDEX_FILE), render_site_index(members))
    environment = Text(BundlePath("env.sh"), render_environment(site, sorted(sets)))
    entries = (*(entry for entry, _ in placed.values()), index, environment)
    problems = path_collisions(entry.path for entry in entries)
    if problems:
        raise IntegrityError("\n  ".join(("the artifacts cannot lie in one tree", *problems)))
    return entries


def render_site_index(members: Sequence[Member]) -> bytes:
    """index.json of the site: every artifact of every bundle, by name, as an OCI layout has it."""
    manifests: dict[str, dict[str, object]] = {}
    for member in members:
        image = oci.parse_image(member.index, f"index of {member.bundle}", media_type=oci.OCI_INDEX)
        assert isinstance(image, oci.ImageIndex)  # parse_image holds the announced type
        for descriptor in image.manifests:
            name = descriptor.annotations[oci.REF_NAME]
            if name in member.bundle.left_out:
                continue
            manifests[name] = descriptor.as_json() | {"annotations": dict(descriptor.annotations)}
    ordered = [manifests[name] for name in sorted(manifests)]
    return canonical_json({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": ordered})


def own_files(members: Sequence[Member], entries: Sequence[Entry], receipt: Receipt) -> tuple[Text, ...]:
    """What a generation says about itself: its bundles, what made it, and the sha384 of every file in it."""
    record = SiteRecord(tuple(member.bundle for member in members))
    documents = (
        Text(BundlePath(RECORD_FILE), render_record(record)),
        Text(BundlePath(RECEIPT_FILE), render_receipt(receipt)),
    )
    return (*documents, Text(BundlePath(SUMS_FILE), render_sums(members, (*entries, *documents))))


def render_sums(members: Sequence[Member], entries: Sequence[Entry]) -> bytes:
    """SHA384SUMS of a generation, by path, as coreutils' `sha384sum --check` reads it."""
    stated = stated_blobs(members)
    digests = {
        entry.path: stated[entry.sha256].sha384
        if isinstance(entry, Link)
        else hashlib.sha384(entry.data).hexdigest()
        for entry in entries
    }
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()


def build(site: Site, number: int, entries: Sequence[Entry]) -> None:
    """Write a generation beside the others, make it durable, give it its number. Raises HostError."""
    temporary = site.generations / f"{number}.tmp"
    with host_errors(temporary):
        shutil.rmtree(temporary, ignore_errors=True)
        write_tree(temporary, entries, lambda digest, path: _link(site.store.path(digest), path))
        os.rename(temporary, site.generation(number))
        fsync_directory(site.generations)


def _link(blob: Path, path: Path) -> None:
    try:
        os.link(blob, path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        # ext4 allows 65 000 links to one file; beyond that the generation holds its own copy.
        shutil.copyfile(blob, path)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fchmod(descriptor, FILE_MODE)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _collision(mine: str, theirs: str, path: str) -> PolicyError:
    return PolicyError(
        f"{mine} and {theirs} would both be {path!r} on this site",
        remedy="rename one of the two artifacts in its manifest, or use a second site",
    )
