"""Below the blob: what a new blob shares with blobs that the other side holds, by content-defined chunks.

Both are cut where their content says so (FastCDC), so that bytes which moved are still found. The chunks
of the new blobs are indexed, a few dozen bytes each; the old ones pass by once, hashed whole on the way, so
that nothing is made of a damaged one. docs/adr says what this saves, measured.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from airgap.connected.base import KnownBase, require_same_bytes
from airgap.errors import HostError
from airgap.layout import blob_path
from airgap.model import Sha256, Sha384
from airgap.patch import LITERAL, Piece, Recipe, merged, render_header
from airgap.progress import Progress
from airgap.store import CHUNK, FILE_MODE, Store, host_errors
from airgap.trust.blobs import Patch, StatedBlob

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

SMALLEST = 256 * 1024
"""Bytes below which a blob travels whole: a patch costs a file, and a header, of its own."""

WORTH = 0.8
"""A patch travels where it is no more than this share of the blob."""

AVERAGE = 64 * 1024
LARGE = 8 * 1024**3
"""Beyond so many new bytes chunks grow, so that the index of them stays small."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """One chunk of a blob: its bytes' sha256, and where it lies."""

    key: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Held:
    """Where old blobs have wanted chunks, by the chunk's key; and what those blobs really are."""

    places: dict[bytes, tuple[Sha256, int]] = field(default_factory=dict)
    stated: dict[Sha256, StatedBlob] = field(default_factory=dict)


def make_patches(
    targets: Mapping[Sha256, int], base: KnownBase, store: Store, bundle: Path, progress: Progress
) -> dict[Sha256, Patch]:
    """Write a patch into `bundle` for each of `targets` (with its size in bytes) that is worth one.

    Equal blobs and bases give equal patches. Base blobs that the store has not are passed over. Raises
    HostError without the library that cuts, IntegrityError when the base states other bytes than are here.
    """
    wanted = {digest: size for digest, size in targets.items() if size >= SMALLEST}
    sources = [digest for digest in sorted(base.blobs - targets.keys()) if _is_source(store.path(digest))]
    if not wanted or not sources:
        return {}
    chunker = _chunker(sum(wanted.values()))
    with progress.task("comparing with the base", sum(wanted.values()) + _total(store, sources)):
        cuts = {digest: list(_cuts(store.path(digest), chunker, progress)) for digest in sorted(wanted)}
        keys = {cut.key for found in cuts.values() for cut in found}
        held = _find(store, sources, keys, chunker, progress)
    require_same_bytes(base.what, base.stated, held.stated)
    patches = {}
    for digest, found in cuts.items():
        recipe = _recipe(wanted[digest], found, held)
        if recipe.literal_bytes <= WORTH * recipe.size:
            patches[digest] = _write(recipe, store.path(digest), found, held, bundle)
    return patches


def _chunker(total: int) -> "FastCDC":
    try:
        from pyfastcdc import FastCDC  # noqa: PLC0415 - who makes no patches needs no library for them
    except ImportError:
        raise HostError(
            "--patch needs the package pyfastcdc, which is not installed",
            remedy="pip install 'airgap[patch]', or build without --patch",
        ) from None
    average = AVERAGE
    while total > LARGE and average < 1024 * 1024:
        average, total = average * 2, total // 2
    return FastCDC(average)


def _is_source(path: Path) -> bool:
    return path.is_file() and path.stat().st_size >= SMALLEST


def _total(store: Store, digests: Iterable[Sha256]) -> int:
    return sum(store.path(digest).stat().st_size for digest in digests)


def _cuts(path: Path, chunker: "FastCDC", progress: Progress, *hashers: "hashlib._Hash") -> Iterator[_Cut]:
    """The chunks of a file, streamed; `hashers` see every byte. Raises HostError."""
    with host_errors(path), open(path, "rb", buffering=0) as stream:
        for chunk in chunker.cut_stream(stream):
            data = memoryview(chunk.data)
            for hasher in hashers:
                hasher.update(data)
            progress.advance(chunk.length)
            yield _Cut(hashlib.sha256(data).digest(), chunk.offset, chunk.length)


def _find(
    store: Store, sources: Iterable[Sha256], keys: set[bytes], chunker: "FastCDC", progress: Progress
) -> _Held:
    """The first place of each wanted chunk; a source whose bytes are not those of its name has none."""
    held = _Held()
    for source in sources:
        sha256, sha384 = hashlib.sha256(), hashlib.sha384()
        mine: dict[bytes, tuple[Sha256, int]] = {}
        size = 0
        for cut in _cuts(store.path(source), chunker, progress, sha256, sha384):
            size += cut.length
            if cut.key in keys and cut.key not in held.places:
                mine.setdefault(cut.key, (source, cut.offset))
        if mine and sha256.hexdigest() == source:
            held.places.update(mine)
            held.stated[source] = StatedBlob(Sha384(sha384.hexdigest()), size)
    return held


def _recipe(size: int, cuts: Sequence[_Cut], held: _Held) -> Recipe:
    """Pure: what a blob is made of. Literal bytes are numbered as they will follow the header."""
    sources = tuple(sorted({held.places[cut.key][0] for cut in cuts if cut.key in held.places}))
    number = {source: position for position, source in enumerate(sources, start=1)}
    pieces = []
    literal = 0
    for cut in cuts:
        if cut.key in held.places:
            source, offset = held.places[cut.key]
            pieces.append(Piece(number[source], offset, cut.length))
        else:
            pieces.append(Piece(LITERAL, literal, cut.length))
            literal += cut.length
    return Recipe(size, sources, tuple(merged(pieces)))


def _write(recipe: Recipe, blob: Path, cuts: Iterable[_Cut], held: _Held, bundle: Path) -> Patch:
    """Write header and literal bytes, hashing them; the file is named when its digest is known."""
    sha256, sha384 = hashlib.sha256(), hashlib.sha384()
    size = 0
    temporary = bundle / "patch"
    with host_errors(temporary), open(temporary, "wb") as out, open(blob, "rb", buffering=0) as stream:
        for data in _content(recipe, cuts, held, stream):
            sha256.update(data)
            sha384.update(data)
            out.write(data)
            size += len(data)
        out.flush()
        os.fchmod(out.fileno(), FILE_MODE)
        os.fsync(out.fileno())
    digest = Sha256(sha256.hexdigest())
    with host_errors(temporary):
        os.rename(temporary, bundle / blob_path(digest))
    sources = {source: held.stated[source] for source in recipe.sources}
    return Patch(digest, StatedBlob(Sha384(sha384.hexdigest()), size), sources)


def _content(recipe: Recipe, cuts: Iterable[_Cut], held: _Held, stream: BinaryIO) -> Iterator[bytes]:
    yield render_header(recipe)
    for cut in cuts:
        if cut.key in held.places:
            continue
        stream.seek(cut.offset)
        left = cut.length
        while left and (data := stream.read(min(left, CHUNK))):
            left -= len(data)
            yield data
