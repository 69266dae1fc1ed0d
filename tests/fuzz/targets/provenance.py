"""Attestations of a wheel (PEP 740), and the payload of cosign's signature of an image.

Invariant: both are taken or refused as InputError; who is named as a publisher can be printed as it is.
"""

from functools import cache, partial

from airgap.connected.provenance import read_provenance
from airgap.connected.signatures import judge_payload
from airgap.model import Sha256
from tests.fuzz.harness import accepted
from tests.servers.index import make_provenance

WHEEL = "one-1.0-py3-none-any.whl"
EMPTY = Sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


@cache
def seeds() -> dict[str, bytes]:
    return {
        "attestations": make_provenance(WHEEL, b""),
        "bad-other-bytes": make_provenance(WHEEL, b"other"),
        "payload": b'{"critical":{"image":{"docker-manifest-digest":"sha256:%s"}},"optional":null}'
        % EMPTY.encode(),
    }


def _payload(data: bytes) -> bool:
    judge_payload(data, EMPTY, "signature")
    return True


def check(data: bytes) -> bool:
    publishers = accepted(partial(read_provenance, wheel=WHEEL, sha256=EMPTY), data)
    assert all(name.isprintable() for name in publishers or ())
    return publishers is not None or bool(accepted(_payload, data))
