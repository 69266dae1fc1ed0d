"""What `inspect` says of a model's weights: formats, shares and sizes, from the headers in a bundle."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from airgap.errors import InputError, IntegrityError
from airgap.layout import blob_path
from airgap.media import Media
from airgap.model import ModelArtifact, Sha256
from airgap.readers.checkpoint import Checkpoint, read_checkpoints
from airgap.readiness.nvfp4 import Quantization, assess, prove_nvfp4
from airgap.units import amount, human_bytes

UNVERIFIED = "read from headers that inspect does not verify; airgap verify does"


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's checkpoints; `problem` says why they are not known."""

    checkpoints: tuple[Checkpoint, ...] = ()
    problem: str = ""


def read_weights(media: Media, artifact: ModelArtifact, absent: Collection[Sha256] = ()) -> Weights:
    """Headers and configs of a model in a bundle. Raises HostError when the media cannot be read.

    Of a model some of whose files are `absent`, as in a delta, nothing is said.
    """
    if missing := [file for file in artifact.files if file.sha256 in absent]:
        return Weights(
            problem=f"{len(missing)} of {amount(len(artifact.files), 'file')} left out of this delta"
        )
    blobs: dict[str, str] = {file.path: blob_path(file.sha256) for file in artifact.files}

    def read(path: str, start: int, count: int) -> bytes:
        data = media.read(blobs[path], max_bytes=start + count)[start : start + count]
        if len(data) < count:
            raise InputError(f"{path}: ends before byte {start + count}")
        return data

    try:
        return Weights(read_checkpoints({file.path: file.size for file in artifact.files}, read))
    except (InputError, IntegrityError) as error:
        return Weights(problem=error.message)


def weights_lines(weights: Weights, claim: str) -> list[str]:
    """A few lines for a person."""
    if weights.problem:
        return [f"weights not known: {weights.problem}"]
    lines = []
    for checkpoint in weights.checkpoints:
        if checkpoint.headers:
            lines += _lines(checkpoint, assess(checkpoint))
        lines += [f"damaged: {damage.path}: {damage.message}" for damage in checkpoint.damaged]
        unread = (*checkpoint.pickles, *checkpoint.others)
        if unread and not checkpoint.headers:
            lines.append(
                f"{amount(len(unread), 'file')} of weights in formats that are not read:"
                f" {', '.join(unread[:3])}"
            )
    if claim == "nvfp4":
        proof = prove_nvfp4(weights.checkpoints)
        why = f": {proof.reasons[0]}" if proof.reasons else ""
        lines.append(f"the claim nvfp4 is {proof.verdict}{why}")
    return [*lines, f"({UNVERIFIED})"] if lines else []


def weights_document(weights: Weights, claim: str) -> dict[str, object]:
    """The same for `--json`; sizes in bytes."""
    proof = prove_nvfp4(weights.checkpoints) if claim == "nvfp4" and not weights.problem else None
    return {
        "verified": False,
        "problem": weights.problem or None,
        "claim": claim or None,
        "claim_verdict": proof.verdict.value if proof else None,
        "claim_reasons": [str(reason) for reason in proof.reasons] if proof else [],
        "checkpoints": [_document(c) for c in weights.checkpoints],
    }


def _lines(checkpoint: Checkpoint, found: Quantization) -> list[str]:
    where = f"{checkpoint.directory}/: " if checkpoint.directory else ""
    how = " ".join(filter(None, (found.form.value, found.variant)))
    share = f", {found.share:.0%} of it quantised" if found.quantized_parameters else ""
    lines = [
        f"{where}{found.called}{f' ({how})' if how else ''}: {_count(found.parameters)} parameters{share}",
        ", ".join(f"{dtype} {human_bytes(size)}" for dtype, size in found.bytes_by_dtype.items()),
    ]
    return [*lines, *(f"fault: {fault}" for fault in found.faults), *(f"note: {n}" for n in found.notes)]


def _document(checkpoint: Checkpoint) -> Mapping[str, object]:
    found = assess(checkpoint)
    return {
        "directory": checkpoint.directory,
        "format": found.called or None,
        "form": found.form.value or None,
        "variant": found.variant or None,
        "parameters": found.parameters,
        "quantized_parameters": found.quantized_parameters,
        "bytes": found.size,
        "quantized_bytes": found.quantized_size,
        "bytes_by_dtype": dict(found.bytes_by_dtype),
        "files": sorted(checkpoint.headers),
        "not_read": _paths(checkpoint),
        "faults": [str(fault) for fault in found.faults],
        "damaged": [f"{damage.path}: {damage.message}" for damage in checkpoint.damaged],
        "notes": list(found.notes),
    }


def _paths(checkpoint: Checkpoint) -> Sequence[str]:
    return sorted((*checkpoint.set_aside, *checkpoint.pickles, *checkpoint.others))


def _count(parameters: int) -> str:
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.1f} {letter}"
    return str(parameters)
