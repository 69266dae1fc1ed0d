"""A lock: reviewed by people, carried in every bundle, read on the isolated side.

Invariant: only InputError escapes; what parses is rendered and parses back equal; every path in it is a
bundle path, no two of an artifact collide, and each artifact can be laid out or is refused with InputError.
"""

from functools import cache
from pathlib import Path

from airgap.layout import pack
from airgap.lock import parse_lock, render_lock
from airgap.model import bundle_path, path_collisions
from tests.fuzz.harness import CORPUS, accepted


@cache
def seeds() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(CORPUS / "lock").glob("*.json"))}


def check(data: bytes) -> bool:
    parsed = accepted(lambda lock: parse_lock(lock, "lock"), data)
    if parsed is None:
        return False
    assert parse_lock(render_lock(parsed), "lock") == parsed
    for artifact in parsed.artifacts:
        assert not path_collisions(file.path for file in artifact.files)
        assert all(bundle_path(file.path) == file.path for file in artifact.files)
        accepted(lambda _, it=artifact: pack(it), b"")  # type: ignore[misc]
    return True
