"""Holders of the tests. Keys are made once a run: ML-DSA and P-384 are fast, but not free."""

from datetime import timedelta
from functools import cache

from airgap.trust import envelope
from airgap.trust.keys import HolderSecret, generate
from airgap.trust.root import PAYLOAD_TYPE, Role, Root, render

from .statements import NOW


@cache
def person(name: str) -> HolderSecret:
    return generate(name)


def root_of(*names: str, threshold: int = 1, version: int = 1, **changes: object) -> Root:
    """A root in which these people hold both roles."""
    role = Role(threshold, names)
    holders = tuple(person(name).holder for name in names)
    values = {"expires": NOW + timedelta(days=365), "root": role, "release": role}
    return Root(version, holders=holders, **(values | changes))  # type: ignore[arg-type]


def sealed_root(root: Root, *names: str) -> bytes:
    """The root's envelope, signed by these people."""
    return sealed(render(root), PAYLOAD_TYPE, *names)


def sealed(payload: bytes, payload_type: str, *names: str) -> bytes:
    signatures = [s for name in names for s in envelope.sign(payload, payload_type, person(name))]
    return envelope.render(payload, payload_type, signatures)
