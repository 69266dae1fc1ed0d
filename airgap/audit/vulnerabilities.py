"""Which advisories affect the packages that an audit saw: pure, over the packages and a database.

What an export cannot say is a finding of its own, `audit-vulnerability-unknown`: a package of an ecosystem
it does not cover, a distribution whose versions nobody here can order, an advisory that could not be judged.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airgap.audit.advisories import Database
from airgap.audit.answers import VulnerabilityFact
from airgap.audit.evidence import Ecosystem, PackageFact
from airgap.audit.osv import Advisory, Answer, Evaluation, evaluate, same_package
from airgap.audit.rating import CVSS_REMEDY, Rating, rate, scores_vectors
from airgap.model import Finding, Severity
from airgap.units import amount

VULNERABLE = "audit-vulnerable"
UNKNOWN = "audit-vulnerability-unknown"

EXPORT_REMEDY = "audit again with an export of that ecosystem: airgap audit … --osv FILE"

Name = tuple[str, str]
"""A name that advisories use, and the version under that name."""


@dataclass(frozen=True, slots=True)
class _Hit:
    advisory: Advisory
    vectors: tuple[str, ...]
    evaluation: Evaluation


def names_of(packages: Iterable[PackageFact]) -> frozenset[str]:
    """Every name under which advisories may speak of the packages."""
    return frozenset(name for package in packages for name, _ in _names(package))


def ecosystems_of(package: PackageFact) -> tuple[str, ...]:
    """The OSV ecosystems of a package; none where its distribution's versions cannot be ordered here."""
    version = package.distribution_version.split(".")
    match package.ecosystem, package.distribution:
        case Ecosystem.PYPI, _:
            return ("PyPI",)
        case Ecosystem.DEB, "debian":
            return (f"Debian:{version[0]}",)
        case Ecosystem.DEB, "ubuntu":
            return (f"Ubuntu:{package.distribution_version}:LTS", f"Ubuntu:{package.distribution_version}")
        case Ecosystem.APK, "alpine":
            return (f"Alpine:v{'.'.join(version[:2])}",)
        case Ecosystem.RPM, "almalinux":
            return (f"AlmaLinux:{version[0]}",)
        case Ecosystem.RPM, "rocky":
            return (f"Rocky Linux:{version[0]}",)
        case _:
            return ()


def match(
    packages: Sequence[PackageFact], database: Database
) -> tuple[tuple[VulnerabilityFact, ...], tuple[Finding, ...]]:
    """Every vulnerability of the packages, by package; and a finding for each, and for what is unknown."""
    found: list[VulnerabilityFact] = []
    findings: list[Finding] = []
    uncovered: dict[tuple[str, str], list[PackageFact]] = defaultdict(list)
    by_name: dict[str, list[Advisory]] = defaultdict(list)
    for advisory in database.advisories:
        for name in {affected.name for affected in advisory.affected}:
            by_name[_spelled(name)].append(advisory)
    for package in packages:
        ecosystems = ecosystems_of(package)
        if not database.ecosystems.intersection(ecosystems):
            uncovered[package.artifact, _family(package)].append(package)
            continue
        hits, unknown = _hits(package, ecosystems, by_name)
        facts = [_fact(package, group) for group in _groups(hits)]
        found += facts
        findings += [_finding(fact) for fact in facts]
        findings += [_unknown(package, advisory, evaluation.reason) for advisory, evaluation in unknown]
    findings += [_uncovered(artifact, family, some) for (artifact, family), some in uncovered.items()]
    findings += [_unread(database.what, problem) for problem in database.unread]
    return tuple(found), tuple(findings)


def _names(package: PackageFact) -> tuple[Name, ...]:
    """Debian and Alpine name source packages, the RPM distributions binary ones, too."""
    own = (package.name, package.version)
    source = (package.source_name or package.name, package.source_version or package.version)
    return tuple(dict.fromkeys((source, own) if package.ecosystem is Ecosystem.RPM else (source,)))


def _spelled(name: str) -> str:
    """What names are looked up by: `same_package` decides."""
    return name.lower().replace("_", "-").replace(".", "-")


def _hits(
    package: PackageFact, ecosystems: Sequence[str], by_name: dict[str, list[Advisory]]
) -> tuple[list[_Hit], list[tuple[Advisory, Evaluation]]]:
    hits: dict[str, _Hit] = {}
    unknown: dict[str, tuple[Advisory, Evaluation]] = {}
    for name, version in _names(package):
        for advisory in by_name.get(_spelled(name), ()):
            for affected in advisory.affected:
                if not same_package(affected, ecosystems, name):
                    continue
                evaluation = evaluate(affected, version)
                if evaluation.answer is Answer.AFFECTED:
                    vectors = (*advisory.scores, *affected.scores)
                    hits.setdefault(advisory.id, _Hit(advisory, vectors, evaluation))
                elif evaluation.answer is Answer.UNKNOWN:
                    unknown.setdefault(advisory.id, (advisory, evaluation))
    return list(hits.values()), [one for identifier, one in unknown.items() if identifier not in hits]


def _groups(hits: Iterable[_Hit]) -> list[list[_Hit]]:
    """Hits that share a name are one vulnerability: databases publish the same one under their own ids."""
    groups: list[tuple[set[str], list[_Hit]]] = []
    for hit in hits:
        names = {hit.advisory.id, *hit.advisory.aliases}
        members = [hit]
        apart = []
        for known, others in groups:
            if known & names:
                names |= known
                members = [*others, *members]
            else:
                apart.append((known, others))
        groups = [*apart, (names, members)]
    return [members for _, members in groups]


def _fact(package: PackageFact, group: Sequence[_Hit]) -> VulnerabilityFact:
    names = sorted({name for hit in group for name in (hit.advisory.id, *hit.advisory.aliases)})
    cves = [name for name in names if name.startswith("CVE-")]
    identifier = cves[0] if cves else group[0].advisory.id
    vectors = [vector for hit in group for vector in hit.vectors]
    return VulnerabilityFact(
        id=identifier,
        aliases=tuple(name for name in names if name != identifier),
        rating=rate(names, vectors, (hit.advisory.word for hit in group)),
        package=package.name,
        version=package.version,
        ecosystem=package.ecosystem,
        artifact=package.artifact,
        path=package.path,
        fixed=tuple(dict.fromkeys(version for hit in group for version in hit.evaluation.fixed)),
        summary=next((hit.advisory.summary for hit in group if hit.advisory.summary), "")[:300],
    )


def _finding(fact: VulnerabilityFact) -> Finding:
    """Never an ERROR: whether a vulnerability forbids a bundle is for the policy to say."""
    mild = fact.rating in (Rating.LOW, Rating.NONE)
    fix = (
        f"take {fact.package} {fact.fixed[0]} or newer" if fact.fixed else "no release that fixes it is named"
    )
    if fact.rating is Rating.UNKNOWN and not scores_vectors():
        fix = f"{fix}; {CVSS_REMEDY}"
    return Finding(
        VULNERABLE,
        Severity.INFO if mild else Severity.WARNING,
        fact.subject,
        f"{fact.id} ({fact.rating}): {fact.summary}",
        f"{fact.path}; also {', '.join(fact.aliases)}" if fact.aliases else fact.path,
        fix,
    )


def _unknown(package: PackageFact, advisory: Advisory, reason: str) -> Finding:
    return Finding(
        UNKNOWN,
        Severity.WARNING,
        f"{package.artifact}: {package.name} {package.version}",
        f"whether {advisory.id} affects it is not known: {reason}",
        package.path,
        "read the advisory, and waive the finding where it does not",
    )


def _family(package: PackageFact) -> str:
    if package.ecosystem is Ecosystem.PYPI:
        return "PyPI"
    where = f"{package.distribution or 'an unnamed distribution'} {package.distribution_version}".strip()
    return where if ecosystems_of(package) else f"{where}, whose versions are not ordered here"


def _uncovered(artifact: str, family: str, packages: Sequence[PackageFact]) -> Finding:
    return Finding(
        UNKNOWN,
        Severity.WARNING,
        artifact,
        f"{amount(len(packages), 'package')} of {family}: the advisories that were given do not cover it",
        ", ".join(f"{package.name} {package.version}" for package in packages[:5]),
        EXPORT_REMEDY,
    )


def _unread(what: str, problem: str) -> Finding:
    return Finding(
        UNKNOWN, Severity.WARNING, what, f"an advisory could not be read: {problem}", "", "export it again"
    )
