"""What the report says of policy and vulnerabilities: exceptions on the first page, all of it after."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import accumulate

from airgap.audit.answers import PolicyFact, Violation, VulnerabilityData, Waiver
from airgap.audit.evidence import Audit
from airgap.audit.page import Column, Html, code, element, join, lines, section, table, tag, text
from airgap.audit.rating import Rating
from airgap.units import amount

MOST_WAIVERS = 12
"""On the first page, however much room there is."""

ROWS = 5
"""Broken rules that have a row on the first page; it names the others."""

NOTE = 4
"""Halves of a line on paper that a line between tables takes."""

WAIVER, BROKEN, WHOLE = 55, 90, 100
"""Characters of a line on paper: of a waiver's three columns, of where and why, and of all of it."""

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


def exceptions(audit: Audit, room: int) -> Html:
    """For the page that is signed: what nobody let pass, and who let pass what.

    `room` is what is left of the sheet for rows, in halves of a line. How many there are is always said;
    what does not fit is under Policy. Waivers are last: where the reckoning is wrong, paper cuts them off.
    """
    fact = audit.policy
    if fact is None or not (fact.waivers or fact.broken):
        return Html("")
    broken = _by_rule(fact.broken)
    said = f"{amount(len(fact.waivers), 'waiver')}, {amount(len(broken), 'broken rule')}"
    parts = [element("h3", text(f"Exceptions: {said}"))]
    if broken:
        parts.append(_violations(broken))
    if fact.waivers:
        rows = sum(height(lines(_first_of(some), BROKEN)) for some in list(broken.values())[:ROWS])
        rest = _without_row(broken)
        parts.append(_some_waivers(fact, room - rows - (NOTE * lines(text(rest), WHOLE) if rest else 0)))
    return element("div", *parts, kind="exceptions")


def _some_waivers(fact: PolicyFact, room: int) -> Html:
    """Those that let something pass first, as many as there is room for."""
    ordered = sorted(fact.waivers, key=lambda waiver: not waiver.used)
    heights = (height(lines(text(f"{one.subject}{_why(one)}{one.name}"), WAIVER)) for one in ordered)
    ends = list(accumulate(heights))
    if ends[-1] <= room and len(ordered) <= MOST_WAIVERS:
        return _waivers(fact, ordered)
    count = min(sum(end <= room - NOTE for end in ends), MOST_WAIVERS)
    some = f"{count} of the {len(ordered)} waivers, all of them under Policy:"
    said = some if count else f"{amount(len(ordered), 'waiver')}, under Policy"
    link = element("p", Html(f'<a href="#policy">{text(said)}</a>'), kind="soft")
    return join((link, _waivers(fact, ordered[:count]))) if count else link


def height(count: int) -> int:
    """Halves of a line on paper that a row of `count` lines takes."""
    return 2 * count + 1


def _waivers(fact: PolicyFact, waivers: Sequence[Waiver]) -> Html:
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
            text(_why(waiver)),
            text(waiver.name),
            text(waiver.expires),
        ]
        for waiver in waivers
    )
    return table(columns, rows)


def _why(waiver: Waiver) -> str:
    return waiver.reason + (f" ({waiver.note})" if waiver.note else "")


def _known_by(waiver: Waiver) -> tuple[str, str, date]:
    """What stays the same of a waiver once it is known whether it was used."""
    return waiver.rule, waiver.subject, waiver.expires


def _by_rule(violations: Sequence[Violation]) -> Mapping[str, Sequence[Violation]]:
    by_rule: dict[str, list[Violation]] = {}
    for one in violations:
        by_rule.setdefault(one.rule, []).append(one)
    return by_rule


def _violations(by_rule: Mapping[str, Sequence[Violation]]) -> Html:
    """A row a rule, so that none is hidden behind the many of another; of the last the name alone."""
    columns = [Column("broken rule", whole=True), Column("times", number=True), Column("where and why")]
    some = list(by_rule.items())[:ROWS]
    rows = ([tag(rule, "error"), text(len(broken)), _first_of(broken)] for rule, broken in some)
    rest = _without_row(by_rule)
    return join((table(columns, rows), *([element("p", text(rest), kind="soft")] if rest else ())))


def _without_row(by_rule: Mapping[str, Sequence[Violation]]) -> str:
    others = [f"{rule} ({len(broken)})" for rule, broken in list(by_rule.items())[ROWS:]]
    return f"and {', '.join(others)}, under Policy" if others else ""


def _first_of(broken: Sequence[Violation]) -> Html:
    more = f"; and {len(broken) - 1} more, under Policy" if len(broken) > 1 else ""
    return join((text(f"{broken[0].subject}: {broken[0].message}"), element("span", text(more), kind="soft")))


def policy_section(audit: Audit) -> Html:
    """Every violation of the policy that nobody waived, how many somebody did, and every waiver."""
    fact = audit.policy
    if fact is None:
        return section("policy", "Policy", element("p", text("None was given."), kind="soft"))
    rows = [[code(one.rule), text(one.subject), text(one.message), text(one.remedy)] for one in fact.broken]
    columns = [Column("broken rule", whole=True), Column("where"), Column("what"), Column("what clears it")]
    waived = len(fact.violations) - len(fact.broken)
    said = f"{amount(len(rows), 'violation')}, and {waived} that are waived: report.json names each."
    note = element("p", text(said), kind="soft")
    listed = [table(columns, rows, "report.json")] if rows else []
    waivers = [_waivers(fact, fact.waivers)] if fact.waivers else []
    return section("policy", "Policy", note, *listed, *waivers)
