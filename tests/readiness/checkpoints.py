"""Real checkpoints of both writers (tests/data/nvfp4, from scripts/make-nvfp4), and ways to falsify them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airgap.readers.checkpoint import Checkpoint, read_checkpoints
from airgap.readers.safetensors import BITS

DATA = Path(__file__).parents[1] / "data" / "nvfp4"
CASES = sorted(path.name for path in DATA.iterdir())

Files = dict[str, bytes]


def load(case: str) -> Files:
    return {path.name: path.read_bytes() for path in sorted((DATA / case).iterdir())}


def read(files: Mapping[str, bytes]) -> tuple[Checkpoint, ...]:
    sizes = {name: len(data) for name, data in files.items()}
    return read_checkpoints(sizes, lambda path, start, count: files[path][start : start + count])


@dataclass
class Stored:
    dtype: str
    shape: list[int]
    data: bytes


def unpack(data: bytes) -> dict[str, Stored]:
    end = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:end])
    table.pop("__metadata__", None)
    return {
        name: Stored(t["dtype"], t["shape"], data[end + t["data_offsets"][0] : end + t["data_offsets"][1]])
        for name, t in table.items()
    }


def pack(tensors: Mapping[str, Stored]) -> bytes:
    table: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        table[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [at, at + len(tensor.data)],
        }
        at += len(tensor.data)
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + b"".join(t.data for t in tensors.values())


def zeros(dtype: str, *shape: int) -> Stored:
    elements = 1
    for dimension in shape:
        elements *= dimension
    return Stored(dtype, list(shape), bytes(elements * BITS[dtype] // 8))


def with_tensors(
    files: Files, change: Callable[[dict[str, Stored]], object], name: str = "model.safetensors"
) -> Files:
    """The files with one safetensors changed."""
    tensors = unpack(files[name])
    change(tensors)
    return files | {name: pack(tensors)}


def with_config(files: Files, change: Callable[[dict[str, Any]], object], name: str = "config.json") -> Files:
    """The files with one JSON document changed."""
    document = json.loads(files[name])
    change(document)
    return files | {name: json.dumps(document).encode()}
