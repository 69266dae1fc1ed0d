"""An rpm database of an image, and the header blobs in it.

Invariant: only InputError escapes; a package that is listed has a name and a version.
"""

import tempfile
from functools import cache
from pathlib import Path

from airgap.readers.rpm import read_database, read_header
from tests.fuzz.harness import accepted
from tests.readers.rpms import packages, simple


@cache
def seeds() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        made = packages(Path(scratch) / "db", [simple(), simple("zlib", "1.2", epoch=3)])
    return {"header": simple(epoch=1), "database": made, "bad-cut": simple()[:-1]}


def check(data: bytes) -> bool:
    header = accepted(lambda blob: read_header(blob, "header"), data)
    if header is not None:
        assert header.name and header.version
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        listed = accepted(lambda _: list(read_database(file.name, len(data), "database")), data)
    assert all(package.name and package.version for package in listed or ())
    return header is not None or bool(listed)
