"""What check, advisories and a policy answer about an audit: values that are part of it, with no I/O."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from airgap.audit.rating import Rating
from airgap.model import Kind, Sha256


@dataclass(frozen=True, slots=True)
class VerdictFact:
    """What `airgap check` says of one component."""

    component: str
    kind: Kind
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VulnerabilityFact:
    """One vulnerability of one package, whatever number of databases name it.

    `id` is its CVE where it has one; `fixed` are the versions that end the affected ranges, oldest first.
    """

    id: str
    aliases: tuple[str, ...]
    rating: Rating
    package: str
    version: str
    ecosystem: str
    """The type of its purl."""
    artifact: str
    path: str
    """As of its `PackageFact`."""
    fixed: tuple[str, ...]
    summary: str

    @property
    def subject(self) -> str:
        return f"{self.artifact}: {self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class VulnerabilityData:
    """What the packages were judged against: a file or `artifact NAME`, and how old it is.

    `newest` is when any of its advisories last changed; None where none says so.
    """

    source: str
    sha256: Sha256
    advisories: int
    newest: datetime | None
    age_days: int | None
    ecosystems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Waiver:
    """Who lets a subject break a rule, why, and until when, which may be over.

    `used` is whether anything needed it.
    """

    rule: str
    subject: str
    reason: str
    name: str
    expires: date
    used: bool = False
    ended: bool = False

    @property
    def note(self) -> str:
        """What a person should know of it beside what it says."""
        return "ended: it waives nothing" if self.ended else "" if self.used else "nothing needs it"


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule of the policy that one subject breaks; `waived` is the waiver that lets it pass."""

    rule: str
    subject: str
    message: str
    remedy: str = ""
    waived: Waiver | None = None


@dataclass(frozen=True, slots=True)
class PolicyFact:
    """The policy that judged. `waivers` are all it has, `violations` those that were waived among them."""

    where: str
    sha256: Sha256
    rules: tuple[str, ...]
    """Those it sets, in the file's own spelling."""
    waivers: tuple[Waiver, ...]
    violations: tuple[Violation, ...]

    @property
    def summary(self) -> str:
        """`12 rules, 1 violation`."""
        rules, broken = len(self.rules), len(self.broken)
        return f"{rules} rule{'' if rules == 1 else 's'}, {broken} violation{'' if broken == 1 else 's'}"

    @property
    def broken(self) -> tuple[Violation, ...]:
        """What no waiver lets pass."""
        return tuple(violation for violation in self.violations if violation.waived is None)


ALIKE = 5
"""Violations of one rule for one reason that are named; a system's 800 packages may all say no licence."""


def some_of_each(violations: Sequence[Violation]) -> Iterator[tuple[Violation, int]]:
    """The first `ALIKE` violations of each rule and reason, in order; with the last of them how many more."""
    counts = Counter((one.rule, one.message) for one in violations)
    passed: Counter[tuple[str, str]] = Counter()
    for one in violations:
        key = (one.rule, one.message)
        passed[key] += 1
        if passed[key] <= ALIKE:
            yield one, counts[key] - ALIKE if passed[key] == ALIKE else 0
