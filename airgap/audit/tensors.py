"""Which tensors of a model changed: by the headers of its safetensors files, and by the bytes when asked.

Headers are compared. With `compare_bytes`, each tensor that both sides have in one type and shape is hashed,
too, unless both have it in a file of one sha256; file by file, as it is read.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import Event

from airgap.audit.difference import TensorDifference, TensorMove
from airgap.errors import InputError, IntegrityError
from airgap.model import ModelArtifact, Sha256
from airgap.progress import Progress
from airgap.readers.safetensors import PREFIX, Tensor, header_end, parse_header
from airgap.workers import spread

SUFFIX = ".safetensors"
CHUNK = 1024 * 1024

JOBS = 2
"""Files hashed at a time: one a side."""

ReadInto = Callable[[memoryview], int]

OpenBlob = Callable[[Sha256], AbstractContextManager[ReadInto]]
"""Gives a blob's bytes from its start. Raises IntegrityError where it is not there."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A tensor, the blob it is in, and where in that its bytes begin."""

    tensor: Tensor
    blob: Sha256
    begin: int

    @property
    def shape(self) -> str:
        return f"{self.tensor.dtype} {'×'.join(map(str, self.tensor.shape)) or 'scalar'}"


Key = tuple[str, str]
"""The directory a tensor's file is in, and its name: a pipeline has several checkpoints."""


def compare_tensors(
    before: ModelArtifact,
    after: ModelArtifact,
    open_before: OpenBlob,
    open_after: OpenBlob,
    progress: Progress,
    *,
    compare_bytes: bool,
) -> TensorDifference:
    """Tensors of two versions of a model. Raises HostError when the media cannot be read."""
    unread: list[str] = []
    old = _placed(before, open_before, unread)
    new = _placed(after, open_after, unread)
    if unread:  # what they hold would pass for added or removed
        return TensorDifference((), (), (), None, 0, 0, tuple(unread))
    both = old.keys() & new.keys()
    reshaped = [
        TensorMove(key[1], old[key].shape, new[key].shape) for key in both if old[key].shape != new[key].shape
    ]
    comparable = {key for key in both if old[key].shape == new[key].shape}
    apart = {key for key in comparable if old[key].blob != new[key].blob}
    changed: tuple[str, ...] | None = None
    if compare_bytes:
        size = 2 * sum(new[key].tensor.size for key in apart)
        with progress.task("comparing tensors", size):
            first = _digests({key: old[key] for key in apart}, open_before, progress)
            second = _digests({key: new[key] for key in apart}, open_after, progress)
        changed = tuple(sorted(key[1] for key in apart if first[key] != second[key]))
    return TensorDifference(
        tuple(sorted(key[1] for key in new.keys() - old.keys())),
        tuple(sorted(key[1] for key in old.keys() - new.keys())),
        tuple(sorted(reshaped, key=lambda move: move.name)),
        changed,
        len(comparable) - len(changed if changed is not None else apart),
        0 if compare_bytes else len(apart),
    )


def _placed(artifact: ModelArtifact, open_blob: OpenBlob, unread: list[str]) -> dict[Key, _Placed]:
    found: dict[Key, _Placed] = {}
    for file in artifact.files:
        if not file.path.endswith(SUFFIX):
            continue
        directory = str(PurePosixPath(file.path).parent)
        try:
            with open_blob(file.sha256) as readinto:
                prefix = _exactly(readinto, PREFIX, file.path)
                rest = _exactly(readinto, header_end(prefix, file.size, file.path) - PREFIX, file.path)
            header = parse_header(prefix + rest, file.size, file.path)
        except (InputError, IntegrityError) as error:
            unread.append(error.message)
            continue
        for tensor in header.tensors:
            begin = header.data_begin + tensor.begin
            found[directory, tensor.name] = _Placed(tensor, file.sha256, begin)
    return found


def _digests(tensors: Mapping[Key, _Placed], open_blob: OpenBlob, progress: Progress) -> dict[Key, bytes]:
    by_blob: dict[Sha256, list[tuple[Key, _Placed]]] = {}
    for key, placed in tensors.items():
        by_blob.setdefault(placed.blob, []).append((key, placed))

    def hash_blob(blob: Sha256, stop: Event) -> dict[Key, bytes]:
        with open_blob(blob) as readinto:
            return dict(_hash_in_order(readinto, by_blob[blob], progress, stop))

    found: dict[Key, bytes] = {}
    for some in spread(hash_blob, by_blob, JOBS):
        found |= some
    return found


def _hash_in_order(
    readinto: ReadInto, tensors: Iterable[tuple[Key, _Placed]], progress: Progress, stop: Event
) -> Iterable[tuple[Key, bytes]]:
    """One pass over a file; what lies between the tensors is read and left."""
    buffer = memoryview(bytearray(CHUNK))
    at = 0
    for key, placed in sorted(tensors, key=lambda pair: pair[1].begin):
        hasher = hashlib.sha256()
        end = placed.begin + placed.tensor.size
        while at < end and not stop.is_set():
            skipping = at < placed.begin
            count = readinto(buffer[: min(CHUNK, (placed.begin if skipping else end) - at)])
            if not count:
                raise IntegrityError(
                    f"{placed.blob}: ends before tensor {placed.tensor.name[:200]!r}",
                    remedy="run: airgap verify",
                )
            at += count
            if not skipping:
                hasher.update(buffer[:count])
                progress.advance(count)
        yield key, hasher.digest()


def _exactly(readinto: ReadInto, count: int, what: str) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    at = 0
    while at < count and (read := readinto(view[at:])):
        at += read
    if at < count:
        raise InputError(f"{what}: ends before byte {count} of its header")
    return bytes(data)
