"""The first page shows what a policy let pass and what it did not; later ones every vulnerability."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from airgap.audit.answers import VulnerabilityData, VulnerabilityFact
from airgap.audit.evidence import Audit
from airgap.audit.judging import judge_policy, refuse_broken
from airgap.audit.policy import parse_policy
from airgap.audit.rating import Rating
from airgap.audit.report import render_report
from airgap.cli.policing import policy_lines
from airgap.errors import PolicyError
from airgap.model import Sha256
from tests.audit.test_page import Reader
from tests.audit.values import MADE, audit

POLICY = f"""
format = 1
[findings]
errors = false
forbidden = ["audit-setuid"]
[[waivers]]
rule = "findings.errors"
subject = "tiny: *"
reason = "<b>read</b> by hand"
name = "Jane Doe"
expires = {date(2026, 11, 4) + timedelta(days=30)}
"""


def first_page(html: str) -> str:
    return Reader(html.partition("<section")[0]).shown


def test_waivers_and_violations_are_on_the_first_page() -> None:
    judged = judge_policy(audit(), parse_policy(POLICY.encode(), "policy.toml"))
    shown = first_page(render_report(judged))
    for said in (
        "broken",
        "findings.forbidden",
        "engine: usr/bin/su",
        "Jane Doe",
        "<b>read</b> by hand",
        "2026-12-04",
    ):
        assert said in shown
    assert "policy.toml: 2 rules, 1 violation, sha256" in shown


def test_what_was_not_judged_is_said() -> None:
    shown = first_page(render_report(audit()))
    assert "no policy was given" in shown
    assert "no advisories were given" in shown


def test_every_vulnerability_is_listed_the_worst_first() -> None:
    def one(name: str, rating: Rating) -> VulnerabilityFact:
        return VulnerabilityFact(
            name, ("GHSA-x",), rating, "alpha", "1.0", "pypi", "packages", "x.whl", ("1.1",), "why"
        )

    data = VulnerabilityData("all.zip", Sha256("7" * 64), 10, MADE, 3, ("PyPI",))
    seen = audit(
        vulnerabilities=(one("CVE-1", Rating.LOW), one("CVE-2", Rating.CRITICAL)), vulnerability_data=(data,)
    )
    html = render_report(seen)
    assert "1 critical 1 low by 10 advisories of all.zip, 3 days old" in first_page(html)
    shown = Reader(html.partition('<section id="vulnerabilities">')[2]).shown
    assert -1 < shown.find("CVE-2") < shown.find("CVE-1")
    assert "none that is known" in first_page(
        render_report(audit(vulnerabilities=(), vulnerability_data=(data,)))
    )


def licensed(count: int) -> Audit:
    """Packages of an image of which nothing is said, as a policy that knows licences judges them."""
    (_, package) = audit().packages
    many = tuple(replace(package, name=f"lib{n}") for n in range(count))
    policy = f"""
    format = 1
    [licences]
    allowed = ["MIT"]
    [findings]
    errors = false
    [[waivers]]
    rule = "licences.allowed"
    subject = "engine: lib1*"
    reason = "free software"
    name = "Jane Doe"
    expires = {date(2026, 11, 4) + timedelta(days=30)}
    """
    return judge_policy(audit(packages=many), parse_policy(policy.encode(), "policy.toml"))


def test_the_first_page_says_how_often_a_waiver_lets_pass_and_has_a_row_for_each_rule() -> None:
    judged = licensed(30)
    shown = first_page(render_report(judged))
    assert "engine: lib1*11free software" in shown
    assert "and 19 more, under Policy" in shown
    assert shown.count("licences.allowed") == 2, "a waiver and a broken rule"
    assert "findings.errors" in shown
    policy = Reader(
        render_report(judged).partition('<section id="policy">')[2].partition("<section")[0]
    ).shown
    assert "lib29" in policy
    assert "lib11 " not in policy
    assert "21 violations, and 11 that are waived" in policy


def test_a_terminal_names_a_few_violations_of_each_reason() -> None:
    fact = licensed(30).policy
    assert fact
    lines = list(policy_lines(fact))
    assert sum("no licence is said" in line for line in lines) == 5
    assert "  licences.allowed: and 14 more for the same reason; --json has every one" in lines
    assert any("findings.errors" in line for line in lines)
    with pytest.raises(PolicyError) as refused:
        refuse_broken(licensed(30))
    assert "licences.allowed: and 14 more for the same reason" in refused.value.message
    assert sum("more for the same" in line for line in policy_lines(licensed(6).policy)) == 0
