"""A model's files as engines see them: which safetensors are its weights, and the documents beside them.

Only headers and small documents are read, by ranges, so a model that nobody has fetched yet costs two
requests a file. A repository may hold several checkpoints (a diffusion pipeline, a sentence encoder with
its dense layer): each directory that holds weights is one, with its own config.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from airgap.decode import parse_json
from airgap.errors import InputError
from airgap.model import bundle_path
from airgap.readers.model_config import (
    AdapterConfig,
    Declaration,
    ModelConfig,
    parse_adapter_config,
    parse_hf_quant_config,
    parse_model_config,
)
from airgap.readers.safetensors import Header, header_end, parse_header

MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes of an index; that of a model with a hundred thousand tensors has 10 MiB."""

FIRST_READ = 128 * 1024
"""Bytes asked for at once: most headers are shorter, and then one request is enough."""

PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")
OTHER_WEIGHTS = (".gguf", ".ggml", ".onnx", ".onnx_data", ".h5", ".msgpack", ".tflite", ".engine", ".nemo")

_NO_WEIGHTS = ("training_args.bin", "scheduler.pt", "optimizer.pt", "optimizer.bin", "scaler.pt")

T = TypeVar("T")

ReadRange = Callable[[str, int, int], bytes]
"""(path, start, count) -> exactly these bytes. What it raises passes through."""


@dataclass(frozen=True, slots=True)
class Index:
    """`*.safetensors.index.json`: which file each tensor is in."""

    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what its name says; `message` names the tensor where one is to blame."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights in one directory ('' is the model's top), keyed by file name, and what lies beside them.

    `set_aside` are safetensors that the index does not name, which engines leave alone.
    """

    directory: str
    headers: Mapping[str, Header]
    config: ModelConfig | None = None
    hf_quant_config: Declaration | None = None
    adapter: AdapterConfig | None = None
    index: Index | None = None
    damaged: tuple[Damage, ...] = ()
    set_aside: tuple[str, ...] = ()
    pickles: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Weights in formats that airgap does not read."""

    def at(self, name: str) -> str:
        """The path, below the model's top, of one of its files."""
        return _join(self.directory, name)


def read_checkpoints(sizes: Mapping[str, int], read: ReadRange) -> tuple[Checkpoint, ...]:
    """Every checkpoint among a model's files (path -> bytes), the top directory first.

    What is wrong with a file becomes `Damage`, an InputError of `read` among it; its other errors pass.
    """
    directories: dict[str, list[str]] = {}
    for path in sorted(sizes):
        directories.setdefault(_directory(path), []).append(PurePosixPath(path).name)
    reader = _Reader(sizes, read)
    found = [
        reader.checkpoint(directory, names)
        for directory, names in sorted(directories.items())
        if directory == "" or any(_is_weight(name) for name in names)
    ]
    return tuple(c for c in found if c.headers or c.damaged or c.pickles or c.others or c.config)


def parse_index(data: bytes, what: str) -> Index:
    """Read a `model.safetensors.index.json`. Raises InputError."""
    document = parse_json(data, what, max_bytes=MAX_DOCUMENT, python=True)
    table = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(table, dict) or not table:
        raise InputError(f"{what}: expected a weight_map of tensor names to files")
    files: dict[str, str] = {}
    for tensor, file in table.items():
        if not isinstance(file, str) or "/" in file:
            raise InputError(f"{what}: {tensor[:200]!r}: expected the name of a file beside the index")
        files[tensor] = bundle_path(file)
    return Index(files)


class _Reader:
    """Reads one model's files; damage is kept, not raised."""

    def __init__(self, sizes: Mapping[str, int], read: ReadRange) -> None:
        self._sizes = sizes
        self._read = read
        self._damaged: list[Damage] = []

    def checkpoint(self, directory: str, names: Sequence[str]) -> Checkpoint:
        self._damaged = []
        index_name = _index_name(names)
        index = self._document(_join(directory, index_name), parse_index) if index_name else None
        wanted, set_aside = _choose([n for n in names if n.endswith(".safetensors")], index)
        headers = {name: header for name in wanted if (header := self._header(_join(directory, name)))}
        return Checkpoint(
            directory,
            headers,
            self._document(_join(directory, "config.json"), parse_model_config),
            self._document(_join(directory, "hf_quant_config.json"), parse_hf_quant_config),
            self._document(_join(directory, "adapter_config.json"), parse_adapter_config),
            index,
            tuple(self._damaged),
            set_aside,
            tuple(n for n in names if n.endswith(PICKLES) and n not in _NO_WEIGHTS),
            tuple(n for n in names if n.endswith(OTHER_WEIGHTS)),
        )

    def _header(self, path: str) -> Header | None:
        size = self._sizes[path]
        try:
            data = self._read(path, 0, min(size, FIRST_READ))
            end = header_end(data, size, path)
            if end > len(data):
                data += self._read(path, len(data), end - len(data))
            return parse_header(data, size, path)
        except InputError as error:
            self._keep(path, error)
            return None

    def _document(self, path: str, parse: Callable[[bytes, str], T]) -> T | None:
        if path not in self._sizes:
            return None
        try:
            if self._sizes[path] > MAX_DOCUMENT:
                raise InputError(f"{path}: larger than {MAX_DOCUMENT} bytes, which no such document is")
            return parse(self._read(path, 0, self._sizes[path]), path)
        except InputError as error:
            self._keep(path, error)
            return None

    def _keep(self, path: str, error: InputError) -> None:
        self._damaged.append(Damage(path, error.message.removeprefix(f"{path}: ")))


def _choose(names: Sequence[str], index: Index | None) -> tuple[list[str], tuple[str, ...]]:
    """Which safetensors are loaded, and which not: an index decides, else `model.safetensors` alone."""
    whole = [name for name in ("model.safetensors", "adapter_model.safetensors") if name in names]
    if index:
        named = set(index.files.values())
    elif whole:
        named = {whole[0]}
    else:
        named = set(names)
    return [n for n in names if n in named], tuple(n for n in names if n not in named)


def _index_name(names: Sequence[str]) -> str:
    found = [name for name in names if name.endswith(".safetensors.index.json")]
    return "model.safetensors.index.json" if "model.safetensors.index.json" in found else "".join(found[:1])


def _is_weight(name: str) -> bool:
    return name.endswith((".safetensors", *PICKLES, *OTHER_WEIGHTS)) and name not in _NO_WEIGHTS


def _directory(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
