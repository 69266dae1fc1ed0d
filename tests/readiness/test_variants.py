"""Which variant a target runs: natively before by fallback, what fits, and in the manifest's order."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.model import Gpu
from airgap.readiness.rules_nvfp4 import nvfp4_support
from airgap.readiness.variants import FORMATS, Candidate, Choice, Support, choose, format_of, support_of
from tests.readiness.compositions import gpu as target_with

GIB = 2**30
VARIANTS = (Candidate("NVFP4", 31 * GIB), Candidate("FP8", 33 * GIB), Candidate("BF16", 62 * GIB))

capabilities = st.sampled_from(["6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "9.0a", "10.0", "12.0"])
gpus = st.builds(Gpu, st.just("GPU"), capabilities, st.integers(1, 200), st.integers(1, 8))
candidates = st.builds(
    Candidate,
    st.sampled_from([*FORMATS, "MXFP4", "mixed"]),
    st.none() | st.integers(0, 500).map(lambda gib: gib * GIB),
)


def chosen(capability: str, memory: int = 96, count: int = 1) -> str:
    choice = choose(VARIANTS, Gpu("GPU", capability, memory, count))
    return "" if choice.chosen is None else VARIANTS[choice.chosen].format


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("10.0", "NVFP4"), ("9.0", "FP8"), ("8.9", "FP8"), ("8.0", "BF16"), ("7.5", "NVFP4"), ("7.0", "BF16")],
)
def test_the_first_listed_that_is_native_else_that_runs(capability: str, expected: str) -> None:
    assert chosen(capability) == expected


def test_what_does_not_fit_gives_way() -> None:
    assert chosen("8.0", 48) == "NVFP4", "a fallback that fits before what is native and does not"
    assert chosen("10.0", 32) == "NVFP4"
    assert chosen("9.0", 32) == "NVFP4"
    assert chosen("9.0", 17, count=2) == "FP8"
    assert chosen("10.0", 24) == ""


def test_each_has_a_reason() -> None:
    assert choose(VARIANTS, Gpu("L4", "8.9", 24, 2)) == Choice(
        1,
        (
            "NVFP4 runs on 8.9 by Marlin, weights only; the tensors need 31.0 GiB, a lower bound, of 48;"
            " variant 2 runs better",
            "FP8 is native on 8.9; the tensors need 33.0 GiB, a lower bound, of 48",
            "BF16 is native on 8.9; the tensors need 62.0 GiB, a lower bound, and there are 48",
        ),
    )
    unknown = choose([Candidate("MXFP4", None), Candidate("NVFP4", 1)], Gpu("T4", "7.0", 16))
    assert unknown.chosen == 0
    assert unknown.reasons == (
        "whether 7.0 runs MXFP4 is not known; the bytes of its tensors are not known",
        "NVFP4 needs 7.5 or above, refused on 7.0; the tensors need 0.0 GiB, a lower bound, of 16",
    )
    same = choose([Candidate("FP8", 1), Candidate("FP8", 1)], Gpu("L4", "8.9", 24))
    assert same.reasons[1].endswith("variant 1 will do, too, and is listed before")


@given(st.lists(candidates, max_size=6), gpus)
def test_no_better_one_is_left_out(found: list[Candidate], gpu: Gpu) -> None:
    room = gpu.memory_gib * GIB * gpu.count
    choice = choose(found, gpu)
    assert len(choice.reasons) == len(found)
    good = [
        (support_of(candidate.format, gpu), index)
        for index, candidate in enumerate(found)
        if support_of(candidate.format, gpu) is not Support.REFUSED
        and (candidate.size is None or candidate.size <= room)
    ]
    assert choice.chosen == (min(good)[1] if good else None)
    assert choose(found, gpu) == choice


@given(st.lists(candidates, min_size=1, max_size=6), gpus)
def test_more_memory_never_takes_a_choice_away(found: list[Candidate], gpu: Gpu) -> None:
    before = choose(found, gpu).chosen
    after = choose(found, Gpu(gpu.name, gpu.compute_capability, gpu.memory_gib, gpu.count + 1)).chosen
    assert before is None or after is not None


@pytest.mark.parametrize("capability", ["7.0", "7.5", "8.9", "9.0", "10.0", "12.0"])
def test_nvfp4_is_what_check_says_of_it(capability: str) -> None:
    gpu = target_with(capability)
    assert gpu.gpu
    assert support_of("NVFP4", gpu.gpu).name.lower() == nvfp4_support(gpu)


def test_the_manual_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[A-Z0-9`, ]+?`)(?: \(.*?\))? \| ([0-9.]+) \| ([^|]+?) \|$", page, re.M)
    told = {word: (native, runs) for names, native, runs in rows for word in re.findall(r"`(\w+)`", names)}
    assert told == {
        word: (
            ".".join(map(str, needs.native)),
            f"{'.'.join(map(str, needs.least))}, {needs.how}" if needs.least else "not known",
        )
        for word, needs in FORMATS.items()
    }


def test_headers_say_the_format_and_a_claim_only_where_they_do_not() -> None:
    assert format_of("fp8", ["BF16"]) == "BF16"
    assert format_of("", ["NVFP4", "NVFP4"]) == "NVFP4"
    assert format_of("awq", []) == "INT4"
    assert format_of("nvfp4", ["mixed"]) == "NVFP4"
    assert format_of("", ["BF16", "mixed"]) == "BF16/mixed"
    assert format_of("", []) == "unknown format"
