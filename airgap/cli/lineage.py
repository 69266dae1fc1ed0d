"""What `inspect` says of where a file comes from: `--why` and `--tree`, from the lock alone."""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airgap.errors import InputError
from airgap.lock import Lock
from airgap.model import (
    PROVENANCE_SUFFIX,
    Artifact,
    ContainerArtifact,
    LockedFile,
    ModelArtifact,
    Package,
    WheelsArtifact,
)
from airgap.tags import normalized_name

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one file travels. `paths` lead from a requirement, as it was written, to the package."""

    artifact: str
    file: str
    what: str
    paths: tuple[tuple[str, ...], ...] = ()

    def lines(self) -> Iterator[str]:
        yield f"{self.artifact}: {self.file}: {self.what}"
        for path in self.paths:
            yield f"  {' -> '.join(path)}"

    def as_json(self) -> dict[str, object]:
        return {
            "artifact": self.artifact,
            "file": self.file,
            "what": self.what,
            "paths": [list(path) for path in self.paths],
        }


def reasons(lock: Lock, wanted: str) -> list[Reason]:
    """Of every file that is `wanted`: a path, a file's name, a package, or the first digits of a sha256.

    Raises InputError where the lock has none.
    """
    found = [
        _reason(artifact, file)
        for artifact in lock.artifacts
        for file in artifact.files
        if _is(artifact, file, wanted)
    ]
    if not found:
        raise InputError(
            f"{wanted}: no file, package or sha256 of {lock.name} {lock.version} is called that",
            remedy="airgap inspect … --files lists them",
        )
    return found


def tree_lines(artifact: WheelsArtifact) -> Iterator[str]:
    """The dependency tree of a wheels set: each package's own is shown once."""
    packages = _by_name(artifact)
    shown: set[str] = set()
    for requirement in artifact.requirements:
        name = _required(requirement)
        yield requirement
        if name in packages:
            yield from _branch(packages, name, "", shown, last=True)
    left = [name for name in packages if name not in shown]
    if left:
        yield "required by nothing above:"
    for name in left:
        if name not in shown:
            yield from _branch(packages, name, "", shown, last=True)


def tree_document(artifact: WheelsArtifact) -> dict[str, object]:
    """The same for `--json`: each package with what it needs."""
    packages = _by_name(artifact)
    return {
        "requirements": [
            {"requirement": one, "package": _required(one) if _required(one) in packages else None}
            for one in artifact.requirements
        ],
        "packages": {
            name: {"version": package.version, "requires": list(package.requires)}
            for name, package in sorted(packages.items())
        },
    }


def _branch(
    packages: Mapping[str, Package], start: str, indent: str, shown: set[str], *, last: bool
) -> Iterator[str]:
    """Without recursion: a lock may hold a chain of thousands."""
    pending = [(start, indent, last)]
    while pending:
        name, indent, last = pending.pop()
        package = packages[name]
        again = name in shown
        needs = [] if again else [n for one in package.requires if (n := normalized_name(one)) in packages]
        note = "  (shown above)" if again and package.requires else ""
        yield f"{indent}{'└── ' if last else '├── '}{package.name} {package.version}{note}"
        shown.add(name)
        below = f"{indent}{'    ' if last else '│   '}"
        pending += [(need, below, place == 0) for place, need in enumerate(reversed(needs))]


def _is(artifact: Artifact, file: LockedFile, wanted: str) -> bool:
    if wanted in (file.path, file.path.rpartition("/")[2]):
        return True
    if re.fullmatch(r"[0-9a-f]{8,64}", wanted) and file.sha256.startswith(wanted):
        return True
    package = _package_of(artifact, file)
    return package is not None and normalized_name(package.name) == normalized_name(wanted)


def _package_of(artifact: Artifact, file: LockedFile) -> Package | None:
    if not isinstance(artifact, WheelsArtifact):
        return None
    wheel = file.path.removesuffix(PROVENANCE_SUFFIX)
    return next((package for package in artifact.packages if package.file == wheel), None)


def _reason(artifact: Artifact, file: LockedFile) -> Reason:
    match artifact:
        case WheelsArtifact():
            package = _package_of(artifact, file)
            assert package, "a lock has one package for each wheel"
            paths = tuple(_paths(artifact, normalized_name(package.name)))
            what = f"{package.name} {package.version}"
            if not paths:
                what += ", which no requirement leads to by what the wheels say they need"
            return Reason(artifact.name, file.path, what, paths)
        case ModelArtifact():
            origin = f"{artifact.repo} at {artifact.revision}" if artifact.repo else "a local directory"
            what = f"a file of the model, from {origin}, which include and exclude of the manifest let in"
        case ContainerArtifact():
            image = artifact.image or "from a local source"
            what = f"{_part(artifact, file, image)} ({file.media_type})"
        case _:
            what = "the file itself"
    return Reason(artifact.name, file.path, what)


def _part(artifact: ContainerArtifact, file: LockedFile, image: str) -> str:
    """Signatures are the last of the files, their manifests named by the artifact."""
    manifests = artifact.signature.files if artifact.signature else ()
    first = next((n for n, one in enumerate(artifact.files) if one.path in manifests), len(artifact.files))
    if file not in artifact.files[first:]:
        return f"part of the image {image}"
    part = "manifest" if file.path in manifests else "part"
    return f"{part} of a signature of the image {image}, found upstream and not judged"


def _paths(artifact: WheelsArtifact, wanted: str) -> Iterator[tuple[str, ...]]:
    """The shortest way from each requirement that leads to the package."""
    packages = _by_name(artifact)
    for requirement in artifact.requirements:
        start = _required(requirement)
        if start not in packages:
            continue
        came: dict[str, str] = {start: ""}
        pending = deque([start])
        while pending and wanted not in came:
            name = pending.popleft()
            for need in map(normalized_name, packages[name].requires):
                if need in packages and need not in came:
                    came[need] = name
                    pending.append(need)
        if wanted in came:
            steps = [wanted]
            while came[steps[-1]]:
                steps.append(came[steps[-1]])
            labels = [f"{packages[name].name} {packages[name].version}" for name in reversed(steps)]
            yield (requirement, *labels)


def _by_name(artifact: WheelsArtifact) -> dict[str, Package]:
    return {normalized_name(package.name): package for package in artifact.packages}


def _required(requirement: str) -> str:
    match = _NAME.match(requirement)
    return normalized_name(match[1]) if match else ""
