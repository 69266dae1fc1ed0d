"""Pins, tags and CUDA: what is proven, what is not, and that each answer turns with its facts."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from airgap.model import Platform, Target
from airgap.readers.python_syntax import NotUnderstood
from airgap.readiness.components import NotRead
from airgap.readiness.judgement import Judgement, Verdict
from airgap.readiness.rules_packages import judge_cuda, judge_pins, judge_tags
from tests.readiness.compositions import L4, TARGET, package, stack, verdicts

BLOCKED, CLEAR, UNKNOWN = Verdict.BLOCKED, Verdict.NO_BLOCKER, Verdict.UNKNOWN


def pins(*seen: object, **more: object) -> list[Judgement]:
    return list(judge_pins(stack(*seen, **more), TARGET))  # type: ignore[arg-type]


def test_a_met_pin_is_clear_and_the_same_unmet_is_blocked_with_its_line() -> None:
    one = package("one", "1.0", "two<3,>=2")
    assert verdicts(pins(one, package("two", "2.5"))) == [CLEAR]
    [found] = pins(one, package("two", "3.0"))
    assert found.verdict is BLOCKED
    assert found.things == ("one 1.0", "two 3.0")
    assert (found.evidence[0].line, found.evidence[0].text) == (4, "Requires-Dist: two<3,>=2")


def test_names_are_compared_as_indexes_do() -> None:
    assert verdicts(pins(package("one", "1", "Two_X>2"), package("two-x", "1"))) == [BLOCKED]


@pytest.mark.parametrize(
    ("marker", "blocked"),
    [
        ('sys_platform == "linux"', True),
        ('sys_platform == "win32"', False),
        ('python_version < "3.12"', False),
        ('platform_machine == "x86_64"', True),
        ('extra == "audio"', False),
    ],
)
def test_markers_are_the_targets(marker: str, blocked: bool) -> None:
    found = pins(package("one", "1", f"two>=2; {marker}"), package("two", "1"))
    assert verdicts(found) == ([BLOCKED] if blocked else [CLEAR])


def test_extras_count_where_anything_asks_for_them() -> None:
    one, two = package("one", "1", 'two>=2; extra == "audio"'), package("two", "1")
    assert verdicts(pins(one, two, requirements=("one[audio]",))) == [BLOCKED]
    asking = package("three", "1", "four[deep]")
    deep = package("four", "1", 'one[audio]; extra == "deep"')
    assert verdicts(pins(one, two, asking, deep)) == [BLOCKED]


def test_what_is_missing_from_a_closed_set_blocks_and_from_an_open_one_is_unknown() -> None:
    one = package("one", "1", "two>=2")
    [missing] = pins(one)
    assert (missing.verdict, missing.gap) == (BLOCKED, "two is missing")
    assert verdicts(pins(one, closed=False)) == [UNKNOWN]
    assert verdicts(pins(one, unread={"two": NotRead("its index failed")})) == [UNKNOWN]


def test_the_targets_python_decides() -> None:
    assert verdicts(pins(package("one", "1", python=">=3.13"))) == [BLOCKED]
    assert verdicts(pins(package("one", "1", python=">=3.12.4"))) == [CLEAR]
    assert verdicts(pins(package("one", "1", python="nonsense"))) == [UNKNOWN]


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_pin_blocks_exactly_where_its_specifier_says(asked: int, found: int) -> None:
    judged = pins(package("one", "1", f"two>={asked}"), package("two", str(found)))
    assert verdicts(judged) == [CLEAR if found >= asked else BLOCKED]


@pytest.mark.parametrize(
    ("glibc", "platform", "expected"),
    [
        ("2.35", "linux/amd64", CLEAR),
        ("2.28", "linux/amd64", BLOCKED),
        ("2.35", "linux/arm64", BLOCKED),
    ],
)
def test_tags_against_glibc_and_architecture(glibc: str, platform: str, expected: Verdict) -> None:
    wheel = package("vllm", "0.19.0", file="vllm-0.19.0-cp38-abi3-manylinux_2_31_x86_64.whl")
    found = list(judge_tags(stack(wheel), Target("3.12", Platform.parse(platform), glibc)))
    assert verdicts(found) == [expected]


@pytest.mark.parametrize(
    ("cuda", "driver", "expected"),
    [
        ("12.8", "570.86", CLEAR),
        ("12.8", "525", CLEAR),
        ("12.8", "1000.1", CLEAR),
        ("12.8", "524.99", BLOCKED),
        ("13.0", "570.86", BLOCKED),
        ("13.0", "580.65", CLEAR),
        ("", "570.86", BLOCKED),
        ("99.0", "570.86", UNKNOWN),
        ("12.8", "", UNKNOWN),
        (NotUnderstood("torch/version.py", 3, "moved"), "570.86", UNKNOWN),
        (None, "570.86", UNKNOWN),
    ],
)
def test_cuda_against_the_driver(cuda: object, driver: str, expected: Verdict) -> None:
    target = Target("3.12", TARGET.platform, "2.35", L4, driver)
    served = stack(package("vllm", "1"), package("torch", "2.10.0"), torch_cuda=cuda)
    assert verdicts(list(judge_cuda(served, target))) == [expected]


def test_a_cpu_build_without_vllm_is_a_warning() -> None:
    [found] = judge_cuda(stack(package("torch", "2.10.0"), torch_cuda=""), TARGET)
    assert (found.verdict, found.warning) == (CLEAR, True)


def test_without_a_gpu_cuda_is_no_question() -> None:
    target = Target("3.12", TARGET.platform, "2.35")
    assert not list(judge_cuda(stack(package("torch", "2"), torch_cuda="12.8"), target))


def test_a_marker_that_cannot_be_compared_is_unknown() -> None:
    found = pins(package("one", "1", 'two; sys_platform ~= "linux"'))
    assert verdicts(found) == [UNKNOWN]
