"""Taking stock of an image's layer, against decompressing it and against listing its entries."""

import io
import os
import sys
import tarfile
from pathlib import Path

from bench_measure import Contender, Row, compare

from tests.readers.objects import elf, gpu_code

PACKAGES = 500
FILES = 30
"""Modules of each package."""

READ = """
import sys
from airgap.readers.image import read_image
from airgap.readers.passing import PassingObject
from airgap.readers.union import Layer
layer = Layer("0" * 64, lambda: open(sys.argv[1], "rb"))
passing = lambda path: PassingObject if path.endswith(".so") else None
found = read_image("0" * 64, [layer], lambda path: False, passing)
assert len(found.distributions) == int(sys.argv[2]), len(found.distributions)
[module] = found.files.values()
assert {str(a) for a in module.passing.architectures} == {"sm_90a"}, module.passing.problem
"""

UNPACK = """
import sys
from isal import igzip
with igzip.open(sys.argv[1]) as stream:
    while stream.read(1 << 20):
        pass
"""


def layers(directory: Path, scale: float, repeat: int) -> list[Row]:
    """A gzip layer of 1 GB: the packages in it and the GPU code of one module, half of it text."""
    size = int(1_000_000_000 * scale)
    path = directory / "layer.tar.gz"
    _write(path, size)
    tar = f"gzip -dc {path} | tar -t > /dev/null"
    contenders = [
        Contender(
            "airgap, packages and GPU code", [sys.executable, "-c", READ, str(path), str(PACKAGES)], {}, _yes
        ),
        Contender("isal alone", [sys.executable, "-c", UNPACK, str(path)], {}, _yes),
        Contender("gzip -dc, tar -t", ["sh", "-c", tar], {}, _yes),
    ]
    job = f"a layer of {size / 1e6:.0f} MB, {path.stat().st_size / 1e6:.0f} packed"
    return compare(job, size, contenders, repeat=repeat, clear=lambda: None)


def _yes() -> bool:
    """What it found was compared in the command itself."""
    return True


def _write(path: Path, size: int) -> None:
    """A third of it one extension module, the rest in the files of packages."""
    from isal import igzip  # an extra, which only this job needs

    each = size * 2 // 3 // (PACKAGES * FILES)
    text = (b"def function(argument: int) -> str:\n    return str(argument)\n" * (each // 60 + 1))[
        : each // 2
    ]
    with igzip.open(path, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for number in range(PACKAGES):
            site = f"usr/lib/python3/dist-packages/package{number}"
            metadata = f"Metadata-Version: 2.1\nName: package{number}\nVersion: 1.0\n".encode()
            _add(tar, f"{site}-1.0.dist-info/METADATA", metadata)
            for file in range(FILES):
                _add(tar, f"{site}/module{file}.py", text + os.urandom(each - len(text)))
        code = gpu_code((2, 90, 0x100011), code=os.urandom(size // 6 // 8 * 8))
        module = elf([(".text", 1, bytes(size // 6), 0), (".nv_fatbin", 1, code, 0)])
        _add(tar, "usr/lib/python3/dist-packages/package0/_C.abi3.so", module)


def _add(tar: tarfile.TarFile, path: str, data: bytes) -> None:
    info = tarfile.TarInfo(path)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
