"""Code that serves a model, compared with the vLLM that it will meet: what it imports that is not there.

It is found in images, or named by a person as a directory or file of this host. Only `.py` files are read,
no link is followed, nothing is imported.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from airgap.errors import InputError
from airgap.model import Kind
from airgap.readers.imports import Guard, Import, Missing, Modules, read_imports
from airgap.readers.python_syntax import MAX_SOURCE, NotUnderstood
from airgap.readiness.components import BrokenImport, Composition, ServingCode, Unread
from airgap.readiness.judgement import Evidence
from airgap.readiness.reading import Seen

MAX_FILES = 20_000
MAX_TOTAL = 64 * 1024 * 1024
"""Bytes of all files that are kept of one tree: those that mention vLLM."""

LIBRARY = re.compile(r"(?:.*/)?(?:site-packages|dist-packages|lib(?:64)?/python[23][^/]*)/.*")
"""What packages install: not code that somebody wrote to serve with."""

_ENGINE = b"vllm"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of such code, and where it is."""

    data: bytes
    where: Evidence

    @property
    def concerned(self) -> bool:
        """Whether it can import vLLM at all."""
        return _ENGINE in self.data[:MAX_SOURCE]


@dataclass(frozen=True, slots=True)
class GivenCode:
    """What a person named: for the packages of `stack`, '' for all that have a vLLM."""

    stack: str
    path: str
    files: tuple[SourceFile, ...]


def read_given(text: str) -> GivenCode:
    """`PATH`, or `NAME=PATH` for the wheels set or container of that name. Raises InputError."""
    name, separator, rest = text.rpartition("=")
    root = Path(rest)
    files: list[SourceFile] = []
    kept = 0
    for number, (path, member) in enumerate(_python_files(root), 1):
        file = _read(path, member, rest)
        if file.concerned:
            files.append(file)
            kept += len(file.data)
        if number > MAX_FILES or kept > MAX_TOTAL:
            raise InputError(
                f"{root}: more than {MAX_FILES} Python files, or {MAX_TOTAL} bytes of them",
                remedy="name what serves alone",
            )
    return GivenCode(name if separator else "", rest, tuple(files))


def compare(files: Iterable[SourceFile], modules: Modules) -> ServingCode:
    """Every import of vLLM's modules in `files` against the modules that are there."""
    broken: list[BrokenImport] = []
    undecided: list[NotUnderstood] = []
    for file in files:
        if not file.concerned:
            continue
        member = file.where.member
        found = read_imports(file.data, member, member.rpartition("/")[2].removesuffix(".py"))
        if isinstance(found, NotUnderstood):
            undecided.append(found)
            continue
        for wanted in filter(_judgeable, found):
            missing = modules.judge(wanted)
            if isinstance(missing, Missing):
                digest = file.where.digest
                where = Evidence(file.where.source, digest, member, wanted.line, str(wanted))
                fails = wanted.guard is Guard.NONE and not wanted.deferred
                broken.append(BrokenImport(str(wanted), missing.reason, where, fails))
            elif missing:
                undecided.append(NotUnderstood(member, wanted.line, f"{wanted}: {missing}"))
    return ServingCode(tuple(broken), tuple(undecided))


def compare_given(given: Iterable[GivenCode], stack: str, seen: Iterable[Seen]) -> ServingCode | None:
    """What was named for `stack`, against its vLLM; None where nothing was, or no vLLM was read."""
    files = [file for code in given if code.stack in ("", stack) for file in code.files]
    named = any(code.stack in ("", stack) for code in given)
    modules = next((one.tables.modules for one in seen if one.tables.modules), None)
    return compare(files, modules) if named and modules else None


def with_unmet(composition: Composition, given: Iterable[GivenCode]) -> Composition:
    """The same, and as unread what was named and met no vLLM that it could be compared with.

    Raises InputError for code of a set or container that is not there.
    """
    known = [*(stack.name for stack in composition.stacks), *(other.name for other in composition.others)]
    if absent := [code for code in given if code.stack and code.stack not in known]:
        raise InputError(
            f"--code {absent[0].stack}=…: no wheels set or container has that name",
            remedy=f"name one of: {', '.join(known) or 'none is here'}",
        )
    unmet = [
        Unread(
            code.path,
            Kind.FILE,
            f"no vLLM{f' of {code.stack}' if code.stack else ''} was read to compare this code with",
            "name a wheels set or container that holds vLLM; a manifest must pin it, or be locked",
        )
        for code in given
        if not any(stack.serving and code.stack in ("", stack.name) for stack in composition.stacks)
    ]
    return replace(composition, others=(*composition.others, *unmet))


def _judgeable(wanted: Import) -> bool:
    """Compiled modules such as `vllm._C` are not among the sources that were read."""
    parts = wanted.module.split(".")
    return parts[0] == "vllm" and not any(part.startswith("_") for part in (*parts, wanted.name))


def _python_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file of the tree that is code, with its path below it; `root` itself where that is a file."""

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}")

    if not root.is_dir():
        yield root, root.name
        return
    for directory, subdirectories, names in os.walk(root, onerror=fail):
        subdirectories[:] = sorted(name for name in subdirectories if not name.startswith("."))
        for name in sorted(names):
            path = Path(directory, name)
            member = path.relative_to(root).as_posix()
            if name.endswith(".py") and not path.is_symlink() and not LIBRARY.fullmatch(member):
                yield path, member


def _read(path: Path, member: str, source: str) -> SourceFile:
    """A regular file that is no link, cut where it is longer than any module. Raises InputError."""
    try:
        # A FIFO without a writer would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{path}: expected Python code, found no regular file")
            data = stream.read(MAX_SOURCE + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}", remedy="name the directory or file of the code"
        ) from None
    return SourceFile(data, Evidence(source, hashlib.sha256(data).hexdigest(), member))
