"""The values every room shares: digests, paths, the target, locked files, artifacts, findings."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NewType

from airgap.errors import InputError

Sha256 = NewType("Sha256", str)
"""64 lower-case hex digits: what names a blob."""

Sha384 = NewType("Sha384", str)
"""96 lower-case hex digits: what decides whether a blob is the signed one."""

BundlePath = NewType("BundlePath", str)
"""A path that `bundle_path` accepted: safe to join below a directory on any platform."""

NAME_PATTERN = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
"""Names of bundles, artifacts, channels and holders; also valid as an OCI reference name."""

NAME_EXPECTED = "a name of lower-case letters and digits joined by single '.', '_' or '-'"

VERSION_PATTERN = r"[0-9A-Za-z]+(?:[._+-][0-9A-Za-z]+)*"
"""Versions of bundles."""


_HEX_64, _HEX_96 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{96}")


def sha256_hex(text: str) -> Sha256:
    """Raises InputError unless `text` is 64 lower-case hex digits."""
    if not _HEX_64.fullmatch(text):
        raise InputError(f"expected a sha256 of 64 lower-case hex digits, found {text[:80]!r}")
    return Sha256(text)


def sha384_hex(text: str) -> Sha384:
    """Raises InputError unless `text` is 96 lower-case hex digits."""
    if not _HEX_96.fullmatch(text):
        raise InputError(f"expected a sha384 of 96 lower-case hex digits, found {text[:100]!r}")
    return Sha384(text)


def oci_digest(text: str) -> Sha256:
    """The sha256 inside `sha256:<hex>` (OCI image-spec, descriptor.md). Raises InputError."""
    algorithm, _, value = text.partition(":")
    if algorithm != "sha256":
        raise InputError(f"expected a sha256:<hex> digest, found {text[:80]!r}")
    return sha256_hex(value)


_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def bundle_path(text: str) -> BundlePath:
    """Accept a relative `/`-separated path that means the same on every file system.

    Raises InputError for empty, `.` and `..` components, backslashes, drive letters, control and
    format characters (bidi overrides among them), reserved Windows names, a trailing dot or space,
    and components above 255 bytes.
    """
    if not text or len(text.encode("utf-8", "surrogatepass")) > 4096:
        raise InputError(f"not a path inside a bundle: {text[:80]!r}")
    for part in text.split("/"):
        wrong = _component_problem(part)
        if wrong:
            raise InputError(f"not a path inside a bundle: {text[:200]!r} ({wrong})")
    return BundlePath(text)


@lru_cache(maxsize=4096)  # files share their directories
def _component_problem(part: str) -> str:
    if part in ("", ".", ".."):
        return "an empty, '.' or '..' component"
    if "\\" in part or re.match(r"[A-Za-z]:", part):
        return "a backslash or drive letter"
    plain = part.isascii() and part.isprintable()
    if not plain and any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in part):
        return "a control, format or surrogate character"
    if _RESERVED.fullmatch(part):
        return "a name reserved on Windows"
    if part[-1] in ". ":
        return "a trailing dot or space"
    if len(part.encode()) > 255:
        return "a component longer than 255 bytes"
    return ""


def path_collisions(paths: Iterable[str]) -> list[str]:
    """Describe every two paths that one file system would hold as one, and files that are also parents."""
    seen: dict[str, str] = {}
    problems = []
    spelled = list(paths)
    for path in spelled:
        folded = _fold(path)
        if folded in seen:
            problems.append(f"{seen[folded]!r} and {path!r} are one file on some file systems")
        seen.setdefault(folded, path)
    for path in spelled:
        parts = _fold(path).split("/")
        for end in range(1, len(parts)):
            parent = seen.get("/".join(parts[:end]))
            if parent is not None:
                problems.append(f"{parent!r} is a file and also the parent of {path!r}")
    return problems


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())


@dataclass(frozen=True, slots=True)
class Platform:
    """An OCI platform: `os/architecture[/variant]`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """Raises InputError unless the text is OCI notation."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9._-]+", p) for p in parts):
            raise InputError(f"expected a platform such as linux/amd64, found {text[:80]!r}")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Gpu:
    """The accelerator of the target; memory in GiB of each of `count` cards."""

    name: str
    compute_capability: str
    memory_gib: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as nvidia-smi names it; '' and 0 where it does not say. Memory in MiB."""

    name: str
    compute_capability: str
    memory_mib: int
    driver: str


@dataclass(frozen=True, slots=True)
class Target:
    """The machine a bundle is for, as its operator declares it."""

    python: str
    platform: Platform
    glibc: str
    gpu: Gpu | None = None
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Remote:
    """Bytes at a URL. Never holds credentials."""

    url: str


@dataclass(frozen=True, slots=True)
class Local:
    """Bytes in a local file, or in one member of a local archive. `path` is relative to the manifest."""

    path: str
    member: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """Bytes airgap derives, the same ones each time.

    `how` is `wheel-from-sdist`, `image-manifest`, or `installer`, whose source is the list of wheels that
    airgap carries beside its own code.
    """

    how: str
    source: Remote | Local
    source_sha256: Sha256


Origin = Remote | Local | Made


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file of an artifact: where it lies in it, its exact bytes, where they come from.

    For a container `path` is `blobs/sha256/<hex>` and `media_type` the descriptor's; elsewhere
    `media_type` is empty and derived from the artifact's kind.
    """

    path: BundlePath
    size: int
    sha256: Sha256
    origin: Origin
    media_type: str = ""


class Kind(StrEnum):
    """What an artifact is; the value is its word in locks, statements and messages."""

    WHEELS = "wheels"
    MODEL = "model"
    CONTAINER = "container"
    FILE = "file"


class ProvenanceState(StrEnum):
    """What was found upstream when it was locked. PRESENT is not "valid": nobody judged a signature."""

    PRESENT = "present"
    """It travels, and it is about exactly these bytes."""
    ABSENT = "absent"
    FAILED = "failed"
    """It is malformed or about other bytes, and does not travel."""
    UNKNOWN = "unknown"
    """The source could not be asked."""


PROVENANCE_SUFFIX = ".provenance"
"""After the name of a wheel, the path of the attestations that its index has of it (PEP 740)."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Attestations of a wheel, or signatures of an image, as they were found upstream.

    `publishers` are who made it, as they claim; `reason` is why it FAILED or is UNKNOWN, or why not all
    travel; `files` are the LockedFile.path of what travels, of an image the manifests of its signatures.
    """

    state: ProvenanceState
    publishers: tuple[str, ...] = ()
    reason: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Package:
    """One package of a wheels set. `file` is the LockedFile.path of its wheel; `requires` names packages."""

    name: str
    version: str
    file: BundlePath
    index: str = ""
    requires_python: str = ""
    requires: tuple[str, ...] = ()
    yanked: str | None = None
    """Why its index wants nobody to choose it (PEP 592), '' for no reason; None where it does not say so."""
    provenance: Provenance | None = None
    """None where it was not asked for, as of a local wheel."""


@dataclass(frozen=True, slots=True)
class WheelsArtifact:
    name: str
    request: str
    """sha256 of the normalised manifest table this answers; equal means pins may stay."""
    requirements: tuple[str, ...]
    python: str
    packages: tuple[Package, ...]
    files: tuple[LockedFile, ...]
    """The wheels in the order of their packages, then the attestations that travel."""

    kind = Kind.WHEELS


@dataclass(frozen=True, slots=True)
class Variant:
    """A candidate for a model: where it is from, its format, and why it was chosen or left out."""

    source: str
    format: str
    reason: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    name: str
    request: str
    repo: str
    """`org/name` on the hub; empty for a local directory."""
    revision: str
    commit: str
    """40 hex digits; empty for a local directory."""
    quantization: str
    served_by: str
    licence: str
    gated: str
    """'' when open, else the hub's word: `auto` or `manual`."""
    files: tuple[LockedFile, ...]
    variants: tuple[Variant, ...] = ()
    """Among which this one was chosen, in the manifest's order; none where it named no more than one."""

    kind = Kind.MODEL


@dataclass(frozen=True, slots=True)
class ContainerArtifact:
    name: str
    request: str
    image: str
    """The full reference, registry and tag included; for a local source its name in the archive or ''."""
    digest: Sha256
    """What the reference named: the upstream index or manifest, byte for byte."""
    root: Sha256
    """The manifest or index that travels as the image: `digest`, or its child for the one platform kept."""
    platforms: tuple[str, ...]
    left_out: tuple[str, ...]
    """Platforms of the upstream index that do not travel."""
    files: tuple[LockedFile, ...]
    signature: Provenance | None = None
    """None where it was not asked for; the blobs of one that travels are the last of `files`."""

    kind = Kind.CONTAINER


@dataclass(frozen=True, slots=True)
class FileArtifact:
    name: str
    request: str
    files: tuple[LockedFile, ...]
    """Exactly one."""

    kind = Kind.FILE


Artifact = WheelsArtifact | ModelArtifact | ContainerArtifact | FileArtifact


class Severity(StrEnum):
    """How bad a finding is: only ERROR changes an exit code."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged fact about `subject` (a path or an artifact), with what proves it and what clears it."""

    code: str
    severity: Severity
    subject: str
    message: str
    evidence: str = ""
    remedy: str = ""

    def as_json(self) -> Mapping[str, str]:
        return {
            "code": self.code,
            "severity": self.severity.value,
            "subject": self.subject,
            "message": self.message,
            "evidence": self.evidence,
            "remedy": self.remedy,
        }
