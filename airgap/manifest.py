"""What is wanted: the TOML file a person writes, read whole or refused with every problem at once."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from airgap.decode import Fields, canonical_json, parse_toml, read_capped
from airgap.destination import read_audience, read_target
from airgap.errors import InputError
from airgap.model import (
    NAME_EXPECTED,
    NAME_PATTERN,
    VERSION_PATTERN,
    Kind,
    Platform,
    Sha256,
    Target,
    sha256_hex,
)

MAX_MANIFEST = 1024 * 1024
"""Bytes; a manifest is written by a person."""


@dataclass(frozen=True, slots=True)
class WheelsRequest:
    """`[[wheels]]`: requirements to resolve for the target. Paths are relative to the manifest."""

    name: str
    requirements: tuple[str, ...]
    requirements_file: str
    constraints: tuple[str, ...]
    """Constraint files."""
    index_url: str
    extra_index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    allow_sdist: tuple[str, ...]

    kind: ClassVar = Kind.WHEELS


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """`[[models]]`: a hub repository at a revision, or a local directory."""

    name: str
    repo: str
    path: str
    revision: str
    quantization: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    served_by: str

    kind: ClassVar = Kind.MODEL


@dataclass(frozen=True, slots=True)
class VariantsRequest:
    """`[[models]]` with `[[models.variants]]`: candidates for one model, in the order of preference.

    Each has the model's name and `served_by`.
    """

    name: str
    served_by: str
    variants: tuple[ModelRequest, ...]

    kind: ClassVar = Kind.MODEL


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """`[[containers]]`: an image in a registry, a local archive (docker or OCI), or an OCI layout."""

    name: str
    image: str
    archive: str
    layout: str
    platforms: tuple[str, ...]
    """As written; empty means the target's alone, `all` every one."""
    plain_http: bool

    kind: ClassVar = Kind.CONTAINER


@dataclass(frozen=True, slots=True)
class FileRequest:
    """`[[files]]`: one file from a URL or a local path."""

    name: str
    url: str
    path: str
    sha256: str

    kind: ClassVar = Kind.FILE


INSTALLER = "airgap-installer"
"""The artifact that `[bundle] installer = true` asks for."""


@dataclass(frozen=True, slots=True)
class InstallerRequest:
    """airgap itself, as one file for the target's Python and platform."""

    name: str = INSTALLER

    kind: ClassVar = Kind.FILE


Request = WheelsRequest | ModelRequest | VariantsRequest | ContainerRequest | FileRequest | InstallerRequest


def request_digest(request: Request, extra: Mapping[str, str] | None = None) -> str:
    """sha256 over the normalised request, so a lock knows whether it still answers it.

    `extra` holds what the request refers to, such as the text of a requirements file.
    """
    table = {"kind": request.kind.value, **asdict(request), "extra": dict(extra or {})}
    return hashlib.sha256(canonical_json(table)).hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as read; `sha256` is of its bytes, `directory` is what its paths are relative to."""

    name: str
    version: str
    channel: str
    target: Target
    requests: tuple[Request, ...]
    sha256: Sha256
    directory: Path
    audience: tuple[str, ...] = ()
    """Names of the sites the bundle is for; empty for every site."""
    provenance: bool = True
    """Whether attestations of wheels and signatures of images are looked for, and travel."""


def load_manifest(path: Path) -> Manifest:
    """Read and judge a manifest. Raises InputError naming file, key and expectation for every problem."""
    return parse_manifest(read_capped(path, max_bytes=MAX_MANIFEST), str(path), path.parent)


def parse_manifest(data: bytes, what: str, directory: Path) -> Manifest:
    """The pure part of `load_manifest`. Raises InputError."""
    document = Fields(parse_toml(data, what))
    bundle = document.table("bundle")
    name = bundle.text("name", pattern=NAME_PATTERN, expected=NAME_EXPECTED)
    version = bundle.text("version", pattern=VERSION_PATTERN, expected="a version such as 2026.11")
    channel = bundle.text(
        "channel", default=name, pattern=NAME_PATTERN if name else "", expected=NAME_EXPECTED
    )
    audience = read_audience(bundle)
    installer = bundle.flag("installer")
    provenance = bundle.flag("provenance", default=True)
    bundle.done()
    target = read_target(document.table("target"))
    requests: list[Request] = [
        *(_wheels(table) for table in document.tables("wheels")),
        *(_model(table) for table in document.tables("models")),
        *(_container(table) for table in document.tables("containers")),
        *(_file(table) for table in document.tables("files")),
        *([InstallerRequest()] if installer else []),
    ]
    _judge_names(document, requests)
    document.done()
    document.raise_if_bad(what)
    digest = Sha256(hashlib.sha256(data).hexdigest())
    return Manifest(name, version, channel, target, tuple(requests), digest, directory, audience, provenance)


def _wheels(fields: Fields) -> WheelsRequest:
    request = WheelsRequest(
        _name(fields),
        fields.texts("requirements"),
        fields.optional_text("requirements-file") or "",
        fields.texts("constraints"),
        _url(fields, "index-url"),
        fields.texts("extra-index-urls"),
        fields.texts("find-links"),
        fields.texts("allow-sdist"),
    )
    if not request.requirements and not request.requirements_file:
        fields.problem("", "expected requirements or requirements-file")
    fields.done()
    return request


def _model(fields: Fields) -> ModelRequest | VariantsRequest:
    name, served_by = _name(fields), fields.optional_text("served-by") or ""
    if not fields.has("variants"):
        return _model_source(fields, name, served_by)
    variants = tuple(_model_source(table, name, served_by) for table in fields.tables("variants"))
    if not variants:
        fields.problem("variants", "expected [[models.variants]], one or more")
    fields.done()
    return VariantsRequest(name, served_by, variants)


def _model_source(fields: Fields, name: str, served_by: str) -> ModelRequest:
    fields.one_of("repo", "path")
    repo = fields.optional_text(
        "repo", pattern=r"[\w.-]+/[\w.-]+", expected="a hub repository such as org/name"
    )
    request = ModelRequest(
        name,
        repo or "",
        fields.optional_text("path") or "",
        fields.text("revision", default="main"),
        (fields.optional_text("quantization") or "").lower(),
        fields.texts("include"),
        fields.texts("exclude"),
        served_by,
    )
    if request.path and fields.has("revision"):
        fields.problem("revision", "a local path has no revision")
    fields.done()
    return request


def _container(fields: Fields) -> ContainerRequest:
    fields.one_of("image", "archive", "layout")
    request = ContainerRequest(
        _name(fields),
        fields.optional_text("image") or "",
        fields.optional_text("archive") or "",
        fields.optional_text("layout") or "",
        fields.texts("platforms"),
        fields.flag("plain-http"),
    )
    for index, platform in enumerate(request.platforms):
        if platform != "all":
            try:
                Platform.parse(platform)
            except InputError as error:
                fields.problem(f"platforms[{index}]", error.message)
    if request.plain_http and not request.image:
        fields.problem("plain-http", "only an image in a registry is fetched over HTTP")
    fields.done()
    return request


def _file(fields: Fields) -> FileRequest:
    fields.one_of("url", "path")
    request = FileRequest(
        _name(fields),
        _url(fields, "url"),
        fields.optional_text("path") or "",
        fields.parsed("sha256", sha256_hex, Sha256("")) if fields.has("sha256") else "",
    )
    name = PurePosixPath(request.url or request.path).name
    if (request.url or request.path) and not name:
        fields.problem("url" if request.url else "path", "does not end in a file name")
    fields.done()
    return request


def _name(fields: Fields) -> str:
    return fields.text("name", pattern=NAME_PATTERN, expected=NAME_EXPECTED)


def _url(fields: Fields, key: str) -> str:
    pattern = r"(https?|file)://\S+"
    return fields.optional_text(key, pattern=pattern, expected="an http(s) or file URL") or ""


def _judge_names(document: Fields, requests: list[Request]) -> None:
    seen: dict[str, Request] = {}
    for request in requests:
        if request.name and request.name in seen:
            other = seen[request.name].kind
            document.problem(
                "", f"the name {request.name!r} is used by a {other} and a {request.kind}; names are unique"
            )
        seen[request.name] = request
    servers = {r.name for r in requests if r.kind in (Kind.WHEELS, Kind.CONTAINER)}
    for request in requests:
        models = (ModelRequest, VariantsRequest)
        if isinstance(request, models) and request.served_by and request.served_by not in servers:
            document.problem(
                f"models.{request.name}.served-by",
                f"no wheels set or container is named {request.served_by!r}",
            )
    if not requests:
        document.problem("", "nothing is wanted: add [[wheels]], [[models]], [[containers]] or [[files]]")


def is_commit(text: str) -> bool:
    """Whether a revision is already a git commit: 40 hex digits."""
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None
