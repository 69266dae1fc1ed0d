"""`airgap install --venv`: a wheels set as a virtual environment, made offline by the target's Python.

A venv names its own path in every script it holds, so it cannot be built elsewhere and moved. DIR is
therefore a symbolic link to the directory beside it in which the venv was built, and a new one replaces
an old one by one rename of that link. What a killed run left is removed by the next.
"""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.decode import canonical_json
from airgap.errors import HostError, InputError, IntegrityError
from airgap.isolated.generation import Member, load_member
from airgap.isolated.host import Interpreter, ask, find_python, judge_interpreter
from airgap.isolated.site import Site, point
from airgap.isolated.wheels import requirements
from airgap.model import Target, WheelsArtifact
from airgap.progress import Progress
from airgap.store import host_errors, write_durably
from airgap.tags import normalized_name

MARKER = "airgap-venv.json"
"""In every venv that airgap made: only such a one is ever replaced or removed."""

_KEPT = ("PATH", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SOURCE_DATE_EPOCH")


@dataclass(frozen=True, slots=True)
class VenvRequest:
    """`set` and `python` are empty for the only wheels set of the site, and for the target's Python."""

    directory: Path
    set: str = ""
    python: str = ""


@dataclass(frozen=True, slots=True)
class VenvPlan:
    """A venv that this host can make; `pip` is the name of pip's own wheel in the set, or empty."""

    directory: Path
    wheels: WheelsArtifact
    bundle: str
    interpreter: Interpreter
    pip: str


@dataclass(frozen=True, slots=True)
class MadeVenv:
    """`packages` is how many of the set are installed in it."""

    directory: Path
    set: str
    python: str
    packages: int


def wheels_targets(members: Sequence[Member]) -> list[Target]:
    """What the wheels of these bundles are for."""
    return [
        member.lock.target
        for member in members
        if any(isinstance(bundled.artifact, WheelsArtifact) for bundled in member.artifacts)
    ]


def plan_venv(request: VenvRequest, members: Sequence[Member]) -> VenvPlan:
    """Judge everything that can be judged before a byte is copied.

    Raises InputError for a set that is not there or has no name, HostError for the wrong Python, machine or
    glibc, for a host without pip, and for a directory that airgap did not make.
    """
    wheels, target, bundle = _choose(request.set, members)
    directory = Path(os.path.abspath(request.directory))
    _require_ours(directory)
    interpreter = ask(request.python or _default_python(target))
    problems = list(judge_interpreter(target, interpreter))
    if problems:
        raise HostError(
            "\n  ".join(
                (f"{directory}: no venv of {wheels.name} can be made", *(p.message for p in problems))
            ),
            remedy=problems[0].remedy,
        )
    pip = next((package.file for package in wheels.packages if normalized_name(package.name) == "pip"), "")
    if not interpreter.venv or not (pip or interpreter.ensurepip):
        raise HostError(
            f"{interpreter.executable}: expected its venv and ensurepip modules, found them missing",
            remedy=f"install python{target.python}-venv (Debian, Ubuntu),"
            " or let the stager add pip to the set's requirements",
        )
    return VenvPlan(directory, wheels, bundle, interpreter, pip)


def make_venv(
    site: Site, request: VenvRequest, *, asked: str, progress: Progress, wait: float = 0
) -> MadeVenv:
    """Build the venv from the current generation, check it, and give it its name; an older one is replaced.

    Raises what `plan_venv` raises, IntegrityError when a wheel of the site is not the locked one, and
    HostError when Python or pip fails; DIR is then what it was.
    """
    with site.locked(asked, wait=wait, progress=progress):
        plan = plan_venv(request, [load_member(site, bundle) for bundle in site.record().bundles])
        number = site.current()
        assert number is not None  # plan_venv found a set
        wheels = site.generation(number) / "wheels" / plan.wheels.name
        with progress.task(f"making {plan.directory}", None), host_errors(plan.directory):
            for stale in _unused(plan.directory):
                shutil.rmtree(stale)
            made = plan.directory.with_name(f"{plan.directory.name}.{secrets.token_hex(4)}")
            try:
                made.mkdir()
                _write_marker(made, plan, number)
                _install(plan, made, wheels)
                os.sync()
                point(plan.directory, made.name)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
            for stale in _unused(plan.directory):
                shutil.rmtree(stale)
    return MadeVenv(plan.directory, plan.wheels.name, plan.interpreter.executable, len(plan.wheels.packages))


def _choose(name: str, members: Sequence[Member]) -> tuple[WheelsArtifact, Target, str]:
    sets = {
        bundled.artifact.name: (bundled.artifact, member.lock.target, str(member.bundle))
        for member in members
        for bundled in member.artifacts
        if isinstance(bundled.artifact, WheelsArtifact)
    }
    there = ", ".join(sorted(sets)) or "none"
    if name and name not in sets:
        raise InputError(f"expected the wheels set {name!r}, found: {there}", remedy="name one with --set")
    if not name and len(sets) != 1:
        raise InputError(f"a venv is made of one wheels set, found: {there}", remedy="name one with --set")
    return sets[name or next(iter(sets))]


def _default_python(target: Target) -> str:
    found = find_python(target)
    if found is None:
        raise HostError(
            f"the wheels are for Python {target.python}; no python{target.python} is on the PATH",
            remedy="install it, or name it with --python; nothing was copied",
        )
    return found


def _require_ours(directory: Path) -> None:
    """Raise HostError unless the directory can be made, or is a venv that may be replaced."""
    if not os.path.lexists(directory):
        if not os.access(directory.parent, os.W_OK | os.X_OK):
            remedy = "make that directory, run as a user who may write there, or choose another place"
            raise HostError(f"{directory.parent}: expected a directory to write to", remedy=remedy)
        return
    target = os.readlink(directory) if directory.is_symlink() else ""
    if not re.fullmatch(_name_of(directory), target) or not (directory / MARKER).is_file():
        raise HostError(
            f"{directory}: exists, and airgap did not make it",
            remedy="choose another directory, or remove that one yourself",
        )


def _name_of(directory: Path) -> str:
    return rf"{re.escape(directory.name)}\.[0-9a-f]{{8}}"


def _unused(directory: Path) -> Iterator[Path]:
    """Venvs beside the one in force: replaced ones, and what a killed run left."""
    used = os.readlink(directory) if directory.is_symlink() else ""
    for name in os.listdir(directory.parent):
        path = directory.with_name(name)
        if name != used and re.fullmatch(_name_of(directory), name) and (path / MARKER).is_file():
            yield path


def _write_marker(made: Path, plan: VenvPlan, generation: int) -> None:
    document = {
        "format": 1,
        "set": plan.wheels.name,
        "bundle": plan.bundle,
        "generation": generation,
        "python": plan.interpreter.executable,
    }
    write_durably(made / MARKER, canonical_json(document))


def _install(plan: VenvPlan, made: Path, wheels: Path) -> None:
    """Python makes the venv; pip, from the set where it holds one, installs into it and checks it."""
    without = ["--without-pip"] if plan.pip else []
    _run([plan.interpreter.executable, "-I", "-m", "venv", *without, str(made)], made, "it cannot be made")
    python = str(made / "bin" / "python")
    pip = [python, "-I", *([str(wheels / plan.pip / "pip")] if plan.pip else ["-m", "pip"])]
    listed = made / "requirements.txt"
    listed.write_bytes(requirements(plan.wheels))
    common = ["--disable-pip-version-check", "--no-input"]
    offline = ["--no-index", "--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--require-hashes"]
    _run(
        [*pip, "install", *common, *offline, "--find-links", wheels.as_uri(), "--requirement", str(listed)],
        made,
        f"pip cannot install {plan.wheels.name}",
    )
    _run([*pip, "check", *common], made, f"the packages of {plan.wheels.name} do not fit together")


def _run(command: Sequence[str], made: Path, failed: str) -> None:
    """A home of its own: pip wants one, even on hosts where the user has none, and may read no settings."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"HOME": str(made)}
    done = subprocess.run(
        command,
        env=environment | {"PIP_CONFIG_FILE": os.devnull},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if "DO NOT MATCH THE HASHES" in done.stdout:
        raise IntegrityError(
            f"{made}: {failed}: a wheel of the site is not the locked one",
            remedy="run airgap status --verify, then install the bundle again",
        )
    said = [line for line in lines if line.startswith("ERROR:")] or lines[-3:] or ["no word of why"]
    raise HostError(
        "\n  ".join((f"{made}: {failed}", *(line[:300] for line in said[:3]))),
        remedy="what is installed in the site stays; once that is mended, run the same command again",
    )
