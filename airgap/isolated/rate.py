"""How fast this host reads and hashes these media, measured on a little of what an install would copy."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airgap.errors import IntegrityError
from airgap.isolated.copying import CHUNK
from airgap.layout import blob_path
from airgap.media import Media
from airgap.model import Sha256
from airgap.trust.blobs import StatedBlob

MOST_BYTES = 64 * 1024 * 1024
MOST_SECONDS = 1.0
"""A sample ends at whichever comes first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`sampled` bytes were read and hashed in `seconds`."""

    sampled: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.sampled / self.seconds

    def seconds_for(self, size: int) -> float:
        """How long `size` bytes take at this rate."""
        return size / self.per_second


def measure(media: Sequence[Media], blobs: Mapping[Sha256, StatedBlob]) -> Rate | None:
    """Read some of `blobs`, the largest first; None when none of them lies on the media.

    Bytes that the host read a moment ago come from memory, and faster. What is not readable is left to
    the install to report. Raises HostError when the media cannot be read.
    """
    buffer = memoryview(bytearray(CHUNK))
    hasher = hashlib.sha384()
    began, sampled = time.monotonic(), 0
    for digest in sorted(blobs, key=lambda digest: -blobs[digest].size):
        for one in media:
            try:
                with one.open(blob_path(digest)) as readinto:
                    while count := readinto(buffer):
                        hasher.update(buffer[:count])
                        sampled += count
                        spent = time.monotonic() - began
                        if sampled >= MOST_BYTES or spent >= MOST_SECONDS:
                            return Rate(sampled, spent)
                break
            except IntegrityError:
                continue
    return Rate(sampled, max(time.monotonic() - began, 1e-6)) if sampled else None
