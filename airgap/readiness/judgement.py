"""What a rule says of a component, and what the judgements of a composition amount to.

A judgement is `BLOCKED` only with proof: the things that disagree, and where each of them is written.
`UNKNOWN` says what would settle it and never counts as a pass. `READY` is not a rule's to give: static
evidence never proves that something runs, so it needs the record of a smoke run of the same digests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from airgap.model import Kind, Platform, Sha256

BLOCKED_EXIT = 5


class Verdict(StrEnum):
    """The worst first."""

    BLOCKED = "BLOCKED"
    UNKNOWN = "UNKNOWN"
    NO_BLOCKER = "NO BLOCKER FOUND"
    READY = "READY"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where something is written: `digest` is the sha256 of the wheel, image or file, '' when unknown.

    `source` is what a person calls it; `member` is inside it ('' for the whole), `line` counts from 1
    (0 for no line), `text` is what stands there.
    """

    source: str
    digest: str = ""
    member: str = ""
    line: int = 0
    text: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.member, self.line) if part)
        parts = [self.source, place, f"sha256:{self.digest}" if self.digest else ""]
        return "  ".join(filter(None, parts)) + (f"\n  {self.text}" if self.text else "")

    def as_json(self) -> dict[str, object]:
        return {
            "source": self.source,
            "sha256": self.digest,
            "member": self.member,
            "line": self.line,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """One rule's verdict on one component. `gap` is the few words a table has room for.

    `things` are the two or more that disagree; `remedy` clears a block or settles an unknown.
    """

    rule: str
    version: int
    verdict: Verdict
    subject: str
    message: str
    gap: str = ""
    things: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    remedy: str = ""
    warning: bool = False
    """Decided and no blocker, and still for a person to read."""

    def __post_init__(self) -> None:
        match self.verdict:
            case Verdict.BLOCKED:
                assert len(self.things) >= 2 and self.evidence and self.remedy, "a block is proven"
            case Verdict.UNKNOWN:
                assert self.remedy, "an unknown says what would settle it"
            case Verdict.READY:
                raise AssertionError("no rule says READY")

    def as_json(self) -> dict[str, object]:
        return {
            "rule": self.rule,
            "rule_version": self.version,
            "verdict": self.verdict.name.lower(),
            "warning": self.warning,
            "subject": self.subject,
            "gap": self.gap,
            "message": self.message,
            "things": list(self.things),
            "evidence": [evidence.as_json() for evidence in self.evidence],
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule is called, and the making of its judgements. `version` rises when an answer may change."""

    id: str
    version: int
    title: str

    def blocked(
        self,
        subject: str,
        message: str,
        *,
        gap: str,
        things: Sequence[str],
        evidence: Sequence[Evidence],
        remedy: str,
    ) -> Judgement:
        return Judgement(
            self.id,
            self.version,
            Verdict.BLOCKED,
            subject,
            message,
            gap,
            tuple(things),
            tuple(evidence),
            remedy,
        )

    def unknown(
        self, subject: str, message: str, *, settle: str, evidence: Sequence[Evidence] = ()
    ) -> Judgement:
        return Judgement(
            self.id,
            self.version,
            Verdict.UNKNOWN,
            subject,
            message,
            evidence=tuple(evidence),
            remedy=settle,
        )

    def clear(
        self,
        subject: str,
        message: str,
        *,
        evidence: Sequence[Evidence] = (),
        remedy: str = "",
        warning: bool = False,
    ) -> Judgement:
        return Judgement(
            self.id,
            self.version,
            Verdict.NO_BLOCKER,
            subject,
            message,
            evidence=tuple(evidence),
            remedy=remedy,
            warning=warning,
        )


@dataclass(frozen=True, slots=True)
class SmokeRecord:
    """What ran: every digest of the composition, on `count` cards of this GPU with this driver.

    `gpu` is '' for a host without; '' and None are not compared otherwise. `name` is what a person calls it.
    """

    digests: frozenset[Sha256]
    gpu: str
    driver: str
    capability: str = ""
    count: int = 1
    platform: Platform | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """One component of the composition: a wheels set, a model, a container, or a file.

    `detail` says what it is (versions, or the model's type); `ran` is the record of exactly this.
    """

    name: str
    kind: Kind
    detail: str
    judgements: tuple[Judgement, ...]
    nvfp4: str = ""
    """`native`, `fallback`, `refused` or `unknown` on the target's GPU; '' for what is not NVFP4."""
    ran: SmokeRecord | None = None

    @property
    def rules(self) -> dict[str, Verdict]:
        """The worst verdict of every rule that applied, in the order in which they were asked."""
        found: dict[str, Verdict] = {}
        for judgement in self.judgements:
            known = found.get(judgement.rule, judgement.verdict)
            found[judgement.rule] = min(known, judgement.verdict, key=list(Verdict).index)
        return found

    @property
    def decided(self) -> int:
        """How many rules decided; the others said UNKNOWN."""
        return sum(verdict is not Verdict.UNKNOWN for verdict in self.rules.values())

    @property
    def verdict(self) -> Verdict:
        verdicts = set(self.rules.values())
        if Verdict.BLOCKED in verdicts:
            return Verdict.BLOCKED
        if self.ran:
            return Verdict.READY
        return Verdict.NO_BLOCKER if self.decided or not verdicts else Verdict.UNKNOWN

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": self.kind.value,
            "detail": self.detail,
            "verdict": self.verdict.name.lower(),
            "rules": len(self.rules),
            "decided": self.decided,
            "nvfp4": self.nvfp4 or None,
            "judgements": [judgement.as_json() for judgement in self.judgements],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Everything judged of one composition. `notes` say how far the evidence reaches."""

    components: tuple[Judged, ...]
    notes: tuple[str, ...] = ()
    traffic: int = 0
    """Bytes that were fetched to read the evidence."""

    def judgements(self, *verdicts: Verdict) -> tuple[Judgement, ...]:
        return tuple(
            j for component in self.components for j in component.judgements if j.verdict in verdicts
        )

    @property
    def verdict(self) -> Verdict:
        """The worst of the components; UNKNOWN where any rule of any component is."""
        if self.judgements(Verdict.BLOCKED):
            return Verdict.BLOCKED
        ready = all(component.verdict is Verdict.READY for component in self.components)
        if ready and self.components:
            return Verdict.READY
        return Verdict.UNKNOWN if self.judgements(Verdict.UNKNOWN) else Verdict.NO_BLOCKER

    def exit_code(self, *, strict: bool) -> int:
        """0 only when nothing is blocked, and with `strict` only when nothing is unknown either.

        What rules do not know of a component that is READY, its smoke run has settled.
        """
        unknown = any(
            Verdict.UNKNOWN in component.rules.values() and component.verdict is not Verdict.READY
            for component in self.components
        )
        return BLOCKED_EXIT if self.judgements(Verdict.BLOCKED) or (strict and unknown) else 0

    def as_json(self) -> dict[str, object]:
        return {
            "verdict": self.verdict.name.lower(),
            "components": [component.as_json() for component in self.components],
            "notes": list(self.notes),
            "traffic_bytes": self.traffic,
        }
