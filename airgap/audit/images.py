"""What an image is once its layers, each kept while it passed, lie on top of each other."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from airgap.audit import debian_copyright, findings, licences, secrets
from airgap.audit.code import pth_lines
from airgap.audit.debian_copyright import is_copyright
from airgap.audit.evidence import Account, Ecosystem, ImageFact, PackageFact, PrivilegedFile, Secret
from airgap.audit.layers import (
    ACCOUNTS,
    KeptLayer,
    Replay,
    is_imported_at_start,
    is_startup,
    privileged_names,
    sought_below,
    wanted,
)
from airgap.audit.purl import purl_of
from airgap.decode import Fields, Json, parse_json
from airgap.errors import InputError
from airgap.model import Finding, Sha256
from airgap.oci import MAX_CONFIG, ImageManifest, parse_config, without_nulls
from airgap.readers.image import MAX_FILE, MAX_TOTAL, Inventory, take_stock
from airgap.readers.union import PRIVILEGES, ImageFile, Union, Wish

_ECOSYSTEM = {"dpkg": Ecosystem.DEB, "apk": Ecosystem.APK, "rpm": Ecosystem.RPM}


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """An image as an auditor has it."""

    fact: ImageFact
    packages: tuple[PackageFact, ...]
    findings: tuple[Finding, ...]


def see_image(
    artifact: str,
    digest: Sha256,
    manifest: ImageManifest,
    config: bytes | None,
    layers: Mapping[Sha256, KeptLayer | None],
) -> ImageSeen:
    """Put an image together. A layer that is None, or absent, could not be read: its own finding says why."""
    kept = [(layer.digest, layers.get(layer.digest)) for layer in manifest.layers]
    unread = [f"layer sha256:{one}: not looked into" for one, layer in kept if layer is None]
    privileged = privileged_names(layer for _, layer in kept if layer)

    def holds(path: str) -> bool:
        known = wanted(path) or is_copyright(path) or is_imported_at_start(path)
        return known or path.rpartition("/")[2] in privileged

    union = Union(Wish(holds, MAX_FILE, MAX_TOTAL))
    try:
        for one, layer in kept:
            if layer:
                union.apply_kept(Replay(layer), one)
        files = union.files()
        unread += [
            f"/{path}: leads to /{real}, of which nothing was read" for path, real in _astray(union, files)
        ]
    except InputError as error:
        unread.append(error.message)
        files = {}
    evidence = {path: _whole(file) for path, file in files.items() if wanted(path)}
    inventory = take_stock(digest, evidence, unread, wanted)
    return _seen(artifact, manifest, config, files, inventory=inventory, union=union)


def _seen(
    artifact: str,
    manifest: ImageManifest,
    config: bytes | None,
    files: Mapping[str, ImageFile],
    *,
    inventory: Inventory,
    union: Union,
) -> ImageSeen:
    found = [findings.NOT_LOOKED.at(artifact, why) for why in inventory.unread]
    shown = _Config.of(config, artifact, found)
    privileged = tuple(
        PrivilegedFile(path, file.mode, file.uid, file.gid, Sha256(file.layer), file.capable)
        for path, file in files.items()
        if file.mode & PRIVILEGES or file.capable
    )
    found += [_privileged(artifact, one) for one in privileged]
    found += _startup(artifact, files)
    modules = {*filter(is_imported_at_start, files), *(path for path, _ in union.links(is_imported_at_start))}
    found += [
        findings.STARTUP.at(f"{artifact}: {path}", "Python imports it at every start")
        for path in sorted(modules)
    ]
    found += [
        findings.SECRET.at(f"{artifact}: {one.path}", secrets.describe(replace(one, line=0)))
        for one in shown.secrets
    ]
    fact = ImageFact(
        artifact,
        Sha256(inventory.digest),
        shown.platform,
        shown.created,
        tuple(layer.digest for layer in manifest.layers),
        inventory.os_release,
        shown.user,
        shown.entrypoint,
        shown.command,
        shown.working_directory,
        shown.environment,
        shown.exposed_ports,
        shown.volumes,
        _accounts(files),
        privileged,
        shown.secrets,
        shown.labels,
    )
    return ImageSeen(fact, tuple(_packages(artifact, inventory, files, union)), tuple(found))


def _astray(union: Union, files: Mapping[str, ImageFile]) -> Iterator[tuple[str, str]]:
    """Symbolic links on the way to evidence that lead to where nobody looked for it."""
    for path, real in union.links(lambda path: path not in files and bool([*sought_below(path)])):
        if not all(wanted(f"{real}{rest}") for rest in sought_below(path)):
            yield path, real


def _whole(file: ImageFile) -> ImageFile:
    """Evidence that is a link to a copyright file was not kept as it is."""
    condensed = file.data is not None and file.data.startswith(debian_copyright.MARK.encode())
    return replace(file, data=None) if condensed else file


def _privileged(artifact: str, file: PrivilegedFile) -> Finding:
    layer = f"layer sha256:{file.layer}"
    if not file.mode & PRIVILEGES:
        message = "has some of root's rights, whoever starts it (file capabilities)"
        return findings.SETUID.at(f"{artifact}: {file.path}", message, layer)
    what = "setuid" if file.mode & 0o4000 else "setgid"
    owner = file.uid if file.mode & 0o4000 else file.gid
    who = "root" if owner == 0 else f"{owner}"
    message = f"runs as {who}, whoever starts it ({what}, mode {file.mode:o})"
    return findings.SETUID.at(f"{artifact}: {file.path}", message, layer)


def _startup(artifact: str, files: Mapping[str, ImageFile]) -> Iterator[Finding]:
    for path, file in files.items():
        if is_startup(path):
            for number, text, runs in pth_lines(file.data or b""):
                if runs:
                    message = f"line {number} runs at every start of Python"
                    yield findings.STARTUP.at(f"{artifact}: {path}", message, text)


def _accounts(files: Mapping[str, ImageFile]) -> tuple[Account, ...]:
    """passwd(5); a line that is not one is nobody."""
    text = (files[ACCOUNTS].data or b"").decode("utf-8", "replace") if ACCOUNTS in files else ""
    lines = [
        re.fullmatch(r"([^:]*):[^:]*:([0-9]{1,10}):([0-9]{1,10}):[^:]*:([^:]*):([^:]*)", line)
        for line in text.split("\n")
    ]
    return tuple(Account(m[1], int(m[2]), int(m[3]), m[4], m[5]) for m in lines if m)


def _packages(
    artifact: str, inventory: Inventory, files: Mapping[str, ImageFile], union: Union
) -> Iterator[PackageFact]:
    release = inventory.os_release
    distribution, version = release.get("ID", ""), release.get("VERSION_ID", "")
    for package in inventory.distributions:
        said = package.metadata
        yield PackageFact(
            Ecosystem.PYPI,
            package.name,
            package.version,
            purl_of(Ecosystem.PYPI, package.name, package.version),
            artifact,
            package.path,
            Sha256(package.layer),
            licence=licences.of_package(said.license, said.classifiers) if said else "",
            requires=tuple(said.requires) if said else (),
        )
    for system in inventory.packages:
        ecosystem = _ECOSYSTEM[system.manager]
        file = _said_by(system.manager, system.name, files)
        by, licence = _by_copyright_file(system.name, union) if ecosystem is Ecosystem.DEB else ("", "")
        yield PackageFact(
            ecosystem,
            system.name,
            system.version,
            purl_of(
                ecosystem,
                system.name,
                system.version,
                architecture=system.architecture,
                distribution=distribution,
                distribution_version=version,
            ),
            artifact,
            file.path if file else "",
            Sha256(file.layer if file else ""),
            system.architecture,
            distribution,
            version,
            licence=licence or system.license[:_LICENCE],
            licence_by=by,
            source_name=_source_name(system.source),
            source_version=system.source_version,
        )


def _by_copyright_file(package: str, union: Union) -> tuple[str, str]:
    """Where a Debian package's licences stand, and which they are; both '' where no machine can read it."""
    path = debian_copyright.path_of(package)
    file = union.find(path) if path else None
    said = debian_copyright.condensed(file.data) if file and file.data else ()
    return (file.path, debian_copyright.expression(said)) if file and said else ("", "")


_LICENCE = 200
"""Characters of what a package says of its licence."""


def _source_name(source: str) -> str:
    """dpkg and apk name the source package; rpm the file `name-version-release.src.rpm`."""
    match = re.fullmatch(r"(.+)-[^-]+-[^-]+\.(?:no)?src\.rpm", source)
    return match[1] if match else source


def _said_by(manager: str, name: str, files: Mapping[str, ImageFile]) -> ImageFile | None:
    """The file that lists a system's packages; distroless has one for each."""
    part = f"var/lib/dpkg/status.d/{name}"
    places = {
        "dpkg": (part, "var/lib/dpkg/status"),
        "apk": ("lib/apk/db/installed", "usr/lib/apk/db/installed"),
    }
    rpm = (f"{home}/rpm/rpmdb.sqlite" for home in ("var/lib", "usr/lib/sysimage"))
    return next((files[path] for path in places.get(manager, rpm) if path in files), None)


@dataclass(frozen=True, slots=True)
class _Config:
    """An image's config (image-spec, config.md): what it runs, as whom, and what it tells the world."""

    platform: str = ""
    created: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    environment: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()

    @classmethod
    def of(cls, data: bytes | None, artifact: str, found: list[Finding]) -> "_Config":
        """What cannot be read is a finding, and leaves the rest."""
        if data is None:
            found.append(findings.NOT_LOOKED.at(f"{artifact}: config", "not looked into"))
            return cls()
        try:
            return cls._parse(data)
        except InputError as error:
            found.append(findings.MALFORMED.at(f"{artifact}: config", error.message))
            return cls()

    @classmethod
    def _parse(cls, data: bytes) -> "_Config":
        platform = parse_config(data, "config").platform
        document = parse_json(data, "config", max_bytes=MAX_CONFIG, floats=True)
        fields = Fields(without_nulls(document))
        run = fields.optional_table("config") or Fields({})
        environment = [line.partition("=")[::2] for line in run.texts("Env")]
        table = run.optional_table("Labels")
        labels = {key: table.text(key) for key in table.all_keys()} if table else {}
        entrypoint, command = run.texts("Entrypoint"), run.texts("Cmd")
        history = [step.text("created_by", default="") for step in fields.tables("history")]
        config = cls(
            str(platform),
            fields.text("created", default=""),
            run.text("User", default=""),
            entrypoint,
            command,
            run.text("WorkingDir", default=""),
            tuple(name for name, _ in environment),
            _keys(run, "ExposedPorts"),
            _keys(run, "Volumes"),
            labels,
            (*_secrets(environment, labels, (*entrypoint, *command), history), *_elsewhere(document)),
        )
        fields.raise_if_bad("config")
        run.raise_if_bad("config")
        return config


def _keys(fields: Fields, name: str) -> tuple[str, ...]:
    table = fields.optional_table(name)
    return tuple(sorted(table.all_keys())) if table else ()


def _secrets(
    environment: Sequence[tuple[str, str]],
    labels: Mapping[str, str],
    runs: Sequence[str],
    history: Sequence[str],
) -> Iterator[Secret]:
    for name, value in environment:
        yield from secrets.search(f"config: Env {name}", secrets.assignment(name, value))
    for name, value in labels.items():
        yield from secrets.search(f"config: label {name}", secrets.assignment(name, value))
    yield from secrets.search_command("config: command", " ".join(runs))
    for number, line in enumerate(history):
        yield from secrets.search_command(f"config: history[{number}]", line)


_SEARCHED = re.compile(r"config\.(?:Env|Labels|Entrypoint|Cmd)\b.*|history\[\d+\]\.created_by")
"""What `_secrets` has searched, for it knows more of it."""


def _elsewhere(document: Json) -> Iterator[Secret]:
    """Secrets in texts of a config that no engine asks for, which travel all the same."""
    pending: list[tuple[str, Json]] = [("", document)]
    while pending:
        at, value = pending.pop()
        if isinstance(value, list):
            pending += [(f"{at}[{number}]", one) for number, one in enumerate(value)]
        elif isinstance(value, dict):
            pending += [(f"{at}.{_shown(key)}".lstrip("."), one) for key, one in value.items()]
            if not _SEARCHED.fullmatch(at):
                yield from secrets.search(f"config: a key of {at or 'it'}", "\n".join(value))
        elif isinstance(value, str) and not _SEARCHED.fullmatch(at):
            yield from secrets.search_command(f"config: {at[:100]}", value)


def _shown(key: str) -> str:
    """A key may be a secret itself."""
    return key if re.fullmatch(r"[A-Za-z_]{1,30}", key) else "…"
