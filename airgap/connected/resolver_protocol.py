"""What `wheels` asks of the resolver's process, and what it answers: JSON through pipes, never a file.

The pipes may hold a login that a person wrote into an index URL; the lock and every message do not.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from airgap.connected.index import strip_logins
from airgap.decode import Fields, read_document
from airgap.errors import HostError, InputError, SourceError
from airgap.model import BundlePath, Sha256, bundle_path, sha256_hex


@dataclass(frozen=True, slots=True)
class Question:
    """A set of requirements, the sources they may come from, and the target. Paths are absolute.

    With no requirements at all only the user's own settings are asked for.
    """

    requirements: tuple[str, ...] = ()
    requirements_file: str = ""
    constraints: tuple[str, ...] = ()
    index_url: str = ""
    """Empty: the user's own, from PIP_INDEX_URL or pip's configuration, else PyPI."""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    allow_sdist: tuple[str, ...] = ()
    python: str = ""
    tags: tuple[str, ...] = ()
    markers: Mapping[str, str] | None = None
    pins: Mapping[str, str] | None = None
    cache: str = ""
    directory: str | None = None
    """What relative paths inside requirements begin at: the manifest's directory."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One package as pip chose it for the target. `size` 0 and `sha256` None: the index does not say."""

    name: str
    version: str
    file: BundlePath
    url: str
    sha256: Sha256 | None
    size: int
    index: str
    found_on: tuple[str, ...]
    """Every index that has a project of this name."""
    requires_python: str
    requires: tuple[str, ...]
    yanked: str | None
    """The reason the index gives, perhaps empty; None when the file is not yanked."""
    unasked_local: bool
    """A local version (PEP 440) that no requirement spelled."""
    provenance: str = ""
    """The URL of its attestations (PEP 740); '' where the index names none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What pip chose, and the settings of the user's that it worked with."""

    index_url: str
    """The default index, its login included."""
    cert: str
    roots: tuple[str, ...]
    """The requirements as read from the manifest and its file."""
    refusing: tuple[str, ...]
    """Indexes that answered 403 for some project, which counts as not having it."""
    choices: tuple[Choice, ...]


class Refusal(Exception):
    """Inside the resolver: what the parent raises instead: `kind` is input, source or host."""

    def __init__(self, kind: str, message: str, problems: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message)
        self.table = {"kind": kind, "message": message, "problems": problems, "remedy": remedy}


def ask(question: Question) -> Answer:
    """Run the resolver on this interpreter and judge its answer.

    Raises InputError (nothing fits, in pip's words), SourceError (an index failed) or HostError
    (pip or pip-tools is not the version this leans on).
    """
    child = subprocess.run(
        [sys.executable, "-P", "-m", "airgap.connected.resolver"],
        input=json.dumps(asdict(question)).encode(),
        capture_output=True,
        check=False,
        cwd=question.directory,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    if child.returncode != 0:
        said = strip_logins(child.stderr.decode(errors="replace"))
        raise RuntimeError(f"airgap.connected.resolver ended with {child.returncode}:\n{said[-4000:]}")
    return read_document(child.stdout, "the resolver's answer", _answer)


def _answer(fields: Fields) -> Answer:
    refusal = fields.optional_table("refusal")
    if refusal:
        _raise(refusal)
    return Answer(
        fields.text("index_url"),
        fields.text("cert"),
        fields.texts("roots"),
        fields.texts("refusing"),
        tuple(_choice(table) for table in fields.tables("choices")),
    )


def _choice(fields: Fields) -> Choice:
    choice = Choice(
        fields.text("name"),
        fields.text("version"),
        fields.parsed("file", bundle_path, BundlePath("")),
        fields.text("url"),
        fields.parsed("sha256", sha256_hex, Sha256("")) if fields.text("sha256") else None,
        fields.integer("size"),
        fields.text("index"),
        fields.texts("found_on"),
        fields.text("requires_python"),
        fields.texts("requires"),
        fields.optional_text("yanked"),
        fields.flag("unasked_local"),
        fields.text("provenance", default=""),
    )
    fields.done()
    return choice


def _raise(refusal: Fields) -> None:
    kind, message = refusal.text("kind"), refusal.text("message")
    problems, remedy = refusal.texts("problems"), refusal.text("remedy")
    if kind == "input":
        raise InputError(message, problems=problems, remedy=remedy)
    error = SourceError if kind == "source" else HostError
    raise error("\n".join((message, *(f"  {p}" for p in problems))), remedy=remedy)
