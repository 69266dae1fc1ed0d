"""The facts that rules judge: what the readers saw in packages and models, with where they saw it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airgap.model import Kind, Target
from airgap.readers.checkpoint import Checkpoint
from airgap.readers.fatbin import Architecture
from airgap.readers.model_config import ModelConfig
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.python_tables import Entry
from airgap.readers.serving_tables import Tabled, VllmTables
from airgap.readers.wheel import Metadata
from airgap.readiness.judgement import Evidence
from airgap.tags import normalized_name


@dataclass(frozen=True, slots=True)
class Distribution:
    """One package. `file` is its wheel's name; `digest` the sha256 of what holds it, as index or lock say."""

    file: str
    digest: str
    member: str
    """The METADATA that was read."""
    metadata: Metadata

    @property
    def key(self) -> str:
        """The name as indexes compare it (PEP 503)."""
        return normalized_name(self.metadata.name)

    @property
    def version(self) -> str:
        return self.metadata.version

    @property
    def label(self) -> str:
        return f"{self.metadata.name} {self.metadata.version}"

    @property
    def itself(self) -> Evidence:
        return Evidence(self.file, self.digest)

    def declares(self, line: int, text: str) -> Evidence:
        """A line of METADATA; 0 where the reader does not say which."""
        return Evidence(self.file, self.digest, self.member, line, text)

    def says(self, found: Entry | NotUnderstood) -> Evidence:
        """An entry of one of its source tables, or what was looked at in vain."""
        text = found.key if isinstance(found, Entry) else found.reason
        return Evidence(self.file, self.digest, found.member, found.line, text)

    def states(self, member: str, text: str) -> Evidence:
        """What a member as a whole says, or does not have."""
        return Evidence(self.file, self.digest, member, 0, text)


@dataclass(frozen=True, slots=True)
class GpuCode:
    """An extension module: the GPU code in it, and the libraries that it links (DT_NEEDED).

    `digest` is the sha256 of the wheel or layer that it is in.
    """

    digest: str
    member: str
    architectures: frozenset[Architecture]
    needed: tuple[str, ...]

    @property
    def cuda(self) -> str:
        """The major version of the CUDA runtime that it links, '' for none."""
        found = (re.fullmatch(r"libcudart\.so\.([0-9]{1,3})", name) for name in self.needed)
        return next((match[1] for match in found if match), "")


@dataclass(frozen=True, slots=True)
class BrokenImport:
    """An import in code that serves that the package beside it does not have.

    `fails` says that loading the file runs it: nothing guards it, and no function defers it.
    """

    wanted: str
    reason: str
    where: Evidence
    fails: bool


@dataclass(frozen=True, slots=True)
class ServingCode:
    """What became of comparing code that serves with its vLLM: what fails, and what nobody can say."""

    broken: tuple[BrokenImport, ...] = ()
    undecided: tuple[NotUnderstood, ...] = ()


LOCK_FIRST = "run: airgap lock, then check again"


@dataclass(frozen=True, slots=True)
class NotRead:
    """Why a package was not read, and what would `settle` it."""

    reason: str
    settle: str = LOCK_FIRST


@dataclass(frozen=True, slots=True)
class Stack:
    """Packages that run together: a wheels set, or what an image holds.

    `closed` says that these are all of them; else they are what was asked for, and `unread` what was not
    pinned to one release or could not be read.
    """

    name: str
    kind: Kind
    packages: tuple[Distribution, ...]
    closed: bool
    unread: Mapping[str, NotRead] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    """What was asked for, as written."""
    transformers: Tabled | None = None
    """Model types; None where there is no such package."""
    vllm: VllmTables | None = None
    torch_cuda: str | NotUnderstood | None = None
    """The CUDA that torch was built for, '' for a build without; None where there is no torch."""
    serving: ServingCode | None = None
    """None where no such code was compared."""
    gpu_code: tuple[GpuCode, ...] | NotUnderstood | None = None
    """Of vLLM; None where nobody read it."""
    digests: frozenset[str] = frozenset()
    """sha256 of every file that is locked of it, where all are known."""

    def find(self, name: str) -> Distribution | None:
        return next((package for package in self.packages if package.key == name), None)

    @property
    def detail(self) -> str:
        """The packages that decide, else how many there are."""
        deciding = [p.label for name in ("vllm", "transformers", "torch") if (p := self.find(name))]
        count = counted(len(self.packages), "package") if self.closed else ""
        return ", ".join(filter(None, (*deciding, count))) or "no package was read"


@dataclass(frozen=True, slots=True)
class Model:
    """A model's own facts. `config` is at `where`; `files` are its paths with their bytes.

    `served_by` is the stack that must run it, None where the manifest names none.
    """

    name: str
    repo: str
    claim: str
    """What the manifest says of its quantisation."""
    gated: str
    config: ModelConfig | None
    where: Evidence
    files: Mapping[str, int]
    checkpoints: tuple[Checkpoint, ...] = ()
    served_by: Stack | None = None
    server: str = ""
    """The name after `served-by`; a container's packages may not have been read."""
    licence: str = ""
    digests: frozenset[str] = frozenset()
    """sha256 of every file, where all are known."""
    sums: Mapping[str, str] = field(default_factory=dict)
    """sha256 of its files by path, where hub or lock say it."""

    @property
    def detail(self) -> str:
        if self.config is None:
            return "no config.json"
        names = (self.config.model_type, *self.config.architectures[:1])
        return ", ".join(filter(None, names)) or "a config without model_type"

    def says(self, text: str) -> Evidence:
        """What its top config.json says."""
        return Evidence(self.where.source, self.where.digest, self.where.member, 0, text)

    def shows(self, path: str, text: str) -> Evidence:
        """What one of its files says, or holds."""
        return Evidence(f"{self.name}/{path}", self.sums.get(path, ""), "", 0, text)


@dataclass(frozen=True, slots=True)
class Composition:
    """What is judged together, for one target. `others` are components no rule reads, with the reason."""

    target: Target
    stacks: tuple[Stack, ...]
    models: tuple[Model, ...]
    others: tuple["Unread", ...] = ()


@dataclass(frozen=True, slots=True)
class Unread:
    """A component whose evidence could not be read: `reason`, and what would `settle` it."""

    name: str
    kind: Kind
    reason: str
    settle: str


def counted(count: int, what: str) -> str:
    """`2 packages`, `1 package`."""
    return f"{count} {what}{'s' * (count != 1)}"


def version_key(text: str) -> tuple[int, ...]:
    """`570.86` as numbers, to compare; the letter of a compute capability such as `9.0a` is dropped."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", text))


def names_of(models: Sequence[Model]) -> frozenset[str]:
    """Hub repositories that travel."""
    return frozenset(model.repo for model in models if model.repo)
