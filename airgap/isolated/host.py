"""What this host can run, compared with the target that its bundles were made for.

A wheel names the Python, the machine and the glibc that it needs (PEP 425, PEP 600); the target of a bundle
decided which wheels it holds. So a host that differs is told before anything is copied.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airgap.decode import Fields, read_document
from airgap.errors import HostError, InputError
from airgap.model import Finding, Severity, Target
from airgap.tags import machine

_ASK = """
import importlib.util, json, os, sys
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (ValueError, OSError):
    libc = ""
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2], "implementation": sys.implementation.name,
    "machine": os.uname()[4], "libc": libc,
    "venv": importlib.util.find_spec("venv") is not None,
    "ensurepip": importlib.util.find_spec("ensurepip") is not None,
}))
"""
"""Run by Pythons of any age, with -I: neither the current directory nor the environment has a say."""

_PATIENCE = 60
"""Seconds for an interpreter to start; a cold network file system is slow."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of this host. `glibc` is such as `2.36`, empty where the C library is another one."""

    executable: str
    version: str
    implementation: str
    machine: str
    glibc: str
    venv: bool
    ensurepip: bool


def this_interpreter() -> Interpreter:
    """The one that runs airgap."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    return Interpreter(
        sys.executable,
        "{}.{}".format(*sys.version_info[:2]),
        sys.implementation.name,
        os.uname().machine,
        libc.removeprefix("glibc ") if libc.startswith("glibc ") else "",
        importlib.util.find_spec("venv") is not None,
        importlib.util.find_spec("ensurepip") is not None,
    )


def ask(executable: str) -> Interpreter:
    """What another interpreter says of itself. Raises HostError when it is not there or is no Python."""
    remedy = "name the target's Python with --python"
    found = shutil.which(executable)
    if found is None:
        raise HostError(f"expected a Python at {executable!r}, found no program there", remedy=remedy)
    try:
        done = subprocess.run(
            [found, "-I", "-c", _ASK],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{found}: cannot be run: {error}", remedy=remedy) from None
    try:
        return read_document(done.stdout, found, lambda fields: _interpreter(fields, found))
    except InputError:
        raise HostError(f"{found}: expected a Python, found another program", remedy=remedy) from None


def find_python(target: Target) -> str | None:
    """The target's Python on this host: the one that runs airgap, or `python3.X` on the PATH."""
    if this_interpreter().version == target.python:
        return sys.executable
    return shutil.which(f"python{target.python}")


def judge_host(targets: Iterable[Target]) -> Iterator[Finding]:
    """A warning for each way in which wheels for these targets will not run on this host."""
    here = this_interpreter()
    for target in dict.fromkeys(targets):
        if find_python(target) is None:
            message = f"the wheels are for Python {target.python}, and this host has none on its PATH"
            remedy = f"install python{target.python} here before the wheels are used"
            yield _finding("host-python", message, f"airgap runs on Python {here.version}", remedy)
        yield from judge_machine(target, here)


def judge_interpreter(target: Target, found: Interpreter) -> Iterator[Finding]:
    """A finding for each way in which wheels for the target will not run on that interpreter."""
    if (found.implementation, found.version) != ("cpython", target.python):
        message = (
            f"the wheels are for CPython {target.python}; this is {found.implementation} {found.version}"
        )
        yield _finding("host-python", message, found.executable, "name the target's Python with --python")
    yield from judge_machine(target, found)


def judge_machine(target: Target, found: Interpreter) -> Iterator[Finding]:
    """Machine and C library alone."""
    if machine(target.platform) != found.machine:
        message = (
            f"the wheels are for {machine(target.platform)} ({target.platform}); this is {found.machine}"
        )
        yield _finding("host-machine", message, found.executable, "use a bundle made for this machine")
    if not found.glibc or _number(found.glibc) < _number(target.glibc):
        has = f"glibc {found.glibc}" if found.glibc else "another C library"
        message = f"the wheels may need glibc {target.glibc}; this host has {has}"
        remedy = f'lock again with glibc = "{found.glibc}"' if found.glibc else "use a host with glibc"
        yield _finding("host-glibc", message, found.executable, remedy)


def _interpreter(fields: Fields, executable: str) -> Interpreter:
    libc = fields.text("libc")
    found = Interpreter(
        executable,
        fields.text("version", pattern=r"[0-9]+\.[0-9]+", expected="a version"),
        fields.text("implementation"),
        fields.text("machine"),
        libc.removeprefix("glibc ") if libc.startswith("glibc ") else "",
        fields.flag("venv"),
        fields.flag("ensurepip"),
    )
    fields.done()
    return found


def _finding(code: str, message: str, evidence: str, remedy: str) -> Finding:
    return Finding(code, Severity.WARNING, "this host", message, evidence, remedy)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
