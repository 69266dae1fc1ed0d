"""The statement of a bundle, read once its signatures are verified, and by `inspect` without.

Invariant: only InputError escapes; what parses is rendered and parses back equal, so that two readers of
one signed payload cannot mean two things.
"""

from dataclasses import replace
from functools import cache

from airgap.model import Kind
from airgap.trust import statement
from tests.fuzz.harness import accepted
from tests.trust.statements import TARGET, example


def _artifact(kind: Kind) -> statement.StatedArtifact:
    (stated,) = example().artifacts
    return replace(stated, kind=kind, name=kind.value)


@cache
def seeds() -> dict[str, bytes]:
    first = example(sequence=1, previous=None, target=replace(TARGET, gpu=None, driver=""))
    return {
        "example": statement.render(example()),
        "first": statement.render(first),
        "epoch": statement.render(example(epoch=3, audience=("site-a", "site-b"))),
        "nothing": statement.render(example(artifacts=())),
        "kinds": statement.render(example(artifacts=tuple(_artifact(kind) for kind in Kind))),
    }


def check(data: bytes) -> bool:
    parsed = accepted(statement.parse, data)
    if parsed is None:
        return False
    assert statement.parse(statement.render(parsed)) == parsed
    assert parsed.place and parsed.total_bytes >= 0
    return True
