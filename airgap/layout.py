"""A bundle as an OCI image layout 1.0.0: what each artifact becomes, and how it is read back.

Source: OCI image-spec 1.1, image-layout.md, manifest.md (artifacts), annotations.md.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from airgap.lock import Lock
from airgap.model import Artifact, BundlePath, Sha256

OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
ENVELOPE_FILE = "bundle.dsse.json"
VERIFY_DIRECTORY = "verify"


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of an artifact as the layout holds it; for a container `path` is the blob's own path."""

    path: BundlePath
    sha256: Sha256
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class BundledArtifact:
    """A locked artifact and the layers it became. The pylock of a wheels set is a layer too."""

    artifact: Artifact
    media_type: str
    digest: Sha256
    size: int
    """Of the manifest or index that index.json points at."""
    layers: tuple[Layer, ...]
    documents: Mapping[Sha256, bytes]
    """Manifests and generated files, by digest; empty for a container, whose documents are upstream's."""


def blob_path(digest: Sha256) -> BundlePath:
    return BundlePath(f"blobs/sha256/{digest}")


def pack(artifact: Artifact) -> BundledArtifact:
    """What a locked artifact becomes; pure, and the same for the same lock."""
    raise NotImplementedError


def render_index(artifacts: Sequence[BundledArtifact], lock: Sha256) -> bytes:
    """The bytes of index.json: one descriptor per artifact in the lock's order."""
    raise NotImplementedError


def read_layout(
    index: bytes, lock: Lock, read: Callable[[Sha256], bytes]
) -> tuple[BundledArtifact, ...]:
    """Read artifacts back from index.json, checking each against the lock.

    `read` returns the verified bytes of a small blob. Raises IntegrityError naming every
    disagreement between index, manifests and lock.
    """
    raise NotImplementedError
