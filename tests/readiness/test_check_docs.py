"""docs/check.md names every rule and no other."""

import re
from pathlib import Path

from airgap.readiness.check import RULES
from airgap.readiness.judgement import Verdict

PAGE = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[str]:
    _, found, rest = PAGE.partition(f"\n## {heading}\n")
    assert found
    return re.findall(r"^\| `([^`]+)` \|", rest.partition("\n## ")[0], re.M)


def test_every_rule_is_explained() -> None:
    assert rows("Rules") == [rule.id for rule in RULES]


def test_every_verdict_is_explained() -> None:
    assert sorted(rows("Verdicts")) == sorted(verdict.value for verdict in Verdict)
