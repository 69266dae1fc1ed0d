"""Which releases of vLLM and transformers can run one model: every pair, judged by the rules of `check`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from airgap.model import Kind, Target
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.python_tables import Entry
from airgap.readiness.check import judge
from airgap.readiness.components import Composition, Model
from airgap.readiness.judgement import Judgement, Verdict
from airgap.readiness.reading import Seen, stack_of
from airgap.readiness.rules_models import ARCHITECTURE, METHOD, MODEL_TYPE, look_up_type
from airgap.readiness.rules_packages import PINS, TAGS, only_unchosen

SHORT = {MODEL_TYPE.id: "type", ARCHITECTURE.id: "arch", METHOD.id: "method", PINS.id: "pin", TAGS.id: "tag"}
"""Rules as a cell has room for them; the others by their own names."""

DECIDING = (ARCHITECTURE.id, MODEL_TYPE.id, METHOD.id)
"""Rules that must decide, or the pair is unknown; pins, too, as far as they are between the two.

The others judge what is not of the two releases.
"""

_PAIR = "pair"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release as the index offers it. `uploaded` is a day, '' where the index does not say it.

    `seen` is what was read of it, or why it could not be read.
    """

    project: str
    version: str
    uploaded: str
    seen: Seen | str

    @property
    def label(self) -> str:
        return f"{self.project} {self.version}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A pair: the rules that block it, those that must decide and did not, and what they said."""

    vllm: Candidate
    transformers: Candidate
    blocked: tuple[Judgement, ...] = ()
    unknown: tuple[Judgement, ...] = ()
    unread: str = ""
    """Why a release of the pair could not be judged."""

    @property
    def verdict(self) -> Verdict:
        if self.blocked:
            return Verdict.BLOCKED
        return Verdict.UNKNOWN if self.unknown or self.unread else Verdict.NO_BLOCKER

    @property
    def reasons(self) -> tuple[str, ...]:
        """Short names of what decides, `?` behind what is unknown."""
        blocked = [SHORT.get(judgement.rule, judgement.rule) for judgement in self.blocked]
        unknown = [f"{SHORT.get(judgement.rule, judgement.rule)}?" for judgement in self.unknown]
        return tuple(dict.fromkeys([*blocked, *unknown, *(["unread"] if self.unread else [])]))

    def __str__(self) -> str:
        word = {Verdict.BLOCKED: "blocked", Verdict.UNKNOWN: "unknown"}.get(self.verdict, "no blocker")
        return f"{word}: {', '.join(self.reasons)}" if self.reasons else word


@dataclass(frozen=True, slots=True)
class Since:
    """When a release first knew the model: `what` is the name looked up, `found` its entry.

    `before` is one that has no such entry, and the one before it unless `why` says what is not known.
    """

    what: str
    candidate: Candidate
    found: Entry
    before: Candidate | None
    why: str = ""

    def __str__(self) -> str:
        day = f" ({self.candidate.uploaded})" if self.candidate.uploaded else ""
        place = f"{self.found.member}:{self.found.line}"
        before = f"{self.before.version} has it not" if self.before else ""
        rest = "; ".join(filter(None, (before, self.why)))
        return f"{self.what}: since {self.candidate.label}{day}, {place}; {rest}"


@dataclass(frozen=True, slots=True)
class Gap:
    """The whole answer. `rows` holds one row for each vLLM, one cell in it for each transformers."""

    model: Model
    target: Target
    vllms: tuple[Candidate, ...]
    libraries: tuple[Candidate, ...]
    rows: tuple[tuple[Cell, ...], ...]
    since: tuple[Since, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for row in self.rows for cell in row)

    @property
    def runs(self) -> tuple[Cell, ...]:
        """The pairs without a blocker, every deciding rule decided."""
        return tuple(cell for cell in self.cells if cell.verdict is Verdict.NO_BLOCKER)


def judge_pairs(
    model: Model, target: Target, vllms: Sequence[Candidate], libraries: Sequence[Candidate]
) -> Gap:
    """The matrix: each pair as a set of exactly these two packages that serves the model."""
    rows = tuple(tuple(_judge(model, target, vllm, library) for library in libraries) for vllm in vllms)
    return Gap(model, target, tuple(vllms), tuple(libraries), rows)


def _judge(model: Model, target: Target, vllm: Candidate, library: Candidate) -> Cell:
    unread = [c for c in (vllm, library) if isinstance(c.seen, str)]
    seen = [c.seen for c in (vllm, library) if isinstance(c.seen, Seen)]
    if unread:
        return Cell(vllm, library, unread=f"{unread[0].label}: {unread[0].seen}")
    stack = stack_of(_PAIR, Kind.WHEELS, seen, closed=False, unread={})
    report = judge(Composition(target, (stack,), (replace(model, served_by=stack, server=_PAIR),)))
    unknown = tuple(j for j in report.judgements(Verdict.UNKNOWN) if _decides(j))
    return Cell(vllm, library, report.judgements(Verdict.BLOCKED), unknown)


def _decides(judgement: Judgement) -> bool:
    return judgement.rule in DECIDING or (judgement.rule == PINS.id and not only_unchosen(judgement))


def registered(model: Model, candidate: Candidate) -> Entry | NotUnderstood | None:
    """The release's own entry for the model: of vLLM its architecture, of transformers its type.

    None where it is proven to have none.
    """
    assert model.config, "the caller looked"
    if isinstance(candidate.seen, str):
        return NotUnderstood(candidate.label, 0, candidate.seen)
    tables = candidate.seen.tables
    if tables.vllm:
        looked = [tables.vllm.architectures.get(name) for name in model.config.architectures]
        found = [entry for entry in looked if isinstance(entry, Entry) and entry.certain]
        return found[0] if found else next((entry for entry in looked if entry), None)
    stack = stack_of(_PAIR, Kind.WHEELS, [candidate.seen], closed=False, unread={})
    return look_up_type(model.config.model_type, stack)[0]


def looked_up(model: Model, project: str) -> str:
    """The name that `registered` looks up."""
    assert model.config, "the caller looked"
    return " or ".join(model.config.architectures) if project == "vllm" else model.config.model_type


def reasons(gap: Gap) -> list[tuple[Judgement, tuple[Cell, ...]]]:
    """What is said of the pairs, each once, with the pairs of which it is said."""
    found: dict[tuple[str, str], tuple[Judgement, list[Cell]]] = {}
    for cell in gap.cells:
        for judgement in (*cell.blocked, *cell.unknown):
            key = judgement.rule, judgement.gap or judgement.message
            found.setdefault(key, (judgement, []))[1].append(cell)
    return [(judgement, tuple(cells)) for judgement, cells in found.values()]
