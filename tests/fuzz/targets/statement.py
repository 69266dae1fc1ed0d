"""The statement of a bundle, read once its signatures are verified, and by `inspect` without.

Invariant: only InputError escapes; what parses is rendered and parses back equal, so that two readers of
one signed payload cannot mean two things.
"""

from functools import cache

from airgap.model import Kind
from airgap.trust import statement
from tests.fuzz.harness import accepted
from tests.trust.statements import example


@cache
def seeds() -> dict[str, bytes]:
    first = example(sequence=1, previous=None, target=example().target)
    return {
        "example": statement.render(example()),
        "first": statement.render(first),
        "epoch": statement.render(example(epoch=3, audience=("site-a", "site-b"))),
        "nothing": statement.render(example(artifacts=())),
        "kinds": b" ".join(kind.value.encode() for kind in Kind),
    }


def check(data: bytes) -> None:
    parsed = accepted(statement.parse, data)
    if parsed is not None:
        assert statement.parse(statement.render(parsed)) == parsed
        assert parsed.place and parsed.total_bytes >= 0
