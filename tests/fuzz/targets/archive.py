"""A zip archive (a wheel), read where it lies.

Invariant: only InputError and IntegrityError escape; an archive whose members all read is read by zipfile
too, with the same names and bytes, so that it cannot mean another thing to whoever installs it.
"""

import io
import zipfile
from functools import cache

from airgap.errors import IntegrityError
from airgap.readers.source import BytesSource
from airgap.readers.zip import Archive
from tests.bundles import wheel
from tests.fuzz.harness import accepted

MAX_MEMBER = 1024 * 1024


@cache
def seeds() -> dict[str, bytes]:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/", b"")
        archive.writestr("a/b.txt", b"text " * 50)
        archive.writestr(zipfile.ZipInfo("c"), b"")
    return {"wheel": wheel("alpha")[1], "deflated": out.getvalue(), "bad-nothing": b""}


def check(data: bytes) -> bool:
    archive = accepted(lambda _: Archive(BytesSource(data), "wheel"), data)
    if archive is None:
        return False
    found = {}
    for member in archive.members():
        try:
            content = accepted(lambda _, path=member.path: archive.read(path, MAX_MEMBER), data)  # type: ignore[misc]
        except IntegrityError:
            return False
        if content is None:
            return False
        found[str(member.path)] = content
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        files = [info for info in theirs.infolist() if not info.is_dir()]
        assert {info.filename: theirs.read(info) for info in files} == found
    return True
