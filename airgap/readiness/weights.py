"""What a checkpoint's files weigh, and which of them nobody can weigh or trust."""

import re
from collections.abc import Sequence

from airgap.readers.checkpoint import Checkpoint


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


def unweighed(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Paths of weights whose bytes are not known: other formats than safetensors, and damaged files."""
    others = [c.at(name) for c in checkpoints if not c.headers for name in (*c.pickles, *c.others)]
    damaged = (damage.path for c in checkpoints for damage in c.damaged)
    return others + [path for path in damaged if path.endswith(".safetensors")]


def loaded_pickles(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Paths of pickled weights; engines leave those alone that have safetensors beside them."""
    return [c.at(name) for c in checkpoints if not c.headers for name in c.pickles]


def _is_draft(name: str, layers: int | None) -> bool:
    if re.search(r"(^|\.)mtp\.", name):
        return True
    found = re.match(r"(?:(?:model|language_model)\.)*layers\.([0-9]{1,9})\.", name)
    return found is not None and layers is not None and int(found[1]) >= layers
