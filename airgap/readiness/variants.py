"""Which of a model's variants a target can run: natively if any, and that fits. Pure.

Least compute capabilities, each with its source; a format that is not in the table is known to nobody here,
so it is taken only where no known one will do. That a variant is chosen proves nothing: `check` judges it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from airgap.model import Gpu
from airgap.readiness.components import version_key
from airgap.readiness.rules_weights import GIB


class Support(IntEnum):
    """The better first."""

    NATIVE = 0
    FALLBACK = 1
    UNKNOWN = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Needs:
    """Compute capabilities from which on a format is native, and from which on it runs at all.

    `how` says what runs between the two. Below, it is refused; where that is not known, `least` is empty.
    """

    native: tuple[int, int]
    least: tuple[int, int] | tuple[()]
    how: str = ""


_MARLIN = "by Marlin, weights only"

FORMATS = {
    "NVFP4": Needs((10, 0), (7, 5), _MARLIN),  # measured on vLLM 0.19.0
    "FP8": Needs((8, 9), (7, 5), _MARLIN),  # docs.vllm.ai, features/quantization/llm_compressor/fp8
    "INT4": Needs((7, 5), ()),  # docs.vllm.ai, features/quantization, "Supported Hardware": AWQ
    "BF16": Needs((8, 0), (7, 0), "as float16, which has to be asked for"),  # vLLM refuses bfloat16 below 8.0
    "F16": Needs((7, 0), ()),
    "F32": Needs((7, 0), ()),
}
"""By the word that `airgap.readiness.nvfp4.assess` has for it."""

_CLAIMS = {
    "nvfp4": "NVFP4", "fp8": "FP8", "int4": "INT4", "awq": "INT4", "gptq": "INT4",
    "bf16": "BF16", "bfloat16": "BF16", "f16": "F16", "fp16": "F16", "float16": "F16",
    "f32": "F32", "fp32": "F32", "float32": "F32",
}  # fmt: skip
"""What manifests call them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant as its headers show it. `size` in bytes of its tensors, None where they could not be read."""

    format: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """`chosen` is an index into the candidates, None where none will do; one reason for each of them."""

    chosen: int | None
    reasons: tuple[str, ...]


def format_of(claim: str, found: Sequence[str]) -> str:
    """The format by the headers where they show one that is known, else by what the manifest claims."""
    known = [word for word in dict.fromkeys(found) if word in FORMATS]
    if len(known) == 1 == len(set(found)):
        return known[0]
    return _CLAIMS.get(claim.lower(), claim or "/".join(dict.fromkeys(found)) or "unknown format")


def choose(candidates: Sequence[Candidate], gpu: Gpu) -> Choice:
    """The first one listed of the best support among those that run and fit."""
    supports = [support_of(candidate.format, gpu) for candidate in candidates]
    possible = [
        index
        for index, candidate in enumerate(candidates)
        if supports[index] is not Support.REFUSED and _fits(candidate, gpu)
    ]
    chosen = min(possible, key=lambda index: supports[index], default=None)  # of equal ones the first
    reasons = []
    for index, candidate in enumerate(candidates):
        said = f"{_supported(candidate.format, supports[index], gpu)}; {_sized(candidate, gpu)}"
        if index in possible and chosen is not None and index != chosen:
            better = supports[chosen] < supports[index]
            said += (
                f"; variant {chosen + 1} {'runs better' if better else 'will do, too, and is listed before'}"
            )
        reasons.append(said)
    return Choice(chosen, tuple(reasons))


def support_of(format: str, gpu: Gpu) -> Support:
    """Whether the GPU runs a format natively, by a fallback, not at all, or nobody knows."""
    needs = FORMATS.get(format)
    if needs is None:
        return Support.UNKNOWN
    capability = version_key(gpu.compute_capability)
    if capability >= needs.native:
        return Support.NATIVE
    if not needs.least:
        return Support.UNKNOWN
    return Support.FALLBACK if capability >= needs.least else Support.REFUSED


def _fits(candidate: Candidate, gpu: Gpu) -> bool:
    return candidate.size is None or candidate.size <= gpu.memory_gib * GIB * gpu.count


def _supported(format: str, support: Support, gpu: Gpu) -> str:
    capability = gpu.compute_capability
    match support:
        case Support.NATIVE:
            return f"{format} is native on {capability}"
        case Support.FALLBACK:
            return f"{format} runs on {capability} {FORMATS[format].how}"
        case Support.REFUSED:
            least = ".".join(map(str, FORMATS[format].least))
            return f"{format} needs {least} or above, refused on {capability}"
        case Support.UNKNOWN:
            return f"whether {capability} runs {format} is not known"


def _sized(candidate: Candidate, gpu: Gpu) -> str:
    if candidate.size is None:
        return "the bytes of its tensors are not known"
    room = gpu.memory_gib * GIB * gpu.count
    needed = f"the tensors need {candidate.size / GIB:.1f} GiB, a lower bound"
    return (
        f"{needed}, of {room / GIB:.0f}"
        if _fits(candidate, gpu)
        else f"{needed}, and there are {room / GIB:.0f}"
    )
