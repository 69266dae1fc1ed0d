"""From what was seen of each blob to what an auditor asks of each artifact. Pure: bytes were read before."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from airgap.audit import code, findings, licences, models, secrets
from airgap.audit.evidence import (
    ArtifactFact,
    Ecosystem,
    FileFact,
    ImageFact,
    ModelFact,
    PackageFact,
    PthLine,
    RecordState,
    WheelFact,
)
from airgap.audit.images import see_image
from airgap.audit.look import Contents, Role
from airgap.audit.purl import purl_of
from airgap.audit.wheel_seen import WheelSeen, check_record
from airgap.errors import InputError
from airgap.layout import BundledArtifact
from airgap.model import (
    PROVENANCE_SUFFIX,
    Artifact,
    ContainerArtifact,
    FileArtifact,
    Finding,
    Local,
    LockedFile,
    Made,
    ModelArtifact,
    Origin,
    Package,
    Remote,
    Sha256,
    WheelsArtifact,
)
from airgap.oci import INDEXES, MANIFESTS, ImageManifest, parse_image
from airgap.tags import normalized_name
from airgap.units import amount

_PTH = re.compile(rf"(?:{code.SITE})?[^/]+\.pth")
"""Where a wheel's `.pth` files become ones that site.py reads."""

_STATEMENT = "application/vnd.in-toto+json"

_NATIVE = frozenset({"elf", "pe", "mach-o"})
_SHOWN = 10


@dataclass(slots=True)
class Gathered:
    """The facts of all artifacts, in their order."""

    artifacts: list[ArtifactFact] = field(default_factory=list)
    files: list[FileFact] = field(default_factory=list)
    packages: list[PackageFact] = field(default_factory=list)
    wheels: list[WheelFact] = field(default_factory=list)
    images: list[ImageFact] = field(default_factory=list)
    models: list[ModelFact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(
        self,
        bundle: str,
        bundled: BundledArtifact,
        contents: Mapping[Sha256, Contents],
        documents: Mapping[Sha256, bytes],
    ) -> None:
        """What is known of one artifact; `documents` are the verified manifests of images."""
        artifact = bundled.artifact
        fact = ArtifactFact(
            bundle,
            artifact.kind,
            artifact.name,
            bundled.digest,
            len(artifact.files),
            sum(file.size for file in artifact.files),
            _source_of(artifact),
            artifact.licence if isinstance(artifact, ModelArtifact) else "",
            artifact.signature if isinstance(artifact, ContainerArtifact) else None,
        )
        self.artifacts.append(fact)
        container = isinstance(artifact, ContainerArtifact)
        own = documents if container else {}  # what is one of another artifact may be a file of this one
        seen = {
            file: contents[file.sha256]
            for file in artifact.files
            if file.sha256 in contents and file.sha256 not in own
        }
        for file in artifact.files:
            if file.sha256 in own:
                source = describe_origin(file.origin)
                self.files.append(FileFact(artifact.name, file.path, "json", file.size, file.sha256, source))
        for file, one in seen.items():
            self.findings += _noticed(artifact.name, file.path, one)
            self.findings += _looked_as(artifact.name, file.path, one.role, role_of(artifact, file))
        match artifact:
            case WheelsArtifact():
                self._wheels(artifact, seen)
            case ModelArtifact():
                self._model(artifact, seen)
            case ContainerArtifact():
                self._files(artifact.name, seen)
                self._images(artifact, contents, documents)
            case FileArtifact():
                self._files(artifact.name, seen)

    def _files(self, name: str, seen: Mapping[LockedFile, Contents], licence: str = "") -> None:
        for file, one in seen.items():
            source = describe_origin(file.origin)
            self.files.append(FileFact(name, file.path, one.type, file.size, file.sha256, source, licence))
            self.files += (
                FileFact(
                    name,
                    inner_path(file.path, i.path),
                    i.type,
                    i.size,
                    i.sha256,
                    source,
                    licence,
                    i.executable,
                    i.depth,
                )
                for i in one.inner
            )

    def _wheels(self, artifact: WheelsArtifact, seen: Mapping[LockedFile, Contents]) -> None:
        locked = {package.file: package for package in artifact.packages}
        for file, one in seen.items():
            if file.path not in locked:  # attestations
                self._files(artifact.name, {file: one})
                continue
            wheel = one.wheel or WheelSeen(problem="not looked into")
            package = _wheel_package(artifact.name, file, wheel, locked[file.path])
            fact = _wheel_fact(artifact.name, file, one, wheel, locked[file.path])
            self.packages.append(package)
            self.wheels.append(fact)
            known = any(not noticed.path for noticed in one.noticed)
            self.findings += _judge_wheel(f"{artifact.name}: {file.path}", fact, package, wheel, known)
            self.findings += _unread_pth(f"{artifact.name}: {file.path}", one)
            self._files(artifact.name, {file: one}, package.licence)

    def _model(self, artifact: ModelArtifact, seen: Mapping[LockedFile, Contents]) -> None:
        kept = {str(file.path): one.kept[""] for file, one in seen.items() if "" in one.kept}
        damaged = {str(file.path) for file in artifact.files if file not in seen}
        complained = {str(file.path) for file, one in seen.items() if one.noticed}
        for file, one in seen.items():
            if file.path.endswith(".safetensors") and one.type != "safetensors" and not one.noticed:
                message = f"its content is {one.type}, its name says safetensors"
                self.findings.append(findings.MALFORMED.at(f"{artifact.name}: {file.path}", message))
                complained.add(str(file.path))
        model = models.see_model(artifact, kept, frozenset(damaged | complained))
        self.models.append(model.fact)
        self.findings += model.findings
        self._files(artifact.name, seen, model.fact.licence)

    def _images(
        self,
        artifact: ContainerArtifact,
        contents: Mapping[Sha256, Contents],
        documents: Mapping[Sha256, bytes],
    ) -> None:
        for digest, manifest in manifests_of(artifact, documents):
            config = contents.get(manifest.config.digest)
            layers = {
                layer.digest: contents[layer.digest].layer
                for layer in manifest.layers
                if layer.digest in contents
            }
            data = config.kept.get("") if config else None
            image = see_image(artifact.name, digest, manifest, data, layers)
            self.images.append(image.fact)
            self.packages += image.packages
            self.findings += image.findings


def inner_path(outer: str, inner: str) -> str:
    """A path inside of an archive, after the archive's."""
    return f"{outer}{inner}" if inner.startswith("!") else f"{outer}!{inner}" if inner else outer


def describe_origin(origin: Origin) -> str:
    """Where bytes come from, in one line."""
    match origin:
        case Remote():
            return origin.url
        case Local():
            return f"local:{origin.path}" + (f"!{origin.member}" if origin.member else "")
        case Made():
            return f"made ({origin.how}) from {describe_origin(origin.source)}"


def manifests_of(
    artifact: ContainerArtifact, documents: Mapping[Sha256, bytes]
) -> Iterator[tuple[Sha256, ImageManifest]]:
    """The images of a container, one for each platform that travels; attestations are none."""
    pending = [(artifact.root, True)]
    locked = {file.sha256: file.media_type for file in artifact.files}
    while pending:
        digest, runs = pending.pop(0)
        try:
            image = parse_image(documents[digest], f"manifest {digest}", media_type=locked[digest])
        except (InputError, KeyError):  # damaged: a finding of its blob
            continue
        if isinstance(image, ImageManifest):
            if runs or not _attests(image):
                yield digest, image
        else:
            pending += [
                (one.digest, one.names_platform)
                for one in image.manifests
                if one.digest in locked and one.media_type in (*INDEXES, *MANIFESTS)
            ]


def _attests(image: ImageManifest) -> bool:
    """Whether it holds attestations and nothing that an engine could unpack (BuildKit)."""
    return bool(image.layers) and all(layer.media_type == _STATEMENT for layer in image.layers)


def _looked_as(artifact: str, path: str, role: Role, declared: Role) -> Iterator[Finding]:
    """A blob is looked into once; as a package it is asked less than as data."""
    if role in (Role.WHEEL, Role.LAYER) and declared in (Role.MODEL, Role.FILE):
        message = f"looked into only as the {role} that it is in another artifact"
        yield findings.NOT_LOOKED.at(f"{artifact}: {path}", message)


def _source_of(artifact: Artifact) -> str:
    match artifact:
        case ContainerArtifact():
            return artifact.image
        case ModelArtifact():
            return f"{artifact.repo}@{artifact.commit}" if artifact.repo else ""
        case _:
            return ""


def _noticed(artifact: str, path: str, seen: Contents) -> Iterator[Finding]:
    for one in seen.noticed:
        yield one.rule.at(f"{artifact}: {inner_path(path, one.path)}", one.message, one.evidence)
    for secret in seen.secrets:
        yield findings.SECRET.at(f"{artifact}: {inner_path(path, secret.path)}", secrets.describe(secret))


def _wheel_package(artifact: str, file: LockedFile, wheel: WheelSeen, locked: Package) -> PackageFact:
    metadata = wheel.metadata
    name = normalized_name(metadata.name if metadata else locked.name)
    version = metadata.version if metadata else locked.version
    said = metadata.license.strip() if metadata else ""
    classifiers = [c for c in metadata.classifiers if c.startswith("License ::")] if metadata else []
    licence = licences.of_package(said, classifiers)
    return PackageFact(
        Ecosystem.PYPI,
        name,
        version,
        purl_of(Ecosystem.PYPI, name, version),
        artifact,
        file.path,
        file.sha256,
        licence=licence,
        requires=locked.requires,
        declared_licences=tuple(filter(None, (said[:500], *classifiers))),
    )


def _wheel_fact(
    artifact: str, file: LockedFile, seen: Contents, wheel: WheelSeen, locked: Package
) -> WheelFact:
    members = {one.path: (one.sha256, one.size) for one in seen.inner if one.depth == 1}
    cut_short = any(one.path == "" and one.rule.code in _CUT for one in seen.noticed)
    if wheel.problem or cut_short:
        record = RecordState(0, problem=wheel.problem or "the wheel was not read to its end")
    else:
        record = check_record(wheel, members)
    return WheelFact(
        artifact,
        file.path,
        file.sha256,
        wheel.metadata.name if wheel.metadata else locked.name,
        wheel.metadata.version if wheel.metadata else locked.version,
        wheel.tags,
        wheel.metadata.requires_python if wheel.metadata else locked.requires_python,
        locked.index,
        wheel.entry_points,
        tuple(one.path for one in seen.inner if one.depth == 1 and one.type in _NATIVE),
        tuple(
            PthLine(path, number, text, runs)
            for path, data in sorted(seen.kept.items())
            if _PTH.fullmatch(path)
            for number, text, runs in code.pth_lines(data)
        ),
        tuple(one.path for one in seen.inner if one.depth == 1 and code.STARTUP.fullmatch(one.path)),
        record,
        wheel.metadata.license_files if wheel.metadata else (),
        locked.yanked,
        provenance=locked.provenance,
    )


_CUT = (findings.BOMB.code, findings.MALFORMED.code, findings.NOT_LOOKED.code)
"""After these the rest of a blob was not looked into."""


def _judge_wheel(
    subject: str, fact: WheelFact, package: PackageFact, wheel: WheelSeen, known: bool
) -> Iterator[Finding]:
    """`known` is whether there is a finding of the whole file already."""
    record = fact.record
    if fact.yanked is not None:
        reason = f": {fact.yanked}" if fact.yanked else "; it gives no reason"
        yield findings.YANKED.at(subject, f"its index had yanked it when it was locked{reason}")
    if wheel.problem:
        if not known:
            yield findings.MALFORMED.at(subject, wheel.problem)
        return
    differences = {
        "changed": record.changed,
        "missing": record.missing,
        "not listed": record.unlisted,
    }
    said = [f"{len(paths)} {what}" for what, paths in differences.items() if paths]
    if said or wheel.record_problem:
        message = wheel.record_problem or f"its members and its RECORD differ: {', '.join(said)}"
        yield findings.RECORD.at(
            subject, message, _some(path for paths in differences.values() for path in paths)
        )
    if record.unhashed:
        message = f"its RECORD has no sha256 for {amount(len(record.unhashed), 'member')}"
        yield findings.RECORD_UNHASHED.at(subject, message, _some(record.unhashed))
    for line in fact.pth:
        if line.runs:
            message = f"line {line.line} runs at every start of Python"
            yield findings.STARTUP.at(inner_path(subject, line.path), message, line.text)
    for path in fact.startup:
        yield findings.STARTUP.at(inner_path(subject, path), "Python imports it at every start")
    yield from models.judge_terms(subject, package.licence)


def _unread_pth(subject: str, seen: Contents) -> Iterator[Finding]:
    for one in seen.inner:
        if one.depth == 1 and one.size and one.path not in seen.kept and _PTH.fullmatch(one.path):
            message = f"{one.size} bytes, more than are read of a .pth file"
            yield findings.NOT_LOOKED.at(inner_path(subject, one.path), message)


def _some(paths: Iterable[str]) -> str:
    listed = list(paths)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def role_of(artifact: Artifact, file: LockedFile) -> Role:
    """What a file of an artifact is declared to be."""
    match artifact:
        case WheelsArtifact():
            return Role.DOCUMENT if file.path.endswith(PROVENANCE_SUFFIX) else Role.WHEEL
        case ModelArtifact():
            return Role.MODEL
        case FileArtifact():
            return Role.FILE
        case ContainerArtifact():
            is_layer = "layer" in file.media_type or ".diff.tar" in file.media_type
            return Role.LAYER if is_layer else Role.DOCUMENT
