"""What the report says of policy and vulnerabilities: exceptions on the first page, all of it after."""

from collections import Counter
from collections.abc import Sequence

from airgap.audit.answers import Violation, VulnerabilityData, Waiver
from airgap.audit.evidence import Audit
from airgap.audit.page import Column, Html, code, element, facts, join, section, table, tag, text
from airgap.audit.rating import Rating

ON_COVER = 8
"""Violations that the first page names; waivers are named there all."""

_STYLE = {Rating.CRITICAL: "error", Rating.HIGH: "error", Rating.LOW: "info", Rating.NONE: "info"}


def policy_cover(audit: Audit) -> Html:
    """For the page that is signed: what the policy says, who let pass what, how old the advisories are."""
    return join(
        (facts([("Vulnerabilities", _known(audit)), ("Policy", _verdict(audit))]), _exceptions(audit))
    )


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


def _exceptions(audit: Audit) -> Html:
    fact = audit.policy
    if fact is None or not (fact.waivers or fact.broken):
        return Html("")
    parts = [element("h3", text("Exceptions"))]
    if fact.waivers:
        parts.append(_waivers(fact.waivers))
    if fact.broken:
        parts.append(_violations(fact.broken))
    return join(parts)


def _waivers(waivers: Sequence[Waiver]) -> Html:
    columns = [Column("waived rule"), Column("subject"), Column("why"), Column("by"), Column("until")]
    return table(
        columns,
        (
            [
                code(waiver.rule),
                text(waiver.subject),
                text(waiver.reason + (f" ({waiver.note})" if waiver.note else "")),
                text(waiver.name),
                text(waiver.expires),
            ]
            for waiver in waivers
        ),
    )


def _violations(violations: Sequence[Violation]) -> Html:
    rest = len(violations) - ON_COVER
    rows = ([tag(one.rule, "error"), text(one.subject), text(one.message)] for one in violations[:ON_COVER])
    found = table([Column("broken rule"), Column("where"), Column("what")], rows)
    more = element("p", text(f"and {rest} more, in report.json"), kind="soft") if rest > 0 else Html("")
    return join((found, more))
