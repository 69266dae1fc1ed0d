"""The bytes of the tensors against the memory of the GPUs: a lower bound, and what nobody can judge."""

import json

from airgap.model import Gpu
from airgap.readers.checkpoint import Checkpoint, read_checkpoints
from airgap.readiness import Verdict
from airgap.readiness.weights import judge_memory, judge_pickles, tensor_bytes
from tests.readiness.checkpoints import Files, load, pack, read, zeros

GIB = 2**30
L4 = Gpu("NVIDIA L4", "8.9", 24, 4)


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
    found = judge_memory("m", claiming(60 * GIB, 36 * GIB + 1), L4)
    assert found.verdict is Verdict.BLOCKED
    assert "96.0 GiB, a lower bound; 4 × NVIDIA L4 have 96.0 GiB" in found.message
    assert f"{96 * GIB + 1} bytes of tensors in 2 files" in found.evidence


def test_weights_that_fit_prove_nothing() -> None:
    found = judge_memory("m", claiming(60 * GIB, 36 * GIB), L4)
    assert found.verdict is Verdict.NO_BLOCKER
    assert "a lower bound, KV cache and activations come on top" in found.message


def test_without_a_gpu_weights_or_safetensors_it_is_unknown() -> None:
    assert judge_memory("m", claiming(1), None).verdict is Verdict.UNKNOWN
    assert judge_memory("m", read({"config.json": b"{}"}), L4).verdict is Verdict.UNKNOWN
    for name in ("pytorch_model.bin", "model.Q4_K_M.gguf"):
        found = judge_memory("m", read({name: b"x", "config.json": b"{}"}), L4)
        assert found.verdict is Verdict.UNKNOWN and name in found.message and "safetensors" in found.clears


def test_what_is_cut_off_is_unknown_and_what_is_known_still_blocks() -> None:
    files = load("bf16")
    cut = read({**files, "model.safetensors": files["model.safetensors"][:-1]})
    assert judge_memory("m", cut, L4).verdict is Verdict.UNKNOWN
    assert judge_memory("m", (*cut, *claiming(97 * GIB)), L4).verdict is Verdict.BLOCKED


def test_pickles_are_named_only_where_they_would_be_loaded() -> None:
    found = judge_pickles("m", read({"pytorch_model.bin": b"x"}))
    assert (
        found and "run code when they are loaded" in found.message and found.evidence == "pytorch_model.bin"
    )
    assert judge_pickles("m", read({"pytorch_model.bin": b"x", **load("bf16")})) is None
    assert judge_pickles("m", read({"training_args.bin": b"x", "config.json": b"{}"})) is None


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
