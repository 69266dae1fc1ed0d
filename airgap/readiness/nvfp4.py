"""Is it NVFP4? Proven or refuted from headers and declarations; what is refuted names the tensor.

Proof, for every four-bit weight: U8, a block scale in F8_E4M3 with one value for 16 weights, a global scale
in F32, and a declaration in the form of the writer whose names the tensors have (facts of modelopt 0.47 and
compressed-tensors 0.19: airgap/readiness/packing.py). It proves the format, not that the numbers are right.
Weights left in BF16 (a hybrid recipe keeps attention so) are no contradiction; another quantisation is.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import islice
from math import prod

from airgap.readers.checkpoint import Checkpoint, Index
from airgap.readers.model_config import Declaration
from airgap.readers.safetensors import Header, Tensor
from airgap.readiness.packing import Form, Format, Layer, find_layers, is_scale, stray_scales

MAX_REASONS = 20
"""How many contradictions are listed; the first is enough to refuse."""

MAX_PATTERNS = 200
"""Globs that are compared with every module; with more, a module counts as left out."""

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Reason:
    """One contradiction; `tensor` is '' where a whole file is to blame."""

    tensor: str
    message: str

    def __str__(self) -> str:
        return f"tensor {self.tensor[:200]!r} {self.message}" if self.tensor else self.message


@dataclass(frozen=True, slots=True)
class Quantization:
    """What a checkpoint's tensors are. Sizes in bytes; `parameters` counts weights, scales not among them.

    `format` is the one of all quantised weights, `mixed`, or the floats' dtype where nothing is quantised.
    `faults` are contradictions inside the checkpoint, whatever was claimed of it.
    """

    format: str
    form: Form
    variant: str
    """`W4A4`, `W4A16`, or both; '' unless the format has four-bit floats."""
    parameters: int
    quantized_parameters: int
    size: int
    quantized_size: int
    """Packed weights and their scales."""
    bytes_by_dtype: Mapping[str, int]
    faults: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    witness: Reason | None = None
    """A tensor that is not NVFP4: one that is quantised otherwise, else the largest of floats."""

    @property
    def called(self) -> str:
        """`format`, but nothing is called NVFP4 that has a fault: truncated, undeclared, mislabelled."""
        return f"like {self.format}" if self.faults and self.format == Format.NVFP4 else self.format

    @property
    def share(self) -> float:
        """Quantised weights of all weights, 0 to 1."""
        return self.quantized_parameters / self.parameters if self.parameters else 0.0


class Verdict(StrEnum):
    """Of a claim."""

    PROVEN = "proven"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a claim holds, and the reasons why not, or why nobody can say."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()


def prove_nvfp4(checkpoints: Sequence[Checkpoint], *, alone: bool = True) -> Proof:
    """Judge the claim that a model is NVFP4: one checkpoint of it at least, and none quantised otherwise.

    Not `alone`, weights may be quantised otherwise beside it, as far as that is declared.
    """
    damaged = [Reason("", f"{damage.path}: {damage.message}") for c in checkpoints for damage in c.damaged]
    if damaged:
        return Proof(Verdict.REFUTED, tuple(damaged[:MAX_REASONS]))
    seen = [assess(c) for c in checkpoints if c.headers]
    if not seen:
        kinds = sorted({name for c in checkpoints for name in (*c.pickles, *c.others)})
        found = f"found {', '.join(kinds[:3])}" if kinds else "found no weights"
        return Proof(Verdict.UNDECIDED, (Reason("", f"expected safetensors, {found}"),))
    faults = tuple(fault for quantization in seen for fault in quantization.faults)
    if faults:
        return Proof(Verdict.REFUTED, faults[:MAX_REASONS])
    wrong = [q for q in seen if alone and q.format != Format.NVFP4 and q.quantized_parameters]
    if wrong or not any(q.variant for q in seen):
        worst = max(wrong or seen, key=lambda quantization: quantization.size)
        return Proof(Verdict.REFUTED, (worst.witness or Reason("", "no tensor is NVFP4"),))
    return Proof(Verdict.PROVEN)


def assess(checkpoint: Checkpoint) -> Quantization:
    """`classify` a checkpoint that was read."""
    config = checkpoint.config.quantization if checkpoint.config else None
    return classify(checkpoint.headers, config, checkpoint.hf_quant_config, checkpoint.index)


def classify(
    headers: Mapping[str, Header],
    config: Declaration | None,
    hf_quant_config: Declaration | None,
    index: Index | None,
) -> Quantization:
    """What the tensors in `headers` (file name -> header) are, by themselves and by what was declared."""
    tensors = {tensor.name: tensor for header in headers.values() for tensor in header.tensors}
    layers = find_layers(tensors)
    declared = [d for d in (config, hf_quant_config) if d]
    faults = islice(
        (
            *_index_faults(headers, index),
            *(Reason(layer.weight.name, layer.fault) for layer in layers if layer.fault),
            *(Reason(t.name, "scales no packed weight of its name") for t in stray_scales(tensors, layers)),
            *_form_faults(layers, declared),
            *_declared_faults(tensors, layers, declared),
            *_left_behind(tensors, layers, declared),
        ),
        MAX_REASONS,
    )
    return _measured(tensors, layers, tuple(faults), _notes(layers, declared))


def _measured(
    tensors: Mapping[str, Tensor],
    layers: Sequence[Layer],
    faults: tuple[Reason, ...],
    notes: tuple[str, ...],
) -> Quantization:
    by_dtype: Counter[str] = Counter()
    for tensor in tensors.values():
        by_dtype[tensor.dtype] += tensor.size
    quantized = sum(layer.parameters for layer in layers)
    packed = {layer.weight.name for layer in layers}
    plain = [t for name, t in tensors.items() if name not in packed and not is_scale(name)]
    formats = {layer.format for layer in layers}
    floats = max(_FLOATS, key=lambda dtype: by_dtype[dtype])
    forms = {layer.form for layer in layers}
    return Quantization(
        "mixed" if len(formats) > 1 else str(formats.pop()) if formats else floats if by_dtype else "",
        forms.pop() if len(forms) == 1 else Form.NONE,
        _variant(layers),
        quantized + sum(prod(t.shape) for t in plain),
        quantized,
        sum(by_dtype.values()),
        sum(layer.weight.size + sum(tensors[part].size for part in layer.parts) for layer in layers),
        dict(sorted(by_dtype.items(), key=lambda item: (-item[1], item[0]))),
        faults,
        notes,
        _witness(layers, plain),
    )


def _witness(layers: Sequence[Layer], plain: Sequence[Tensor]) -> Reason | None:
    for layer in layers:
        if layer.format != Format.NVFP4:
            return Reason(layer.weight.name, f"is {layer.format}")
    largest = max((t for t in plain if t.dtype in _FLOATS), key=lambda t: t.size, default=None)
    return Reason(largest.name, f"is {largest.dtype}") if largest else None


def _variant(layers: Sequence[Layer]) -> str:
    kinds = {layer.activations for layer in layers if layer.format == Format.NVFP4}
    return " and ".join("W4A4" if kind else "W4A16" for kind in sorted(kinds, reverse=True))


def _index_faults(headers: Mapping[str, Header], index: Index | None) -> Iterator[Reason]:
    """Every tensor once, and where the index says it is."""
    at: dict[str, str] = {}
    for file, header in headers.items():
        for tensor in header.tensors:
            if tensor.name in at:
                yield Reason(tensor.name, f"is in {at[tensor.name]} and also in {file}")
            at[tensor.name] = file
    if index is None:
        return
    for name, file in index.files.items():
        if at.get(name) != file:
            found = f"it is in {at[name]}" if name in at else "it is in none of the files that are here"
            yield Reason(name, f"should be in {file}, as the index says; {found}")
    for name, file in at.items():
        if name not in index.files:
            yield Reason(name, f"is in {file}, and the index does not name it")


def _form_faults(layers: Sequence[Layer], declared: Sequence[Declaration]) -> Iterator[Reason]:
    """Both writers' names in one checkpoint, or one writer's names under the other's label."""
    packed = [layer for layer in layers if layer.format == Format.NVFP4]
    if not packed:
        return
    first = packed[0]
    for layer in packed:
        if layer.form != first.form:
            yield Reason(
                layer.weight.name,
                f"is named as {layer.form} names it, {first.weight.name!r} as {first.form} does",
            )
            return
    for declaration in declared:
        form = _form(declaration)
        if form != first.form:
            label = f"{declaration.method or 'no method'} ({declaration.where})"
            yield Reason(first.weight.name, f"is named as {first.form} names it; declared is {label}")


def _declared_faults(
    tensors: Mapping[str, Tensor], layers: Sequence[Layer], declared: Sequence[Declaration]
) -> Iterator[Reason]:
    """What is declared is there, and what is there is declared."""
    packed = next((layer.weight for layer in layers if layer.format == Format.NVFP4), None)
    if packed and not declared:
        yield Reason(packed.name, "is NVFP4, which neither config.json nor hf_quant_config.json declares")
    for declaration in declared:
        formats = _formats(declaration)
        if packed and Format.NVFP4 not in formats:
            yield Reason(packed.name, f"is NVFP4; declared is {_label(declaration)}")
        if formats != {Format.NVFP4}:
            continue
        if not packed:
            yield _relabelled(tensors, layers, declaration)
        for layer in layers:
            if layer.format != Format.NVFP4 and packed:
                yield Reason(layer.weight.name, f"is {layer.format}; declared is {_label(declaration)}")
                break
    if len(declared) == 2 and _formats(declared[0]) != _formats(declared[1]):
        both = " and ".join(_label(declaration) for declaration in declared)
        yield Reason(packed.name if packed else "", f"is declared twice, differently: {both}")


def _relabelled(tensors: Mapping[str, Tensor], layers: Sequence[Layer], declaration: Declaration) -> Reason:
    suspects = [layer.weight for layer in layers] or list(tensors.values())
    largest = max(suspects, key=lambda tensor: tensor.size, default=None)
    if largest is None:
        return Reason("", f"no tensor at all; declared is {_label(declaration)}")
    found = next((str(layer.format) for layer in layers if layer.weight is largest), largest.dtype)
    return Reason(largest.name, f"is {found}; declared is {_label(declaration)}")


def _left_behind(
    tensors: Mapping[str, Tensor], layers: Sequence[Layer], declared: Sequence[Declaration]
) -> Iterator[Reason]:
    """A float weight that its like in other layers, or its own declaration, says is packed."""
    packed = {layer.module for layer in layers if layer.format == Format.NVFP4}
    roles = {_role(module) for module in packed}
    named = {
        module: algorithm
        for declaration in declared
        for module, algorithm in declaration.layers.items()
        if _format(algorithm) == Format.NVFP4
    }
    left_out = _LeftOut(declared)
    for tensor in tensors.values():
        module = tensor.name.removesuffix(".weight")
        if tensor.dtype not in _FLOATS or len(tensor.shape) < 2 or module == tensor.name:
            continue
        if module in named:
            yield Reason(tensor.name, f"is {tensor.dtype}; declared is {named[module]} for {module!r}")
        elif not named and _role(module) in roles and not left_out.holds(module):
            yield Reason(
                tensor.name,
                f"is {tensor.dtype}, its like in other layers is NVFP4, and it is not declared to differ",
            )
    for module in packed & left_out.exact:
        yield Reason(f"{module}.weight", "is NVFP4; the declaration leaves it unquantised")


class _LeftOut:
    """The modules that a declaration leaves unquantised."""

    def __init__(self, declared: Sequence[Declaration]) -> None:
        patterns = {pattern for declaration in declared for pattern in declaration.ignored}
        self.exact = {pattern for pattern in patterns if not re.search(r"[*?\[]|^re:", pattern)}
        self._globs = [p for p in patterns - self.exact if not p.startswith("re:")]
        # A pattern from outside could take for ever: expressions are not run, and hold for everything.
        self._all = len(self._globs) > MAX_PATTERNS or len(self._globs) < len(patterns - self.exact)

    def holds(self, module: str) -> bool:
        parts = module.split(".")
        parents = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        if self._all or parents & self.exact or set(parts) & self.exact:
            return True
        return any(fnmatchcase(module, pattern) for pattern in self._globs)


def _role(module: str) -> str:
    return re.sub(r"[0-9]+", "*", module)


def _form(declaration: Declaration) -> Form:
    if declaration.method.startswith("modelopt"):
        return Form.MODELOPT
    return Form.COMPRESSED_TENSORS if declaration.method == "compressed-tensors" else Form.NONE


def _formats(declaration: Declaration) -> set[Format]:
    """What a declaration says is in the checkpoint."""
    if declaration.layers:
        return {_format(algorithm) for algorithm in declaration.layers.values()}
    groups = {_format(group.format) for group in declaration.groups if group.format}
    return groups or {_format(declaration.algorithm or declaration.method)}


def _format(algorithm: str) -> Format:
    """By the words of both writers: `W4A16_NVFP4`, `NVFP4_AWQ`, `nvfp4-pack-quantized`, `float-quantized`."""
    word = algorithm.upper()
    for format in (Format.NVFP4, Format.MXFP4, Format.FP8, Format.NF4, Format.INT8):
        if format in word:
            return format
    if "FLOAT-QUANTIZED" in word:
        return Format.FP8
    return Format.INT4 if word in ("GPTQ", "AWQ", "W4A16_AWQ", "PACK-QUANTIZED") else Format.OTHER


def _label(declaration: Declaration) -> str:
    return f"{(declaration.algorithm or declaration.method or 'nothing')[:60]} ({declaration.where})"


def _notes(layers: Sequence[Layer], declared: Sequence[Declaration]) -> tuple[str, ...]:
    notes = []
    bare = [x for x in layers if x.format == Format.NVFP4 and not x.activations]
    quantised_inputs = any(
        any(group.activations for group in declaration.groups) or declaration.algorithm == "NVFP4"
        for declaration in declared
    )
    if bare and quantised_inputs:
        notes.append(
            f"declared with quantised inputs, which {len(bare)} weights have no scale for,"
            f" {bare[0].weight.name[:200]!r} among them"
        )
    return tuple(notes)
