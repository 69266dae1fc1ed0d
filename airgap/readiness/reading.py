"""From trees of files to the facts of a stack: METADATA of every package, source tables of the engines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from airgap.errors import InputError
from airgap.model import Kind
from airgap.readers.imports import Modules
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.serving_tables import Tabled, VllmTables, read_torch_cuda, read_transformers, read_vllm
from airgap.readers.source import Files
from airgap.readers.wheel import Metadata, read_wheel
from airgap.readers.zip import Archive
from airgap.readiness.components import Distribution, GpuCode, NotRead, ServingCode, Stack
from airgap.readiness.rules_gpu import read_gpu_code
from airgap.tags import WheelName, normalized_name

ENGINES = ("vllm", "transformers", "torch")
"""Packages of which more than METADATA is read."""


class Tables(NamedTuple):
    """What the sources of one engine say; None for what it is not."""

    transformers: Tabled | None = None
    vllm: VllmTables | None = None
    torch_cuda: str | NotUnderstood | None = None
    gpu_code: tuple[GpuCode, ...] | NotUnderstood | None = None
    modules: Modules | None = None
    """Of vLLM: read when they are asked for, which its source must still be open for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One package as it was read."""

    distribution: Distribution
    tables: Tables


def read_package(archive: Archive, file: str, *, whole: bool = False) -> Seen:
    """A wheel's METADATA and, for an engine, its tables. `file` is the name it travels under.

    `whole` says that all of it is at hand, so that vLLM's GPU code is read, too.
    Raises InputError when it is no wheel of that project and version, and what its source raises.
    """
    wheel = read_wheel(archive, file)
    seen = see(Distribution(file, archive.digest, wheel.metadata_member, wheel.metadata), archive)
    if not whole or seen.tables.vllm is None:
        return seen
    return replace(seen, tables=seen.tables._replace(gpu_code=read_gpu_code(archive)))


def read_metadata(data: bytes, file: str, digest: str) -> Seen:
    """A package of which only METADATA is at hand (PEP 658). Raises InputError."""
    name = WheelName.parse(file)
    metadata = _held(Metadata.parse(data, f"{file}: METADATA"), name)
    return see(Distribution(file, digest, f"{name.name}-{name.version}.dist-info/METADATA", metadata), None)


def read_name(file: str, digest: str) -> Seen:
    """What the name of a wheel says of it: project, version, tags. It requires nothing that is known."""
    name = WheelName.parse(file)
    version = name.version.replace("_", "+", 1) if "+" not in name.version else name.version
    metadata = Metadata.parse(f"Name: {name.name}\nVersion: {version}\n".encode(), file)
    return Seen(Distribution(file, digest, "", metadata), Tables())


def see(distribution: Distribution, files: Files | None, root: str = "") -> Seen:
    """A package with its tables, where its `files` are at hand.

    `root` is the directory of `files` that Python imports from, '' or one that ends with '/'.
    """
    tables = Tables()
    if files and distribution.key == "transformers":
        tables = Tables(transformers=read_transformers(files, root).model_types)
    elif files and distribution.key == "vllm":
        tables = Tables(vllm=read_vllm(files, root), modules=Modules(files, root))
    elif files and distribution.key == "torch":
        tables = Tables(torch_cuda=read_torch_cuda(files, root))
    return Seen(distribution, tables)


def seen_in(stack: Stack) -> tuple[Seen, ...]:
    """The packages of a stack again, as `stack_of` was given them."""
    tables = {
        "transformers": Tables(transformers=stack.transformers),
        "vllm": Tables(vllm=stack.vllm, gpu_code=stack.gpu_code),
        "torch": Tables(torch_cuda=stack.torch_cuda),
    }
    return tuple(Seen(package, tables.get(package.key, Tables())) for package in stack.packages)


def stack_of(
    name: str,
    kind: Kind,
    seen: Iterable[Seen],
    *,
    closed: bool,
    unread: Mapping[str, NotRead],
    requirements: tuple[str, ...] = (),
    serving: ServingCode | None = None,
) -> Stack:
    """The packages that run together, and what their engines' tables say."""
    packages = tuple(seen)
    tables = {one.distribution.key: one.tables for one in packages}
    return Stack(
        name,
        kind,
        tuple(one.distribution for one in packages),
        closed,
        {normalized_name(package): why for package, why in unread.items()},
        requirements,
        tables.get("transformers", Tables()).transformers,
        tables.get("vllm", Tables()).vllm,
        tables.get("torch", Tables()).torch_cuda,
        serving,
        tables.get("vllm", Tables()).gpu_code,
    )


def _held(metadata: Metadata, name: WheelName) -> Metadata:
    if normalized_name(metadata.name) != normalized_name(name.name):
        raise InputError(f"expected METADATA of {name.name}, found that of {metadata.name}")
    return metadata
