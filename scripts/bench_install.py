"""Install and verify of 2 GB in 2,000 files, beside the tools that copy and hash and do no more.

The media are in the page cache, so that what is measured is the work and the site's disk. All copies
end on the same file system and are durable before the clock stops: by fsync of each file, or by syncfs.
"""

import mmap
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from bench_measure import Contender, Row, compare

from tests import bundles

FILES = 2000
SHARDS = 48
SHARD = 250_000_000
"""Bytes of a shard of weights; hubs cut them at 5 GB, and this is enough for the start not to count."""

SPEED_SECONDS = 3


def install(directory: Path, scale: float, repeat: int) -> list[Row]:
    """`airgap install` beside `cp -r` (with fsync of each file, and with one sync) and `tar x`."""
    size, bundle = _bundle(directory, scale)
    tar = directory / "bundle.tar"
    subprocess.run(["tar", "--create", "--file", tar, "--directory", bundle, "."], check=True)
    out = directory / "out"
    site = out / "site"

    def clear() -> None:
        shutil.rmtree(out, ignore_errors=True)
        bundles.pin(site)

    def complete() -> bool:
        return sum(path.stat().st_size for path in out.rglob("blobs/sha256/*")) >= size

    fsync_each = f"find {out}/copy -print0 | xargs -0 sync"
    contenders = [
        _airgap("install", bundle, site, complete),
        _shell("cp -r, fsync each", f"cp -r {bundle} {out}/copy && {fsync_each}", complete),
        _shell("cp -r, sync", f"cp -r {bundle} {out}/copy && sync -f {out}", complete),
        _shell(
            "tar x, sync",
            f"mkdir {out}/copy && tar -xf {tar} -C {out}/copy && sync -f {out}",
            complete,
        ),
    ]
    job = f"install {size / 1e6:.0f} MB in {FILES} files"
    rows = compare(job, size, contenders, repeat=repeat, clear=clear)
    shutil.rmtree(out, ignore_errors=True)
    return rows


def verify(directory: Path, scale: float, repeat: int) -> list[Row]:
    """`airgap verify` of cached data beside `sha384sum -c` and bagit, and what the cores could do.

    `airgap audit` looks into the same files; they hold nothing, so what it costs is to look. Then the same
    of shards as large models have, where the start of a program no longer counts.
    """
    site = bundles.pin(directory / "site")
    size, bundle = _bundle(directory, scale)
    rows = _verify(
        f"verify {size / 1e6:.0f} MB in {FILES} files", size, bundle, site, repeat, looked_into=True
    )
    shutil.rmtree(bundle)
    size, bundle = _shards(directory / "shards", scale)
    return rows + _verify(f"verify {size / 1e6:.0f} MB in {SHARDS} files", size, bundle, site, repeat)


def _verify(
    job: str, size: int, bundle: Path, site: Path, repeat: int, *, looked_into: bool = False
) -> list[Row]:
    bag = bundle.parent / "bag"
    shutil.copytree(bundle / "blobs", bag, copy_function=os.link)
    subprocess.run(["bagit.py", "--quiet", "--sha384", bag], check=True)
    sums = bundle / "verify" / "SHA384SUMS"
    cores = len(os.sched_getaffinity(0))
    bagit = ["bagit.py", "--quiet", "--validate", "--processes", str(cores), str(bag)]
    contenders = [
        _airgap("verify", bundle, site, sums.exists),
        *([_airgap("audit", bundle, site, sums.exists)] if looked_into else []),
        Contender(f"bagit --processes {cores}", bagit, {}, bag.exists),
        _shell("sha384sum -c", f"cd {bundle} && sha384sum --check --strict --quiet {sums}", sums.exists),
    ]
    rows = compare(job, size, contenders, repeat=repeat, clear=lambda: None)
    shutil.rmtree(bag)
    possible = statistics.median(_openssl_speed(cores) for _ in range(3))
    for row in rows:
        rate = size / row.cost.seconds
        print(
            f"  {job}: {row.name}: {rate / 1e6:.0f} MB/s, {rate / possible:.0%} of the"
            f" {possible / 1e6:.0f} MB/s that openssl hashes on {cores} cores at once",
            file=sys.stderr,
        )
    return rows


def _shards(directory: Path, scale: float) -> tuple[int, Path]:
    """A model of large files, mapped rather than read, so that they need not all be in memory."""
    directory.mkdir()
    size = max(int(SHARD * scale), 16)
    body = os.urandom(size)
    with ExitStack() as opened:
        files = {}
        for number in range(SHARDS):
            shard = opened.enter_context(open(directory / f"shard-{number:02}.bin", "w+b"))
            shard.write(number.to_bytes(8, "big") + body[8:])
            shard.flush()
            files[shard.name] = opened.enter_context(mmap.mmap(shard.fileno(), 0))
        del body
        named = {Path(name).name: cast(bytes, data) for name, data in files.items()}
        bundle = bundles.write_bundle(directory / "bundle", [bundles.model("weights", named)])
    for name in files:
        Path(name).unlink()
    return size * SHARDS, bundle


def _bundle(directory: Path, scale: float) -> tuple[int, Path]:
    """A model of random bytes in files of a tenth to twice the average."""
    average = int(2_000_000_000 * scale) // FILES
    sizes = [average // 10, average * 2, average // 2, average * 14 // 10]
    files = {f"part-{n:04}.bin": os.urandom(sizes[n % len(sizes)]) for n in range(FILES)}
    bundle = bundles.write_bundle(directory / "bundle", [bundles.model("weights", files)])
    return sum(map(len, files.values())), bundle


def _airgap(verb: str, bundle: Path, site: Path, proven: Callable[[], bool]) -> Contender:
    argv = [sys.executable, "-m", "airgap", verb, str(bundle), "--site", str(site)]
    return Contender(f"airgap {verb}", argv, {}, proven)


def _shell(name: str, command: str, proven: Callable[[], bool]) -> Contender:
    return Contender(name, ["sh", "-c", command], {}, proven)


def _openssl_speed(cores: int) -> float:
    """Bytes a second of all cores at once, over blocks of 256 KiB, as `openssl speed` measures it."""
    command = ["openssl", "speed", "-multi", str(cores), "-seconds", str(SPEED_SECONDS)]
    command += ["-bytes", "262144", "-evp", "sha384"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = re.search(r"^sha384\s+([0-9.]+)k", shown, re.MULTILINE)
    assert match, shown
    return float(match[1]) * 1000
