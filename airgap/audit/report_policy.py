"""What the report says of policy and vulnerabilities: exceptions on the first page, all of it after."""

from collections import Counter
from collections.abc import Sequence
from datetime import date

from airgap.audit.answers import PolicyFact, Violation, VulnerabilityData, Waiver
from airgap.audit.evidence import Audit
from airgap.audit.page import Column, Html, code, element, join, section, table, tag, text
from airgap.audit.rating import Rating
from airgap.units import amount

_STYLE = {Rating.CRITICAL: "error", Rating.HIGH: "error", Rating.LOW: "info", Rating.NONE: "info"}


def policy_facts(audit: Audit) -> list[tuple[str, Html]]:
    """For the page that is signed: what the policy says, and how old the advisories are."""
    return [("Vulnerabilities", _known(audit)), ("Policy", _verdict(audit))]


def vulnerabilities_section(audit: Audit) -> Html:
    """Every vulnerability, the worst first; nothing where no advisories were given."""
    if not audit.vulnerabilities:
        return section("vulnerabilities", "Vulnerabilities", element("p", _known(audit)))
    order = list(Rating)
    columns = [
        Column("severity"),
        Column("package"),
        Column("vulnerability"),
        Column("fixed in"),
        Column("where"),
    ]
    rows = (
        [
            tag(one.rating, _STYLE.get(one.rating, "warning")),
            text(f"{one.package} {one.version}"),
            join(
                (code(one.id), element("div", text(", ".join(one.aliases)), kind="soft"), text(one.summary))
            ),
            text(", ".join(one.fixed) or "no release that is named"),
            text(f"{one.artifact}: {one.path}"),
        ]
        for one in sorted(
            audit.vulnerabilities, key=lambda one: (order.index(one.rating), one.subject, one.id)
        )
    )
    return section("vulnerabilities", "Vulnerabilities", element("p", _known(audit)), table(columns, rows))


def _known(audit: Audit) -> Html:
    if audit.vulnerabilities is None:
        return text("not judged: no advisories were given (airgap audit --osv FILE)")
    counts = Counter(one.rating for one in audit.vulnerabilities)
    said = [
        tag(f"{counts[rating]} {rating}", _STYLE.get(rating, "warning"))
        for rating in Rating
        if counts[rating]
    ]
    ages = ", ".join(_age(data) for data in audit.vulnerability_data)
    return join((*(said or [tag("none that is known", "good")]), text(f"by {ages}")), " ")


def _age(data: VulnerabilityData) -> str:
    age = "of unknown age" if data.age_days is None else f"{data.age_days} days old"
    return f"{data.advisories} advisories of {data.source}, {age}"


def _verdict(audit: Audit) -> Html:
    fact = audit.policy
    if fact is None:
        return text("not judged: no policy was given (airgap audit --policy FILE)")
    verdict = tag("broken", "error") if fact.broken else tag("kept", "good")
    return join((verdict, text(f" {fact.where}: {fact.summary}, sha256 "), code(fact.sha256)))


def exceptions(audit: Audit) -> Html:
    """For the page that is signed: who let pass what, and what nobody did."""
    fact = audit.policy
    if fact is None or not (fact.waivers or fact.broken):
        return Html("")
    parts = [element("h3", text("Exceptions"))]
    if fact.waivers:
        parts.append(_waivers(fact))
    if fact.broken:
        parts.append(_violations(fact.broken))
    return join(parts)


def _waivers(fact: PolicyFact) -> Html:
    """Who let pass what, and how often: a waiver for anything may stand for hundreds."""
    passed = Counter(_known_by(one.waived) for one in fact.violations if one.waived)
    columns = [
        Column("waived rule", whole=True), Column("subject"), Column("times", number=True),
        Column("why"), Column("by"), Column("until", whole=True),
    ]  # fmt: skip
    rows = (
        [
            code(waiver.rule),
            text(waiver.subject),
            text(passed[_known_by(waiver)]),
            text(waiver.reason + (f" ({waiver.note})" if waiver.note else "")),
            text(waiver.name),
            text(waiver.expires),
        ]
        for waiver in fact.waivers
    )
    return table(columns, rows)


def _known_by(waiver: Waiver) -> tuple[str, str, date]:
    """What stays the same of a waiver once it is known whether it was used."""
    return waiver.rule, waiver.subject, waiver.expires


def _violations(violations: Sequence[Violation]) -> Html:
    """A row a rule, so that none is hidden behind the many of another."""
    by_rule: dict[str, list[Violation]] = {}
    for one in violations:
        by_rule.setdefault(one.rule, []).append(one)
    rows = ([tag(rule, "error"), text(len(broken)), _first_of(broken)] for rule, broken in by_rule.items())
    return table(
        [Column("broken rule", whole=True), Column("times", number=True), Column("where and why")], rows
    )


def _first_of(broken: Sequence[Violation]) -> Html:
    more = f"; and {len(broken) - 1} more, under Policy" if len(broken) > 1 else ""
    return join((text(f"{broken[0].subject}: {broken[0].message}"), element("span", text(more), kind="soft")))


def policy_section(audit: Audit) -> Html:
    """Every violation of the policy that nobody waived, and how many somebody did."""
    fact = audit.policy
    if fact is None:
        return section("policy", "Policy", element("p", text("None was given."), kind="soft"))
    rows = [[code(one.rule), text(one.subject), text(one.message), text(one.remedy)] for one in fact.broken]
    columns = [Column("broken rule", whole=True), Column("where"), Column("what"), Column("what clears it")]
    waived = len(fact.violations) - len(fact.broken)
    said = f"{amount(len(rows), 'violation')}, and {waived} that are waived: report.json names each."
    note = element("p", text(said), kind="soft")
    return section("policy", "Policy", note, *([table(columns, rows, "report.json")] if rows else []))
