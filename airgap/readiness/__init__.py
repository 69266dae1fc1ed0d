"""Rules over what the readers saw: pure, so that a judgement can be repeated from the same bytes."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a rule found. UNKNOWN never counts as a pass, and nothing static is ever READY."""

    BLOCKED = "blocked"
    NO_BLOCKER = "no blocker found"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One rule's verdict on `subject`; `clears` says what would settle or clear it."""

    rule: str
    verdict: Verdict
    subject: str
    message: str
    evidence: str = ""
    clears: str = ""
