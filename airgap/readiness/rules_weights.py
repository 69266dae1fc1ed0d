"""Rules over a model's weights, read from safetensors headers (`nvfp4`, `weights`)."""

from collections.abc import Iterator

from airgap import readiness
from airgap.model import Target
from airgap.readiness import nvfp4
from airgap.readiness.components import Model
from airgap.readiness.judgement import Evidence, Judgement, Rule
from airgap.readiness.rules_models import is_nvfp4
from airgap.readiness.weights import judge_memory, judge_pickles

PROOF = Rule("nvfp4-proof", 1, "weights that are called NVFP4 are NVFP4")
MEMORY = Rule("weights-memory", 1, "the bytes of the weights fit the memory of the target's GPUs")
PICKLE = Rule("weights-pickle", 1, "no weights are pickles, which run code when they are loaded")


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
                evidence=[model.says("quantisation: nvfp4"), *(_tensor(model, r) for r in proof.reasons[:3])],
                remedy="a checkpoint that is NVFP4, or correct quantization",
            )


def _tensor(model: Model, reason: nvfp4.Reason) -> Evidence:
    return Evidence(model.where.source, text=str(reason))


def judge_weights(model: Model, target: Target) -> Iterator[Judgement]:
    """A lower bound: KV cache and activations come on top, so fitting proves nothing."""
    yield _adopted(MEMORY, judge_memory(model.name, model.checkpoints, target.gpu), model)
    if not any(c.headers or c.pickles or c.others for c in model.checkpoints):
        yield PICKLE.unknown(model.name, "no weights are known", settle="add the weights")
    elif found := judge_pickles(model.name, model.checkpoints):
        yield _adopted(PICKLE, found, model)
    else:
        yield PICKLE.clear(model.name, "engines load safetensors")


def _adopted(rule: Rule, found: readiness.Judgement, model: Model) -> Judgement:
    """A finding of the weights' own rules in the words of a report."""
    evidence = [Evidence(model.where.source, text=found.evidence)] if found.evidence else []
    match found.verdict:
        case readiness.Verdict.BLOCKED:
            return rule.blocked(
                model.name,
                found.message,
                gap=found.message.partition(";")[0],
                things=("the weights", "the memory of the target's GPUs"),
                evidence=evidence,
                remedy=found.clears,
            )
        case readiness.Verdict.UNKNOWN:
            return rule.unknown(model.name, found.message, settle=found.clears, evidence=evidence)
        case _:
            return rule.clear(model.name, found.message, evidence=evidence)
