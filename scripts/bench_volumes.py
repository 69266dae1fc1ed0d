"""Cutting 1 GB into volumes, and taking them in, beside the tools that cut, hash and copy and do no more."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench_measure import Contender, Row, compare

from tests import bundles

SHARDS = 5


def volumes(directory: Path, scale: float, repeat: int) -> list[Row]:
    """`airgap split` beside `split` and `sha384sum`, and `cat`; then `receive` beside `cp -r`."""
    size = int(1_000_000_000 * scale) // SHARDS
    files = {f"shard-{n}.bin": os.urandom(size) for n in range(SHARDS)}
    bundle = bundles.write_bundle(directory / "bundle", [bundles.model("weights", files)])
    total = size * SHARDS
    capacity = total // 3
    return [
        *_split(directory, bundle, total, capacity, repeat),
        *_receive(directory, bundle, total, capacity, repeat),
    ]


def _split(directory: Path, bundle: Path, total: int, capacity: int, repeat: int) -> list[Row]:
    out = directory / "out"

    def clear() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    blobs = f"{bundle}/blobs/sha256/*"
    cutting = f"cat {blobs} | split --bytes={capacity} - {out}/part-"
    contenders = [
        _airgap("airgap split --tar", ["split", bundle, "--size", capacity, "--tar", "-o", out], out),
        _airgap("airgap split (links)", ["split", bundle, "--size", capacity, "-o", out], out),
        _shell(
            "split, sha384sum, sync",
            f"{cutting} && sha384sum {out}/part-* > {out}/sums && sync -f {out}",
            out,
        ),
        _shell("cat, sync", f"cat {blobs} > {out}/part && sync -f {out}", out),
    ]
    job = f"split {total / 1e6:.0f} MB into volumes"
    return compare(job, total, contenders, repeat=repeat, clear=clear)


def _receive(directory: Path, bundle: Path, total: int, capacity: int, repeat: int) -> list[Row]:
    discs, out = directory / "discs", directory / "site-and-copy"
    argv = [sys.executable, "-m", "airgap", "split", str(bundle), "--size", str(capacity), "-o", str(discs)]
    assert os.spawnv(os.P_WAIT, sys.executable, argv) == 0
    site = out / "site"

    def clear() -> None:
        shutil.rmtree(out, ignore_errors=True)
        bundles.pin(site)

    found = sorted(discs.iterdir())
    contenders = [
        _airgap("airgap receive", ["receive", *found, "--site", site], site / "arrivals"),
        _airgap("airgap verify", ["verify", *found, "--site", site], site),
        _shell(
            "sha384sum -c",
            " && ".join(f"(cd {v} && sha384sum --check --quiet SHA384SUMS)" for v in found),
            site,
        ),
        _shell("cp -r, sync", f"cp -r {discs} {out}/copy && sync -f {out}", out / "copy"),
    ]
    job = f"take in {total / 1e6:.0f} MB of volumes"
    return compare(job, total, contenders, repeat=repeat, clear=clear)


def _airgap(name: str, arguments: list[object], proof: Path) -> Contender:
    argv = [sys.executable, "-m", "airgap", *map(str, arguments)]
    return Contender(name, argv, {}, _exists(proof))


def _shell(name: str, command: str, proof: Path) -> Contender:
    return Contender(name, ["sh", "-c", command], {}, _exists(proof))


def _exists(proof: Path) -> Callable[[], bool]:
    return proof.exists
