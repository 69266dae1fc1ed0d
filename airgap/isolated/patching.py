"""Blobs made on the site from patches: what travelled, and ranges of blobs that the site holds.

Each patch is read from its medium once, hashed on the way into staging, and parsed there only when it is
the signed bytes. What it makes is written in staging, hashed, and gets its name like any copied blob.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Event

from airgap.errors import InputError
from airgap.isolated.copying import Copier
from airgap.isolated.site import Site
from airgap.media import Media
from airgap.model import Finding, Severity, Sha256
from airgap.patch import LITERAL, Recipe, apply, read_header
from airgap.progress import Progress
from airgap.store import FILE_MODE, fsync_directory, host_errors, write_all
from airgap.trust.blobs import Patch, StatedBlob

REMEDY = "run: airgap status --verify; if the site is whole, ask for a delta without --patch"


def make_blobs(
    media: Media,
    site: Site,
    patches: Mapping[Sha256, tuple[Patch, StatedBlob]],
    progress: Progress,
) -> list[Finding]:
    """Make each blob of `patches` (its patch, and what is stated of it) in the site's store.

    One finding for each that did not become the signed bytes, which is not kept. Raises HostError.
    """
    if not patches:
        return []
    total = sum(patch.stated.size + blob.size for patch, blob in patches.values())
    with progress.task("patching", total):
        found = [_bring(media, site, digest, patches[digest], progress) for digest in sorted(patches)]
    with host_errors(site.blobs):
        fsync_directory(site.blobs)
    return [finding for finding in found if finding]


def _bring(
    media: Media, site: Site, digest: Sha256, patched: tuple[Patch, StatedBlob], progress: Progress
) -> Finding | None:
    patch, _ = patched
    with site.stage() as staging:
        copier = Copier(site.blobs, staging, progress)
        found = copier.copy_blob(media, patch.sha256, patch.stated, Event())
        copier.whole.clear()  # a patch is used, never kept
        if found is None:
            found = _make(site, staging, digest, patched, progress)
        if found is None:
            copier.whole.append(digest)
            copier.publish()
    return found


def _make(
    site: Site, staging: Path, digest: Sha256, patched: tuple[Patch, StatedBlob], progress: Progress
) -> Finding | None:
    """Write the blob into staging under its own name; a finding when it is not what is signed."""
    patch, stated = patched
    hasher = hashlib.sha384()
    target = staging / digest
    try:
        with ExitStack() as opened, host_errors(target):
            literals = opened.enter_context(open(staging / patch.sha256, "rb"))
            sizes = {source: blob.size for source, blob in patch.sources.items()}
            recipe = read_header(literals, sizes, patch.stated.size)
            if recipe.size != stated.size:
                return _finding(digest, f"its patch makes {recipe.size} bytes, {stated.size} are signed")
            start = literals.tell()
            out = opened.enter_context(open(target, "xb", buffering=0))
            places = [(literals.fileno(), start), *_sources(site, recipe, opened)]

            def read(source: int, buffer: memoryview, offset: int) -> int:
                descriptor, begin = places[source]
                return os.preadv(descriptor, [buffer], begin + offset)

            def write(data: memoryview) -> None:
                hasher.update(data)
                write_all(out.fileno(), data)
                progress.advance(len(data))

            apply(recipe, read, write)
            os.fchmod(out.fileno(), FILE_MODE)
    except InputError as error:
        return _finding(digest, error.message)
    if hasher.hexdigest() != stated.sha384:
        target.unlink()
        return _finding(digest, "what its patch makes of the site's blobs is not what was signed")
    return None


def _sources(site: Site, recipe: Recipe, opened: ExitStack) -> list[tuple[int, int]]:
    """Descriptors of the sources, in the recipe's order; each begins at its first byte."""
    assert LITERAL == 0  # so that the place of a source in this list is its number less one
    found = []
    for source in recipe.sources:
        descriptor = os.open(site.store.path(source), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        found.append((descriptor, 0))
    return found


def _finding(digest: Sha256, message: str) -> Finding:
    return Finding("integrity-changed", Severity.ERROR, f"blobs/sha256/{digest}", message, remedy=REMEDY)
