"""report.html: what an auditor must answer for, the page to sign first, then pictures, then every detail.

Pure: an audit in, one self-contained document out (`airgap.audit.page`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airgap.audit import findings
from airgap.audit.evidence import Audit, BundleFact
from airgap.audit.page import (
    Column,
    Html,
    code,
    element,
    facts,
    join,
    lines,
    page,
    section,
    table,
    tag,
    text,
    tiles,
)
from airgap.audit.report_details import (
    artifacts_section,
    files_section,
    images_section,
    models_section,
    packages_section,
    wheels_section,
)
from airgap.audit.report_pictures import pictures_section
from airgap.audit.report_policy import (
    exceptions,
    height,
    policy_facts,
    policy_section,
    vulnerabilities_section,
)
from airgap.audit.report_since import since_section, summary
from airgap.audit.sbom import title
from airgap.audit.vulnerabilities import UNKNOWN, VULNERABLE
from airgap.model import Finding, Severity, Sha256
from airgap.trust.instant import render_instant
from airgap.units import amount, human_bytes, noun

ON_COVER = 6
"""Kinds of findings that the first page names; every finding follows it."""

ON_SHEET, BUNDLE = 64, 24
"""Halves of a line on paper: what fits beside one bundle, and what each further one takes of that."""

FACT, FOUND = 90, 80
"""Characters of a line on paper: of a fact, and of what was found and where."""

TITLES = {
    **{rule.code: rule.title for rule in findings.RULES},
    VULNERABLE: "packages with known vulnerabilities",
    UNKNOWN: "packages of which nobody could say whether they are vulnerable",
}
"""What findings of one code have in common, in a line."""

_TRUST = frozenset({findings.UNTRUSTED.code, findings.UNJUDGED.code})

VERDICT_STYLE = {"blocked": "error", "unknown": "warning", "no_blocker": "info", "ready": "good"}

SECTIONS = (
    ("pictures", "Pictures"),
    ("findings", "Findings"),
    ("policy", "Policy"),
    ("vulnerabilities", "Vulnerabilities"),
    ("artifacts", "Artifacts"),
    ("models", "Models"),
    ("images", "Images"),
    ("wheels", "Wheels"),
    ("packages", "Packages"),
    ("files", "Files"),
)


@dataclass(frozen=True, slots=True)
class Beside:
    """Another file of the same evidence: a signature below its digest is one for it, too."""

    name: str
    size: int
    sha256: Sha256


def render_report(audit: Audit, beside: Sequence[Beside] = ()) -> str:
    """The whole document; equal audits and files beside it give equal text."""
    name, version = title(audit)
    return page(
        f"Audit of {name} {version}".strip(),
        _cover(audit, beside),
        pictures_section(audit),
        since_section(audit),
        _findings(audit),
        policy_section(audit),
        vulnerabilities_section(audit),
        artifacts_section(audit),
        models_section(audit),
        images_section(audit),
        wheels_section(audit),
        packages_section(audit),
        files_section(audit),
    )


def _cover(audit: Audit, beside: Sequence[Beside]) -> Html:
    """The one page that is signed."""
    name, version = title(audit)
    looked = f"{audit.subject.where}, looked at {render_instant(audit.at)} by airgap {audit.airgap}"
    return element(
        "div",
        element("h1", text(f"Audit of {name} {version}".strip())),
        element("p", text(looked), kind="lead"),
        _counts(audit),
        *(_bundle(bundle) for bundle in audit.subject.bundles),
        facts([*_read(audit), *_since(audit), *_verdicts(audit), *policy_facts(audit)]),
        exceptions(audit, _room(audit)),
        _worst(audit),
        element("div", _beside(beside), _signature(), kind="signed"),
        element("nav", *(Html(f'<a href="#{anchor}">{text(head)}</a>') for anchor, head in SECTIONS)),
        kind="cover",
    )


def _room(audit: Audit) -> int:
    """What is left for exceptions, in halves of a line, so that the page stays one sheet."""
    said = [*_read(audit), *_since(audit), *_verdicts(audit)]
    always = [*policy_facts(audit), *(("", _signing(bundle)) for bundle in audit.subject.bundles)]
    further = 2 * sum(lines(value, FACT) - 1 for _, value in always)
    kinds = list(_kinds(audit).values())
    found = sum(height(lines(text(_kind(one) + _where(one)), FOUND)) for one in kinds[:ON_COVER])
    found += height(1) * (len(kinds) > ON_COVER)
    taken = further + sum(height(lines(value, FACT)) for _, value in said) + found
    return ON_SHEET - taken - BUNDLE * (len(audit.subject.bundles) - 1)


def _counts(audit: Audit) -> Html:
    totals = audit.totals
    found = audit.by_severity()
    return tiles(
        [
            (noun(found[Severity.ERROR], "error"), str(found[Severity.ERROR])),
            (noun(found[Severity.WARNING], "warning"), str(found[Severity.WARNING])),
            ("signed", human_bytes(totals.bytes)),
            (noun(totals.artifacts, "artifact"), str(totals.artifacts)),
            (f"{noun(totals.files, 'file')} inside", str(totals.files)),
            (noun(totals.packages, "package"), str(totals.packages)),
        ]
    )


def _bundle(bundle: BundleFact) -> Html:
    target = bundle.target
    machine = f"Python {target.python}, {target.platform}, glibc {target.glibc}"
    if target.gpu:
        machine += f", {target.gpu.count} × {target.gpu.name}"
    place = f"channel {bundle.channel}, sequence {bundle.sequence}"
    place += f", epoch {bundle.epoch}" if bundle.epoch else ""
    return facts(
        [
            ("Bundle", text(f"{bundle.name} {bundle.version}, {place}")),
            ("Made", text(f"{render_instant(bundle.made)}, expires {render_instant(bundle.expires)}")),
            ("Installed", text(render_instant(bundle.installed) if bundle.installed else "")),
            ("For", text(", ".join(bundle.audience) or "every site")),
            ("Target", text(machine)),
            ("Signed by", _signing(bundle)),
            ("Statement, sha384", code(bundle.payload)),
        ]
    )


def _signing(bundle: BundleFact) -> Html:
    signing = bundle.signing
    if not signing.judged:
        return join(
            (
                tag("not judged", "warning"),
                text(f" {amount(len(signing.keyids), 'signature')}, and no root to judge them by"),
            )
        )
    if signing.problem:
        return join((tag("refused", "error"), text(f" {signing.problem}")))
    missing = f"; not signed by {', '.join(signing.missing)}, not needed" if signing.missing else ""
    until = f"; holds until {render_instant(signing.holds_until)}" if signing.holds_until else ""
    said = (
        f" {', '.join(signing.signers)} ({signing.threshold} required by root version {signing.root_version})"
    )
    return join((tag("holds", "good"), text(f"{said}{missing}{until}")))


def _read(audit: Audit) -> list[tuple[str, Html]]:
    """How much of it was read, where that is not all: a volume alone, a delta, damage."""
    totals = audit.totals
    if totals.read >= totals.bytes:
        return []
    said = f" {human_bytes(totals.read)} of {human_bytes(totals.bytes)}; the rest was not looked into"
    return [("Read", join((tag("in part", "warning"), text(said))))]


def _since(audit: Audit) -> list[tuple[str, Html]]:
    return [("Since", text(f"{audit.since.title}: {summary(audit.since)}"))] if audit.since else []


def _verdicts(audit: Audit) -> list[tuple[str, Html]]:
    """What `airgap check` says, one line a component."""
    if audit.verdicts is None:
        unasked = "not judged: airgap audit --check tells what is known to be unable to run"
        return [("Can it run", text(unasked))]
    return [
        (
            "Can it run",
            join((code(fact.component), text(" "), _verdict(fact.verdict), text(f" {_first(fact.reasons)}"))),
        )
        for fact in audit.verdicts
    ]


def _verdict(word: str) -> Html:
    return tag(word.replace("_", " "), VERDICT_STYLE.get(word, "info"))


def _first(reasons: tuple[str, ...]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}" if reasons else ""


def _worst(audit: Audit) -> Html:
    """A row a kind of finding, the worst first: many of one kind hide no other."""
    kinds = _kinds(audit)
    head = element("h3", text("What was found"))
    if not kinds:
        return join((head, element("p", tag("nothing", "good"), text(" No error and no warning."))))
    rest = len(kinds) - ON_COVER
    left = f"and {amount(rest, 'more kind', 'more kinds')}, under Findings"
    more = [element("p", text(left), kind="soft")] if rest > 0 else []
    rows = (
        [_severity(alike[0]), text(len(alike)), text(_kind(alike)), text(_where(alike))]
        for alike in list(kinds.values())[:ON_COVER]
    )
    columns = [Column("severity"), Column("times", number=True), Column("what"), Column("where")]
    return join((head, table(columns, rows), *more))


def _kinds(audit: Audit) -> dict[str, list[Finding]]:
    kinds: dict[str, list[Finding]] = {}
    for finding in _ordered(audit.findings):
        if finding.severity is not Severity.INFO:
            kinds.setdefault(finding.code, []).append(finding)
    return kinds


def _kind(alike: Sequence[Finding]) -> str:
    """What findings of one code have in common; of a single one what it says."""
    first = alike[0]
    return first.message if len(alike) == 1 else TITLES.get(first.code, f"{first.message}, and the like")


def _where(alike: Sequence[Finding]) -> str:
    subjects = {finding.subject for finding in alike}
    return alike[0].subject + (f" and {len(subjects) - 1} more" if len(subjects) > 1 else "")


def _beside(others: Sequence[Beside]) -> Html:
    """Whole digests, as `sha256sum` prints them: what is signed on paper is bound to the files."""
    if not others:
        return Html("")
    columns = [Column("signed with this page", whole=True), Column("bytes", number=True), Column("sha256")]
    rows = ([text(one.name), text(one.size), code(one.sha256)] for one in others)
    return table(columns, rows)


def _signature() -> Html:
    return element(
        "div", *(element("div", text(word)) for word in ("Name", "Signature", "Date")), kind="sign"
    )


def _findings(audit: Audit) -> Html:
    columns = [Column("severity"), Column("where"), Column("what, with evidence"), Column("what clears it")]
    rows = (
        [
            _severity(finding),
            text(finding.subject),
            join(
                (
                    text(f"{finding.message} "),
                    element("span", code(finding.code), kind="soft"),
                    element("div", text(finding.evidence), kind="soft mono")
                    if finding.evidence
                    else Html(""),
                )
            ),
            text(finding.remedy),
        ]
        for finding in _ordered(audit.findings)
    )
    inside = table(columns, rows) if audit.findings else element("p", text("None."))
    return section("findings", "Findings", inside)


def _severity(finding: Finding) -> Html:
    return tag(finding.severity.value, finding.severity.value)


def _ordered(found: Iterable[Finding]) -> list[Finding]:
    """The worst first, of these whom to believe, else as they were found."""
    order = list(Severity)
    return sorted(found, key=lambda one: (order.index(one.severity), one.code not in _TRUST))
