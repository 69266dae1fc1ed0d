"""The header of a safetensors file.

Invariant: only InputError escapes; what is accepted covers the file's data exactly, writes back to an equal
header, and is read as the same tensors by the safetensors package, which may accept more.
"""

import json
from functools import cache

from safetensors import deserialize

from airgap.readers.safetensors import BITS, PREFIX, Header, header_end, parse_header
from tests.fuzz.harness import accepted


@cache
def seeds() -> dict[str, bytes]:
    def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    nvfp4 = {
        "__metadata__": {"format": "pt"},
        "q.weight": tensor("U8", [2, 8], 0, 16),
        "q.weight_scale": tensor("F8_E4M3", [2, 1], 16, 18),
        "q.weight_scale_2": tensor("F32", [], 18, 22),
        "q.none": tensor("BF16", [0, 3], 22, 22),
    }
    every = {dtype: tensor(dtype, [0], 0, 0) for dtype in BITS}
    byte = tensor("U8", [1], 0, 1)
    files = {
        "nvfp4": (nvfp4, 22),
        "every": (every, 0),
        "none": ({}, 0),
        "f4": ({"t": tensor("F4", [2], 0, 1)}, 1),
        "bad-hole": ({"a": byte, "b": tensor("U8", [1], 2, 3)}, 3),
        "bad-overlap": ({"a": byte, "b": byte}, 1),
        "bad-size": ({"a": byte}, 2),
    }
    return {name: _file(json.dumps(header).encode(), data) for name, (header, data) in files.items()}


def check(data: bytes) -> bool:
    header = accepted(_read, data)
    if header is None:
        return False
    assert header.file_size == len(data)
    assert sum(tensor.size for tensor in header.tensors) == len(data) - header.data_begin
    assert _read(_file(_render(header), len(data) - header.data_begin)).tensors == header.tensors
    theirs = deserialize(data)  # type: ignore[no-untyped-call]
    assert {name: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for name, t in theirs} == {
        t.name: (t.dtype, t.shape, data[header.data_begin + t.begin : header.data_begin + t.end])
        for t in header.tensors
    }
    return True


def _read(data: bytes) -> Header:
    end = header_end(data[:PREFIX], len(data), "weights")
    return parse_header(data[:end], len(data), "weights")


def _render(header: Header) -> bytes:
    tensors = {
        t.name: {"dtype": t.dtype, "shape": t.shape, "data_offsets": (t.begin, t.end)} for t in header.tensors
    }
    return json.dumps({"__metadata__": dict(header.metadata), **tensors}).encode()


def _file(header: bytes, data: int) -> bytes:
    return len(header).to_bytes(PREFIX, "little") + header + bytes(data)
