"""NVFP4 is judged from the tensors, whatever the manifest and the configs call it."""

from collections.abc import Iterator
from typing import Any

import pytest

from airgap.model import Target
from airgap.readiness.check import judge
from airgap.readiness.components import Composition, Model
from airgap.readiness.judgement import Judgement, Verdict
from airgap.readiness.rules_nvfp4 import is_nvfp4, judge_nvfp4, judge_proof
from tests.readiness.checkpoints import Files, Stored, load, read, with_config, with_tensors, zeros
from tests.readiness.compositions import TARGET, gpu, model

BLOCKED, CLEAR = Verdict.BLOCKED, Verdict.NO_BLOCKER
Q = "model.layers.0.self_attn.q_proj"


def of(files: Files, claim: str = "") -> Model:
    return model(files["config.json"], claim=claim, checkpoints=read(files))


def undeclared(case: str = "modelopt") -> Files:
    files = with_config(load(case), lambda config: config.pop("quantization_config"))
    files.pop("hf_quant_config.json", None)
    return files


def one(judgements: Iterator[Judgement]) -> Judgement:
    [found] = judgements
    return found


@pytest.mark.parametrize("claim", ["", "fp8"])
@pytest.mark.parametrize("case", ["modelopt", "compressed-tensors", "modelopt-experts"])
def test_what_nothing_declares_is_blocked_by_its_tensors(case: str, claim: str) -> None:
    found = one(judge_proof(of(undeclared(case), claim), TARGET))
    assert (found.verdict, found.gap) == (BLOCKED, "is NVFP4 that nothing declares")
    assert "nothing calls them so" in found.message and "hf_quant_config.json declares" in found.message
    assert {evidence.source for evidence in found.evidence} == {"gemma/model.safetensors"}


@pytest.mark.parametrize(
    ("capability", "field", "verdict"),
    [("10.0", "native", CLEAR), ("8.9", "fallback", CLEAR), ("7.0", "refused", BLOCKED)],
)
def test_the_gpu_is_judged_for_what_the_tensors_are(capability: str, field: str, verdict: Verdict) -> None:
    subject, target = of(undeclared()), gpu(capability)
    found = one(judge_nvfp4(subject, target))
    assert found.verdict is verdict
    assert [e.source for e in found.evidence] == ["gemma/model.safetensors"]
    assert found.evidence[0].text.startswith("tensor 'model.layers.0.")
    assert judge(Composition(target, (), (subject,))).components[0].nvfp4 == field


def test_what_is_called_nvfp4_and_is_not_is_no_question_to_the_gpu() -> None:
    for claim in ("nvfp4", ""):
        declared = load("modelopt")["config.json"]
        subject = of(load("bf16") | ({} if claim else {"config.json": declared}), claim)
        assert one(judge_proof(subject, TARGET)).verdict is BLOCKED
        assert not is_nvfp4(subject) and not list(judge_nvfp4(subject, TARGET))


def without_weights(case: str) -> Files:
    return {name: data for name, data in load(case).items() if name != "model.safetensors"}


@pytest.mark.parametrize(
    "files",
    [
        load("modelopt"),
        without_weights("modelopt")
        | {"model-0.safetensors": load("bf16")["model.safetensors"], "model-1.safetensors": b"damaged"},
        without_weights("modelopt"),
        without_weights("modelopt-mixed"),
    ],
    ids=["damaged", "damaged in part", "a declaration", "a declaration for each layer"],
)
def test_where_tensors_cannot_be_read_the_name_stands_for_them(files: Files) -> None:
    cut = {name: data[:20] if name == "model.safetensors" else data for name, data in files.items()}
    assert is_nvfp4(of(cut)) and one(judge_nvfp4(of(cut), gpu("7.0"))).verdict is BLOCKED


def test_a_mixture_is_what_it_declares_unless_the_manifest_claims_nvfp4_alone() -> None:
    mixed = load("modelopt-mixed")
    assert one(judge_proof(of(mixed), TARGET)).verdict is CLEAR
    assert one(judge_nvfp4(of(mixed), gpu("7.0"))).verdict is BLOCKED
    found = one(judge_proof(of(mixed, "nvfp4"), TARGET))
    assert found.verdict is BLOCKED and "is FP8" in found.message


def groups(config: dict[str, Any]) -> None:
    """Both formats, as compressed-tensors declares a mixture: one that vLLM may run."""
    declared = config["quantization_config"]
    [group] = declared["config_groups"].values()
    other = group | {"format": "float-quantized", "targets": ["re:.*down_proj"]}
    declared["format"] = "mixed-precision"
    declared["config_groups"] = {"a": group | {"format": "nvfp4-pack-quantized"}, "b": other}


def test_a_mixture_of_groups_is_no_false_claim() -> None:
    def change(tensors: dict[str, Stored]) -> None:
        down = "model.layers.0.mlp.down_proj"
        for name in [name for name in tensors if name.startswith(f"{down}.")]:
            del tensors[name]
        tensors[f"{down}.weight"] = zeros("F8_E4M3", 32, 64)
        tensors[f"{down}.weight_scale"] = zeros("BF16", 32, 1)

    files = with_config(with_tensors(load("compressed-tensors"), change), groups)
    assert one(judge_proof(of(files), TARGET)).verdict is CLEAR
    assert one(judge_proof(of(files, "nvfp4"), TARGET)).verdict is BLOCKED
    only = load("compressed-tensors-fp8") | {"config.json": files["config.json"]}
    found = one(judge_proof(of(only), TARGET))
    assert (found.verdict, found.gap) == (BLOCKED, "is not the NVFP4 it is called"), "none of it is there"


def test_a_manifest_that_claims_another_format_is_told() -> None:
    found = one(judge_proof(of(load("modelopt"), "fp8"), TARGET))
    assert (found.verdict, found.warning) == (CLEAR, True)
    assert "The manifest says quantization = 'fp8'" in found.message and found.evidence
    assert not one(judge_proof(of(load("modelopt")), TARGET)).warning


def test_bytes_with_scales_of_no_known_form_are_not_taken_for_nvfp4() -> None:
    def change(tensors: dict[str, Stored]) -> None:
        tensors[f"{Q}.weight"] = zeros("U8", 32, 16)
        tensors[f"{Q}.weight_scale"] = zeros("F8_E4M3", 32, 2)

    subject = of(with_tensors(load("bf16"), change))
    assert not is_nvfp4(subject) and not list(judge_proof(subject, TARGET))


def test_without_a_gpu_it_is_unknown() -> None:
    bare = Target("3.12", TARGET.platform, "2.35")
    assert one(judge_nvfp4(of(undeclared()), bare)).verdict is Verdict.UNKNOWN
