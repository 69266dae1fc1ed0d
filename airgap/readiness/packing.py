"""Which tensors belong together as one quantised weight, and in what format, by dtypes and shapes alone.

Sources, each checked against what the writer writes (scripts/make-nvfp4): modelopt 0.47
`export/unified_export_hf.py`, compressed-tensors 0.19 `compressors/{nvfp4,mxfp4}/base.py`, and for
`_blocks` and `_scales` transformers `integrations/mxfp4.py`. Numbers: OCP MX 1.0 (blocks of 32, E8M0),
NVFP4 (blocks of 16, E4M3, and one float32 for the tensor).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from airgap.readers.safetensors import BITS, Tensor


class Format(StrEnum):
    """How a weight is stored; the value is its word in messages."""

    NVFP4 = "NVFP4"
    MXFP4 = "MXFP4"
    FP8 = "FP8"
    INT8 = "INT8"
    INT4 = "INT4"
    NF4 = "NF4"
    OTHER = "packed bytes of no known format"


class Form(StrEnum):
    """Whose names the tensors have. No detail: one writer's global scale is the other's inverse."""

    MODELOPT = "modelopt"
    COMPRESSED_TENSORS = "compressed-tensors"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One quantised weight; `parts` are the names of its scales; `fault` says what is wrong, if it is."""

    weight: Tensor
    format: Format
    form: Form = Form.NONE
    parts: tuple[str, ...] = ()
    activations: bool = False
    """Whether its inputs have a scale, too."""
    fault: str = ""

    @property
    def module(self) -> str:
        """The module that holds it, as declarations name it."""
        name = self.weight.name.removesuffix("_packed").removesuffix("_blocks")
        return name.removesuffix(".weight").removesuffix(".qweight")

    @property
    def parameters(self) -> int:
        """Weights it stands for: two of four bits in a byte."""
        stored = prod(self.weight.shape)
        four_bit = self.format in (Format.NVFP4, Format.MXFP4, Format.INT4, Format.NF4)
        return stored * BITS[self.weight.dtype] // 4 if four_bit else stored


def find_layers(tensors: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """Every quantised weight among a checkpoint's tensors, in their order."""
    return tuple(layer for tensor in tensors.values() if (layer := _layer(tensor, tensors)))


def stray_scales(tensors: Mapping[str, Tensor], layers: Iterable[Layer]) -> list[Tensor]:
    """Scales of NVFP4 that belong to no packed weight: what is left when somebody swaps the weights."""
    claimed = {name for layer in layers for name in layer.parts}
    return [
        tensor
        for name, tensor in tensors.items()
        if name not in claimed
        and (
            name.endswith(("weight_scale_2", "weight_global_scale"))
            or (name.endswith("weight_scale") and tensor.dtype == "F8_E4M3")
        )
    ]


def is_scale(name: str) -> bool:
    """Whether a tensor of this name describes weights and is none: it does not count as a parameter."""
    return name.rpartition(".")[2] in _AUXILIARY or name.endswith(_AUXILIARY_ENDINGS)


def _layer(tensor: Tensor, tensors: Mapping[str, Tensor]) -> Layer | None:
    if tensor.dtype == "U8" and not is_scale(tensor.name):
        return _bytes(tensor, tensors)
    if tensor.dtype.startswith("F8_E4M3") or tensor.dtype.startswith("F8_E5M2"):
        return None if is_scale(tensor.name) else Layer(tensor, Format.FP8, parts=_present(tensor, tensors))
    if tensor.dtype == "I8" and f"{tensor.name}_scale" in tensors:
        return Layer(tensor, Format.INT8, parts=_present(tensor, tensors))
    if tensor.dtype == "I32" and tensor.name.endswith((".qweight", ".weight_packed")):
        return Layer(tensor, Format.INT4)
    if tensor.dtype in ("F4", "F6_E2M3", "F6_E3M2"):
        return Layer(tensor, Format.OTHER, fault=f"is {tensor.dtype}; both writers of NVFP4 store U8")
    return None


def _bytes(tensor: Tensor, tensors: Mapping[str, Tensor]) -> Layer | None:
    """A U8 tensor: four-bit weights in pairs, or bytes that are no weight."""
    name = tensor.name
    if f"{name}.absmax" in tensors:  # bitsandbytes
        return Layer(tensor, Format.NF4)
    if name.endswith("_blocks"):
        return _mxfp4(tensor, tensors.get(f"{name.removesuffix('blocks')}scales"), Form.NONE)
    names = _names(name)
    block, global_scale = tensors.get(names.block), tensors.get(names.global_scale)
    if block is None and global_scale is None:
        if not name.endswith((".weight", ".weight_packed")):
            return None
        return Layer(tensor, Format.OTHER, names.form, fault=f"is U8 without a block scale {names.block!r}")
    if block is not None and block.dtype in ("U8", "F8_E8M0"):
        return _mxfp4(tensor, block, names.form)
    if block is not None and block.dtype != "F8_E4M3" and global_scale is None:
        return Layer(tensor, Format.INT4, names.form, (names.block,))
    activations = names.activations in tensors
    parts = tuple(n for n in (names.block, names.global_scale, names.activations) if n in tensors)
    fault = _nvfp4_fault(tensor, block, global_scale, names)
    return Layer(tensor, Format.NVFP4, names.form, parts, activations, fault)


@dataclass(frozen=True, slots=True)
class _Names:
    """What the other tensors of a packed weight are called."""

    form: Form
    block: str
    global_scale: str
    activations: str


def _names(packed: str) -> _Names:
    if packed.endswith("_packed"):
        stem = packed.removesuffix("_packed")
        inputs = stem.removesuffix("weight") + "input_global_scale"
        return _Names(Form.COMPRESSED_TENSORS, f"{stem}_scale", f"{stem}_global_scale", inputs)
    if packed.endswith(".weight"):
        module = packed.removesuffix("weight")
        return _Names(Form.MODELOPT, f"{packed}_scale", f"{packed}_scale_2", f"{module}input_scale")
    # Experts in one tensor: the parameter has a name of its own, which its scales begin with.
    return _Names(
        Form.MODELOPT, f"{packed}_weight_scale", f"{packed}_weight_scale_2", f"{packed}_input_scale"
    )


def _nvfp4_fault(packed: Tensor, block: Tensor | None, global_scale: Tensor | None, names: _Names) -> str:
    if block is None:
        return f"has no block scale {names.block!r}"
    if block.dtype != "F8_E4M3":
        return f"its block scale {names.block!r} is {block.dtype}; expected F8_E4M3"
    if not _blocks_of(8, packed.shape, block.shape):
        return (
            f"is {_shape(packed)} and its block scale {_shape(block)};"
            " expected one scale for 16 weights, which are 8 bytes"
        )
    if global_scale is None:
        return f"has no global scale {names.global_scale!r}"
    if global_scale.dtype != "F32":
        return f"its global scale {names.global_scale!r} is {global_scale.dtype}; expected F32"
    experts = packed.shape[0] if len(packed.shape) == 3 else 1
    if prod(global_scale.shape) not in (1, experts):
        return f"its global scale {names.global_scale!r} is {_shape(global_scale)}; expected one value"
    return ""


def _mxfp4(packed: Tensor, scale: Tensor | None, form: Form) -> Layer:
    if scale is None:
        return Layer(packed, Format.OTHER, form, fault="has blocks and no scales")
    # gpt-oss keeps the 16 bytes of a block as a dimension of their own.
    own = packed.shape[:-1] == scale.shape and packed.shape[-1:] == (16,)
    sound = own or _blocks_of(16, packed.shape, scale.shape)
    fault = "" if sound else f"is {_shape(packed)} and its scale {_shape(scale)}; expected one for 16 bytes"
    return Layer(packed, Format.MXFP4, form, (scale.name,), fault=fault)


def _blocks_of(size: int, packed: tuple[int, ...], scale: tuple[int, ...]) -> bool:
    """Whether one scale stands for `size` bytes along the inner dimension.

    That is the last one; experts in one tensor of three dimensions may be transposed (modelopt does so
    for gpt-oss), and then it is the one before.
    """
    if len(packed) != len(scale) or len(packed) < 2 or 0 in packed:
        return False
    inner = [-1] if len(packed) == 2 else [-1, -2]
    for axis in inner:
        expected = list(scale)
        expected[axis] *= size
        if tuple(expected) == packed:
            return True
    return False


def _present(tensor: Tensor, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(n for ending in ("_scale", "_scale_inv") if (n := f"{tensor.name}{ending}") in tensors)


def _shape(tensor: Tensor) -> str:
    return "[" + ", ".join(map(str, tensor.shape[:8])) + "]"


_AUXILIARY_ENDINGS = (
    *("weight_scale", "weight_scale_2", "weight_global_scale", "weight_scale_inv", "weight_shape"),
    *("_scales", "_input_scale"),
)

_AUXILIARY = {
    *("input_scale", "input_global_scale", "output_scale", "k_scale", "v_scale", "q_scale", "kv_scale"),
    *("prob_scale", "scales", "qzeros", "g_idx", "weight_zero_point", "input_zero_point", "pre_quant_scale"),
    *("absmax", "quant_map", "nested_absmax", "nested_quant_map", "bitsandbytes__nf4", "bitsandbytes__fp4"),
}
