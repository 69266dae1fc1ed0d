"""A manifest, written by a person, possibly by one who means harm.

Invariant: only InputError escapes, though tomllib itself lets a ValueError and a RecursionError through;
reading twice gives equal values; every request has a digest, and the target's table reads back equal.
"""

from functools import cache
from pathlib import Path

from airgap.decode import Fields
from airgap.destination import read_target, target_table
from airgap.manifest import parse_manifest, request_digest
from tests.fuzz.harness import accepted

MANIFESTS = Path(__file__).parents[3] / "manifests"

VARIANTS = b"""bundle = {name = "a", version = "1"}
target = {python = "3.12", platform = "linux/amd64", glibc = "2.35"}
[[models]]
name = "m"
variants = [{repo = "org/a", quantization = "nvfp4"}, {path = "w", include = ["*.json"]}]
"""


@cache
def seeds() -> dict[str, bytes]:
    shipped = {path.name: path.read_bytes() for path in sorted(MANIFESTS.glob("*.toml"))}
    return {**shipped, "variants": VARIANTS}


def check(data: bytes) -> bool:
    parsed = accepted(lambda text: parse_manifest(text, "manifest", Path()), data)
    if parsed is None:
        return False
    assert parse_manifest(data, "manifest", Path()) == parsed
    assert all(len(request_digest(request)) == 64 for request in parsed.requests)
    fields = Fields(target_table(parsed.target))
    assert read_target(fields) == parsed.target
    fields.raise_if_bad("target")
    return True
