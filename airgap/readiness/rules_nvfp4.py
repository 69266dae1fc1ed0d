"""NVFP4: what the tensors are, what they are called, and what the target's GPU makes of it.

Tensors decide where all headers can be read: a claim makes no NVFP4, and silence does not unmake it. Where
they cannot be read, what the model is called stands in for them.
"""

from collections.abc import Iterator

from airgap.model import Target
from airgap.readiness import nvfp4
from airgap.readiness.components import Model, version_key
from airgap.readiness.judgement import Evidence, Judgement, Rule
from airgap.readiness.packing import Format, find_layers
from airgap.readiness.rules_models import declarations

NVFP4 = Rule("nvfp4-gpu", 2, "the target's GPU runs NVFP4")
PROOF = Rule("nvfp4-proof", 2, "weights that are called NVFP4 are NVFP4, and those that are, are declared so")

NVFP4_NATIVE, NVFP4_FALLBACK = (10, 0), (7, 5)
"""Least compute capabilities, measured on vLLM 0.19.0: below the second it refuses."""


def nvfp4_support(target: Target) -> str:
    """`native`, `fallback`, `refused`, or `unknown` where the target names no GPU."""
    if target.gpu is None:
        return "unknown"
    capability = version_key(target.gpu.compute_capability)
    if capability >= NVFP4_NATIVE:
        return "native"
    return "fallback" if capability >= NVFP4_FALLBACK else "refused"


def is_nvfp4(model: Model) -> bool:
    """By the tensors, in part at least; by what it is called where not all of them can be read."""
    if _packed(model):
        return True
    read = any(c.headers for c in model.checkpoints) and not any(c.damaged for c in model.checkpoints)
    return not read and _is_called(model)


def _is_called(model: Model) -> bool:
    """By declaration or claim."""
    declared = [model.config.quantization if model.config else None]
    for checkpoint in model.checkpoints:
        declared += [
            checkpoint.hf_quant_config,
            checkpoint.config.quantization if checkpoint.config else None,
        ]
    words = [model.claim]
    for d in declared:
        words += [d.algorithm, *(group.format for group in d.groups), *d.layers.values()] if d else []
    return any("nvfp4" in word.lower() for word in words)


def _packed(model: Model) -> Evidence | None:
    """A weight that is NVFP4 by its own form and that of its scales."""
    for checkpoint in model.checkpoints:
        tensors = {tensor.name: tensor for h in checkpoint.headers.values() for tensor in h.tensors}
        for layer in find_layers(tensors):
            if layer.format is Format.NVFP4 and not layer.fault:
                return _tensor(model, nvfp4.Reason(layer.weight.name, "is NVFP4"))
    return None


def judge_nvfp4(model: Model, target: Target) -> Iterator[Judgement]:
    """NVFP4 on the target's compute capability."""
    if not is_nvfp4(model):
        return
    support = nvfp4_support(target)
    if target.gpu is None:
        yield NVFP4.unknown(model.name, "[target] names no GPU", settle="add gpu = { … } to [target]")
        return
    gpu = f"{target.gpu.name} (compute capability {target.gpu.compute_capability})"
    packed = _packed(model)
    evidence = _says(model) if _is_called(model) or not packed else [packed]
    if support == "native":
        yield NVFP4.clear(model.name, f"NVFP4 is native on {gpu}", evidence=evidence)
    elif support == "fallback":
        yield NVFP4.clear(
            model.name,
            f"NVFP4 is not native on {gpu}: vLLM falls back to Marlin, weights only (measured on 0.19.0)",
            evidence=evidence,
            remedy="a variant in FP8 or INT4 if speed matters; 10.0 and above run NVFP4 natively",
            warning=True,
        )
    else:
        yield NVFP4.blocked(
            model.name,
            f"vLLM refuses NVFP4 on {gpu}; it needs 7.5 or above (measured on 0.19.0)",
            gap=f"{target.gpu.compute_capability} cannot run NVFP4",
            things=("NVFP4", gpu),
            evidence=evidence,
            remedy="a variant in another quantisation, or a GPU of 7.5 or above",
        )


def judge_proof(model: Model, target: Target) -> Iterator[Judgement]:
    """What the manifest or the configs call NVFP4, and what is NVFP4 whatever it is called."""
    called = _is_called(model)
    if not called and not _packed(model):
        return
    claimed = "nvfp4" in model.claim.lower()
    proof = nvfp4.prove_nvfp4(model.checkpoints, alone=claimed)
    reason = "; ".join(str(reason) for reason in proof.reasons[:3])
    match proof.verdict:
        case nvfp4.Verdict.PROVEN:
            yield _proven(model, contradicts=bool(model.claim) and not claimed)
        case nvfp4.Verdict.UNDECIDED:
            yield PROOF.unknown(
                model.name, f"it is called NVFP4; {reason}", settle="add its weights, as safetensors"
            )
        case nvfp4.Verdict.REFUTED:
            yield _refuted(model, proof, reason, called=called)


def _proven(model: Model, *, contradicts: bool) -> Judgement:
    """`contradicts` says that the manifest claims something else."""
    proven = "every tensor that should be NVFP4 is; the rest is as declared"
    if not contradicts:
        return PROOF.clear(model.name, proven)
    return PROOF.clear(
        model.name,
        f"{proven}. The manifest says quantization = {model.claim!r}",
        evidence=[found for found in (_packed(model),) if found],
        remedy="correct quantization in the manifest, or name the checkpoint that is meant",
        warning=True,
    )


def _refuted(model: Model, proof: nvfp4.Proof, reason: str, *, called: bool) -> Judgement:
    tensors = [_tensor(model, r) for r in proof.reasons[:3]]
    if called:
        return PROOF.blocked(
            model.name,
            f"it is called NVFP4, and is not: {reason}",
            gap="is not the NVFP4 it is called",
            things=("the claim of NVFP4", "the tensors"),
            evidence=[*_says(model), *tensors],
            remedy="a checkpoint that is NVFP4, or correct quantization",
        )
    return PROOF.blocked(
        model.name,
        f"its weights are NVFP4, and nothing calls them so: engines load them as what they are not; {reason}",
        gap="is NVFP4 that nothing declares",
        things=("what is declared", "the tensors"),
        evidence=tensors,
        remedy="its config.json or hf_quant_config.json as the writer of the checkpoint made it",
    )


def _says(model: Model) -> list[Evidence]:
    """Where the model is called NVFP4: its own files, else the manifest."""
    declared = [where for _, where in declarations(model)]
    return declared or [Evidence("the manifest", text=f"quantization = {model.claim!r}")]


def _tensor(model: Model, reason: nvfp4.Reason) -> Evidence:
    for checkpoint in model.checkpoints:
        for file, header in checkpoint.headers.items():
            if any(tensor.name == reason.tensor for tensor in header.tensors):
                return model.shows(checkpoint.at(file), str(reason))
    return Evidence(model.name, text=str(reason))
