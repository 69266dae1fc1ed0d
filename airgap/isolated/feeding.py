"""Bringing a catalogue of models in step with a site: planned, staged whole, then named by renames.

`stage` comes before a generation becomes current and `settle` after it: what takes long, or what the disk
may refuse, happens while nothing has changed. Killed in between, the catalogue holds whole models of the
generation before, and the next change of the site brings it in step.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from airgap.decode import canonical_json
from airgap.errors import HostError, InputError, IntegrityError
from airgap.isolated.catalogue import (
    AGAIN,
    FILE,
    FORMAT,
    OWN,
    Model,
    fed_by,
    is_whole,
    models_of,
    owner_of,
    pointed_in,
    unused_in,
)
from airgap.isolated.entries import Link
from airgap.isolated.generation import Member
from airgap.isolated.plan import Room, free_room, needed_room, require_room
from airgap.isolated.site import Site, make_directory
from airgap.isolated.tree import look, write_tree
from airgap.model import Sha256
from airgap.progress import Progress
from airgap.store import CHUNK, FILE_MODE, fsync_directory, host_errors, write_durably
from airgap.trust.blobs import StatedBlob

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""Another file system, one without hard links, or too many links to one file."""


@dataclass(frozen=True, slots=True)
class Feed:
    """How a catalogue comes to hold the models of a generation.

    `places` are directories below `.airgap` that hold a wanted model already, `pointed` what the links
    name now, both by model. `former` is the catalogue that the site fed until now, where it is another.
    """

    directory: Path
    former: Path | None
    wanted: Mapping[str, Model]
    places: Mapping[str, str]
    pointed: Mapping[str, str]
    linked: bool
    """The site's blobs can be linked; else they are copied."""
    needed: Room
    free: Room

    @property
    def added(self) -> tuple[str, ...]:
        return tuple(sorted(self.wanted.keys() - self.pointed.keys()))

    @property
    def changed(self) -> tuple[str, ...]:
        """Models of which the link names another directory than it should."""
        return tuple(
            name
            for name in sorted(self.wanted.keys() & self.pointed.keys())
            if self.places.get(name) != self.pointed[name]
        )

    @property
    def removed(self) -> tuple[str, ...]:
        return tuple(sorted(self.pointed.keys() - self.wanted.keys()))

    @property
    def unchanged(self) -> bool:
        return not (self.added or self.changed or self.removed)

    @property
    def copied_bytes(self) -> int:
        missing = (model for name, model in self.wanted.items() if name not in self.places)
        return 0 if self.linked else sum(model.bytes for model in missing)


def plan_feed(
    site: Site, members: Iterable[Member], directory: Path | None = None, *, checking: Progress | None = None
) -> Feed | None:
    """What a catalogue needs to hold the models of these bundles; None where the site feeds none.

    `directory` is one that the operator names; else it is the one the site feeds. What the catalogue
    holds already is believed by names, sizes and links; with `checking` copies are hashed too. Writes
    nothing. Raises HostError for a catalogue that is not there or another site's, for names that are
    someone else's, and for one that cannot be written; InputError for a place inside the site.
    """
    fed = fed_by(site)
    place = directory.resolve() if directory else fed
    if place is None:
        return None
    _require_ours(site, place, known=directory is None)
    wanted = models_of(members)
    pointed = dict(pointed_in(place))
    if foreign := [name for name in sorted(wanted) if name not in pointed and look(place / name)]:
        raise HostError(
            f"{place}: airgap did not make {', '.join(foreign)}, and a model of that name is installed",
            remedy="move it away, or choose another --models-dir; nothing was changed",
        )
    places = {name: found for name, model in wanted.items() if (found := _find(site, place, model, checking))}
    existing = next(path for path in (place, *place.parents) if path.exists())
    linked = _one_mount(existing, site.root)
    missing = [model for name, model in wanted.items() if name not in places]
    sizes = [blob.size for model in missing for _, blob in model.files.values() if not linked]
    paths = [f"{model.name}/{path}" for model in missing for path in model.files]
    feed = Feed(
        place,
        fed if fed != place else None,
        wanted,
        places,
        pointed,
        linked,
        needed_room(existing, sizes, paths),
        free_room(existing),
    )
    if not feed.unchanged and not os.access(existing, os.W_OK | os.X_OK):
        raise HostError(
            f"{existing}: expected a directory to write to",
            remedy="run as a user who may write there, or choose another --models-dir; nothing was changed",
        )
    return feed


def require_feed_fits(site: Site, feed: Feed | None, beside: Room) -> None:
    """Raise HostError when a catalogue's models do not fit; `beside` is what the site itself needs."""
    if feed:
        existing = next(path for path in (feed.directory, *feed.directory.parents) if path.exists())
        shared = existing.stat().st_dev == site.root.stat().st_dev
        require_room(feed.directory, feed.needed.beside(beside) if shared else feed.needed, feed.free)


def stage(site: Site, feed: Feed | None, progress: Progress) -> Feed | None:
    """Bring every missing model into the catalogue, durably, under no model's name yet.

    The blobs are in the site; the caller holds it. From then on the site feeds that catalogue. Raises
    HostError, or IntegrityError when a blob of the site is not what was installed.
    """
    if feed is None:
        return None
    own = feed.directory / OWN
    _make_durably(own)
    if look(own / FILE) is None:
        write_durably(own / FILE, canonical_json({"format": FORMAT, "site": str(site.root)}))
    for path in unused_in(feed.directory, {*feed.places.values(), *feed.pointed.values()}):
        _remove(path)
    missing = [model for name, model in sorted(feed.wanted.items()) if name not in feed.places]
    places = dict(feed.places)
    with progress.task(f"filling {feed.directory}", sum(model.bytes for model in missing)):
        for model in missing:
            places[model.name] = _place(site, own, model, progress)
    if fed_by(site) != feed.directory:
        write_durably(site.root / FILE, canonical_json({"format": FORMAT, "directory": str(feed.directory)}))
    return replace(feed, places=places)


def settle(feed: Feed | None) -> None:
    """Give every model its name, and take those of models that left; one rename each. Raises HostError."""
    if feed is None or feed.unchanged:
        return
    own = feed.directory / OWN
    with host_errors(feed.directory):
        for name in (*feed.added, *feed.changed):
            temporary = own / f"{secrets.token_hex(8)}.tmp"
            os.symlink(f"{OWN}/{feed.places[name]}", temporary)
            os.rename(temporary, feed.directory / name)
        for name in feed.removed:
            os.unlink(feed.directory / name)
        fsync_directory(feed.directory)


def unused_places(site: Site) -> list[Path]:
    """What lies in the catalogue under no model's name: replaced ones, and what killed runs left."""
    directory = fed_by(site)
    if directory is None or owner_of(directory) != str(site.root):
        return []
    return list(unused_in(directory, dict(pointed_in(directory)).values()))


def sweep(site: Site) -> None:
    """Remove them; the caller holds the site. Raises HostError."""
    for path in unused_places(site):
        _remove(path)


def _require_ours(site: Site, directory: Path, *, known: bool) -> None:
    if directory == site.root or site.root in directory.parents:
        raise InputError(
            f"{directory}: expected a directory outside of the site {site.root}",
            remedy="inside it, models are in current/models already",
        )
    owner = owner_of(directory)
    if owner and owner != str(site.root):
        raise HostError(
            f"{directory}: the site {owner} feeds this catalogue, and one catalogue has one site",
            remedy=f"choose another --models-dir; if that site is gone, remove {directory / OWN / FILE}",
        )
    if known and not owner:
        raise HostError(
            f"{directory}: expected the catalogue of models that this site feeds, found none",
            remedy=f"mount it; or make it anew: {AGAIN}; or give it up: rm {site.root / FILE}",
        )


def _find(site: Site, directory: Path, model: Model, checking: Progress | None) -> str:
    """A directory that holds the model whole, the one in use first; '' for none."""
    own = directory / OWN
    used = dict(pointed_in(directory)).get(model.name)
    here = sorted(os.listdir(own), key=lambda name: (name != used, name)) if own.is_dir() else []
    found = (name for name in here if model.is_in(name) and is_whole(site, directory, name, model, checking))
    return next(found, "")


def _place(site: Site, own: Path, model: Model, progress: Progress) -> str:
    name = f"{model.name}-{model.digest[:16]}-{secrets.token_hex(4)}"
    temporary = own / f"{name}.tmp"
    stated = dict(model.files.values())

    def bring(digest: Sha256, path: Path) -> None:
        try:
            os.link(site.store.path(digest), path, follow_symlinks=False)
            progress.advance(stated[digest].size)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            _copy(site.store.path(digest), path, stated[digest], progress)

    write_tree(temporary, [Link(path, digest) for path, (digest, _) in model.files.items()], bring)
    with host_errors(temporary):
        os.rename(temporary, own / name)
        fsync_directory(own)
    return name


def _copy(blob: Path, path: Path, stated: StatedBlob, progress: Progress) -> None:
    """Durable, and hashed on the way. Raises IntegrityError when it is not the stated bytes."""
    hasher = hashlib.sha384()
    with open(blob, "rb", buffering=0) as source, open(path, "xb") as out:
        while chunk := source.read(CHUNK):
            hasher.update(chunk)
            out.write(chunk)
            progress.advance(len(chunk))
        os.fchmod(out.fileno(), FILE_MODE)
        out.flush()
        os.fsync(out.fileno())
    if hasher.hexdigest() != stated.sha384:
        raise IntegrityError(
            f"blob {blob.name} in {blob.parents[2]} is not what was installed",
            remedy="install the bundle again: what is damaged is copied anew",
        )


def _make_durably(directory: Path) -> None:
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    make_directory(directory)
    with host_errors(directory):
        for path in reversed(missing):
            fsync_directory(path.parent)


def _remove(path: Path) -> None:
    with host_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _one_mount(one: Path, other: Path) -> bool:
    """Whether hard links can lead from one to the other: one file system, through one mount of it."""
    return _mount(one) == _mount(other)


def _mount(path: Path) -> tuple[int, str]:
    with host_errors(path):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            device = os.fstat(descriptor).st_dev
            with suppress(OSError), open(f"/proc/self/fdinfo/{descriptor}") as described:
                return device, next((line for line in described if line.startswith("mnt_id")), "")
            return device, ""
        finally:
            os.close(descriptor)
