"""How provenance is said to people: present, absent, failed or unknown, and never as more than that."""

from collections import Counter
from collections.abc import Sequence

from airgap.model import Artifact, ContainerArtifact, Provenance, ProvenanceState, WheelsArtifact

_SHOWN = 4


def describe(found: Provenance | None) -> str:
    """`present, not judged; claims to be of …`; '' where it was not asked for."""
    if found is None:
        return ""
    if found.state is ProvenanceState.PRESENT:
        claimed = f"; claims to be of {_some(found.publishers)}" if found.publishers else ""
        return f"present, not judged{claimed}" + (f"; not all travel: {found.reason}" if found.reason else "")
    return ": ".join(filter(None, (found.state.value, found.reason)))


def summary(artifact: Artifact) -> str:
    """What was found of a whole artifact, in one line; '' where nothing was asked for."""
    match artifact:
        case ContainerArtifact() if artifact.signature:
            return f"signature: {describe(artifact.signature)}"
        case WheelsArtifact():
            return of_wheels([p.provenance for p in artifact.packages if p.provenance])
        case _:
            return ""


def of_wheels(found: Sequence[Provenance]) -> str:
    """What was found of the wheels of one set, in one line."""
    if not found:
        return ""
    counts = Counter(one.state for one in found)
    publishers = tuple(dict.fromkeys(name for one in found for name in one.publishers))
    present = counts[ProvenanceState.PRESENT]
    said = [f"{present} of {len(found)} wheels" + (", not judged" if present else "")]
    said += [f"{counts[s]} {s.value}" for s in (ProvenanceState.FAILED, ProvenanceState.UNKNOWN) if counts[s]]
    claimed = f"; claim to be of {_some(publishers)}" if publishers else ""
    return f"attestations: {', '.join(said)}{claimed}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def as_json(found: Provenance | None) -> dict[str, object] | None:
    """For `--json`; null where it was not asked for."""
    if found is None:
        return None
    return {"state": found.state.value, "publishers": list(found.publishers), "reason": found.reason}


def document(artifact: Artifact) -> dict[str, object]:
    """The keys of an artifact in `--json`: `signature` of a container, `attestations` by wheel of a set."""
    match artifact:
        case ContainerArtifact():
            return {"signature": as_json(artifact.signature)}
        case WheelsArtifact():
            return {"attestations": {p.file: as_json(p.provenance) for p in artifact.packages}}
        case _:
            return {}
