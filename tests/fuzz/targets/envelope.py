"""A DSSE envelope, the first bytes of a bundle that anyone reads.

Invariant: only InputError escapes; what parses is rendered and parses back equal, signatures in their one
order; and a holder whose keys signed one payload is never counted for another one, or for another type.
"""

from functools import cache

from airgap.trust import checkable, envelope
from tests.fuzz.harness import accepted
from tests.trust.people import person, sealed

TYPE = "application/vnd.in-toto+json"
PAYLOAD = b'{"signed":true}'


@cache
def seeds() -> dict[str, bytes]:
    genuine = envelope.parse(sealed(PAYLOAD, TYPE, "alice")).signatures
    return {
        "relabelled": envelope.render(PAYLOAD, "text/plain", genuine),
        "replaced": envelope.render(PAYLOAD + b" ", TYPE, genuine),
        "bad-base64": b'{"payload":"YR==","payloadType":"a/b","signatures":[]}',
        "signed": sealed(PAYLOAD, TYPE, "alice"),
        "two": sealed(PAYLOAD, TYPE, "alice", "bob"),
        "other": sealed(b"", "text/plain", "bob"),
        "none": envelope.render(PAYLOAD, TYPE, []),
        "empty": envelope.render(
            b"\0\xff", TYPE, [envelope.Signature("", b""), envelope.Signature("a", b"b")]
        ),
    }


def check(data: bytes) -> bool:
    parsed = accepted(envelope.parse, data)
    if parsed is None:
        return False
    rendered = envelope.render(parsed.payload, parsed.payload_type, parsed.signatures)
    again = envelope.parse(rendered)
    assert (again.payload, again.payload_type) == (parsed.payload, parsed.payload_type)
    assert sorted(again.signatures, key=repr) == sorted(parsed.signatures, key=repr)
    assert envelope.render(again.payload, again.payload_type, again.signatures) == rendered
    for path in checkable.checkable(data, b""):
        assert path.startswith("verify/") and ".." not in path
    # Few at a time: each costs a verification, which is no parser's work.
    if len(parsed.signatures) <= 8:
        found = envelope.tally(parsed, [person("alice").holder])
        if found.signers or found.partial:
            assert (parsed.payload, parsed.payload_type) == (PAYLOAD, TYPE)
    return True
