"""What judgements amount to: counts, exit codes, and that nothing but a smoke run makes READY."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from airgap.model import Gpu, Kind, Sha256
from airgap.readiness.check import judge
from airgap.readiness.components import Composition, NotRead, Unread
from airgap.readiness.judgement import Evidence, Judged, Judgement, Report, Rule, SmokeRecord, Verdict
from airgap.readiness.table import render
from tests.readiness.compositions import TARGET, package, stack

RULE = Rule("some-rule", 3, "a rule")


def judgement(verdict: Verdict, rule: str = "some-rule") -> Judgement:
    made = Rule(rule, 1, "a rule")
    match verdict:
        case Verdict.BLOCKED:
            evidence = [Evidence("file", "d" * 64, "member", 7, "text")]
            return made.blocked("x", "m", gap="g", things=("a", "b"), evidence=evidence, remedy="r")
        case Verdict.UNKNOWN:
            return made.unknown("x", "m", settle="s")
        case _:
            return made.clear("x", "m")


some = st.builds(
    judgement,
    st.sampled_from([Verdict.BLOCKED, Verdict.UNKNOWN, Verdict.NO_BLOCKER]),
    st.sampled_from(["one", "two", "three"]),
)


@given(st.lists(some, max_size=8))
def test_unknown_never_counts_as_a_pass(judgements: list[Judgement]) -> None:
    judged = Judged("x", Kind.MODEL, "", tuple(judgements))
    report = Report((judged,))
    found = {j.verdict for j in judgements}
    undecided = {
        rule
        for rule in judged.rules
        if {j.verdict for j in judgements if j.rule == rule} & {Verdict.UNKNOWN}
        and not {j.verdict for j in judgements if j.rule == rule} & {Verdict.BLOCKED}
    }
    assert judged.decided == len(judged.rules) - len(undecided)
    assert report.exit_code(strict=False) == (5 if Verdict.BLOCKED in found else 0)
    assert report.exit_code(strict=True) == (5 if found & {Verdict.BLOCKED, Verdict.UNKNOWN} else 0)
    assert Verdict.READY not in (judged.verdict, report.verdict)
    if Verdict.UNKNOWN in found:
        assert report.verdict in (Verdict.UNKNOWN, Verdict.BLOCKED)


def test_a_judgement_without_its_proof_cannot_be_made() -> None:
    with pytest.raises(AssertionError):
        RULE.blocked("x", "m", gap="g", things=("one",), evidence=[Evidence("f")], remedy="r")
    with pytest.raises(AssertionError):
        RULE.blocked("x", "m", gap="g", things=("one", "two"), evidence=[], remedy="r")
    with pytest.raises(AssertionError):
        RULE.unknown("x", "m", settle="")
    with pytest.raises(AssertionError):
        Judgement("r", 1, Verdict.READY, "x", "m")


def test_ready_needs_a_record_of_the_same_digests_on_the_same_gpu() -> None:
    served = stack(package("one", "1.0"))
    composition = Composition(TARGET, (served,), ())
    digests = frozenset(Sha256(p.digest) for p in served.packages)
    record = SmokeRecord(digests | {Sha256("e" * 64)}, "NVIDIA L4", "570.86")

    def verdict(record: SmokeRecord, of: Composition = composition) -> Verdict:
        return judge(of, records=[record]).verdict

    assert verdict(record) is Verdict.READY
    assert verdict(replace(record, gpu="NVIDIA H200")) is Verdict.NO_BLOCKER
    assert verdict(replace(record, digests=frozenset({Sha256("e" * 64)}))) is Verdict.NO_BLOCKER
    unread = replace(served, unread={"two": NotRead("its index failed")})
    assert verdict(record, Composition(TARGET, (unread,), ())) is Verdict.UNKNOWN
    conflict = stack(package("one", "1.0"), package("two", "1.0", "one>2"))
    both = replace(record, digests=frozenset(Sha256(p.digest) for p in conflict.packages))
    assert verdict(both, Composition(TARGET, (conflict,), ())) is Verdict.BLOCKED


def test_what_could_not_be_read_has_a_row_and_an_unknown() -> None:
    other = Unread("image", Kind.CONTAINER, "no layers here", "fetch them")
    report = judge(Composition(TARGET, (), (), (other,)))
    assert report.verdict is Verdict.UNKNOWN
    shown = "\n".join(render(report, TARGET, 100))
    assert "UNKNOWN  image: no layers here  [evidence 1]\n    -> fetch them" in shown


def test_a_component_of_which_nothing_is_decided_is_unknown() -> None:
    unknown, clear = judgement(Verdict.UNKNOWN), judgement(Verdict.NO_BLOCKER)
    assert Judged("tiny", Kind.MODEL, "", (unknown,)).verdict is Verdict.UNKNOWN
    assert (
        Judged("tiny", Kind.MODEL, "", (unknown, replace(clear, rule="other"))).verdict is Verdict.NO_BLOCKER
    )


@given(st.text(max_size=60), st.integers(1, 200))
@example("0" * 32, 80)
def test_the_table_keeps_its_width_whatever_the_names(name: str, width: int) -> None:
    target = replace(TARGET, gpu=Gpu("G", "8.9", 24), driver="570")
    judged = Judged(name, Kind.MODEL, name, (judgement(Verdict.BLOCKED),))
    rows = render(Report((judged,)), target, width)
    table = rows[2 : rows.index("", 2)] if "" in rows[2:] else rows[2:]
    assert all(len(line) <= max(width, 80) for line in table)


def test_a_long_class_name_is_broken_where_its_words_begin() -> None:
    detail = "gemma4, Gemma4ForConditionalGeneration"
    judged = Judged("tiny", Kind.MODEL, detail, (judgement(Verdict.NO_BLOCKER),))
    cells = [line[:20].rstrip() for line in render(Report((judged,)), TARGET, 100)]
    assert cells[4:8] == ["tiny", "gemma4,", "Gemma4ForConditional", "Generation"]
