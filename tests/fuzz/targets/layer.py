"""A layer of an image: a tar archive, read forward once.

Invariant: only InputError escapes; an entry's bytes are as many as it says, and never more than there are.
"""

import io
import tarfile
from functools import cache

from airgap.readers.tar import BLOCK, EntryKind, TarStream
from tests.fuzz.harness import accepted
from tests.images import layer_tar


@cache
def seeds() -> dict[str, bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, target in (("d", tarfile.DIRTYPE, ""), ("l", tarfile.SYMTYPE, "x" * 150)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return {
        "file": layer_tar("etc/hello", b"hello"),
        "pax": layer_tar("é/" + "long/" * 40 + "name", b"x"),
        "gnu": out.getvalue(),
        "empty": bytes(1024),
        "bad-checksum": layer_tar("a", b"").replace(b"ustar", b"ustas"),
    }


def check(data: bytes) -> bool:
    accepted(_walk, _with_checksums(data))
    return accepted(_walk, data) is not None


def _with_checksums(data: bytes) -> bytes:
    """The same with the checksum of every header made right, which no mutation manages by chance."""
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    for number, block in enumerate(blocks):
        if block[257:262] == b"ustar":
            checksum = sum(block[:148]) + 8 * 32 + sum(block[156:])
            blocks[number] = block[:148] + b"%06o\0 " % checksum + block[156:]
    return b"".join(blocks)


def _walk(data: bytes) -> list[str]:
    layer = TarStream(io.BytesIO(data), "layer")
    paths, total = [], 0
    for entry in layer:
        paths.append(entry.path)
        if entry.kind is EntryKind.FILE and not entry.sparse:
            content = layer.read(len(data))
            assert len(content) == entry.size
            total += len(content)
    assert total <= len(data)
    return paths
