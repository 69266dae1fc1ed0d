"""`airgap audit` beside `airgap verify` of the same bundle, and what unpacking and hashing cost alone.

The bundles are in the page cache, or on media that give so many bytes a second: `bindfs` holds them to it,
and forgets what it gave when it is unmounted. What is packed here is what is installed here: distributions
as wheels, Python itself as a layer. So shares of text and machine code are those of real bundles; weights are
random bytes, which is what they look like.
"""

import base64
import csv
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from bench_measure import Contender, Row, compare

from tests import bundles
from tests.audit.faults import Entry, image

WHEELS, LAYER, WEIGHTS = 250_000_000, 250_000_000, 1_500_000_000
"""Bytes, unpacked, at most."""

SHARDS = 5

UNPACK = """
import hashlib, os, sys, zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from isal import igzip, igzip_lib

def member(file, info):
    file.seek(info.header_offset + 26)
    lengths = file.read(4)
    file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
    hasher = hashlib.sha256()
    if info.compress_type == zipfile.ZIP_STORED:
        hasher.update(file.read(info.compress_size))
        return
    left, one = info.compress_size, igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE)
    while not one.eof:
        packed = file.read(min(left, 1 << 18)) if one.needs_input else b""
        left -= len(packed)
        hasher.update(one.decompress(packed, 1 << 18))

def look(path):
    with open(path, "rb") as file:
        hashlib.file_digest(file, "sha384")
        file.seek(0)
        magic = file.read(2)
        file.seek(0)
        if magic == b"PK":
            for info in zipfile.ZipFile(path).infolist():
                member(file, info)
        elif magic == bytes([0x1F, 0x8B]):
            hasher = hashlib.sha256()
            with igzip.open(file) as stream:
                while data := stream.read(1 << 18):
                    hasher.update(data)

blobs = sorted(Path(sys.argv[1], "blobs", "sha256").iterdir(), key=lambda path: -path.stat().st_size)
with ThreadPoolExecutor(os.cpu_count()) as threads:
    list(threads.map(look, blobs))
"""
"""No file, no name and no type: sha384 of what is packed, `isal`, and sha256 of what it gives."""


MEDIA = {"a disc, 12x Blu-ray": 54_000_000, "a stick": 150_000_000, "a fast stick": 250_000_000}
"""Bytes a second."""


def audit(directory: Path, scale: float, repeat: int) -> list[Row]:
    """Cached: verify, audit, and the floor under it."""
    rows = []
    for name, bundle in _bundles(directory, scale):
        alone = Contender("sha384, isal, sha256 alone", _python(UNPACK, bundle), {}, bundle.exists)
        contenders = [*_verbs(bundle, directory / "site"), alone]
        rows += compare(_job(name, bundle), _size(bundle), contenders, repeat=repeat, clear=lambda: None)
    return rows


def media(directory: Path, scale: float, repeat: int) -> list[Row]:
    """At the speed of what bundles travel on: verify, audit, and reading alone."""
    rows = []
    for name, bundle in _bundles(directory, scale):
        for medium, rate in MEDIA.items():
            with Medium(bundle, directory / "medium", rate) as mounted:
                read = Contender("reading alone", _python(READ, mounted.at), {}, mounted.at.exists)
                contenders = [*_verbs(mounted.at, directory / "site"), read]
                job = f"{_job(name, bundle)}, {medium}, {rate / 1e6:.0f} MB/s"
                rows += compare(job, _size(bundle), contenders, repeat=repeat, clear=mounted.remount)
    return rows


READ = """
import sys
from pathlib import Path
for path in Path(sys.argv[1]).glob("blobs/sha256/*"):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
"""


class Medium:
    """`source` as what lies at `at`, of which `rate` bytes a second can be read; a context manager."""

    def __init__(self, source: Path, at: Path, rate: int) -> None:
        self.at = at
        self._mount = ["bindfs", "-r", f"--read-rate={rate}", str(source), str(at)]

    def __enter__(self) -> "Medium":
        self.at.mkdir(exist_ok=True)
        subprocess.run(self._mount, check=True)
        return self

    def __exit__(self, *failure: object) -> None:
        subprocess.run(["fusermount", "-u", str(self.at)], check=True)

    def remount(self) -> None:
        """Nothing of it is cached any more."""
        self.__exit__()
        self.__enter__()


def _bundles(directory: Path, scale: float) -> Iterator[tuple[str, Path]]:
    """Wheels, an image's layer, and both beside weights, each bundle gone when the next comes."""
    wheels = bundles.wheels("packages", dict(_wheels(int(WHEELS * scale))))
    layer = image("python", list(_files(Path(sys.base_prefix), int(LAYER * scale))))
    shard = int(WEIGHTS * scale) // SHARDS
    weights = bundles.model("weights", {f"part-{n}.safetensors": _weights(shard) for n in range(SHARDS)})
    bundles.pin(directory / "site")
    for name, contents in {
        "wheels": [wheels],
        "an image": [layer],
        "weights, both": [weights, wheels, layer],
    }.items():
        bundle = bundles.write_bundle(directory / "bundle", contents)
        yield name, bundle
        shutil.rmtree(bundle)


def _verbs(bundle: Path, site: Path) -> list[Contender]:
    run = [sys.executable, "-m", "airgap"]
    return [
        Contender(f"airgap {verb}", [*run, verb, str(bundle), "--site", str(site)], {}, bundle.exists)
        for verb in ("verify", "audit")
    ]


def _python(code: str, bundle: Path) -> list[str]:
    return [sys.executable, "-c", code, str(bundle)]


def _size(bundle: Path) -> int:
    return sum(path.stat().st_size for path in (bundle / "blobs" / "sha256").iterdir())


def _job(name: str, bundle: Path) -> str:
    return f"{name}, {_size(bundle) / 1e6:.0f} MB"


def _wheels(most: int) -> Iterator[tuple[str, bytes]]:
    """What is installed beside this Python, packed again (PEP 427), the smallest first."""
    sized = [
        (sum(file.size or 0 for file in one.files or ()), one.metadata["Name"], one)
        for one in distributions()
    ]
    for size, name, one in sorted(sized, key=lambda item: item[:2]):
        most -= size
        if size and most > 0:
            yield _wheel(name.replace("-", "_"), one)


def _wheel(name: str, installed: Distribution) -> tuple[str, bytes]:
    out, record = io.BytesIO(), io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    info = ""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in installed.files or ():
            if ".." in file.parts or "__pycache__" in file.parts or not file.locate().is_file():
                continue
            if file.name == "RECORD":
                info = file.parts[0]
                continue
            data = file.read_binary()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.writerow([str(file), f"sha256={digest}", len(data)])
            wheel.writestr(str(file), data)
        lines.writerow([f"{info}/RECORD", "", ""])
        wheel.writestr(f"{info}/RECORD", record.getvalue())
    return f"{name}-{installed.version}-py3-none-any.whl", out.getvalue()


def _files(root: Path, most: int) -> Iterator[Entry]:
    """A tree as the entries of a layer."""
    for path in sorted(root.rglob("*")):
        if not path.is_symlink() and path.is_file():
            data = path.read_bytes()
            most -= len(data)
            if most < 0:
                return
            yield Entry(f"opt/python/{path.relative_to(root)}", data, path.stat().st_mode & 0o777)


def _weights(size: int) -> bytes:
    header = f'{{"w":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}'.encode()
    return struct.pack("<Q", len(header)) + header + os.urandom(size)
