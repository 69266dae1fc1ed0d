"""`[[models.variants]]`: several candidates for one model, of which the lock has the one to run.

All of them are resolved, and their headers read, when the choice is made. It stays until the manifest's
table or the target's GPU changes, or `--upgrade` asks anew: a re-lock asks nobody.
"""

from collections.abc import Sequence
from dataclasses import replace

from airgap.connected import models
from airgap.connected.http import HttpRefusal
from airgap.connected.hub import Hub
from airgap.connected.model_claims import read_headers
from airgap.connected.source import Context, Resolved
from airgap.decode import canonical_json
from airgap.destination import target_table
from airgap.errors import BlockedError, SourceError
from airgap.manifest import ModelRequest, VariantsRequest, request_digest
from airgap.model import Finding, Gpu, ModelArtifact, Severity, Variant
from airgap.readiness.nvfp4 import assess
from airgap.readiness.variants import Candidate, choose, format_of
from airgap.readiness.weights import tensor_bytes, unweighed


def resolve(request: VariantsRequest, previous: ModelArtifact | None, context: Context) -> Resolved:
    """Lock the variant of choice, and with it what was said of each.

    Raises BlockedError where the target can run none of them, and what `models.resolve` raises for any: a
    variant that cannot be asked is no reason to take another.
    """
    digest = _digest(request, context)
    if previous and previous.request == digest and len(previous.variants) == len(request.variants):
        kept = next(index for index, variant in enumerate(previous.variants) if variant.chosen)
        inner = replace(previous, request=request_digest(request.variants[kept]))
        return _chosen(models.resolve(request.variants[kept], inner, context), digest, previous.variants)
    gpu = context.target.gpu
    if gpu is None:
        resolved = models.resolve(request.variants[0], previous, context)
        return _chosen(resolved, digest, _first_listed(request))
    found = [models.resolve(variant, previous, context) for variant in request.variants]
    candidates = [
        _candidate(variant, _artifact(resolved), context)
        for variant, resolved in zip(request.variants, found, strict=True)
    ]
    variants = _judge(request, candidates, gpu)
    kept = next(index for index, variant in enumerate(variants) if variant.chosen)
    return _chosen(found[kept], digest, variants)


def _digest(request: VariantsRequest, context: Context) -> str:
    """Of the table and of the GPU, which decides as much."""
    gpu = canonical_json(target_table(context.target).get("gpu")).decode()
    return request_digest(request, {"gpu": gpu})


def _artifact(resolved: Resolved) -> ModelArtifact:
    assert isinstance(resolved.artifact, ModelArtifact)
    return resolved.artifact


def _candidate(request: ModelRequest, artifact: ModelArtifact, context: Context) -> Candidate:
    hub = Hub.from_environment() if request.repo else None
    try:
        checkpoints = read_headers(artifact, context, hub.auth() if hub else None)
    except HttpRefusal as error:
        raise (hub.explain(request.repo, error) if hub else error) from None
    except SourceError:
        return Candidate(format_of(request.quantization, ()), None)
    read = [checkpoint for checkpoint in checkpoints if checkpoint.headers]
    found = [assess(checkpoint).called for checkpoint in read]
    known = read and not unweighed(checkpoints)
    size = sum(tensor_bytes(checkpoint) for checkpoint in checkpoints) if known else None
    return Candidate(format_of(request.quantization, found), size)


def _judge(request: VariantsRequest, candidates: Sequence[Candidate], gpu: Gpu) -> tuple[Variant, ...]:
    choice = choose(candidates, gpu)
    variants = tuple(
        Variant(source_of(variant), candidate.format, reason, chosen=index == choice.chosen)
        for index, (variant, candidate, reason) in enumerate(
            zip(request.variants, candidates, choice.reasons, strict=True)
        )
    )
    if choice.chosen is None:
        lines = [f"{variant.source}: {variant.reason}" for variant in variants]
        raise BlockedError(
            "\n  ".join(
                (f"models.{request.name}: {gpu.count} × {gpu.name} can run none of its variants", *lines)
            ),
            remedy="add a variant that it can run, or correct gpu in [target]",
        )
    return variants


def _first_listed(request: VariantsRequest) -> tuple[Variant, ...]:
    first, *others = request.variants
    why = "[target] names no GPU to choose for, and it is listed first"
    return (
        Variant(source_of(first), format_of(first.quantization, ()), why, chosen=True),
        *(
            Variant(source_of(other), format_of(other.quantization, ()), "not asked: it is listed later")
            for other in others
        ),
    )


def _chosen(resolved: Resolved, digest: str, variants: tuple[Variant, ...]) -> Resolved:
    artifact = replace(_artifact(resolved), request=digest, variants=variants)
    told = tuple(_finding(artifact.name, variant) for variant in variants)
    return Resolved(artifact, (*told, *resolved.findings))


def _finding(name: str, variant: Variant) -> Finding:
    word = "chosen" if variant.chosen else "left out"
    message = f"{word}: {variant.source}: {variant.reason}"
    return Finding("model-variant", Severity.INFO, name, message)


def source_of(request: ModelRequest) -> str:
    """What a person calls a variant: the repository at its revision, or the path."""
    return f"{request.repo}@{request.revision}" if request.repo else request.path
