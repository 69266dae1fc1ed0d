"""Rules over a model's weights, read from safetensors headers (`nvfp4`, `weights`)."""

from collections.abc import Iterator

from airgap.model import Gpu, Target
from airgap.readiness import nvfp4
from airgap.readiness.components import Model, counted
from airgap.readiness.judgement import Evidence, Judgement, Rule
from airgap.readiness.rules_models import is_nvfp4, says_nvfp4
from airgap.readiness.weights import loaded_pickles, tensor_bytes, unweighed

PROOF = Rule("nvfp4-proof", 1, "weights that are called NVFP4 are NVFP4")
MEMORY = Rule("weights-memory", 1, "the bytes of the weights fit the memory of the target's GPUs")
PICKLE = Rule("weights-pickle", 1, "no weights are pickles, which run code when they are loaded")

GIB = 2**30

_FILES = 5
"""Files named as evidence; a large model has hundreds."""


def judge_proof(model: Model, target: Target) -> Iterator[Judgement]:
    """What the manifest or the configs call NVFP4, against the tensors."""
    if not is_nvfp4(model):
        return
    proof = nvfp4.prove_nvfp4(model.checkpoints)
    reason = "; ".join(str(reason) for reason in proof.reasons[:3])
    match proof.verdict:
        case nvfp4.Verdict.PROVEN:
            yield PROOF.clear(model.name, "every tensor that should be NVFP4 is; the rest is as declared")
        case nvfp4.Verdict.UNDECIDED:
            yield PROOF.unknown(
                model.name, f"it is called NVFP4; {reason}", settle="add its weights, as safetensors"
            )
        case nvfp4.Verdict.REFUTED:
            yield PROOF.blocked(
                model.name,
                f"it is called NVFP4, and is not: {reason}",
                gap="is not the NVFP4 it is called",
                things=("the claim of NVFP4", "the tensors"),
                evidence=[*says_nvfp4(model), *(_tensor(model, r) for r in proof.reasons[:3])],
                remedy="a checkpoint that is NVFP4, or correct quantization",
            )


def _tensor(model: Model, reason: nvfp4.Reason) -> Evidence:
    for checkpoint in model.checkpoints:
        for file, header in checkpoint.headers.items():
            if any(tensor.name == reason.tensor for tensor in header.tensors):
                return model.shows(checkpoint.at(file), str(reason))
    return Evidence(model.name, text=str(reason))


def judge_memory(model: Model, target: Target) -> Iterator[Judgement]:
    """Whether the tensors' bytes, from safetensors headers, fit the memory of all the target's GPUs together.

    A lower bound: KV cache, activations, CUDA graphs and the engine's own memory come on top. So fitting
    proves nothing, and not fitting proves that it cannot run without offloading to the host.
    """
    unread = unweighed(model.checkpoints)
    needed = sum(tensor_bytes(checkpoint) for checkpoint in model.checkpoints)
    if target.gpu is None:
        yield MEMORY.unknown(model.name, "the target names no GPU", settle="add gpu = { … } to [target]")
        return
    room = target.gpu.memory_gib * GIB * target.gpu.count
    evidence = _weighed(model)
    if needed > room:
        gap = f"the tensors need {_gib(needed)}, a lower bound"
        yield MEMORY.blocked(
            model.name,
            f"{gap}; {_cards(target.gpu)} have {_gib(room)}",
            gap=gap,
            things=("the weights", "the memory of the target's GPUs"),
            evidence=evidence,
            remedy="more or larger GPUs, a more quantised variant, or offloading a part to the host's memory",
        )
    elif unread or not needed:
        found = f"the weights in {unread[0]} cannot be read" if unread else "no weights are known"
        yield MEMORY.unknown(model.name, found, settle="weights as safetensors, or a smoke run on such a GPU")
    else:
        yield MEMORY.clear(
            model.name,
            f"the tensors need {_gib(needed)} of {_gib(room)} on {_cards(target.gpu)}: a lower bound, KV"
            " cache and activations come on top",
            evidence=evidence,
        )


def judge_pickles(model: Model, target: Target) -> Iterator[Judgement]:
    """Weights that are pickles run code when they are loaded."""
    pickles = loaded_pickles(model.checkpoints)
    if not any(c.headers or c.pickles or c.others for c in model.checkpoints):
        yield PICKLE.unknown(model.name, "no weights are known", settle="add the weights")
    elif pickles:
        yield PICKLE.unknown(
            model.name,
            f"{counted(len(pickles), 'pickle')} among its weights: pickles run code when they are loaded, and"
            " what they hold is not read",
            settle="the same weights as safetensors",
            evidence=[model.shows(path, "") for path in pickles[:_FILES]],
        )
    else:
        yield PICKLE.clear(model.name, "engines load safetensors")


def _weighed(model: Model) -> list[Evidence]:
    """The files with the most bytes of tensors, and how much that is of how many."""
    sizes = {
        c.at(file): sum(tensor.size for tensor in header.tensors)
        for c in model.checkpoints
        for file, header in c.headers.items()
    }
    largest = sorted(sizes, key=lambda path: -sizes[path])[:_FILES]
    shown = [model.shows(path, f"{sizes[path]} bytes of tensors") for path in largest]
    more = len(sizes) - len(shown)
    if more:
        shown.append(
            Evidence(model.name, text=f"{counted(more, 'more file')}, {sum(sizes.values())} bytes in all")
        )
    return shown


def _cards(gpu: Gpu) -> str:
    return f"{gpu.count} × {gpu.name}"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"
