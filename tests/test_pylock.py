"""The pylock file, read back by `packaging`, and installed from by real pip and real uv without a network."""

import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.pylock import Pylock, is_valid_pylock_path

from airgap.connected.wheels_uv import find_uv
from airgap.model import Local, LockedFile, Package, Sha256, WheelsArtifact, bundle_path
from airgap.pylock import pylock_name, render_pylock
from tests.servers.index import make_wheel


def artifact_of(wheels: dict[str, bytes], name: str = "serving", index: str = "") -> WheelsArtifact:
    packages, files = [], []
    for file, data in sorted(wheels.items()):
        project, version = file.split("-")[:2]
        path = bundle_path(file)
        packages.append(Package(project, version, path, index))
        files.append(LockedFile(path, len(data), Sha256(hashlib.sha256(data).hexdigest()), Local(file)))
    python = f"3.{sys.version_info.minor}"
    return WheelsArtifact(name, "0" * 64, ("one",), python, tuple(packages), tuple(files))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two wheels, one with a local version and so a '+' in its name, and their pylock beside them."""
    one = make_wheel("one", "1.0+cpu", requires=["two"])
    wheels = dict([one, make_wheel("two", "2.0", requires_python=">=3.5")])
    artifact = artifact_of(wheels)
    for file, data in wheels.items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / pylock_name(artifact)).write_bytes(render_pylock(artifact))
    return tmp_path


def test_packaging_accepts_it() -> None:
    artifact = artifact_of(dict([make_wheel("one", "1.0")]), index="https://example.org/simple")
    lock = Pylock.from_dict(tomllib.loads(render_pylock(artifact).decode()))
    lock.validate()
    (package,) = lock.packages
    assert (package.name, str(package.version), package.index) == (
        "one",
        "1.0",
        "https://example.org/simple",
    )
    (wheel,) = package.wheels or ()
    assert wheel.path == "./one-1.0-py3-none-any.whl"
    assert (wheel.size, wheel.hashes["sha256"]) == (artifact.files[0].size, artifact.files[0].sha256)


@given(st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)*", fullmatch=True))
def test_its_name_is_one_that_installers_recognise(name: str) -> None:
    assert is_valid_pylock_path(Path(pylock_name(artifact_of({}, name))))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text: str) -> None:
    artifact = artifact_of({"one-1.0-py3-none-any.whl": b""}, index=text)
    read = tomllib.loads(render_pylock(artifact).decode())["packages"][0]
    assert read.get("index", "") == text


def install_with(directory: Path, target: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    lock = str(next(directory.glob("pylock.*.toml")))
    arguments = [*command, "--target", str(target), *([] if "sync" in command else ["-r"]), lock]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=target.parent)


PIP = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps"]
UV = [
    find_uv() or "uv",
    "--no-config",
    "pip",
    "install",
    "--offline",
    "--no-index",
    "--python",
    sys.executable,
]


UV_SYNC = [*UV[:3], "sync", *UV[4:]]


@pytest.mark.parametrize("command", [PIP, UV, UV_SYNC], ids=["pip", "uv", "uv sync"])
def test_pip_and_uv_install_from_it_offline(directory: Path, tmp_path: Path, command: list[str]) -> None:
    target = tmp_path / "installed"
    done = install_with(directory, target, command)
    assert done.returncode == 0, done.stderr
    assert (target / "one" / "__init__.py").exists() and (target / "two" / "__init__.py").exists()


@pytest.mark.parametrize("command", [PIP, UV], ids=["pip", "uv"])
def test_pip_and_uv_refuse_a_changed_wheel(directory: Path, tmp_path: Path, command: list[str]) -> None:
    wheel = next(directory.glob("two-*.whl"))
    _, data = make_wheel("two", "2.0", requires_python=">=3.6")
    assert len(data) == wheel.stat().st_size
    wheel.write_bytes(data)
    done = install_with(directory, tmp_path / "installed", command)
    assert done.returncode != 0 and "hash" in done.stderr.lower()
