"""One target under atheris, until the time is up or an input breaks it; `tests.fuzz` starts this."""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import atheris

WATCHED = ["airgap", "tomllib", "html", "pip._internal.index", "pip._internal.models"]
"""Modules whose branches count: airgap, and the Python that it hands outside bytes to."""

with atheris.instrument_imports(include=WATCHED):
    from tests.fuzz import harness
    from tests.fuzz.mutate import mutate_json

MAX_LENGTH = 16 * 1024
"""Bytes of an input, unless a seed is longer."""


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("target")
    arguments.add_argument("--seconds", type=int, required=True)
    arguments.add_argument("--work", type=Path, required=True, help="what earlier runs found, and the seeds")
    given = arguments.parse_args()
    with atheris.instrument_imports(include=WATCHED):
        target = harness.load(given.target)
    found, seeds = given.work / given.target / "found", given.work / given.target / "seeds"
    crashes = harness.CRASHES / given.target
    for directory in (found, seeds, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    inputs = dict(target.seeds()) | {path.name: path.read_bytes() for path in harness.kept(given.target)}
    for name, data in inputs.items():
        (seeds / name).write_bytes(data)
    words = seeds.parent / "words"
    words.write_text(dictionary(inputs.values()))
    longest = max([MAX_LENGTH, *map(len, target.seeds().values())])
    options = [
        f"-max_total_time={given.seconds}",
        f"-max_len={longest}",
        f"-dict={words}",
        f"-artifact_prefix={crashes}/",
        "-timeout=30",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        changed = mutate_json(data, seed) if seed % 2 else None
        if changed is None or len(changed) > max_size:
            return bytes(atheris.Mutate(data, max_size))
        return changed

    atheris.Setup(
        [sys.argv[0], *options, str(found), str(seeds)],
        lambda data: harness.exercise(target, data),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def dictionary(inputs: Iterable[bytes]) -> str:
    """libFuzzer's dictionary of every short string in the seeds: keys, media types, words."""
    words = {w for data in inputs for w in re.findall(rb'"[\x21-\x7e]{1,40}?"|[A-Za-z_-]{3,40}', data)}
    quoted = (w.decode().replace("\\", "\\\\").replace('"', '\\"') for w in sorted(words)[:500])
    return "".join(f'"{word}"\n' for word in quoted)


if __name__ == "__main__":
    main()
