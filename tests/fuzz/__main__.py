"""Run targets one after the other, each in a process of its own, and tell what they did."""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import harness

WORK = Path("build/fuzz")
"""What was found so far, so that the next run begins where this one ends."""


@dataclass(frozen=True)
class Outcome:
    """Counts as libFuzzer gives them: inputs executed, branches reached, inputs kept for a new branch."""

    target: str
    executions: int
    coverage: int
    corpus: int
    output: str
    broken: bool


def fuzz(target: str, seconds: int) -> Outcome:
    arguments = [target, "--seconds", str(seconds), "--work", str(WORK)]
    command = [sys.executable, "-m", "tests.fuzz.run", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    output = done.stdout + done.stderr
    executions = re.findall(r"stat::number_of_executed_units: (\d+)", output)
    states = re.findall(r"cov: (\d+) .*corp: (\d+)", output)
    coverage, corpus = states[-1] if states else (0, 0)
    broken = done.returncode != 0 or not executions
    return Outcome(target, int((executions or [0])[-1]), int(coverage), int(corpus), output, broken)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    arguments.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    arguments.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    given = arguments.parse_args()
    if unknown := set(given.targets) - set(harness.names()):
        arguments.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(harness.names())}")
    broken = []
    print(f"{'target':<14} {'executions':>10} {'coverage':>9} {'corpus':>7}", flush=True)
    for target in given.targets or harness.names():
        outcome = fuzz(target, given.seconds)
        state = "  BROKEN" if outcome.broken else ""
        counts = f"{outcome.executions:>10} {outcome.coverage:>9} {outcome.corpus:>7}"
        print(f"{target:<14} {counts}{state}", flush=True)
        if outcome.broken:
            broken.append(target)
            print(outcome.output[-4000:], file=sys.stderr, flush=True)
    if broken:
        print(f"broken: {', '.join(broken)}; the inputs are in {harness.CRASHES}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
