"""One image as one tar that docker, podman, containerd and skopeo all load.

It is an OCI archive (oci-layout, index.json, blobs/) and a docker archive at once (manifest.json whose
Config and Layers name the same blobs), so manifests and digests stay what they are wherever the loader
reads the OCI side. Sources: OCI image-spec, image-layout.md; Docker image spec v1.2; POSIX.1-2008 pax.
"""

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from airgap.decode import canonical_json
from airgap.errors import InputError, IntegrityError
from airgap.model import Platform, Sha256
from airgap.oci import (
    CONTAINERD_NAME,
    MAX_MANIFEST,
    OCI_INDEX,
    REF_NAME,
    Descriptor,
    ImageIndex,
    ImageManifest,
    Reference,
    parse_image,
    same_platform,
)
from airgap.progress import Progress, Silent
from airgap.store import CHUNK, Store

_OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
TAR_BLOCK = 512
"""Bytes to which every member of a tar is filled up; two empty ones end it."""

_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o755


@dataclass(frozen=True, slots=True)
class TarImage:
    """What to write: the image's name, its manifest or index, and the platform docker's side names.

    `name` is a full `registry/repository:tag`; '' writes the image without a name.
    """

    name: str
    root: Sha256
    platform: Platform

    def __post_init__(self) -> None:
        if self.name and Reference.parse(self.name).tagged != self.name:
            raise InputError(
                f"expected a full image name such as docker.io/library/debian:12, found {self.name[:200]!r}",
                remedy="write registry, repository and tag, and no digest: engines load under a tag",
            )


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything the tar holds, in its order; `size` is its length in bytes."""

    documents: tuple[tuple[str, bytes], ...]
    blobs: tuple[Descriptor, ...]

    @property
    def size(self) -> int:
        members = [(name, len(data)) for name, data in self.documents]
        members += [(_path(blob), blob.size) for blob in self.blobs]
        files = sum(len(tar_header(name, size)) + size + -size % TAR_BLOCK for name, size in members)
        return files + sum(len(tar_header(name, None)) for name in _DIRECTORIES) + 2 * TAR_BLOCK


_DIRECTORIES = ("blobs/", "blobs/sha256/")


def plan_image_tar(image: TarImage, store: Store) -> Contents:
    """Read the image's manifests from the store and say what its tar holds.

    Of an index every entry is written whose manifest the store has; the others did not travel. Raises
    IntegrityError when a manifest is damaged, InputError when the index has no image for the platform.
    """
    top = _document(image.root, "", store)
    blobs: dict[Sha256, Descriptor] = {}
    running = _gather(top, image.platform, store, blobs)
    if running is None:
        raise InputError(f"{image.name or image.root}: its index has no image for {image.platform} here")
    names = {CONTAINERD_NAME: image.name, REF_NAME: image.name} if image.name else {}
    entry = top.as_json() | ({"annotations": names} if names else {})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    docker = {
        "Config": _path(running.config),
        "RepoTags": [image.name] if image.name else [],
        "Layers": [_path(layer) for layer in running.layers],
    }
    documents = (
        ("oci-layout", _OCI_LAYOUT),
        ("index.json", canonical_json(index)),
        ("manifest.json", canonical_json([docker])),
    )
    return Contents(documents, tuple(sorted(blobs.values(), key=lambda blob: blob.digest)))


def write_image_tar(out: BinaryIO, image: TarImage, store: Store, progress: Progress | None = None) -> None:
    """Stream the tar of one image to `out`, which need not be seekable; the same bytes each time.

    Every blob is hashed on its way: a damaged one raises IntegrityError, and what `out` got by then is
    no image. Raises also what `plan_image_tar` raises; OSError of `out` is the caller's.
    """
    contents = plan_image_tar(image, store)
    watched = progress or Silent()
    for name, data in contents.documents:
        out.write(tar_header(name, len(data)) + data + tar_padding(len(data)))
    for name in _DIRECTORIES:
        out.write(tar_header(name, None))
    for blob in contents.blobs:
        out.write(tar_header(_path(blob), blob.size))
        _copy(out, blob, store, watched)
        out.write(tar_padding(blob.size))
    out.write(bytes(2 * TAR_BLOCK))


def _gather(
    top: Descriptor, platform: Platform, store: Store, blobs: dict[Sha256, Descriptor]
) -> ImageManifest | None:
    """Note every blob below `top`; the manifest that runs on `platform`, or the only one."""
    blobs[top.digest] = top
    image = parse_image(_read(top.digest, store), f"sha256:{top.digest}", media_type=top.media_type)
    if isinstance(image, ImageManifest):
        for blob in (image.config, *image.layers):
            blobs.setdefault(blob.digest, blob)
        return image
    running = None
    for entry in _present(image, store):
        found = _gather(entry, platform, store, blobs)
        if running is None and entry.platform and same_platform(entry.platform, platform):
            running = found
    return running


def _present(index: ImageIndex, store: Store) -> Sequence[Descriptor]:
    return [entry for entry in index.manifests if store.holds(entry.digest, entry.size)]


def _document(digest: Sha256, media_type: str, store: Store) -> Descriptor:
    data = _read(digest, store)
    image = parse_image(data, f"sha256:{digest}", media_type=media_type)
    return Descriptor(image.media_type, digest, len(data))


def _read(digest: Sha256, store: Store) -> bytes:
    return store.read(digest, max_bytes=MAX_MANIFEST)


def _path(blob: Descriptor) -> str:
    return f"blobs/sha256/{blob.digest}"


def tar_header(name: str, size: int | None, modified: int = 0) -> bytes:
    """A ustar header, preceded by a pax record where `size` is 8 GiB or more; None: a directory.

    `modified` is in seconds since 1970.
    """
    info = tarfile.TarInfo(name)
    info.mtime = modified
    info.mode = _DIRECTORY_MODE if size is None else _FILE_MODE
    info.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    info.size = size or 0
    return info.tobuf(tarfile.PAX_FORMAT)


def tar_padding(size: int) -> bytes:
    """What follows a member of `size` bytes."""
    return bytes(-size % TAR_BLOCK)


def _copy(out: BinaryIO, blob: Descriptor, store: Store, progress: Progress) -> None:
    hasher = hashlib.sha256()
    left = blob.size
    try:
        with open(store.path(blob.digest), "rb") as stream:
            while chunk := stream.read(min(CHUNK, left) or 1):
                left -= len(chunk)
                if left < 0:
                    break
                hasher.update(chunk)
                out.write(chunk)
                progress.advance(len(chunk))
    except FileNotFoundError:
        raise IntegrityError(
            f"blob {blob.digest} of the image is not in {store.root}",
            remedy="install the bundle that holds it again",
        ) from None
    if left or hasher.hexdigest() != blob.digest:
        raise IntegrityError(
            f"blob {blob.digest} in {store.root} is not the {blob.size} bytes it is named for",
            remedy="discard what was written, and install the bundle again",
        )
