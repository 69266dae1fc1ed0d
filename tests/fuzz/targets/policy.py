"""A policy, and the licence expressions that it is asked about.

Invariant: what is accepted names only rules there are, and answers for every text; the starter is accepted.
"""

from functools import cache

from airgap.audit.policy import RULES, parse_policy
from airgap.audit.policy_starter import STARTER
from airgap.audit.spdx import permitted
from tests.fuzz.harness import accepted

WAIVER = """format = 1
[[waivers]]
rule = "sizes.file"
subject = "*"
reason = "r"
name = "n"
expires = 2027-01-01
"""


@cache
def seeds() -> dict[str, bytes]:
    texts = {
        "starter": STARTER,
        "waiver": WAIVER,
        "bad-format": "format = 2\n",
        "bad-expression": "MIT OR (A AND B)",
    }
    return {name: text.encode() for name, text in texts.items()}


def check(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    assert permitted(text, ["MIT"]) in (True, False, None)
    policy = accepted(lambda _: parse_policy(data, "policy.toml"), data)
    if policy is None:
        return False
    assert set(policy.rules) <= set(RULES)
    assert all(waiver.rule in RULES for waiver in policy.waivers)
    return True
