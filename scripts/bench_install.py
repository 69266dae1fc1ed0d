"""Install and verify of 2 GB in 2,000 files, beside the tools that copy and hash and do no more.

The media are in the page cache, so that what is measured is the work and the site's disk. All copies
end on the same file system and are durable before the clock stops: by fsync of each file, or by syncfs.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench_measure import Contender, Row, compare, run

from tests import bundles

FILES = 2000
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

    `airgap audit` looks into the same files; they hold nothing, so what it costs is to look.
    """
    size, bundle = _bundle(directory, scale)
    site = bundles.pin(directory / "site")
    bag = directory / "bag"
    shutil.copytree(bundle / "blobs", bag, copy_function=os.link)
    subprocess.run(["bagit.py", "--quiet", "--sha384", bag], check=True)
    sums = bundle / "verify" / "SHA384SUMS"
    contenders = [
        _airgap("verify", bundle, site, sums.exists),
        _airgap("audit", bundle, site, sums.exists),
        _shell("sha384sum -c", f"cd {bundle} && sha384sum --check --strict --quiet {sums}", sums.exists),
        Contender(
            "bagit --processes 2",
            ["bagit.py", "--quiet", "--validate", "--processes", "2", str(bag)],
            {},
            bag.exists,
        ),
    ]
    job = f"verify {size / 1e6:.0f} MB in {FILES} files"
    rows = compare(job, size, contenders, repeat=repeat, clear=lambda: None)
    _, empty = _bundle(directory / "empty", 0)
    began = min(run(_airgap("verify", empty, site, empty.exists)).seconds for _ in range(repeat))
    cores = len(os.sched_getaffinity(0))
    possible = cores * _openssl_speed()
    for what, seconds in (("all", rows[0].cost.seconds), ("after its start", rows[0].cost.seconds - began)):
        rate = size / seconds
        print(
            f"  {job}: {what}: {rate / 1e6:.0f} MB/s, {rate / possible:.0%} of {cores} cores × openssl's"
            f" {possible / cores / 1e6:.0f} MB/s",
            file=sys.stderr,
        )
    return rows


def _bundle(directory: Path, scale: float) -> tuple[int, Path]:
    """A model of random bytes in files of a tenth to ten times the average; `scale` 0 makes one tiny file."""
    directory.mkdir(exist_ok=True)
    average = int(2_000_000_000 * scale) // FILES
    sizes = [average // 10, average * 2, average // 2, average * 14 // 10] if average else [1]
    count = FILES if average else 1
    files = {f"part-{n:04}.bin": os.urandom(sizes[n % len(sizes)]) for n in range(count)}
    bundle = bundles.write_bundle(directory / "bundle", [bundles.model("weights", files)])
    return sum(map(len, files.values())), bundle


def _airgap(verb: str, bundle: Path, site: Path, proven: Callable[[], bool]) -> Contender:
    argv = [sys.executable, "-m", "airgap", verb, str(bundle), "--site", str(site)]
    return Contender(f"airgap {verb}", argv, {}, proven)


def _shell(name: str, command: str, proven: Callable[[], bool]) -> Contender:
    return Contender(name, ["sh", "-c", command], {}, proven)


def _openssl_speed() -> float:
    """Bytes a second of one core, over blocks of 256 KiB, as `openssl speed` measures it."""
    command = ["openssl", "speed", "-seconds", str(SPEED_SECONDS), "-bytes", "262144", "-evp", "sha384"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = re.search(r"^sha384\s+([0-9.]+)k", shown, re.MULTILINE)
    assert match, shown
    return float(match[1]) * 1000
