"""The payload of a root, and a root as its file, before it is pinned.

Invariant: only InputError and TrustError escape; what parses is rendered and parses back equal; under the
fingerprint of one root no other payload is ever accepted.
"""

from datetime import timedelta
from functools import cache

from airgap.model import Sha384
from airgap.trust import envelope, root
from tests.fuzz.harness import accepted
from tests.trust.people import person, root_of, sealed_root
from tests.trust.statements import NOW


@cache
def pinned() -> root.Root:
    return root_of("alice")


@cache
def seeds() -> dict[str, bytes]:
    changed = root_of(
        "alice",
        "bob",
        threshold=2,
        version=3,
        expires=NOW + timedelta(days=1),
        floors={"serving": root.Floor(1, 7), "edge": root.Floor(0, 2**53 - 1)},
        revoked_keys=frozenset({"0" * 64, "1" * 64}),
        revoked_bundles=frozenset({Sha384("2" * 96)}),
    )
    return {
        "payload": root.render(pinned()),
        "changed": root.render(changed),
        "file": sealed_root(pinned(), "alice"),
        "another": sealed_root(root_of("bob"), "bob"),
        "unsigned": sealed_root(pinned()),
        "bad-payload": envelope.render(person("bob").holder.p384.spki, root.PAYLOAD_TYPE, []),
    }


def check(data: bytes) -> bool:
    parsed = accepted(root.parse, data)
    if parsed is not None:
        assert root.parse(root.render(parsed)) == parsed
    expected = root.fingerprint(root.render(pinned()))
    found = accepted(lambda file: root.verify_first(file, expected), data)
    assert found in (None, pinned())
    surveyed = accepted(root.survey, data)
    if surveyed is not None:
        assert surveyed[0] == root.parse(root.render(surveyed[0]))
        assert (surveyed[1] == expected) == (surveyed[0] == pinned())
    return parsed is not None or surveyed is not None
