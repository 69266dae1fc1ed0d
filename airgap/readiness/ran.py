"""Whether the record of a smoke run is evidence for a composition: the same bytes, on the target's GPU model.

Pure. Who signed the record was judged before (`airgap.trust.smoke.judge`).
"""

from collections.abc import Iterable, Mapping

from airgap.model import Sha256, Sha384, Target
from airgap.readiness.components import Composition, Model, Stack, version_key
from airgap.readiness.judgement import SmokeRecord
from airgap.trust.smoke import Attested


def read_attested(
    attested: Attested, name: str, stated: Mapping[Sha256, Sha384] | None = None
) -> SmokeRecord | str:
    """The run as evidence, or why it is none. `stated` is what a bundle signs of blobs: sha384 decides."""
    run = attested.run
    if run.status:
        return f"the command failed, with exit status {run.status}"
    kinds = {(card.name, card.compute_capability) for card in run.host.cards}
    if len(kinds) > 1:
        found = " and ".join(sorted(card for card, _ in kinds))
        return f"that host has {found}, and which of them ran is not said: repeat it with --gpu N"
    gpu, capability = kinds.pop() if kinds else ("", "")
    if run.host.cards and not gpu:
        return "its GPU has no name"
    signed = stated or {}
    digests = frozenset(d for d, sha384 in run.blobs.items() if signed.get(d, sha384) == sha384)
    drivers = ", ".join(sorted({card.driver for card in run.host.cards}))
    count = len(run.host.cards)
    return SmokeRecord(digests, gpu, drivers, capability, count, run.host.platform, name)


def why_not_on(record: SmokeRecord, target: Target) -> str:
    """Why a run is no evidence for this target; '' when it is."""
    gpu = target.gpu
    if record.gpu != (gpu.name if gpu else ""):
        there = f"on {record.gpu}" if record.gpu else "without a GPU"
        return f"it ran {there}; the target has {gpu.name if gpu else 'none'}"
    if gpu and record.capability and version_key(record.capability) != version_key(gpu.compute_capability):
        return (
            f"its {gpu.name} has compute capability {record.capability}, that of the target"
            f" {gpu.compute_capability}"
        )
    if gpu and record.count > gpu.count:
        return f"it ran with {record.count} GPUs, the target has {gpu.count}: repeat it with --gpu N"
    if record.platform and record.platform != target.platform:
        return f"it ran on {record.platform}; the target is {target.platform}"
    return ""


def find_ran(digests: frozenset[str], target: Target, records: Iterable[SmokeRecord]) -> SmokeRecord | None:
    """The record of a run of all these digests on the target's GPU model; none for unknown digests."""
    if not digests or "" in digests:
        return None
    return next(
        (r for r in records if not why_not_on(r, target) and digests <= {str(d) for d in r.digests}), None
    )


def stack_digests(stack: Stack) -> frozenset[str]:
    """Empty where not every file is known, which no record can answer for."""
    if stack.digests:
        return stack.digests
    return frozenset(p.digest for p in stack.packages) if stack.closed and not stack.unread else frozenset()


def model_digests(model: Model) -> frozenset[str]:
    """With those of what serves it: a model does not run by itself."""
    served = stack_digests(model.served_by) if model.served_by else frozenset()
    return model.digests | served if served and model.digests else frozenset()


def why_not_of(record: SmokeRecord, composition: Composition) -> str:
    """What a record that suits the target lacks of every component; '' where it covers one whole."""
    ours = {stack.name: stack_digests(stack) for stack in composition.stacks}
    ours |= {model.name: model_digests(model) for model in composition.models}
    ran = {str(digest) for digest in record.digests}
    if any(digests and "" not in digests and digests <= ran for digests in ours.values()):
        return ""
    lacks = [f"{len(d - ran)} of {len(d)} digests of {name}" for name, d in ours.items() if d]
    alone = [model.name for model in composition.models if model.served_by is None]
    if alone and not lacks:
        return f"a model does not run by itself, and served-by does not say what runs {', '.join(alone)}"
    return f"not among what ran: {', '.join(lacks) or 'anything that is known of these components'}"
