"""Attestations of a wheel (PEP 740), and signatures of an image in the forms of cosign and notation.

Invariant: both are taken or refused as InputError; who is named as a publisher can be printed as it is.
"""

from functools import cache, partial

from airgap.connected.provenance import read_provenance
from airgap.image_signatures import SIGNATURE, judge_signature
from airgap.model import Sha256
from airgap.oci import Descriptor
from tests.fuzz.harness import accepted
from tests.servers.index import make_provenance
from tests.servers.signing import MAKERS, bundle

WHEEL = "one-1.0-py3-none-any.whl"
EMPTY = Sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


@cache
def seeds() -> dict[str, bytes]:
    return {
        "attestations": make_provenance(WHEEL, b""),
        "bad-other-bytes": make_provenance(WHEEL, b"other"),
        "attestation-of-an-image": bundle(EMPTY, "https://slsa.dev/provenance/v1"),
    } | {kind.rpartition("/")[2]: make(EMPTY) for kind, make in MAKERS.items()}


def _signature(data: bytes, kind: str) -> tuple[str, ...]:
    layer = Descriptor(kind, EMPTY, len(data), annotations={SIGNATURE: "c2ln"})
    return judge_signature(layer, data, EMPTY, "signature") or ()


def check(data: bytes) -> bool:
    publishers = accepted(partial(read_provenance, wheel=WHEEL, sha256=EMPTY), data)
    found = [publishers, *(accepted(partial(_signature, kind=kind), data) for kind in MAKERS)]
    assert all(name.isprintable() for names in found for name in names or ())
    return any(names is not None for names in found)
