"""The record of a smoke run: its payload, and its file before anyone is believed.

Invariant: only InputError and TrustError escape; what parses is rendered and parses back equal; nothing is
believed that alice did not sign.
"""

from functools import cache

from airgap.trust import envelope, smoke
from tests.fuzz.harness import accepted
from tests.trust.people import root_of, sealed
from tests.trust.statements import NOW
from tests.trust.test_smoke import example


@cache
def seeds() -> dict[str, bytes]:
    payload = smoke.render(example())
    return {
        "payload": payload,
        "file": sealed(payload, smoke.PAYLOAD_TYPE, "alice"),
        "unsigned": sealed(payload, smoke.PAYLOAD_TYPE),
        "bad-type": sealed(payload, "text/plain", "alice"),
        "bad-payload": envelope.render(b"{}", smoke.PAYLOAD_TYPE, []),
    }


def check(data: bytes) -> bool:
    parsed = accepted(smoke.parse, data)
    if parsed is not None:
        assert smoke.parse(smoke.render(parsed)) == parsed
    surveyed = accepted(smoke.survey, data)
    judged = accepted(lambda file: smoke.judge(file, root_of("alice"), NOW), data)
    if judged is not None:
        assert judged.run == example()
    return parsed is not None or surveyed is not None
