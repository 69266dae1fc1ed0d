"""The report's tables: every artifact, and what is inside of each kind."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from airgap.audit.evidence import ArtifactFact, Audit, ImageFact, ModelFact, PackageFact, WheelFact
from airgap.audit.page import Column, Html, code, element, facts, join, section, table, tag, text
from airgap.model import Kind
from airgap.provenance import describe
from airgap.units import amount, human_bytes

MAX_ROWS = 20_000
"""Of one table: a browser takes seconds for more. What is left out is in report.json and files.csv."""


def artifacts_section(audit: Audit) -> Html:
    columns = [
        Column("kind", whole=True), Column("name"), Column("source, digest"), Column("licence"),
        Column("files", number=True), Column("size", number=True),
    ]  # fmt: skip
    cards = {model.artifact: model.licence for model in audit.models}
    rows = (
        [
            text(artifact.kind),
            text(artifact.name),
            _source(artifact),
            text(artifact.licence or cards.get(artifact.name, "")),
            text(artifact.files),
            text(human_bytes(artifact.bytes)),
        ]
        for artifact in audit.artifacts
    )
    return section("artifacts", "Artifacts", table(columns, rows))


def _source(artifact: ArtifactFact) -> Html:
    lines = [text(artifact.source), element("div", code(f"sha256:{artifact.digest}"), kind="soft")]
    if artifact.signature:
        lines.append(element("div", text(f"signature: {describe(artifact.signature)}"), kind="soft"))
    return join(lines)


def models_section(audit: Audit) -> Html:
    shown = [
        *map(_model, audit.models),
        *_unseen(audit, Kind.MODEL, (model.artifact for model in audit.models)),
    ]
    return section("models", "Models", *(shown or [_none()]))


def images_section(audit: Audit) -> Html:
    unseen = _unseen(audit, Kind.CONTAINER, (image.artifact for image in audit.images))
    shown = [*(_image(audit, image) for image in audit.images), *unseen]
    return section("images", "Images", *(shown or [_none()]))


def wheels_section(audit: Audit) -> Html:
    """What runs by itself or is not Python, and who claims to have made it."""
    columns = [Column("wheel"), Column("what it brings")]
    rows = [
        [
            join((text(wheel.path), element("div", text(_vouched(wheel)), kind="soft"))),
            join(element("div", line) for line in (*_startup(wheel), *map(text, _brought(wheel)))),
        ]
        for wheel in audit.wheels
    ]
    note = element("p", text("report.json has where each command and plug-in leads."), kind="soft")
    inside = [note, _capped(columns, rows, "report.json")] if rows else []
    unseen = _unseen(audit, Kind.WHEELS, (wheel.artifact for wheel in audit.wheels))
    return section("wheels", "Wheels", *((*inside, *unseen) or (_none(),)))


_COMMANDS = ("console_scripts", "gui_scripts")
_NAMED = 8
"""Names in one cell; a plug-in framework registers hundreds."""


def _vouched(wheel: WheelFact) -> str:
    claims = describe(wheel.provenance)
    return f"RECORD: {_record(wheel)}" + (f"; attestations: {claims}" if claims else "")


def _startup(wheel: WheelFact) -> Iterator[Html]:
    lines = [*(f"{p.path}:{p.line} {p.text}" for p in wheel.pth if p.runs), *wheel.startup]
    for line in lines:
        yield join((tag("runs by itself", "warning"), text(" "), code(line)))


def _brought(wheel: WheelFact) -> Iterator[str]:
    """What a wheel adds to an environment, a line a kind."""
    commands = [point.name for point in wheel.entry_points if point.group in _COMMANDS]
    if commands:
        yield f"{amount(len(commands), 'command')}: {_some(commands)}"
    groups = Counter(point.group for point in wheel.entry_points if point.group not in _COMMANDS)
    if groups:
        said = [f"{group} ({count})" for group, count in sorted(groups.items())]
        yield f"plug-ins: {_some(said)}"
    if wheel.native_libraries:
        names = [path.rpartition("/")[2] for path in wheel.native_libraries]
        yield f"{amount(len(names), 'native file')}: {_some(names)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def packages_section(audit: Audit) -> Html:
    columns = [Column("package"), Column("version"), Column("licence"), Column("in"), Column("where, digest")]
    ordered = sorted(audit.packages, key=lambda p: (p.artifact, p.ecosystem, p.name, p.version, p.path))
    rows = [
        [
            text(package.name),
            text(package.version),
            _licence(package),
            text(f"{package.artifact} ({package.ecosystem})"),
            join((text(package.path), element("div", code(package.digest[:16]), kind="soft"))),
        ]
        for package in ordered
    ]
    by_file = [element("p", text(_BY_FILE), kind="soft")] if any(p.licence_by for p in audit.packages) else []
    inside = _capped(columns, rows, "report.json") if rows else _none()
    return section("packages", "Packages", *by_file, inside)


_BY_FILE = (
    "A Debian package's licence is what its copyright file says of the whole source package,"
    " tests and packaging among it; LicenseRef-debian-… is a name that SPDX does not list."
)


def _licence(package: PackageFact) -> Html:
    if not package.licence:
        return element("span", text("not stated"), kind="soft")
    if not package.licence_by:
        return text(_one_line(package.licence))
    by = element("div", text("by its copyright file"), kind="soft")
    return element("div", text(package.licence), by, kind="long")


def files_section(audit: Audit) -> Html:
    columns = [
        Column("artifact"),
        Column("path"),
        Column("type"),
        Column("sha256"),
        Column("size", number=True),
    ]
    rows = [
        [text(f.artifact), text(f.path), text(f.type), code(f.sha256[:16]), text(human_bytes(f.size))]
        for f in audit.files
    ]
    note = element("p", text("files.csv has the whole digests, sources and licences."), kind="soft")
    types = Counter(f.type for f in audit.files).most_common(12)
    kinds = element("p", text(", ".join(f"{count} {name}" for name, count in types)))
    return section("files", "Files", kinds, note, _capped(columns, rows, "files.csv") if rows else _none())


def _model(model: ModelFact) -> Html:
    dtypes = ", ".join(f"{dtype} {human_bytes(size)}" for dtype, size in sorted(model.bytes_by_dtype.items()))
    also = dict.fromkeys(filter(None, (model.licence_name, model.licence_link)))
    more = ", ".join(word for word in also if word != model.licence)
    licence = f"{model.licence} ({more})" if model.licence and more else model.licence or more
    weights = (
        f"{model.format}, {amount(model.tensors, 'tensor')}, {model.parameters:,} parameters"
        if model.format
        else ""
    )
    return join(
        (
            element("h3", text(model.artifact)),
            facts(
                [
                    ("From", text("@".join(filter(None, (model.repo, model.commit))))),
                    ("Licence", text(licence or "none stated")),
                    ("Gated", text(model.gating)),
                    ("Made from", text(", ".join(model.base_models))),
                    ("Data sets", text(", ".join(model.datasets))),
                    ("Languages", text(", ".join(model.languages))),
                    ("Weights", text(weights or "no header could be read")),
                    (
                        "Quantised",
                        text(_quantised(model)),
                    ),
                    ("Bytes", text(dtypes)),
                    ("Remote code", _lines(model.remote_code)),
                ]
            ),
        )
    )


def _quantised(model: ModelFact) -> str:
    if not model.tensors:
        return ""
    return f"{model.quantized_share:.1%} of the parameters" if model.quantized_share else "nothing"


def _image(audit: Audit, image: ImageFact) -> Html:
    packages = Counter(p.ecosystem.value for p in audit.packages if p.artifact == image.artifact)
    system = image.os_release.get("PRETTY_NAME") or " ".join(
        filter(None, (image.os_release.get("ID"), image.os_release.get("VERSION_ID")))
    )
    return join(
        (
            element("h3", text(f"{image.artifact} {image.platform}")),
            facts(
                [
                    ("Digest", code(f"sha256:{image.digest}")),
                    ("Built", text(image.created)),
                    ("System", text(system)),
                    ("Packages", text(", ".join(f"{n} {name}" for name, n in sorted(packages.items())))),
                    ("Runs", text(" ".join((*image.entrypoint, *image.command)))),
                    ("As", text(_user(image))),
                    ("Ports", text(", ".join(image.exposed_ports))),
                    ("Volumes", text(", ".join(image.volumes))),
                    ("Environment", text(", ".join(image.environment))),
                    (
                        "Accounts",
                        text(
                            ", ".join(f"{a.name} ({a.uid})" for a in image.accounts if _can_log_in(a.shell))
                        ),
                    ),
                    (
                        "Privileged files",
                        _lines(
                            f"{p.mode:04o} {p.path} ({p.uid}:{p.gid}{', capabilities' if p.capable else ''})"
                            for p in image.privileged
                        ),
                    ),
                    ("Secrets", _lines(f"{s.path}: {s.rule}: {s.shown}" for s in image.secrets)),
                    ("Layers", text(len(image.layers))),
                ]
            ),
        )
    )


def _user(image: ImageFact) -> str:
    """Whom it runs as; a config that was read names a platform at least."""
    if not image.platform:
        return "not known: its config was not read"
    return image.user or "root, for no user is named"


def _can_log_in(shell: str) -> bool:
    return not shell.endswith(("nologin", "false", "sync"))


def _record(wheel: WheelFact) -> str:
    record = wheel.record
    if record.whole:
        return f"{amount(record.checked, 'file')}, all as listed"
    counts = (("changed", record.changed), ("missing", record.missing), ("not listed", record.unlisted))
    said = [f"{len(paths)} {word}" for word, paths in (*counts, ("without digest", record.unhashed)) if paths]
    return ", ".join(filter(None, (record.problem, *said)))


def _capped(columns: list[Column], rows: list[list[Html]], elsewhere: str) -> Html:
    whole = table(columns, rows[:MAX_ROWS], elsewhere)
    left = len(rows) - MAX_ROWS
    return whole if left <= 0 else join((whole, element("p", text(f"and {left} more, in {elsewhere}"))))


def _lines(texts: Iterable[str]) -> Html:
    return join(element("div", text(line), kind="mono") for line in texts)


def _one_line(licence: str) -> str:
    first = licence.strip().split("\n")[0]
    return first if len(first) <= 80 else f"{first[:79]}…"


def _unseen(audit: Audit, kind: Kind, seen: Iterable[str]) -> list[Html]:
    """Artifacts of which nothing can be shown: they lie on another volume, or are damaged."""
    known = set(seen)
    names = [one.name for one in audit.artifacts if one.kind is kind and one.name not in known]
    said = join((tag("not looked into", "warning"), text(f" {', '.join(names)}; Findings say why.")))
    return [element("p", said)] if names else []


def _none() -> Html:
    return element("p", text("None."), kind="soft")
