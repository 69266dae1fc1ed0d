"""Where transformers, vLLM and torch keep what they can run, and those tables as evidence.

Each table is a `Table`, or a `NotUnderstood` that names the file or the line that was looked at: a release
that moves a table makes an answer unknown, never wrong.
"""

from dataclasses import dataclass

from airgap.readers.python_syntax import MAX_SOURCE, NotUnderstood
from airgap.readers.python_tables import Module, Table, read_module
from airgap.readers.source import Files

Tabled = Table | NotUnderstood

_AUTO = "transformers/models/auto"
_CONFIGURATION, _MAPPINGS = f"{_AUTO}/configuration_auto.py", f"{_AUTO}/auto_mappings.py"
_REGISTRY = "vllm/model_executor/models/registry.py"
_QUANTIZATION = "vllm/model_executor/layers/quantization/__init__.py"
_TORCH = "torch/version.py"
_CONFIG = "vllm/transformers_utils/config.py"


@dataclass(frozen=True, slots=True)
class TransformersTables:
    """`model_types`: a config.json's `model_type` -> the name of its configuration class."""

    model_types: Tabled


@dataclass(frozen=True, slots=True)
class VllmTables:
    """What one vLLM knows, by the names that a model's config.json uses."""

    architectures: Tabled
    """Architecture -> (module, class); the module `transformers` is the backend of that library."""
    previously_supported: Tabled
    """Architecture -> the last version that ran it."""
    out_of_tree: Tabled
    """Architecture -> where the plugin that runs it lives. Releases before 0.18 have no such table."""
    quantization: Tabled
    """The quantisation methods it accepts."""
    model_types: Tabled
    """`model_type` -> a configuration class that vLLM ships itself, so that transformers need not know it."""


def read_transformers(files: Files, root: str = "") -> TransformersTables:
    """Up to 5.5 one file holds the table; from 5.6 on a second one, which the first takes over and amends.

    `root` is the directory that holds the package, '' or one that ends with '/'.
    """
    imports = {}
    if f"{root}{_MAPPINGS}" in files.paths():
        imports[".auto_mappings"] = _module(files, root, _MAPPINGS)
    return TransformersTables(_module(files, root, _CONFIGURATION, imports).table("CONFIG_MAPPING_NAMES"))


def read_vllm(files: Files, root: str = "") -> VllmTables:
    """`root` is the directory that holds the package, '' or one that ends with '/'."""
    registry = _module(files, root, _REGISTRY)
    return VllmTables(
        architectures=registry.table("_VLLM_MODELS"),
        previously_supported=registry.table("_PREVIOUSLY_SUPPORTED_MODELS"),
        out_of_tree=registry.table("_OOT_SUPPORTED_MODELS"),
        quantization=_module(files, root, _QUANTIZATION).table("QuantizationMethods"),
        model_types=_module(files, root, _CONFIG).table("_CONFIG_REGISTRY"),
    )


def _module(files: Files, root: str, path: str, imports: dict[str, Module] | None = None) -> Module:
    member = f"{root}{path}"
    if member not in files.paths():
        return Module(member, {}, NotUnderstood(member, 0, "expected this file, found none of that name"))
    return read_module(files.read(member, MAX_SOURCE), member, imports)


def read_torch_cuda(files: Files, root: str = "") -> str | NotUnderstood:
    """The CUDA release torch was built for, such as `12.8`; '' for a build without it."""
    cuda = _module(files, root, _TORCH).text("cuda")
    return "" if cuda is None else cuda
