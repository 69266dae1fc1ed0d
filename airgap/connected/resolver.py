"""The resolver's process: a Question on stdin, an Answer or a refusal as JSON on stdout.

It is a process of its own because it changes pip in memory (docs/adr/0003-resolve-for-the-target.md).
Run as `python -m airgap.connected.resolver`.
"""

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version

from airgap.connected.resolver_protocol import Question, Refusal

PINNED = {"pip": "26.3", "pip-tools": "7.6.2"}
"""The versions whose internals are relied on, exactly."""


def check_versions() -> None:
    """Raises Refusal unless pip and pip-tools are the pinned ones."""
    wrong = []
    for name, wanted in PINNED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            wrong.append(f"{name}: expected {wanted}, found {found}")
    if wrong:
        raise Refusal(
            "host",
            "the resolver leans on the internals of exactly these versions",
            tuple(wrong),
            f"run: {sys.executable} -m pip install " + " ".join(f"{n}=={v}" for n, v in PINNED.items()),
        )


def main() -> int:
    # pip logs to stdout: keep the pipe for the answer and give pip stderr instead.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    question = Question(**json.load(sys.stdin))
    try:
        check_versions()
        from airgap.connected.resolver_pip import answer  # noqa: PLC0415 - only after the versions were judged

        document = answer(question)
    except Refusal as refusal:
        document = {"refusal": refusal.table}
    with pipe:
        json.dump(document, pipe)
    return 0


if __name__ == "__main__":
    sys.exit(main())
