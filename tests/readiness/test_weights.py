"""The bytes of the tensors against the memory of the GPUs: a lower bound, and what nobody can judge."""

import json
from dataclasses import replace

from airgap.readers.checkpoint import Checkpoint, read_checkpoints
from airgap.readiness.judgement import Judgement, Verdict
from airgap.readiness.rules_weights import judge_memory, judge_pickles
from airgap.readiness.weights import tensor_bytes
from tests.readiness.checkpoints import Files, load, pack, read, zeros
from tests.readiness.compositions import TARGET, model

GIB = 2**30


def memory(checkpoints: tuple[Checkpoint, ...]) -> Judgement:
    [found] = judge_memory(model(checkpoints=checkpoints), TARGET)
    return found


def pickles(checkpoints: tuple[Checkpoint, ...]) -> Judgement:
    [found] = judge_pickles(model(checkpoints=checkpoints), TARGET)
    return found


def claiming(*sizes: int) -> tuple[Checkpoint, ...]:
    """A checkpoint whose headers say these bytes, in files of which only the headers exist."""
    files: Files = {}
    lengths: dict[str, int] = {}
    for number, size in enumerate(sizes):
        table = {f"t{number}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
        header = json.dumps(table).encode()
        name = f"model-{number}.safetensors"
        files[name] = len(header).to_bytes(8, "little") + header
        lengths[name] = len(files[name]) + size
    return read_checkpoints(lengths, lambda path, start, count: files[path][start : start + count])


def test_weights_above_the_memory_of_all_gpus_are_blocked() -> None:
    found = memory(claiming(60 * GIB, 36 * GIB + 1))
    assert found.verdict is Verdict.BLOCKED
    assert "96.0 GiB, a lower bound; 4 × NVIDIA L4 have 96.0 GiB" in found.message
    assert [(e.source, e.text) for e in found.evidence] == [
        ("gemma/model-0.safetensors", f"{60 * GIB} bytes of tensors"),
        ("gemma/model-1.safetensors", f"{36 * GIB + 1} bytes of tensors"),
    ]


def test_of_many_files_the_largest_are_named_and_the_sum_of_all() -> None:
    found = memory(claiming(*range(1, 10)))
    named = [("gemma/model-" + str(n - 1) + ".safetensors", f"{n} bytes of tensors") for n in range(9, 4, -1)]
    assert [(e.source, e.text) for e in found.evidence] == [
        *named,
        ("gemma", "4 more files, 45 bytes in all"),
    ]


def test_weights_that_fit_prove_nothing() -> None:
    found = memory(claiming(60 * GIB, 36 * GIB))
    assert found.verdict is Verdict.NO_BLOCKER
    assert "a lower bound, KV cache and activations come on top" in found.message


def test_without_a_gpu_weights_or_safetensors_it_is_unknown() -> None:
    no_gpu = replace(TARGET, gpu=None)
    assert next(judge_memory(model(checkpoints=claiming(1)), no_gpu)).verdict is Verdict.UNKNOWN
    assert memory(read({"config.json": b"{}"})).verdict is Verdict.UNKNOWN
    for name in ("pytorch_model.bin", "model.Q4_K_M.gguf"):
        found = memory(read({name: b"x", "config.json": b"{}"}))
        assert found.verdict is Verdict.UNKNOWN and name in found.message and "safetensors" in found.remedy


def test_what_is_cut_off_is_unknown_and_what_is_known_still_blocks() -> None:
    files = load("bf16")
    cut = read({**files, "model.safetensors": files["model.safetensors"][:-1]})
    assert memory(cut).verdict is Verdict.UNKNOWN
    assert memory((*cut, *claiming(97 * GIB))).verdict is Verdict.BLOCKED


def test_one_shard_that_cannot_be_weighed_leaves_the_sum_unknown() -> None:
    files = load("bf16")
    whole = files.pop("model.safetensors")
    two = read({**files, "model-0.safetensors": whole, "model-1.safetensors": whole[:-1]})
    found = memory(two)
    assert (found.verdict, "model-1.safetensors" in found.message) == (Verdict.UNKNOWN, True)


def test_pickles_are_named_only_where_they_would_be_loaded() -> None:
    found = pickles(read({"pytorch_model.bin": b"x"}))
    assert found.verdict is Verdict.UNKNOWN and "run code when they are loaded" in found.message
    assert [e.source for e in found.evidence] == ["gemma/pytorch_model.bin"]
    assert pickles(read({"pytorch_model.bin": b"x", **load("bf16")})).verdict is Verdict.NO_BLOCKER
    found = pickles(read({"training_args.bin": b"x", "config.json": b"{}"}))
    assert "no weights are known" in found.message


def test_draft_layers_that_an_engine_may_leave_out_are_not_counted() -> None:
    tensors = {
        "model.layers.0.mlp.weight": zeros("U8", 100),
        "model.layers.1.mlp.weight": zeros("U8", 10),
        "mtp.layers.0.weight": zeros("U8", 1),
    }
    files = {"config.json": b'{"num_hidden_layers": 1}', "model.safetensors": pack(tensors)}
    (checkpoint,) = read(files)
    assert tensor_bytes(checkpoint) == 100
    (checkpoint,) = read({"model.safetensors": files["model.safetensors"]})
    assert tensor_bytes(checkpoint) == 110, "without a config every layer counts"
