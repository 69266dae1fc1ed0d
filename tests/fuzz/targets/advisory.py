"""An OSV advisory, as an export has it, and its answers for a few versions.

Invariant: what is accepted answers for every version, and a version that is listed is affected.
"""

import json
from functools import cache

from airgap.audit.osv import Answer, evaluate, parse_advisory
from tests.audit.advisories import PUBLISHED
from tests.fuzz.harness import accepted

VERSIONS = ("0", "1.2.3", "2.0.0rc1+local", "1:1.2-3~deb12u1", "1.2.3_p1-r4", "no version")


@cache
def seeds() -> dict[str, bytes]:
    published = {one["id"].lower(): json.dumps(one).encode() for one in PUBLISHED[:5]}
    other = PUBLISHED[0] | {"id": "X-1"}
    other["affected"] = [{"package": {"ecosystem": "Debian:12", "name": "x"}, "versions": ["1:1.2-3"]}]
    return published | {"debian": json.dumps(other).encode(), "bad-list": b"[]"}


def check(data: bytes) -> bool:
    advisory = accepted(lambda _: parse_advisory(data, "advisory"), data)
    if advisory is None:
        return False
    for affected in advisory.affected:
        for version in (*VERSIONS, *sorted(affected.versions)[:3]):
            answer = evaluate(affected, version).answer
            assert answer is Answer.AFFECTED or version not in affected.versions
    return True
