"""What the weights alone say of the GPUs: a lower bound of memory, and formats nobody can judge.

The bound counts the bytes of the tensors an engine must hold, from safetensors headers. KV cache,
activations, CUDA graphs and the engine's own memory come on top, so fitting proves nothing, and not
fitting proves that it cannot run without offloading to the host.
"""

import re
from collections.abc import Sequence

from airgap.model import Gpu
from airgap.readers.checkpoint import Checkpoint
from airgap.readiness import Judgement, Verdict

GIB = 2**30

_MEMORY = "weights-memory"
_PICKLE = "weights-pickle"


def judge_memory(name: str, checkpoints: Sequence[Checkpoint], gpu: Gpu | None) -> Judgement:
    """Whether the weights of model `name` can be in the memory of all the target's GPUs together."""
    unread = [f"{_at(c)}{n}" for c in checkpoints if not c.headers for n in (*c.pickles, *c.others)]
    unread += [
        damage.path for c in checkpoints for damage in c.damaged if damage.path.endswith(".safetensors")
    ]
    needed = sum(tensor_bytes(checkpoint) for checkpoint in checkpoints)
    if gpu is None:
        return _unknown(name, "the target names no GPU", "add gpu = { … } to [target]")
    room = gpu.memory_gib * GIB * gpu.count
    evidence = f"{needed} bytes of tensors in {sum(len(c.headers) for c in checkpoints)} files"
    if needed > room:
        return Judgement(
            _MEMORY,
            Verdict.BLOCKED,
            name,
            f"the tensors need {_gib(needed)}, a lower bound; {_cards(gpu)} have {_gib(room)}",
            evidence,
            "more or larger GPUs, a more quantised variant, or offloading a part to the host's memory",
        )
    if unread or not needed:
        found = f"the weights in {unread[0]} cannot be read" if unread else "no weights are known"
        return _unknown(name, found, "weights as safetensors, or a smoke run on such a GPU")
    return Judgement(
        _MEMORY,
        Verdict.NO_BLOCKER,
        name,
        f"the tensors need {_gib(needed)} of {_gib(room)} on {_cards(gpu)}: a lower bound, KV cache and"
        " activations come on top",
        evidence,
    )


def judge_pickles(name: str, checkpoints: Sequence[Checkpoint]) -> Judgement | None:
    """Weights that are pickles run code when they are loaded; None where there are none to load.

    Engines that find safetensors in a directory leave the pickles beside them alone.
    """
    pickles = [f"{_at(c)}{n}" for c in checkpoints if not c.headers for n in c.pickles]
    if not pickles:
        return None
    return Judgement(
        _PICKLE,
        Verdict.UNKNOWN,
        name,
        f"{len(pickles)} files are pickles, which run code when they are loaded; what they hold is not read",
        ", ".join(pickles[:5]),
        "the same weights as safetensors",
    )


def tensor_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of the tensors that an engine holds: draft layers, which it may leave out, are not counted.

    Those are named `mtp.…`, or have a layer number beyond the config's `num_hidden_layers`.
    """
    layers = checkpoint.config.hidden_layers if checkpoint.config else None
    return sum(
        tensor.size
        for header in checkpoint.headers.values()
        for tensor in header.tensors
        if not _is_draft(tensor.name, layers)
    )


def _is_draft(name: str, layers: int | None) -> bool:
    if re.search(r"(^|\.)mtp\.", name):
        return True
    found = re.match(r"(?:(?:model|language_model)\.)*layers\.([0-9]{1,9})\.", name)
    return found is not None and layers is not None and int(found[1]) >= layers


def _unknown(name: str, why: str, clears: str) -> Judgement:
    return Judgement(_MEMORY, Verdict.UNKNOWN, name, why, clears=clears)


def _at(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.directory}/" if checkpoint.directory else ""


def _cards(gpu: Gpu) -> str:
    return f"{gpu.count} × {gpu.name}"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
