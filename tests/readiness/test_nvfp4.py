"""NVFP4 of both real writers is proven; whatever is falsified is refuted with the tensor named."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.readiness.nvfp4 import Quantization, Verdict, assess, prove_nvfp4
from airgap.readiness.packing import Form
from tests.readiness.checkpoints import (
    CASES,
    Files,
    Stored,
    load,
    pack,
    read,
    unpack,
    with_config,
    with_tensors,
    zeros,
)

PROVEN = {
    "compressed-tensors": "W4A4",
    "compressed-tensors-hybrid": "W4A4",
    "compressed-tensors-w4a16": "W4A16",
    "modelopt": "W4A4",
    "modelopt-experts": "W4A4",
    "modelopt-hybrid": "W4A4",
    "modelopt-per-layer": "W4A4 and W4A16",
    "modelopt-sharded": "W4A4",
    "modelopt-w4a16": "W4A16",
}
OTHERS = {
    "bf16": "BF16",
    "compressed-tensors-fp8": "FP8",
    "compressed-tensors-mxfp4": "MXFP4",
    "modelopt-mixed": "mixed",
}
PARAMETERS = {"modelopt-sharded": 21_664, "modelopt-experts": 18_020}
"""Of the model before it was quantised, by torch; of all others 11,360."""

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"


def assessed(files: Files) -> Quantization:
    (checkpoint,) = read(files)
    return assess(checkpoint)


def refuted(files: Files) -> str:
    """The first reason of a claim that must fail."""
    proof = prove_nvfp4(read(files))
    assert proof.verdict is Verdict.REFUTED
    return str(proof.reasons[0])


def test_every_case_has_its_expectation() -> None:
    assert set(CASES) == PROVEN.keys() | OTHERS.keys()


@pytest.mark.parametrize("case", PROVEN)
def test_what_the_real_writers_wrote_is_proven(case: str) -> None:
    found = assessed(load(case))
    form = Form.COMPRESSED_TENSORS if case.startswith("compressed") else Form.MODELOPT
    assert (found.format, found.form, found.variant) == ("NVFP4", form, PROVEN[case])
    assert found.parameters == PARAMETERS.get(case, 11_360)
    assert not found.faults and not found.notes
    assert prove_nvfp4(read(load(case))).verdict is Verdict.PROVEN


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_sound_and_other_is_not_nvfp4(case: str) -> None:
    found = assessed(load(case))
    assert (found.format, found.parameters) == (OTHERS[case], 11_360)
    assert not found.faults, "nothing is wrong with it but the claim"
    assert refuted(load(case)).startswith("tensor 'model.layers.0.")


def test_sizes_are_the_tensors_not_parameters_times_four_bits() -> None:
    found = assessed(load("modelopt-hybrid"))
    # The MLP: 3 weights of 32 × 64, each a byte for two, a scale for 16, and two float32.
    assert found.quantized_parameters == 3 * 32 * 64
    assert found.quantized_size == 3 * (32 * 64 // 2 + 32 * 64 // 16 + 8)
    assert found.bytes_by_dtype["BF16"] == 2 * (11_360 - 3 * 32 * 64)
    assert found.size == sum(found.bytes_by_dtype.values())
    assert found.share == pytest.approx(6144 / 11_360)


def relabel(files: Files) -> Files:
    """A BF16 model whose config says NVFP4."""
    declared = json.loads(load("modelopt")["config.json"])["quantization_config"]
    return with_config(files, lambda config: config.update(quantization_config=declared))


def test_a_relabelled_bf16_checkpoint_is_refuted() -> None:
    assert refuted(relabel(load("bf16"))) == (
        f"tensor '{DOWN}.weight' is BF16; declared is NVFP4 (config.json: quantization_config)"
    )


def test_mxfp4_under_the_label_of_nvfp4_is_refuted() -> None:
    def change(config: dict[str, Any]) -> None:
        config["quantization_config"] |= {"format": "nvfp4-pack-quantized", "config_groups": {}}

    reason = refuted(with_config(load("compressed-tensors-mxfp4"), change))
    assert "'model.layers.0." in reason and "is MXFP4; declared is nvfp4-pack-quantized" in reason


@pytest.mark.parametrize("case", ["modelopt", "compressed-tensors"])
def test_an_undeclared_checkpoint_is_refuted(case: str) -> None:
    files = with_config(load(case), lambda config: config.pop("quantization_config"))
    files.pop("hf_quant_config.json", None)
    assert "is NVFP4, which neither config.json nor hf_quant_config.json declares" in refuted(files)


def test_either_of_modelopts_declarations_is_enough() -> None:
    older = with_config(load("modelopt"), lambda config: config.pop("quantization_config"))
    newer = load("modelopt")
    del newer["hf_quant_config.json"]
    for files in (older, newer):
        assert prove_nvfp4(read(files)).verdict is Verdict.PROVEN


def test_two_declarations_that_disagree_are_refuted() -> None:
    def change(document: dict[str, Any]) -> None:
        document["quantization"]["quant_algo"] = "FP8"

    assert "is NVFP4; declared is FP8 (hf_quant_config.json)" in refuted(
        with_config(load("modelopt"), change, "hf_quant_config.json")
    )


def test_one_declaration_of_a_mixture_and_one_of_nvfp4_disagree() -> None:
    def change(document: dict[str, Any]) -> None:
        document["quantization"]["quantized_layers"] = {
            Q: {"quant_algo": "NVFP4"},
            "x": {"quant_algo": "FP8"},
        }

    assert "is declared twice, differently" in refuted(
        with_config(load("modelopt"), change, "hf_quant_config.json")
    )


@pytest.mark.parametrize(
    ("tensors", "label"), [("modelopt", "compressed-tensors"), ("compressed-tensors", "modelopt")]
)
def test_one_writers_tensors_under_the_others_label_are_refuted(tensors: str, label: str) -> None:
    files = load(label) | {"model.safetensors": load(tensors)["model.safetensors"]}
    reason = refuted(files)
    assert (
        f"is named as {tensors} names it; declared is {label}" in reason and "tensor 'model.layers" in reason
    )


def test_both_writers_names_in_one_checkpoint_are_refuted() -> None:
    def change(tensors: dict[str, Stored]) -> None:
        tensors[f"{Q}.weight_packed"] = tensors.pop(f"{Q}.weight")
        tensors[f"{Q}.weight_global_scale"] = tensors.pop(f"{Q}.weight_scale_2")

    assert (
        "'model.layers.0.self_attn.q_proj.weight_packed' is named as compressed-tensors names it"
        in refuted(with_tensors(load("modelopt"), change))
    )


def test_a_mixture_declared_as_nvfp4_is_refuted() -> None:
    files = load("modelopt") | {"model.safetensors": load("modelopt-mixed")["model.safetensors"]}
    assert "_proj.weight' is FP8; declared is NVFP4" in refuted(files)


@pytest.mark.parametrize("cut", [1, 1000, 5000])
def test_a_truncated_file_is_refuted_naming_the_first_tensor_that_is_cut_off(cut: int) -> None:
    files = load("modelopt")
    whole = files["model.safetensors"]
    end = 8 + int.from_bytes(whole[:8], "little")
    table = json.loads(whole[8:end])
    table.pop("__metadata__")
    left = len(whole) - cut - end
    first = min((t["data_offsets"][1], name) for name, t in table.items() if t["data_offsets"][1] > left)[1]
    reason = refuted(files | {"model.safetensors": whole[:-cut]})
    assert f"tensor {first!r} is cut off" in reason


def change_scale(name: str, tensor: Stored | None) -> Callable[[dict[str, Stored]], object]:
    def change(tensors: dict[str, Stored]) -> None:
        del tensors[name]
        if tensor:
            tensors[name] = tensor

    return change


@pytest.mark.parametrize(
    ("name", "tensor", "told"),
    [
        ("weight_scale_2", None, "has no global scale"),
        ("weight_scale_2", zeros("BF16", 1), "is BF16; expected F32"),
        ("weight_scale_2", zeros("F32", 4), "is [4]; expected one value"),
        ("weight_scale", None, "has no block scale"),
        ("weight_scale", zeros("F32", 32, 4), "is F32; expected F8_E4M3"),
        ("weight_scale", zeros("F8_E4M3", 32, 2), "expected one scale for 16 weights"),
        ("weight_scale", zeros("F8_E4M3", 16, 8), "expected one scale for 16 weights"),
        ("weight_scale", zeros("F8_E4M3", 128), "expected one scale for 16 weights"),
    ],
)
def test_a_scale_that_is_missing_or_wrong_is_refuted(name: str, tensor: Stored | None, told: str) -> None:
    reason = refuted(with_tensors(load("modelopt"), change_scale(f"{DOWN}.{name}", tensor)))
    assert reason.startswith(f"tensor '{DOWN}.weight'") and told in reason


def test_a_missing_global_scale_of_compressed_tensors_is_refuted() -> None:
    change = change_scale(f"{DOWN}.weight_global_scale", None)
    assert refuted(with_tensors(load("compressed-tensors"), change)) == (
        f"tensor '{DOWN}.weight_packed' has no global scale '{DOWN}.weight_global_scale'"
    )


def negatives() -> dict[str, Files]:
    """Each that must not pass, made of what the real writers wrote."""
    modelopt, packed = load("modelopt"), load("compressed-tensors")
    undeclared = with_config(modelopt, lambda config: config.pop("quantization_config"))
    undeclared.pop("hf_quant_config.json")
    mxfp4 = load("compressed-tensors-mxfp4")["model.safetensors"]
    missing = change_scale(f"{DOWN}.weight_scale_2", None), change_scale(f"{DOWN}.weight_global_scale", None)
    return {
        "relabelled BF16": relabel(load("bf16")),
        "truncated": modelopt | {"model.safetensors": modelopt["model.safetensors"][:-100]},
        "undeclared": undeclared,
        "modelopt's labelled as the other's": packed | {"model.safetensors": modelopt["model.safetensors"]},
        "the other's labelled as modelopt's": modelopt | {"model.safetensors": packed["model.safetensors"]},
        "MXFP4": load("compressed-tensors-mxfp4"),
        "MXFP4 labelled NVFP4": packed | {"model.safetensors": mxfp4},
        "modelopt's without a global scale": with_tensors(modelopt, missing[0]),
        "the other's without a global scale": with_tensors(packed, missing[1]),
    }


@pytest.mark.parametrize("case", negatives())
def test_nothing_that_is_not_nvfp4_is_called_so(case: str) -> None:
    files = negatives()[case]
    assert prove_nvfp4(read(files)).verdict is Verdict.REFUTED
    assert assessed(files).called != "NVFP4"


def test_a_weight_put_back_in_bf16_is_refuted_by_its_scales() -> None:
    change = change_scale(f"{DOWN}.weight", zeros("BF16", 32, 64))
    assert f"tensor '{DOWN}.weight_scale" in refuted(with_tensors(load("modelopt"), change))


@pytest.mark.parametrize(
    ("case", "left"),
    [
        ("modelopt", "weight_scale"),
        ("modelopt", "weight_scale_2"),
        ("compressed-tensors", "weight_scale"),
        ("compressed-tensors", "weight_global_scale"),
    ],
)
def test_one_scale_that_was_forgotten_is_enough(case: str, left: str) -> None:
    def change(tensors: dict[str, Stored]) -> None:
        for name in [name for name in tensors if name.startswith(f"{DOWN}.") and not name.endswith(left)]:
            del tensors[name]
        tensors[f"{DOWN}.weight"] = zeros("BF16", 32, 64)

    reason = refuted(with_tensors(load(case), change))
    assert reason == f"tensor '{DOWN}.{left}' scales no packed weight of its name"


def test_the_scale_of_a_weight_in_int4_is_not_one_that_was_forgotten() -> None:
    def change(tensors: dict[str, Stored]) -> None:
        for name in [name for name in tensors if name.startswith(f"{DOWN}.")]:
            del tensors[name]
        tensors[f"{DOWN}.weight_packed"] = zeros("I32", 32, 8)
        tensors[f"{DOWN}.weight_scale"] = zeros("BF16", 32, 1)

    found = assessed(with_tensors(load("bf16"), change))
    assert (found.format, found.faults) == ("INT4", ())


def test_a_layer_left_behind_is_refuted_by_its_like() -> None:
    def change(tensors: dict[str, Stored]) -> None:
        for ending in ("weight_scale", "weight_scale_2", "input_scale"):
            del tensors[f"model.layers.1.mlp.down_proj.{ending}"]
        tensors["model.layers.1.mlp.down_proj.weight"] = zeros("BF16", 32, 64)

    files = load("modelopt-sharded")
    shards = [name for name in files if name.endswith(".safetensors")]
    del files["model.safetensors.index.json"]
    merged: dict[str, Stored] = {}
    files["model.safetensors"] = _merge(files, shards, merged, change)
    reason = refuted(files)
    assert "'model.layers.1.mlp.down_proj.weight' is BF16, its like in other layers is NVFP4" in reason

    def ignore(config: dict[str, Any]) -> None:
        config["quantization_config"]["ignore"].append("model.layers.1.mlp.down_proj")

    assert prove_nvfp4(read(with_config(files, ignore))).verdict is Verdict.PROVEN


def _merge(
    files: Files, shards: list[str], merged: dict[str, Stored], change: Callable[[dict[str, Stored]], object]
) -> bytes:
    for name in shards:
        merged |= unpack(files.pop(name))
    change(merged)
    return pack(merged)


def test_a_layer_declared_one_by_one_and_not_packed_is_refuted() -> None:
    files = load("modelopt-per-layer") | {"model.safetensors": load("modelopt-hybrid")["model.safetensors"]}
    assert "is BF16; declared is NVFP4 for 'model.layers.0.self_attn." in "".join(
        str(reason) for reason in prove_nvfp4(read(files)).reasons
    )


def test_a_packed_weight_that_is_declared_unquantised_is_refuted() -> None:
    def ignore(config: dict[str, Any]) -> None:
        config["quantization_config"]["ignore"].append(DOWN)

    assert "the declaration leaves it unquantised" in refuted(with_config(load("modelopt"), ignore))


INDEX = "model.safetensors.index.json"


def test_an_index_that_names_another_file_is_refuted() -> None:
    def move(document: dict[str, Any]) -> None:
        names = sorted(set(document["weight_map"].values()))
        tensor = next(t for t, file in document["weight_map"].items() if file == names[0])
        document["weight_map"][tensor] = names[1]

    reason = refuted(with_config(load("modelopt-sharded"), move, INDEX))
    assert "as the index says; it is in model-00001" in reason


def test_a_missing_shard_is_refuted() -> None:
    files = load("modelopt-sharded")
    del files["model-00002-of-00002.safetensors"]
    assert "it is in none of the files that are here" in refuted(files)


def test_a_tensor_the_index_does_not_name_is_refuted() -> None:
    def forget(document: dict[str, Any]) -> None:
        del document["weight_map"][f"{DOWN}.weight"]

    assert refuted(with_config(load("modelopt-sharded"), forget, INDEX)).endswith(
        "the index does not name it"
    )


def test_safetensors_beside_the_index_are_set_aside() -> None:
    files = load("modelopt-sharded") | {"consolidated.safetensors": load("bf16")["model.safetensors"]}
    (checkpoint,) = read(files)
    assert checkpoint.set_aside == ("consolidated.safetensors",)
    assert prove_nvfp4([checkpoint]).verdict is Verdict.PROVEN


def test_an_input_scale_that_is_missing_is_noted_not_refuted() -> None:
    change = change_scale(f"{DOWN}.input_scale", None)
    files = with_tensors(load("modelopt"), change)
    assert prove_nvfp4(read(files)).verdict is Verdict.PROVEN
    (note,) = assessed(files).notes
    assert "which 1 weights have no scale for" in note and f"{DOWN}.weight" in note


def test_without_safetensors_nobody_can_say() -> None:
    proof = prove_nvfp4(read({"pytorch_model.bin": b"x", "config.json": b"{}"}))
    assert (proof.verdict, str(proof.reasons[0])) == (
        Verdict.UNDECIDED,
        "expected safetensors, found pytorch_model.bin",
    )


def test_a_pattern_that_would_never_end_is_not_run() -> None:
    def ignore(config: dict[str, Any]) -> None:
        config["quantization_config"]["ignore"] = ["re:(a+)+$", "lm_head", "*a" * 50 + "b"]

    files = with_config(load("modelopt-hybrid"), ignore)
    assert prove_nvfp4(read(files)).verdict is Verdict.PROVEN


def test_a_pipeline_is_nvfp4_by_the_part_that_is() -> None:
    files = {f"transformer/{name}": data for name, data in load("modelopt").items()}
    files |= {f"vae/{name}": data for name, data in load("bf16").items()}
    assert [c.directory for c in read(files)] == ["transformer", "vae"]
    assert prove_nvfp4(read(files)).verdict is Verdict.PROVEN
    files |= {f"vae/{name}": data for name, data in load("compressed-tensors-fp8").items()}
    assert "is FP8" in refuted(files)


_ENDINGS = (
    *("", ".weight", ".weight_packed", ".weight_scale", ".weight_scale_2", ".weight_global_scale", "_blocks"),
    *("_scales", "_weight_scale", "_weight_scale_2", ".input_scale", ".qweight", ".weight.absmax"),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a.0", "a.1", "lm_head"]),
            st.sampled_from(_ENDINGS),
            st.sampled_from(["U8", "F8_E4M3", "F8_E8M0", "F32", "BF16", "I32", "I8", "F4"]),
            st.lists(st.sampled_from([0, 1, 2, 16, 32]), max_size=4),
        ),
        unique_by=lambda drawn: drawn[:2],
        max_size=10,
    ),
    st.sampled_from(["modelopt", "compressed-tensors", "modelopt-per-layer", "bf16"]),
)
def test_any_tensors_are_judged_and_never_proven_without_a_packed_weight(
    drawn: list[tuple[str, str, str, list[int]]], case: str
) -> None:
    tensors = {
        f"{stem}{ending}": zeros(dtype, *shape, *([2] if dtype == "F4" else []))
        for stem, ending, dtype, shape in drawn
    }
    files = load(case) | {"model.safetensors": pack(tensors)}
    found = assessed(files) if tensors else None
    if prove_nvfp4(read(files)).verdict is Verdict.PROVEN:
        assert found and found.quantized_parameters and found.format == "NVFP4"
        assert any(t.dtype == "U8" for t in tensors.values())
        assert any(t.dtype == "F8_E4M3" for t in tensors.values())
        assert any(t.dtype == "F32" for t in tensors.values())
