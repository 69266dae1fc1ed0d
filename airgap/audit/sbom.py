"""What a bill of materials lists, before anyone's format: the subject, its artifacts, the packages in them.

Pure: equal audits give equal lists. References are unique within one bill and stable between two of the
same bytes.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID, uuid5

from airgap.audit.evidence import ArtifactFact, Audit, Ecosystem, FileFact, ModelFact, PackageFact
from airgap.model import Kind, Sha256

SUBJECT = "subject"
"""The reference of what was audited."""


class ComponentKind(StrEnum):
    """What a component is, in this project's words."""

    SUBJECT = "subject"
    WHEELS = "wheels"
    PACKAGE = "package"
    MODEL = "model"
    CONTAINER = "container"
    FILE = "file"
    PART = "part"
    """One file of a model, or the one of a file."""


WHOLE = frozenset({Kind.MODEL, Kind.FILE})
"""What is listed file by file; of wheels and images the packages are."""


@dataclass(frozen=True, slots=True)
class Component:
    """One line of a bill. `within` and `needs` are references; `sha256` is '' where no bytes are named.

    `licence` is an SPDX expression or whatever text stands there; `properties` are further facts by name.
    """

    ref: str
    kind: ComponentKind
    name: str
    version: str = ""
    purl: str = ""
    sha256: Sha256 | str = ""
    licence: str = ""
    source: str = ""
    within: str = ""
    needs: tuple[str, ...] = ()
    properties: Mapping[str, str] | None = None
    model: ModelFact | None = None


def components_of(audit: Audit) -> tuple[Component, ...]:
    """Every component, the subject first, each artifact before the files and packages in it."""
    artifacts = {artifact.name: artifact for artifact in audit.artifacts}
    files: defaultdict[str, dict[str, FileFact]] = defaultdict(dict)
    for file in audit.files:
        if not file.depth and file.artifact in artifacts and artifacts[file.artifact].kind in WHOLE:
            files[file.artifact][file.path] = file
    listed = [_subject(audit)]
    models = {model.artifact: model for model in audit.models}
    for name in sorted(artifacts):
        listed.append(_artifact(artifacts[name], models.get(name)))
        listed += _parts(files[name])
        listed += _packages(name, audit.packages)
    return tuple(listed)


def title(audit: Audit) -> tuple[str, str]:
    """The name and version of what was audited; a site has the number of its generation as one."""
    bundles = audit.subject.bundles
    if len(bundles) == 1 and not audit.subject.site:
        return bundles[0].name, bundles[0].version
    version = "" if audit.subject.generation is None else f"generation {audit.subject.generation}"
    return audit.subject.site or "site", version


def identity(audit: Audit) -> UUID:
    """The same for the same bytes audited at the same time, as both formats want it of one document."""
    payloads = (bundle.payload for bundle in audit.subject.bundles)
    return uuid5(NAMESPACE_URL, "/".join(("airgap", audit.at.isoformat(), *payloads)))


def _subject(audit: Audit) -> Component:
    name, version = title(audit)
    properties = {
        f"airgap:bundle:{bundle.name}": f"{bundle.version}, sequence {bundle.sequence}, {bundle.payload}"
        for bundle in audit.subject.bundles
    }
    return Component(SUBJECT, ComponentKind.SUBJECT, name, version, properties=properties)


def _artifact(artifact: ArtifactFact, model: ModelFact | None) -> Component:
    return Component(
        f"artifact/{artifact.name}",
        ComponentKind(artifact.kind.value),
        artifact.name,
        model.commit if model else "",
        _artifact_purl(artifact, model),
        artifact.digest,
        (model.licence if model else "") or artifact.licence,
        artifact.source,
        SUBJECT,
        properties={"airgap:kind": artifact.kind.value, "airgap:bytes": str(artifact.bytes)},
        model=model,
    )


def _artifact_purl(artifact: ArtifactFact, model: ModelFact | None) -> str:
    """purl-spec, types `huggingface` and `oci`; '' for what has no type."""
    if model and model.repo and model.commit:
        return f"pkg:huggingface/{quote(model.repo)}@{model.commit}"
    if artifact.kind is Kind.CONTAINER and artifact.source:
        repository = artifact.source.partition("@")[0]
        repository, _, tag = (
            repository.rpartition(":") if ":" in repository.rpartition("/")[2] else (repository, "", "")
        )
        name = repository.rpartition("/")[2].lower()
        tagged = f"&tag={quote(tag, safe='')}" if tag else ""
        where = quote(repository.lower(), safe="/")
        return f"pkg:oci/{quote(name)}@sha256%3A{artifact.digest}?repository_url={where}{tagged}"
    return ""


def _parts(files: Mapping[str, FileFact]) -> Iterator[Component]:
    """The files of one artifact by their paths."""
    for path, file in sorted(files.items()):
        yield Component(
            f"file/{file.artifact}/{path}",
            ComponentKind.PART,
            path,
            sha256=file.sha256,
            within=f"artifact/{file.artifact}",
            properties={"airgap:bytes": str(file.size)},
        )


def _packages(artifact: str, packages: tuple[PackageFact, ...]) -> Iterator[Component]:
    """The packages of one artifact, each once; of two that share a name the first is who is needed by it."""
    mine = [package for package in packages if package.artifact == artifact]
    refs = {package: f"package/{artifact}/{package.purl}/{package.path}" for package in mine}
    named: dict[tuple[Ecosystem, str], str] = {}
    for package in mine:
        named.setdefault((package.ecosystem, package.name), refs[package])
    seen: set[str] = set()
    for package in sorted(mine, key=lambda package: refs[package]):
        if refs[package] in seen:
            continue
        seen.add(refs[package])
        needed = {named.get((package.ecosystem, name), "") for name in package.requires}
        yield Component(
            refs[package],
            ComponentKind.PACKAGE,
            package.name,
            package.version,
            package.purl,
            package.digest if package.ecosystem is Ecosystem.PYPI and package.path.endswith(".whl") else "",
            package.licence,
            within=f"artifact/{artifact}",
            needs=tuple(sorted(needed - {"", refs[package]})),
            properties={"airgap:path": package.path}
            | ({"airgap:licence-by": package.licence_by} if package.licence_by else {}),
        )
