"""The one-file installer, made here and carried over: its wheels fetched, hash-checked, put into one file.

As an artifact (`[bundle] installer = true`) it is a file with the origin `Made`: made again, the same bytes,
wherever the store does not hold it.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from airgap import __version__
from airgap.connected.installer_contents import compose, own_digest
from airgap.connected.source import Context, Resolved
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.lock import Lock
from airgap.manifest import INSTALLER, InstallerRequest
from airgap.model import (
    Artifact,
    FileArtifact,
    Finding,
    Local,
    LockedFile,
    Made,
    Platform,
    Severity,
    Sha256,
    Sha384,
    Target,
    bundle_path,
)
from airgap.tags import machine, platform_tags

REQUIREMENTS = Path(__file__).with_name("installer-requirements.txt")
"""Exact versions, and every sha256 that may be used."""

MADE = "installer"
GLIBC = (2, 28)
"""An installer for a bundle asks for no newer glibc, so that hosts older than the target can verify too."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides an installer's bytes, besides airgap itself: a Python such as `3.12`, platform, glibc."""

    python: str
    platform: Platform
    glibc: str

    @property
    def file_name(self) -> str:
        """Such as `airgap-0.1.0-cp312-linux-x86_64.pyz`."""
        tag = f"cp{self.python.replace('.', '')}-linux-{machine(self.platform)}"
        return f"airgap-{__version__}-{tag}.pyz"


def make(recipe: Recipe) -> bytes:
    """Fetch the wheels by pip, as the user has configured it, and compose the file.

    Raises InputError for a platform without manylinux wheels, SourceError when pip cannot get a wheel.
    """
    with tempfile.TemporaryDirectory(prefix="airgap-installer-") as directory:
        _download(recipe, Path(directory))
        wheels = {path.name: path.read_bytes() for path in Path(directory).iterdir()}
    return compose(recipe.python, recipe.platform, wheels)


def resolve(request: InstallerRequest, previous: FileArtifact | None, context: Context) -> Resolved:
    """The installer for the target, made now and put into the store.

    One that `previous` holds stays while neither airgap nor the target has changed. Raises InputError,
    SourceError or HostError.
    """
    recipe = _recipe(context.target)
    answered = recipe_digest(recipe)
    if previous and previous.request == answered:
        return Resolved(previous)
    data = make(recipe)
    blob = context.store.add_bytes(data)
    source = Made(MADE, Local(REQUIREMENTS.name), _sha256(REQUIREMENTS.read_bytes()))
    file = LockedFile(bundle_path(recipe.file_name), blob.size, blob.sha256, source)
    return Resolved(FileArtifact(request.name, answered, (file,)), (_read_it_aloud(file, data),))


def fetch(artifact: FileArtifact, context: Context) -> None:
    """Make a locked installer again where the store lacks it.

    Raises InputError when another airgap locked it, IntegrityError when its bytes are not the locked ones.
    """
    [file] = artifact.files
    if context.store.holds(file.sha256, file.size):
        return
    recipe = _recipe(context.target)
    remedy = f"run: airgap lock MANIFEST --upgrade {artifact.name}"
    if recipe_digest(recipe) != artifact.request:
        raise InputError(
            f"{artifact.name}: {file.path} is not in the store, and another airgap than this one locked it",
            remedy=f"{remedy}; or build with the airgap that locked it",
        )
    data = make(recipe)
    if _sha256(data) != file.sha256:
        raise IntegrityError(
            f"{artifact.name}: expected sha256 {file.sha256}, as locked; made {_sha256(data)}", remedy=remedy
        )
    context.store.add_bytes(data)


def is_installer(artifact: Artifact) -> bool:
    return any(isinstance(file.origin, Made) and file.origin.how == MADE for file in artifact.files)


def carried_installer(lock: Lock) -> LockedFile | None:
    """The installer among a lock's files, where there is one."""
    found = lock.find(INSTALLER)
    return found.files[0] if found and is_installer(found) else None


def sha384(data: bytes) -> Sha384:
    return Sha384(hashlib.sha384(data).hexdigest())


def read_aloud(digest: Sha384) -> str:
    """A digest as people read it to each other: 24 groups of four."""
    return " ".join(digest[start : start + 4] for start in range(0, len(digest), 4))


def recipe_digest(recipe: Recipe) -> str:
    """sha256 over everything that decides the bytes, so that a lock knows whether it still answers it."""
    said = f"{recipe.file_name} glibc {recipe.glibc} {own_digest()}\n".encode()
    return _sha256(said + REQUIREMENTS.read_bytes())


def _recipe(target: Target) -> Recipe:
    major, minor = target.glibc.split(".")
    return Recipe(target.python, target.platform, "{}.{}".format(*min((int(major), int(minor)), GLIBC)))


def _read_it_aloud(file: LockedFile, data: bytes) -> Finding:
    return Finding(
        "installer-made",
        Severity.INFO,
        INSTALLER,
        f"made {file.path}",
        evidence=f"sha384 {read_aloud(sha384(data))}",
        remedy="read that sha384 to who will run it, over another way than the medium",
    )


def _sha256(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


def _download(recipe: Recipe, directory: Path) -> None:
    target = Target(recipe.python, recipe.platform, recipe.glibc)
    platforms = [part for tag in platform_tags(target) for part in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--implementation", "cp"]
    command += ["--python-version", recipe.python, *platforms, "--dest", str(directory)]
    done = subprocess.run(
        [*command, "--requirement", str(REQUIREMENTS)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SourceError(
            f"the installer's wheels for CPython {recipe.python}, {recipe.platform}, glibc {recipe.glibc}:"
            f" {_shortened(done.stderr)}",
            remedy="they exist for CPython 3.11 to 3.14, linux/amd64 and linux/arm64, glibc 2.17 and later;"
            " check that pip reaches its index",
        )


def _shortened(stderr: str) -> str:
    """pip's last error, without the logins that a URL in it may hold."""
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")] or ["pip failed"]
    return re.sub(r"//[^/\s@]*@", "//", errors[-1].removeprefix("ERROR:").strip())[:300]
