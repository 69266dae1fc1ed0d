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
from airgap.errors import SourceError
from airgap.model import Platform, Sha384, Target
from airgap.tags import machine, platform_tags

REQUIREMENTS = Path(__file__).with_name("installer-requirements.txt")
"""Exact versions, and every sha256 that may be used."""


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


def sha384(data: bytes) -> Sha384:
    return Sha384(hashlib.sha384(data).hexdigest())


def read_aloud(digest: Sha384) -> str:
    """A digest as people read it to each other: 24 groups of four."""
    return " ".join(digest[start : start + 4] for start in range(0, len(digest), 4))


def recipe_digest(recipe: Recipe) -> str:
    """sha256 over everything that decides the bytes, so that a lock knows whether it still answers it."""
    said = f"{recipe.file_name} glibc {recipe.glibc} {own_digest()}\n".encode()
    return hashlib.sha256(said + REQUIREMENTS.read_bytes()).hexdigest()


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
