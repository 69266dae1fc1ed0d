"""Rules over the bytes and the form of a model's weights, read from safetensors headers (`weights`)."""

from collections.abc import Iterator

from airgap.model import Gpu, Target
from airgap.readiness.components import Model, counted
from airgap.readiness.judgement import Evidence, Judgement, Rule
from airgap.readiness.weights import loaded_pickles, tensor_bytes, unweighed

MEMORY = Rule("weights-memory", 1, "the bytes of the weights fit the memory of the target's GPUs")
PICKLE = Rule("weights-pickle", 1, "no weights are pickles, which run code when they are loaded")

GIB = 2**30

_FILES = 5
"""Files named as evidence; a large model has hundreds."""


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
