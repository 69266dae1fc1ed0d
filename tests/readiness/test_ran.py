"""Whether a record is evidence for a composition: pure, over what a holder attested."""

from dataclasses import replace

import pytest

from airgap.model import Card, Gpu, Platform, Sha256, Sha384
from airgap.readiness.components import Composition
from airgap.readiness.judgement import SmokeRecord
from airgap.readiness.ran import read_attested, why_not_of, why_not_on
from airgap.trust.smoke import Attested
from tests.readiness.compositions import TARGET, model, package, stack
from tests.trust.test_smoke import example

ONE, TWO = Sha256("c" * 64), Sha256("e" * 64)
RECORD = SmokeRecord(frozenset({ONE, TWO}), "NVIDIA L4", "570.86.15", "8.9", 2, TARGET.platform, "record")
BARE = replace(TARGET, gpu=None)


def test_a_run_is_read_as_what_ran_and_where() -> None:
    assert read_attested(Attested(example(), ("alice",)), "record") == RECORD


def test_a_blob_of_another_sha384_than_the_bundles_did_not_run() -> None:
    stated = {ONE: Sha384("d" * 96), TWO: Sha384("0" * 96)}
    found = read_attested(Attested(example(), ("alice",)), "record", stated)
    assert isinstance(found, SmokeRecord)
    assert found.digests == {ONE}


def test_a_gpu_without_a_name_is_nobodys() -> None:
    host = replace(example().host, cards=(Card("", "8.9", 1, ""),))
    assert read_attested(Attested(example(host=host), ("alice",)), "") == "its GPU has no name"


@pytest.mark.parametrize(
    ("record", "target", "reason"),
    [
        (RECORD, TARGET, ""),
        (replace(RECORD, capability=""), TARGET, ""),
        (RECORD, replace(TARGET, gpu=Gpu("NVIDIA L4", "8.9a", 24, 4)), ""),
        (
            replace(RECORD, platform=Platform("linux", "arm64")),
            TARGET,
            "ran on linux/arm64; the target is",
        ),
        (replace(RECORD, gpu="", capability="", count=0), TARGET, "without a GPU; the target has NVIDIA L4"),
        (replace(RECORD, gpu="", capability="", count=0), BARE, ""),
        (RECORD, BARE, "it ran on NVIDIA L4; the target has none"),
        (replace(RECORD, count=5), TARGET, "it ran with 5 GPUs, the target has 4"),
        (
            RECORD,
            replace(TARGET, gpu=Gpu("NVIDIA L4", "9.0", 24, 4)),
            "8.9, that of the target 9.0",
        ),
    ],
)
def test_the_target_must_be_like_the_host(record: SmokeRecord, target: object, reason: str) -> None:
    found = why_not_on(record, target)  # type: ignore[arg-type]
    assert reason in found if reason else found == ""


def test_a_model_needs_what_serves_it_and_unknown_digests_are_never_covered() -> None:
    served = replace(stack(package("one", "1.0")), digests=frozenset({ONE}))
    gemma = model(served_by=served, digests=frozenset({TWO}))

    def lacks(*ran: Sha256) -> str:
        record = replace(RECORD, digests=frozenset(ran))
        return why_not_of(record, Composition(TARGET, (served,), (gemma,)))

    assert lacks(ONE) == "" and lacks(ONE, TWO) == ""
    assert lacks(TWO) == "not among what ran: 1 of 1 digests of serving, 1 of 2 digests of gemma"
    alone = Composition(TARGET, (), (model(digests=frozenset({TWO})),))
    assert why_not_of(RECORD, alone).startswith(
        "a model does not run by itself, and served-by does not say what"
    )
    nothing = Composition(TARGET, (), ())
    assert why_not_of(RECORD, nothing) == "not among what ran: anything that is known of these components"
