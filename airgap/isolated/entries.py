"""What a generation is made of: links to blobs of the site's store, and small texts."""

from dataclasses import dataclass

from airgap.model import BundlePath, Sha256


@dataclass(frozen=True, slots=True)
class Link:
    """A hard link to the blob `sha256`: a regular file to whoever reads it."""

    path: BundlePath
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Text:
    """A small generated file of exactly these bytes."""

    path: BundlePath
    data: bytes


Entry = Link | Text
