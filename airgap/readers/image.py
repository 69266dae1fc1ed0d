"""What is installed in a container image, read from its layers without running or extracting anything.

Python distributions (dist-info and egg-info, PyPA "Recording installed projects"), packages of dpkg
(also distroless' status.d), apk and rpm (its SQLite database), and os-release: as they are after all
whiteouts. Whatever other files a rule wants are brought along in the same pass, or looked at as they go by.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from airgap.errors import InputError
from airgap.oci import Descriptor, ImageManifest
from airgap.readers.decompress import UnreadableLayer
from airgap.readers.passing import Noticed, Passing
from airgap.readers.rpm import PassingRpmDatabase
from airgap.readers.union import ImageFile, Layer, Union, Wish
from airgap.readers.wheel import Metadata
from airgap.tags import normalized_name

MAX_FILE = 16 * 1024 * 1024
"""Bytes of one file that is kept: dpkg's status of a full desktop has 6 MiB."""

MAX_TOTAL = 64 * 1024 * 1024
"""Bytes kept of one image."""

_METADATA = re.compile(
    r"(?:.*/)?(?P<directory>[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)|[^/]+\.egg/EGG-INFO/PKG-INFO)"
)
_SITE = ("site-packages", "dist-packages")
"""The directories that Python searches (site.py; Debian's name is the second)."""

_DPKG = "var/lib/dpkg/status"
_DPKG_PARTS = re.compile(r"var/lib/dpkg/status\.d/[^/]+(?<!\.md5sums)")
_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_LISTS = frozenset({_DPKG, *_APK, *_OS_RELEASE})
_RPM_HOMES = ("var/lib/rpm/", "usr/lib/sysimage/rpm/")
_HOMES = ("var/lib/dpkg/", *_RPM_HOMES)
_RPM_HOME = r"(?:var/lib|usr/lib/sysimage)/rpm/"
_RPM = re.compile(rf"{_RPM_HOME}rpmdb\.sqlite")
EVIDENCE = (
    *sorted(_LISTS),
    "var/lib/dpkg/status.d/x",
    *(f"{home}{name}" for home in _RPM_HOMES for name in ("rpmdb.sqlite", "Packages", "Packages.db")),
)
"""Paths of what lists an image's packages, one of each directory; Python's lie anywhere."""

_RPM_UNREAD = {
    re.compile(rf"{_RPM_HOME}Packages"): "an rpm database of Berkeley DB, which is not read",
    re.compile(rf"{_RPM_HOME}Packages\.db"): "an rpm database in the ndb format, which is not read",
    re.compile(rf"{_RPM_HOME}rpmdb\.sqlite-wal"): "changes to an rpm database that are not merged into it",
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A Python distribution, and the file that says so.

    `site` is the directory it is importable from, '' where Python does not look by itself: a vendored
    copy, a cache, a `pip install --target`. `metadata` is None where the file could not be read; name and
    version then are those of its directory.
    """

    name: str
    """Normalised (PEP 503)."""
    version: str
    path: str
    layer: str
    """sha256 of the layer blob that has it."""
    metadata: Metadata | None

    @property
    def site(self) -> str:
        found = re.fullmatch(
            rf"(?P<site>(?:.*/)?(?:{'|'.join(_SITE)}))/[^/]+(?:/PKG-INFO|/METADATA)?", self.path
        )
        egg = re.fullmatch(
            rf"(?P<site>(?:.*/)?(?:{'|'.join(_SITE)})/[^/]+\.egg)/EGG-INFO/PKG-INFO", self.path
        )
        match = found or egg
        return match["site"] if match else ""


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """A package of the distribution's own manager: `dpkg`, `apk` or `rpm`.

    `version` is as the manager writes it: `[epoch:]version-release` for rpm. `source` is the package it was
    built from, where its manager says so: vulnerability databases go by that. `source_version` is that
    package's, where it has another one.
    """

    manager: str
    name: str
    version: str
    architecture: str
    source: str = ""
    license: str = ""
    source_version: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """An image's packages, and the files that were asked for; itself a tree of `Files`.

    `unread` says what could not be read, so that a rule answers UNKNOWN: with a layer among them, nothing
    here is certain.
    """

    digest: str
    distributions: tuple[Distribution, ...]
    packages: tuple[SystemPackage, ...]
    os_release: Mapping[str, str]
    unread: tuple[str, ...]
    files: Mapping[str, ImageFile] = field(default_factory=dict, repr=False)

    def copies(self, name: str) -> tuple[Distribution, ...]:
        """Every importable distribution of that name; more than one is ambiguous."""
        wanted = normalized_name(name)
        return tuple(d for d in self.distributions if d.name == wanted and d.site)

    def paths(self) -> Collection[str]:
        return self.files.keys()

    def read(self, path: str, max_bytes: int) -> bytes:
        """A file that was asked for. Raises InputError when it is not there, or too large."""
        file = self.files.get(path)
        if file is None:
            raise InputError(f"{self.digest}: expected the file {path[:200]!r}, found none")
        if file.data is None or len(file.data) > max_bytes:
            raise InputError(f"{self.digest}: {path[:200]!r} has {file.size} bytes, more than is read")
        return file.data


def layers_of(manifest: ImageManifest, open: Callable[[Descriptor], BinaryIO]) -> tuple[Layer, ...]:
    """The layers of an image, lowest first; `open` gives a blob from its start."""

    def opener(descriptor: Descriptor) -> Callable[[], BinaryIO]:
        return lambda: open(descriptor)

    return tuple(Layer(layer.digest, opener(layer)) for layer in manifest.layers)


def read_image(
    digest: str,
    layers: Sequence[Layer],
    wanted: Callable[[str], bool] = lambda path: False,
    passing: Callable[[str], Callable[[str, int], Passing] | None] = lambda path: None,
) -> Inventory:
    """Take stock of the image `digest` (sha256 of its manifest) from its layers, each read once.

    `wanted` is asked for every file, by its path without a leading `/`, and `passing` for who looks at a
    file as it goes by; both kinds are in `Inventory.files`. Raises InputError for a layer that is damaged,
    and what the layers' `open` raises.
    """

    def keep(path: str) -> bool:
        return is_evidence(path) or wanted(path)

    def look(path: str) -> Callable[[str, int], Passing] | None:
        return _system_reader(path) or passing(path)

    union = Union(Wish(keep, MAX_FILE, MAX_TOTAL, look))
    unread = []
    for number, layer in enumerate(layers, 1):
        what = f"layer {number} of {len(layers)}, sha256:{layer.digest}"
        try:
            union.apply(layer, what)
        except UnreadableLayer as error:
            unread.append(f"{error.message}: {error.remedy}")

    def asked(path: str) -> bool:
        return wanted(path) or passing(path) is not None

    return take_stock(digest, union.files(), unread, asked)


def take_stock(
    digest: str, files: Mapping[str, ImageFile], unread: Sequence[str], wanted: Callable[[str], bool]
) -> Inventory:
    """The packages that `files` speak of: what `is_evidence` and `wanted` have kept of an image's layers."""
    stock = {path: _with_rpm(path, file) for path, file in files.items()}
    unread = [*unread, *(f"/{path}: {why}" for path, file in stock.items() if (why := _why(path, file)))]
    return Inventory(
        digest,
        tuple(_distributions(stock)),
        tuple(_packages(stock)),
        _os_release(stock),
        tuple(unread),
        {path: file for path, file in files.items() if wanted(path)},
    )


def is_evidence(path: str) -> bool:
    """Asked of every file of the image, so the cheap questions come first."""
    if path.endswith(("/METADATA", "/PKG-INFO", ".egg-info")):
        return _METADATA.fullmatch(path) is not None
    if path in _LISTS:
        return True
    if not path.startswith(_HOMES):
        return False
    return _DPKG_PARTS.fullmatch(path) is not None or _system_reader(path) is not None


def _with_rpm(path: str, file: ImageFile) -> ImageFile:
    """The same, its packages read where the bytes of an rpm database were kept and not passed by."""
    if file.data is None or not _RPM.fullmatch(path):
        return file
    database = PassingRpmDatabase(path, len(file.data))
    database.feed(file.data)
    database.end()
    return replace(file, passing=database)


def _system_reader(path: str) -> Callable[[str, int], Passing] | None:
    if not path.startswith(_RPM_HOMES):
        return None
    return PassingRpmDatabase if _RPM.fullmatch(path) else Noticed if _unread_format(path) else None


def _unread_format(path: str) -> str:
    return next((why for pattern, why in _RPM_UNREAD.items() if pattern.fullmatch(path)), "")


def _why(path: str, file: ImageFile) -> str:
    """Why a file was not read; '' where it was."""
    if isinstance(file.passing, PassingRpmDatabase):
        return file.passing.problem
    if why := _unread_format(path):
        return why if file.size else ""
    if file.passing or file.data is not None:
        return ""
    if file.size > MAX_FILE:
        return f"{file.size} bytes, more than the {MAX_FILE} that are read"
    return "its bytes are not in this layer, or the image has too many such files"


def _distributions(files: Mapping[str, ImageFile]) -> Iterator[Distribution]:
    for path, file in files.items():
        match = _METADATA.fullmatch(path)
        if match is None:
            continue
        named = re.fullmatch(
            r"(?P<name>[A-Za-z0-9][^-/]*?)(?:-(?P<version>[^-/]+))?(?:-py[0-9.]+)?\.(?:dist-info|egg-info|egg).*",
            match["directory"],
        )
        metadata = None
        if file.data is not None:
            with suppress(InputError):  # then what the directory is called must do
                metadata = Metadata.parse(file.data, path)
        name = metadata.name if metadata else named["name"] if named else match["directory"]
        version = metadata.version if metadata else named["version"] or "" if named else ""
        yield Distribution(normalized_name(name), version, path, file.layer, metadata)


def _packages(files: Mapping[str, ImageFile]) -> Iterator[SystemPackage]:
    for path, file in files.items():
        if isinstance(file.passing, PassingRpmDatabase):
            for p in file.passing.packages:
                yield SystemPackage("rpm", p.name, p.evr, p.architecture, p.source, p.license)
        text = (file.data or b"").decode("utf-8", "replace")
        if path == _DPKG or _DPKG_PARTS.fullmatch(path):
            for fields in _stanzas(text, r"([A-Za-z-]+): (.*)"):
                # One whose files were removed keeps its stanza. distroless writes no status at all.
                if fields.get("Status", "ok installed").endswith("ok installed") and "Package" in fields:
                    source, _, source_version = fields.get("Source", "").partition(" ")
                    yield SystemPackage(
                        "dpkg",
                        fields["Package"],
                        fields.get("Version", ""),
                        fields.get("Architecture", ""),
                        source,
                        source_version=source_version.strip("()"),
                    )
        elif path in _APK:
            for fields in _stanzas(text, r"([A-Za-z]):(.*)"):
                if "P" in fields:
                    version, architecture = fields.get("V", ""), fields.get("A", "")
                    origin, licence = fields.get("o", ""), fields.get("L", "")
                    yield SystemPackage("apk", fields["P"], version, architecture, origin, licence)


def _stanzas(text: str, line: str) -> Iterator[dict[str, str]]:
    """Blocks of `key: value` lines with an empty line between two (deb822; apk's installed database)."""
    pattern = re.compile(line)
    fields: dict[str, str] = {}
    for row in (*text.split("\n"), ""):
        if match := pattern.fullmatch(row):
            fields.setdefault(match[1], match[2].strip())
        elif not row and fields:
            yield fields
            fields = {}


def _os_release(files: Mapping[str, ImageFile]) -> dict[str, str]:
    """`KEY=value` lines, quotes removed (os-release(5)); /etc before /usr/lib."""
    for path in _OS_RELEASE:
        if path in files:
            text = (files[path].data or b"").decode("utf-8", "replace")
            pairs = re.findall(r"(?m)^([A-Z][A-Z0-9_]*)=(.*)$", text)
            return {key: value.strip().strip("'\"") for key, value in pairs}
    return {}
