"""`pylock.<name>.toml` of a wheels set (PEP 751): what `pip install -r` and `uv pip install -r` read offline.

Paths are relative, to wheels that lie beside the file; the bytes depend on the artifact alone.
"""

import json
from collections.abc import Iterator

from airgap.model import LockedFile, Package, WheelsArtifact


def pylock_name(artifact: WheelsArtifact) -> str:
    """Its file name; PEP 751 allows no dot inside the name, so a dot becomes a dash."""
    return f"pylock.{artifact.name.replace('.', '-')}.toml"


def render_pylock(artifact: WheelsArtifact) -> bytes:
    """The file's bytes, packages in the artifact's order."""
    files = {file.path: file for file in artifact.files}
    lines = [
        'lock-version = "1.0"',
        f"requires-python = {_text(f'=={artifact.python}.*')}",
        'created-by = "airgap"',
    ]
    for package in artifact.packages:
        lines += ["", *_package(package, files[package.file])]
    return ("\n".join(lines) + "\n").encode()


def _package(package: Package, wheel: LockedFile) -> Iterator[str]:
    yield "[[packages]]"
    yield f"name = {_text(package.name)}"
    yield f"version = {_text(package.version)}"
    if package.index:
        yield f"index = {_text(package.index)}"
    yield "[[packages.wheels]]"
    yield f"name = {_text(wheel.path)}"
    yield f"path = {_text(f'./{wheel.path}')}"
    yield f"size = {wheel.size}"
    yield f"hashes = {{ sha256 = {_text(wheel.sha256)} }}"


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but JSON leaves U+007F bare."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
