"""scripts/make-quickstart: the same bytes each time, and an NVFP4 checkpoint that is one."""

import importlib.machinery
import importlib.util
import io
import json
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.services import need

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make-quickstart"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quickstart")
    subprocess.run([sys.executable, str(SCRIPT), str(out)], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("make_quickstart", str(SCRIPT))
    spec = importlib.util.spec_from_loader("make_quickstart", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_quickstart"] = module  # its dataclasses look themselves up by module name
    writing, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # none beside the script
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writing
    return module


def read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__")
    return header, data[8 + length :]


def test_a_second_run_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True, capture_output=True)
    first = {p.relative_to(made): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    assert first == {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert {str(path) for path in first} >= {"notes.txt", "image.tar", "model/model.safetensors"}


def test_the_header_proves_nvfp4(made: Path) -> None:
    header, data = read_safetensors(made / "model/model.safetensors")
    ends = sorted(tuple(t["data_offsets"]) for t in header.values())
    assert [start for start, _ in ends] == [0, *(end for _, end in ends[:-1])] and ends[-1][1] == len(data)
    packed = [name for name, tensor in header.items() if tensor["dtype"] == "U8"]
    assert len(packed) == 6
    for name in packed:
        rows, columns = header[name]["shape"]
        assert header[f"{name}_scale"] | {"data_offsets": 0} == {
            "dtype": "F8_E4M3",
            "shape": [rows, columns * 2 // 16],
            "data_offsets": 0,
        }
        assert header[f"{name}_scale_2"]["dtype"] == "F32" and header[f"{name}_scale_2"]["shape"] == []
        assert header[name.removesuffix("weight") + "input_scale"]["dtype"] == "F32"
    assert {t["dtype"] for name, t in header.items() if "self_attn" in name} == {"BF16"}
    declared = json.loads((made / "model/hf_quant_config.json").read_bytes())["quantization"]
    config = json.loads((made / "model/config.json").read_bytes())["quantization_config"]
    assert declared["quant_algo"] == config["quant_algo"] == "NVFP4" and config["quant_method"] == "modelopt"


def test_the_weights_dequantise_to_what_was_quantised(made: Path, script: ModuleType) -> None:
    """Decoded here by the formats' definitions, not with the script's own tables."""
    header, data = read_safetensors(made / "model/model.safetensors")

    def raw(name: str) -> bytes:
        start, end = header[name]["data_offsets"]
        return data[start:end]

    name = "model.layers.1.mlp.down_proj"
    rows, half = header[f"{name}.weight"]["shape"]
    codes = [code for byte in raw(f"{name}.weight") for code in (byte & 15, byte >> 4)]
    scales = [_float(byte, exponent_bits=4, mantissa_bits=3, bias=7) for byte in raw(f"{name}.weight_scale")]
    (scale_2,) = struct.unpack("<f", raw(f"{name}.weight_scale_2"))
    found = [
        _float(code, exponent_bits=2, mantissa_bits=1, bias=1) * scales[index // 16] * scale_2
        for index, code in enumerate(codes)
    ]
    wanted = [value for row in script.gaussian(name, rows, half * 2) for value in row]
    error = sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True)) ** 0.5
    assert error / sum(b**2 for b in wanted) ** 0.5 < 0.15


def _float(code: int, *, exponent_bits: int, mantissa_bits: int, bias: int) -> float:
    mantissa = code & ((1 << mantissa_bits) - 1)
    exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1)
    sign = -1.0 if code >> (mantissa_bits + exponent_bits) else 1.0
    fraction = mantissa / (1 << mantissa_bits)
    value = fraction * 2.0 ** (1 - bias) if exponent == 0 else (1 + fraction) * 2.0 ** (exponent - bias)
    return sign * value


def test_skopeo_reads_the_image(made: Path, tmp_path: Path) -> None:
    need("skopeo")
    image = f"docker-archive:{made / 'image.tar'}"
    copy = ["skopeo", "copy", "--insecure-policy", image, f"oci:{tmp_path / 'oci'}:1"]
    subprocess.run(copy, check=True, capture_output=True)
    told = json.loads(subprocess.check_output(["skopeo", "inspect", image]))
    assert (told["Os"], told["Architecture"], len(told["Layers"])) == ("linux", "amd64", 1)


def test_the_layer_holds_a_release_and_a_package(made: Path) -> None:
    with tarfile.open(made / "image.tar") as archive:
        (name,) = [n for n in archive.getnames() if n.endswith("layer.tar")]
        stream = archive.extractfile(name)
        assert stream
        with tarfile.open(fileobj=io.BytesIO(stream.read())) as layer:
            names = layer.getnames()
    assert "etc/os-release" in names
    assert any(n.endswith(".dist-info/METADATA") for n in names)
