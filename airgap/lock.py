"""Exactly what is wanted: the JSON that `airgap lock` writes, people review, and every bundle carries.

The bytes depend on nothing but what was resolved: no time, no host, keys in a fixed order, one line
a value, so that a re-lock without upstream change is byte-identical and two locks diff well.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airgap.decode import Fields, read_document
from airgap.destination import read_audience, read_target, target_table
from airgap.errors import InputError
from airgap.model import (
    NAME_PATTERN,
    PROVENANCE_SUFFIX,
    Artifact,
    BundlePath,
    ContainerArtifact,
    FileArtifact,
    Kind,
    Local,
    LockedFile,
    Made,
    ModelArtifact,
    Origin,
    Package,
    Provenance,
    ProvenanceState,
    Remote,
    Sha256,
    Target,
    Variant,
    WheelsArtifact,
    bundle_path,
    path_collisions,
    sha256_hex,
)

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Lock:
    """`manifest` is the sha256 of the manifest's bytes; `tools` maps a tool's name to its version."""

    name: str
    version: str
    channel: str
    manifest: Sha256
    target: Target
    tools: Mapping[str, str]
    artifacts: tuple[Artifact, ...]
    audience: tuple[str, ...] = ()
    """Names of the sites it is for; empty for every site."""

    def find(self, name: str) -> Artifact | None:
        return next((a for a in self.artifacts if a.name == name), None)


def render_lock(lock: Lock) -> bytes:
    """The bytes of a lock file; `parse_lock` is the inverse."""
    document = {
        "format": FORMAT,
        "bundle": {"name": lock.name, "version": lock.version, "channel": lock.channel}
        | ({"audience": list(lock.audience)} if lock.audience else {}),
        "manifest": {"sha256": lock.manifest},
        "target": target_table(lock.target),
        "tools": dict(sorted(lock.tools.items())),
        "artifacts": [_artifact_table(artifact) for artifact in lock.artifacts],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def parse_lock(data: bytes, what: str) -> Lock:
    """Read a lock strictly. Raises InputError naming every problem by its key path."""
    return read_document(data, what, _lock)


def lock_digest(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


def distinct_files(artifacts: tuple[Artifact, ...]) -> dict[Sha256, LockedFile]:
    """Every blob once, however many artifacts use it, in the lock's order."""
    files: dict[Sha256, LockedFile] = {}
    for artifact in artifacts:
        for file in artifact.files:
            files.setdefault(file.sha256, file)
    return files


def _artifact_table(artifact: Artifact) -> dict[str, object]:
    table: dict[str, object] = {
        "kind": artifact.kind.value,
        "name": artifact.name,
        "request": artifact.request,
    }
    match artifact:
        case WheelsArtifact():
            table["requirements"] = list(artifact.requirements)
            table["python"] = artifact.python
            table["packages"] = [_package_table(package) for package in artifact.packages]
        case ModelArtifact():
            keys = ("repo", "revision", "commit", "quantization", "served_by", "licence", "gated")
            table |= {key: getattr(artifact, key) for key in keys if getattr(artifact, key)}
            if artifact.variants:
                table["variants"] = [_variant_table(variant) for variant in artifact.variants]
        case ContainerArtifact():
            table |= {"image": artifact.image, "digest": artifact.digest, "root": artifact.root}
            table["platforms"] = list(artifact.platforms)
            if artifact.left_out:
                table["left_out"] = list(artifact.left_out)
            if artifact.signature:
                table["signature"] = _provenance_table(artifact.signature)
        case FileArtifact():
            pass
    table["files"] = [_file_table(file) for file in artifact.files]
    return table


def _variant_table(variant: Variant) -> dict[str, object]:
    table: dict[str, object] = {"source": variant.source, "format": variant.format, "reason": variant.reason}
    return table | ({"chosen": True} if variant.chosen else {})


def _package_table(package: Package) -> dict[str, object]:
    table: dict[str, object] = {"name": package.name, "version": package.version, "file": package.file}
    optional = {
        "index": package.index,
        "requires_python": package.requires_python,
        "requires": list(package.requires),
        "provenance": _provenance_table(package.provenance) if package.provenance else None,
    }
    yanked = {} if package.yanked is None else {"yanked": package.yanked}
    return table | {key: value for key, value in optional.items() if value} | yanked


def _provenance_table(found: Provenance) -> dict[str, object]:
    optional = {
        "publishers": list(found.publishers),
        "reason": found.reason,
        "files": list(found.files),
    }
    return {"state": found.state.value} | {key: value for key, value in optional.items() if value}


def _file_table(file: LockedFile) -> dict[str, object]:
    table: dict[str, object] = {"path": file.path, "size": file.size, "sha256": file.sha256}
    if file.media_type:
        table["media_type"] = file.media_type
    origin = file.origin
    if isinstance(origin, Made):
        table["made"] = {"how": origin.how, "sha256": origin.source_sha256} | _source(origin.source)
    else:
        table |= _source(origin)
    return table


def _source(source: Remote | Local) -> dict[str, str]:
    if isinstance(source, Remote):
        return {"url": source.url}
    return {"local": source.path} | ({"member": source.member} if source.member else {})


def _lock(fields: Fields) -> Lock:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads lock format {FORMAT}")
    bundle = fields.table("bundle")
    manifest = fields.table("manifest")
    tools = fields.table("tools")
    lock = Lock(
        bundle.text("name", pattern=NAME_PATTERN, expected="a bundle name"),
        bundle.text("version"),
        bundle.text("channel", pattern=NAME_PATTERN, expected="a channel name"),
        manifest.parsed("sha256", sha256_hex, Sha256("")),
        read_target(fields.table("target")),
        {key: tools.text(key) for key in tools.all_keys()},
        tuple(a for table in fields.tables("artifacts") if (a := _artifact(table)) is not None),
        read_audience(bundle),
    )
    for table in (bundle, manifest, tools):
        table.done()
    counts = Counter(artifact.name for artifact in lock.artifacts)
    for name in sorted(name for name, count in counts.items() if count > 1):
        fields.problem("artifacts", f"two artifacts are named {name!r}")
    return lock


def _artifact(fields: Fields) -> Artifact | None:
    readers: dict[str, Callable[[Fields, str, str, tuple[LockedFile, ...]], Artifact]] = {
        Kind.WHEELS: _wheels,
        Kind.MODEL: _model,
        Kind.CONTAINER: _container,
        Kind.FILE: _file_artifact,
    }
    kind = fields.text("kind")
    name = fields.text("name", pattern=NAME_PATTERN, expected="an artifact name")
    request = fields.text("request")
    files = tuple(_file(table) for table in fields.tables("files"))
    for problem in path_collisions(file.path for file in files):
        fields.problem("files", problem)
    if kind not in readers:
        fields.problem("kind", f"expected one of {', '.join(readers)}, found {kind!r}")
        return None
    artifact = readers[kind](fields, name, request, files)
    fields.done()
    return artifact


def _wheels(fields: Fields, name: str, request: str, files: tuple[LockedFile, ...]) -> WheelsArtifact:
    packages = tuple(_package(table) for table in fields.tables("packages"))
    attested = {path for p in packages if p.provenance for path in p.provenance.files}
    if {package.file for package in packages} | attested != {file.path for file in files}:
        fields.problem("packages", "expected exactly one package for each file")
    return WheelsArtifact(name, request, fields.texts("requirements"), fields.text("python"), packages, files)


def _model(fields: Fields, name: str, request: str, files: tuple[LockedFile, ...]) -> ModelArtifact:
    return ModelArtifact(
        name,
        request,
        fields.text("repo", default="", pattern=r"([\w-][\w.-]*/[\w-][\w.-]*)?", expected="org/name"),
        fields.text("revision", default="", pattern=r"([\w-][\w./-]*)?", expected="a revision"),
        fields.text("commit", default="", pattern=r"([0-9a-f]{40})?", expected="40 hex digits"),
        fields.text("quantization", default=""),
        fields.text("served_by", default=""),
        fields.text("licence", default=""),
        fields.text("gated", default=""),
        files,
        _variants(fields),
    )


def _variants(fields: Fields) -> tuple[Variant, ...]:
    variants = tuple(_variant(table) for table in fields.tables("variants"))
    if variants and sum(variant.chosen for variant in variants) != 1:
        fields.problem("variants", "expected exactly one that is chosen")
    return variants


def _variant(fields: Fields) -> Variant:
    variant = Variant(
        fields.text("source"), fields.text("format"), fields.text("reason"), fields.flag("chosen")
    )
    fields.done()
    return variant


def _container(fields: Fields, name: str, request: str, files: tuple[LockedFile, ...]) -> ContainerArtifact:
    artifact = ContainerArtifact(
        name,
        request,
        fields.text("image"),
        fields.parsed("digest", sha256_hex, Sha256("")),
        fields.parsed("root", sha256_hex, Sha256("")),
        fields.texts("platforms"),
        fields.texts("left_out"),
        files,
        _provenance(fields, "signature"),
    )
    if artifact.signature and not set(artifact.signature.files) <= {file.path for file in files}:
        fields.problem("signature.files", "expected each among the files")
    if not {artifact.digest, artifact.root} <= {file.sha256 for file in files}:
        fields.problem("files", "the image's own manifest is not among them")
    return artifact


def _file_artifact(fields: Fields, name: str, request: str, files: tuple[LockedFile, ...]) -> FileArtifact:
    if len(files) != 1:
        fields.problem("files", f"expected one file, found {len(files)}")
    return FileArtifact(name, request, files)


def _package(fields: Fields) -> Package:
    package = Package(
        fields.text("name"),
        fields.text("version"),
        fields.parsed("file", bundle_path, BundlePath("")),
        fields.text("index", default=""),
        fields.text("requires_python", default=""),
        fields.texts("requires"),
        fields.optional_text("yanked"),
        _provenance(fields, "provenance"),
    )
    attested = f"{package.file}{PROVENANCE_SUFFIX}"
    if package.provenance and package.provenance.files not in ((), (attested,)):
        fields.problem("provenance.files", f"expected {attested} alone")
    fields.done()
    return package


def _provenance(fields: Fields, key: str) -> Provenance | None:
    table = fields.optional_table(key)
    if table is None:
        return None
    states = "|".join(ProvenanceState)
    state = table.text("state", pattern=states, expected=states.replace("|", ", "))
    found = Provenance(
        ProvenanceState(state or ProvenanceState.UNKNOWN),
        table.texts("publishers"),
        table.text("reason", default=""),
        table.texts("files"),
    )
    if bool(found.files) != (found.state is ProvenanceState.PRESENT):
        table.problem("files", "expected some where the state is present, and only there")
    table.done()
    return found


def _file(fields: Fields) -> LockedFile:
    file = LockedFile(
        fields.parsed("path", bundle_path, BundlePath("")),
        fields.integer("size"),
        fields.parsed("sha256", sha256_hex, Sha256("")),
        _origin(fields),
        fields.text("media_type", default=""),
    )
    fields.done()
    return file


def _origin(fields: Fields) -> Origin:
    fields.one_of("url", "local", "made")
    made = fields.optional_table("made")
    if made is None:
        return _remote_or_local(fields)
    origin = Made(made.text("how"), _remote_or_local(made), made.parsed("sha256", sha256_hex, Sha256("")))
    made.done()
    return origin


def _remote_or_local(fields: Fields) -> Remote | Local:
    if fields.has("local"):
        return Local(fields.text("local"), fields.text("member", default=""))
    return Remote(fields.text("url", pattern=r"(https?|file)://\S+", expected="a URL"))


def require_current(lock: Lock, manifest: Sha256, what: str) -> None:
    """Raise InputError unless the lock was made from the manifest with this digest."""
    if lock.manifest != manifest:
        raise InputError(
            f"{what}: made from another version of the manifest",
            remedy="run 'airgap lock' again, review what changed, and repeat",
        )
