"""Every rule over every component: pure, so the same facts give the same report."""

from collections.abc import Callable, Iterable
from itertools import chain

from airgap.model import Kind, Target
from airgap.readiness.components import Composition, Model, Stack, Unread, names_of
from airgap.readiness.judgement import Judged, Judgement, Report, Rule, SmokeRecord
from airgap.readiness.known_bad import KNOWN_BAD, judge_known_bad
from airgap.readiness.ran import find_ran, model_digests, stack_digests
from airgap.readiness.rules_gpu import GPU_CODE, judge_gpu_code
from airgap.readiness.rules_models import (
    ARCHITECTURE,
    METHOD,
    MODEL_TYPE,
    judge_architecture,
    judge_method,
    judge_model_type,
)
from airgap.readiness.rules_nvfp4 import NVFP4, PROOF, is_nvfp4, judge_nvfp4, judge_proof, nvfp4_support
from airgap.readiness.rules_packages import (
    CUDA,
    IMPORTS,
    PINS,
    TAGS,
    judge_cuda,
    judge_imports,
    judge_pins,
    judge_tags,
)
from airgap.readiness.rules_runtime import (
    DOWNLOADS,
    GATED,
    REMOTE_CODE,
    judge_downloads,
    judge_gate,
    judge_remote_code,
)
from airgap.readiness.rules_weights import MEMORY, PICKLE, judge_memory, judge_pickles

STACK_RULES: tuple[Callable[[Stack, Target], Iterable[Judgement]], ...] = (
    judge_pins,
    judge_tags,
    judge_cuda,
    judge_imports,
    judge_gpu_code,
)

MODEL_RULES: tuple[Callable[[Model, Target], Iterable[Judgement]], ...] = (
    judge_model_type,
    judge_architecture,
    judge_method,
    judge_nvfp4,
    judge_proof,
    judge_memory,
    judge_pickles,
    judge_remote_code,
    judge_gate,
    judge_known_bad,
)

EVIDENCE = Rule("evidence", 1, "what a component is made of could be read")

RULES = (
    EVIDENCE, PINS, TAGS, CUDA, IMPORTS, GPU_CODE, MODEL_TYPE, ARCHITECTURE, METHOD, NVFP4, PROOF, MEMORY,
    PICKLE, DOWNLOADS, REMOTE_CODE, GATED, KNOWN_BAD,
)  # fmt: skip
"""Every rule there is, for the documentation."""


def judge(
    composition: Composition,
    *,
    notes: tuple[str, ...] = (),
    traffic: int = 0,
    records: Iterable[SmokeRecord] = (),
) -> Report:
    """Judge a composition for its target. `records` are smoke runs; only they can make a component READY."""
    ran = tuple(records)
    components = chain(
        (_judge_stack(stack, composition.target, ran) for stack in composition.stacks),
        (_judge_model(model, composition, ran) for model in composition.models),
        (_judge_unread(other) for other in composition.others),
    )
    return Report(tuple(components), notes, traffic)


def _judge_stack(stack: Stack, target: Target, records: tuple[SmokeRecord, ...]) -> Judged:
    judgements = tuple(chain.from_iterable(rule(stack, target) for rule in STACK_RULES))
    return Judged(
        stack.name, stack.kind, stack.detail, judgements, ran=find_ran(stack_digests(stack), target, records)
    )


def _judge_model(model: Model, composition: Composition, records: tuple[SmokeRecord, ...]) -> Judged:
    target = composition.target
    judgements = (
        *chain.from_iterable(rule(model, target) for rule in MODEL_RULES),
        *judge_downloads(model, target, names_of(composition.models)),
    )
    return Judged(
        model.name,
        Kind.MODEL,
        model.detail,
        judgements,
        nvfp4_support(target) if is_nvfp4(model) else "",
        find_ran(model_digests(model), target, records),
    )


def _judge_unread(other: Unread) -> Judged:
    return Judged(
        other.name, other.kind, "", (EVIDENCE.unknown(other.name, other.reason, settle=other.settle),)
    )
