"""What two locks, bundles or sites differ by: pure, over their artifacts and what each side holds.

Artifacts are compared by name, their files by path and sha256. Whatever needs bytes (licences inside
wheels, tensors) is read elsewhere and put into the same value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from airgap.audit.distance import distance
from airgap.model import (
    Artifact,
    ContainerArtifact,
    Finding,
    Kind,
    ModelArtifact,
    Package,
    Sha256,
    WheelsArtifact,
)


class State(StrEnum):
    """What became of an artifact."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    SAME = "same"


class SideKind(StrEnum):
    """What is compared."""

    LOCK = "lock"
    BUNDLE = "bundle"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: `artifacts` by the name of their bundle, and the size of every blob it holds.

    A lock holds what it names, though no byte of it is here.
    """

    kind: SideKind
    where: str
    bundles: Mapping[str, tuple[Artifact, ...]]
    titles: Mapping[str, str]
    """Bundle -> its name and version."""
    held: Mapping[Sha256, int]

    @property
    def title(self) -> str:
        return ", ".join(self.titles.values()) or "nothing"

    def only(self, names: Iterable[str]) -> "Side":
        """Without the bundles that are not named; what it holds stays."""
        kept = [name for name in names if name in self.bundles]
        return Side(
            self.kind,
            self.where,
            {name: self.bundles[name] for name in kept},
            {name: self.titles[name] for name in kept},
            self.held,
        )

    @property
    def artifacts(self) -> dict[str, Artifact]:
        return {artifact.name: artifact for some in self.bundles.values() for artifact in some}


@dataclass(frozen=True, slots=True)
class FactMove:
    """One thing that is said of an artifact, before and after; '' for nothing."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PackageMove:
    """One package of a wheels set. `before` or `after` is '' where it is not there.

    `rebuilt` says that the version is the same and the wheel another. `distance` is by version numbers.
    """

    name: str
    before: str
    after: str
    distance: str = ""
    rebuilt: bool = False


@dataclass(frozen=True, slots=True)
class TensorMove:
    """A tensor that is another: its dtype and shape before and after, equal where only its bytes changed."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """A model's tensors. `changed` have other bytes, None where nobody compared them.

    `unread` are files whose header could not be read, each with its reason; `apart` counts tensors of
    equal type and shape in files that are not the same.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    reshaped: tuple[TensorMove, ...]
    changed: tuple[str, ...] | None
    same: int
    apart: int
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtifactDifference:
    """What became of one artifact; sizes in bytes, 0 where it is not there. Files are counted."""

    kind: Kind
    name: str
    state: State
    size_before: int
    size_after: int
    files_added: tuple[str, ...] = ()
    files_removed: tuple[str, ...] = ()
    files_changed: tuple[str, ...] = ()
    facts: tuple[FactMove, ...] = ()
    packages: tuple[PackageMove, ...] = ()
    tensors: TensorDifference | None = None


@dataclass(frozen=True, slots=True)
class LicenceMove:
    """A licence that only one side has, and who has it there: `artifact: package` or `artifact`."""

    licence: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """The whole comparison. `travel` is what the second side has and the first lacks, each blob once.

    `findings` are those of the second side that the first has not, None where nobody looked; `notes` say
    what could not be compared.
    """

    before: Side
    after: Side
    artifacts: tuple[ArtifactDifference, ...]
    travel: Mapping[Sha256, int]
    shared_bytes: int
    licences_added: tuple[LicenceMove, ...] = ()
    licences_removed: tuple[LicenceMove, ...] = ()
    findings: tuple[Finding, ...] | None = None
    findings_gone: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def travel_bytes(self) -> int:
        return sum(self.travel.values())

    def in_state(self, state: State) -> tuple[ArtifactDifference, ...]:
        return tuple(one for one in self.artifacts if one.state is state)


def compare(before: Side, after: Side) -> Difference:
    """Every artifact of both sides, in the second side's order, then what only the first has.

    A site holds bundles that the other side knows nothing of: only bundles of the same name are compared.
    """
    if (before.kind is SideKind.SITE) != (after.kind is SideKind.SITE):
        if before.kind is SideKind.SITE:
            before = before.only(after.bundles)
        else:
            after = after.only(before.bundles)
    old, new = before.artifacts, after.artifacts
    names = [*new, *(name for name in old if name not in new)]
    wanted = {file.sha256: file.size for artifact in new.values() for file in artifact.files}
    if after.kind is SideKind.BUNDLE:  # which states its documents, too
        wanted = dict(after.held)
    travel = {digest: size for digest, size in wanted.items() if digest not in before.held}
    return Difference(
        before,
        after,
        tuple(_artifact(old.get(name), new.get(name)) for name in names),
        travel,
        sum(wanted.values()) - sum(travel.values()),
    )


def licence_moves(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[tuple[LicenceMove, ...], tuple[LicenceMove, ...]]:
    """Licences that only one side has, from subject -> licence of each; '' is no licence."""

    def only(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[LicenceMove, ...]:
        licences = sorted(set(here.values()) - set(there.values()) - {""})
        return tuple(LicenceMove(one, tuple(sorted(s for s in here if here[s] == one))) for one in licences)

    return only(after, before), only(before, after)


def new_findings(
    before: Sequence[Finding], after: Sequence[Finding]
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Findings of the second side alone, then of the first alone."""
    old, new = {_same(one) for one in before}, {_same(one) for one in after}
    return (
        tuple(one for one in after if _same(one) not in old),
        tuple(one for one in before if _same(one) not in new),
    )


_BY_EVIDENCE = frozenset(
    ("audit-startup-code", "audit-remote-code", "audit-pickle", "audit-pickle-code", "audit-record")
)
"""Findings whose evidence is what was found, and not where."""


def _same(finding: Finding) -> tuple[str, ...]:
    """By what two findings are one: code, subject and message, and what runs where that stands in neither."""
    evidence = finding.evidence if finding.code in _BY_EVIDENCE else ""
    return finding.code, finding.subject, finding.message, evidence


def _artifact(before: Artifact | None, after: Artifact | None) -> ArtifactDifference:
    one = after or before
    assert one is not None, "a name comes from one of the sides"
    old = {file.path: file for file in before.files} if before else {}
    new = {file.path: file for file in after.files} if after else {}
    if before is None or after is None:
        state = State.ADDED if before is None else State.REMOVED
        facts: tuple[FactMove, ...] = ()
    else:
        facts = tuple(_facts(before, after))
        same = not facts and {p: f.sha256 for p, f in old.items()} == {p: f.sha256 for p, f in new.items()}
        state = State.SAME if same else State.CHANGED
    return ArtifactDifference(
        one.kind,
        one.name,
        state,
        sum(file.size for file in old.values()),
        sum(file.size for file in new.values()),
        tuple(path for path in new if path not in old),
        tuple(path for path in old if path not in new),
        tuple(path for path in new if path in old and new[path].sha256 != old[path].sha256),
        facts,
        tuple(_package_moves(_packages(before), _packages(after))),
    )


def _facts(before: Artifact, after: Artifact) -> Iterable[FactMove]:
    """What is said of the artifact as a whole and differs."""
    if before.kind is not after.kind:
        yield FactMove("kind", before.kind.value, after.kind.value)
        return
    keys: tuple[str, ...] = ()
    match after:
        case ModelArtifact():
            keys = ("repo", "revision", "commit", "quantization", "served_by", "licence", "gated")
        case ContainerArtifact():
            keys = ("image", "digest", "platforms")
        case WheelsArtifact():
            keys = ("requirements", "python")
    for key in keys:
        old, new = _text(getattr(before, key)), _text(getattr(after, key))
        if old != new:
            yield FactMove(key.replace("_", "-"), old, new)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _packages(artifact: Artifact | None) -> dict[str, tuple[Package, Sha256]]:
    if not isinstance(artifact, WheelsArtifact):
        return {}
    digests = {file.path: file.sha256 for file in artifact.files}
    return {package.name: (package, digests[package.file]) for package in artifact.packages}


def _package_moves(
    before: Mapping[str, tuple[Package, Sha256]], after: Mapping[str, tuple[Package, Sha256]]
) -> Iterable[PackageMove]:
    for name in sorted({*before, *after}):
        if name not in before:
            yield PackageMove(name, "", after[name][0].version)
        elif name not in after:
            yield PackageMove(name, before[name][0].version, "")
        elif before[name][1] != after[name][1]:
            old, new = before[name][0].version, after[name][0].version
            yield PackageMove(name, old, new, distance(old, new), rebuilt=old == new)
