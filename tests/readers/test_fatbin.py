"""GPU architectures in fat binaries, against NVIDIA's own cuobjdump on the code of real wheels."""

import re
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from airgap.errors import InputError
from airgap.readers.elf import read_elf
from airgap.readers.fatbin import Architecture, CodeKind, read_architectures
from airgap.readers.passing import PassingObject
from airgap.readers.source import BytesSource, FileSource, Source
from airgap.readers.zip import Archive
from tests.readers.objects import elf, gpu_code
from tests.readers.recordings import VLLM, Online


def found(data: bytes, section: str = ".nv_fatbin") -> dict[str, int]:
    return counted(BytesSource(elf([(".text", 1, b"code", 0), (section, 1, data, 0)])))


def counted(source: Source) -> dict[str, int]:
    architectures = read_architectures(source, read_elf(source, "test.so"), "test.so")
    return {str(architecture): count for architecture, count in architectures.items()}


def test_counts_entries_of_every_container() -> None:
    first = gpu_code((2, 80, 0x11), (2, 90, 0x100011), (1, 90, 0x11), (2, 100, 0x1200011))
    second = gpu_code((2, 80, 0x11), header=96)
    expected = {"sm_80": 2, "sm_90a": 1, "compute_90": 1, "sm_100f": 1}
    assert found(first + bytes(8) + second) == expected
    assert found(first + second, "__nv_relfatbin") == expected
    assert found(first, ".data") == {}
    assert found(b"") == {}
    odd = gpu_code((2, 80, 0x11), code=b"12345")
    assert found(odd + bytes(-len(odd) % 8) + first)["sm_80"] == 2


def test_refuses_architectures_without_end() -> None:
    with pytest.raises(InputError, match="for 1001 architectures"):
        found(gpu_code(*((2, number, 0) for number in range(1200))))


def test_variants_are_told_apart() -> None:
    kinds = {Architecture(120, variant, CodeKind.CUBIN) for variant in ("", "a", "f")}
    assert {str(kind) for kind in kinds} == {"sm_120", "sm_120a", "sm_120f"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01" * 32, "expected a fat binary"),
        (gpu_code((2, 80, 0))[:-1], "expected a fat binary"),
        (gpu_code((3, 80, 0)), "malformed"),
        (gpu_code((2, 80, 0x300000)), "malformed"),
        (gpu_code((2, 80, 0))[:8] + struct.pack("<Q", 40) + gpu_code((2, 80, 0))[16:56], "cut off"),
        (gpu_code((2, 80, 0))[:20] + b"\x08\0\0\0" + gpu_code((2, 80, 0))[24:], "malformed"),
        (gpu_code((2, 80, 0))[:24] + b"\xff" * 8 + gpu_code((2, 80, 0))[32:], "malformed"),
    ],
)
def test_refuses_what_is_malformed(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        found(data)


WHOLE = "torchaudio-2.9.1-cp312-cp312-manylinux_2_28_x86_64.whl"
"""A wheel of 2 MB with GPU code for seven architectures."""

REAL = [
    ("0.19.0", "vllm/_flashmla_C.abi3.so"),
    ("0.19.0", "vllm/_C_stable_libtorch.abi3.so"),
    ("0.33.0", "vllm/_qutlass_C.abi3.so"),
    ("0.33.0", "vllm/_deepselect_C.abi3.so"),
]
"""Members of some MB, fetched by range from wheels of 336 and 432 MB."""


@pytest.fixture(scope="module")
def cuobjdump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVIDIA's tool, as its wheel on the public index has it."""
    directory = tmp_path_factory.mktemp("cuobjdump")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(directory)]
    subprocess.run([*command, "nvidia-cuda-cuobjdump==13.5.37"], check=True)
    [tool] = directory.rglob("bin/cuobjdump")
    tool.chmod(0o755)
    return tool


@pytest.mark.slow
@pytest.mark.parametrize(("version", "member"), REAL)
def test_equals_cuobjdump(version: str, member: str, cuobjdump: Path, tmp_path: Path) -> None:
    wheels = Online(tmp_path / "store")
    expected = compared(wheels.open(VLLM[version]), member, cuobjdump, tmp_path)
    assert expected.total() > 0
    print(f"{member} of {version}: {dict(expected)}, {wheels.traffic:,} bytes of traffic")


@pytest.mark.slow
def test_equals_cuobjdump_on_every_object_of_a_wheel(cuobjdump: Path, tmp_path: Path) -> None:
    archive = Online(tmp_path / "store").open(WHOLE)
    objects = [path for path in archive.paths() if path.endswith(".so")]
    total = sum((compared(archive, path, cuobjdump, tmp_path) for path in objects), Counter[str]())
    assert len(objects) == 4
    assert set(total) == {f"sm_{number}" for number in (70, 75, 80, 86, 90, 100, 120)}


def compared(archive: Archive, member: str, cuobjdump: Path, directory: Path) -> Counter[str]:
    """What cuobjdump counts in a member, which is what we count in it, streamed and as a file."""
    path = directory / "member.so"
    path.write_bytes(b"".join(archive.open(member)))
    # It exits 255 for a file without GPU code.
    said = subprocess.run([cuobjdump, path], check=False, capture_output=True, text=True).stdout
    expected = Counter(
        f"{'compute' if kind == 'ptx' else 'sm'}_{number}"
        for kind, number in re.findall(r"Fatbin (elf|ptx) code:\n=+\narch = sm_(\w+)", said)
    )
    passing = PassingObject(member, path.stat().st_size)
    for chunk in archive.open(member):
        passing.feed(chunk)
    passing.end()
    assert {str(architecture) for architecture in passing.architectures} == set(expected), passing.problem
    with FileSource(path) as source:
        assert counted(source) == counted(archive.source(member)) == expected
    return expected
