"""What a wheel says of itself: its name, METADATA, WHEEL and RECORD (binary distribution format, PEP 427)."""

import base64
import binascii
import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

from airgap.errors import InputError
from airgap.model import BundlePath, Sha256
from airgap.readers.zip import Archive
from airgap.tags import WheelName, normalized_name

MAX_METADATA = 4 * 1024 * 1024
"""Bytes; the longest descriptions on the public index have some 100 KiB."""

MAX_RECORD = 8 * 1024 * 1024
MAX_HEADERS = 20_000

_ONCE = ("metadata-version", "name", "version", "requires-python", "license", "license-expression")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"[0-9A-Za-z]+(?:[._+!-][0-9A-Za-z]+)*"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The fields of METADATA that decide something (core metadata 2.x). Raises InputError in `parse`."""

    name: str
    """As spelled there."""
    version: str
    requires_python: str
    requires: tuple[str, ...]
    """Requires-Dist, as written (PEP 508)."""
    extras: tuple[str, ...]
    license: str
    """License-Expression (PEP 639), else the free text of License."""
    license_files: tuple[str, ...]
    classifiers: tuple[str, ...]
    lines: Mapping[str, int]
    """The text of each Requires-Dist and of Requires-Python -> its line in the file, for evidence."""

    @classmethod
    def parse(cls, data: bytes, what: str) -> "Metadata":
        headers = parse_headers(data, what)
        for name in _ONCE:
            if len(headers.get(name, ())) > 1:
                raise InputError(f"{what}: expected {name} once, found it {len(headers[name])} times")

        def single(name: str) -> str:
            return headers[name][0][1] if name in headers else ""

        def several(name: str) -> tuple[str, ...]:
            return tuple(value for _, value in headers.get(name, ()))

        for name, pattern in (("name", _NAME), ("version", _VERSION)):
            if not re.fullmatch(pattern, single(name)):
                raise InputError(f"{what}: expected a {name}, found {single(name)[:80]!r}")
        return cls(
            name=single("name"),
            version=single("version"),
            requires_python=single("requires-python"),
            requires=several("requires-dist"),
            extras=several("provides-extra"),
            license=single("license-expression") or single("license"),
            license_files=several("license-file"),
            classifiers=several("classifier"),
            lines={
                value: line
                for name in ("requires-python", "requires-dist")
                for line, value in reversed(headers.get(name, ()))
            },
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line of RECORD. `sha256` is None for a file that it lists without one, as RECORD itself."""

    path: str
    sha256: Sha256 | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel, its members unread but for what names it. `file` is the name it travels under."""

    file: WheelName
    metadata: Metadata
    tags: tuple[str, ...]
    """Of WHEEL, expanded as the file name's are; builders that retag a file leave these behind."""
    purelib: bool
    dist_info: str
    """The directory, without a '/'."""
    archive: Archive

    @property
    def metadata_member(self) -> str:
        return f"{self.dist_info}/METADATA"

    def record(self) -> tuple[Recorded, ...]:
        """RECORD, every line. Raises InputError when it is absent or malformed."""
        what = f"{self.archive.what}: RECORD"
        data = self.archive.read(f"{self.dist_info}/RECORD", MAX_RECORD)
        rows = csv.reader(io.StringIO(_decoded(data, what), newline=""), strict=True)
        try:
            return tuple(_recorded(row, what) for row in rows if row)
        except csv.Error as error:
            raise InputError(f"{what}: line {rows.line_num}: {error}") from None

    def top_level(self) -> tuple[str, ...]:
        """Names of the modules and packages that it installs beside others, sorted."""
        found = set()
        for path in installed_paths(self.archive.paths()):
            first, _, rest = path.partition("/")
            if rest and re.fullmatch(r"\w+", first):
                found.add(first)
            elif module := re.fullmatch(r"(\w+)(\.[\w-]+)*\.(py|so)", first):
                found.add(module[1])
        return tuple(sorted(found))


def read_wheel(archive: Archive, file: str) -> Wheel:
    """Open a wheel that travels under the name `file`.

    Raises InputError when name, dist-info and METADATA do not say the same project and version.
    """
    name = WheelName.parse(file)
    found = [
        path.split("/")[0] for path in archive.paths() if re.fullmatch(r"[^/]+\.dist-info/METADATA", path)
    ]
    if len(found) != 1:
        raise InputError(f"{archive.what}: expected one dist-info directory, found {len(found)}")
    [dist_info] = found
    metadata = Metadata.parse(
        archive.read(f"{dist_info}/METADATA", MAX_METADATA), f"{archive.what}: METADATA"
    )
    said = {
        _project(name.name, name.version),
        _project(*dist_info.removesuffix(".dist-info").partition("-")[::2]),
        _project(metadata.name, metadata.version),
    }
    if len(said) != 1:
        raise InputError(
            f"{archive.what}: expected one project and version, found"
            f" {' and '.join(sorted(f'{project} {version}' for project, version in said))}",
            remedy="fetch the wheel again; if it is as published, report it to its publisher",
        )
    headers = parse_headers(archive.read(f"{dist_info}/WHEEL", MAX_METADATA), f"{archive.what}: WHEEL")
    format_version = headers.get("wheel-version", ((0, ""),))[0][1]
    if not re.fullmatch(r"1\.[0-9]+", format_version):
        raise InputError(f"{archive.what}: expected Wheel-Version 1.x, found {format_version[:20]!r}")
    tags = tuple(value for _, value in headers.get("tag", ()))
    purelib = headers.get("root-is-purelib", ((0, ""),))[0][1].lower() == "true"
    return Wheel(name, metadata, tags, purelib, dist_info, archive)


def parse_headers(data: bytes, what: str) -> dict[str, tuple[tuple[int, str], ...]]:
    """Header lines up to the first empty one (RFC 822 as PEP 566 restricts it): name -> (line, value)s.

    Names are lower-case; a continued value keeps its line breaks. Raises InputError for anything else.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    name = ""
    for number, line in enumerate(_decoded(data, what).split("\n"), 1):
        line = line.removesuffix("\r")  # noqa: PLW2901
        if not line:
            break
        if line[0] in " \t" and name:
            begun, value = found[name][-1]
            found[name][-1] = (begun, f"{value}\n{line.strip()}")
            continue
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9-]*):(.*)", line)
        if not match or number > MAX_HEADERS:
            raise InputError(f"{what}: line {number}: expected 'Name: value', found {line[:80]!r}")
        name = match[1].lower()
        found.setdefault(name, []).append((number, match[2].strip()))
    return {name: tuple(values) for name, values in found.items()}


def installed_paths(paths: "tuple[BundlePath, ...]") -> tuple[str, ...]:
    """Where members land in site-packages; `*.data/purelib` and `platlib` are unfolded, the rest left out."""
    landed = []
    for path in paths:
        inside = re.fullmatch(r"[^/]+\.data/(purelib|platlib)/(.+)", path)
        if inside:
            landed.append(inside[2])
        elif not re.match(r"[^/]+\.(data|dist-info)/", path):
            landed.append(path)
    return tuple(landed)


def _project(name: str, version: str) -> tuple[str, str]:
    """Comparable: file names escape '-' and '+' in versions, and builders differ in normalising them."""
    return normalized_name(name), re.sub(
        r"[-_]", ".", re.sub(r"\+.*", lambda m: m[0].replace("_", "."), version)
    )


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: not UTF-8 at byte {error.start}") from None


_SIZE = re.compile(r"[0-9]{0,18}")


def _recorded(row: list[str], what: str) -> Recorded:
    if len(row) != 3 or not _SIZE.fullmatch(row[2]):
        raise InputError(f"{what}: expected path, hash and size, found {','.join(row)[:120]!r}")
    algorithm, _, encoded = row[1].partition("=")
    try:
        digest = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        digest = b""
    if row[1] and (len(digest) == 0 or (algorithm == "sha256" and len(digest) != 32)):
        raise InputError(f"{what}: {row[0][:80]}: expected algorithm=digest, found {row[1][:80]!r}")
    return Recorded(
        row[0], Sha256(digest.hex()) if algorithm == "sha256" else None, int(row[2]) if row[2] else None
    )
