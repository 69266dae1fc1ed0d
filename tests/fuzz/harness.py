"""What a target is, where its inputs are, and what must hold of each."""

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar, cast

from airgap.errors import InputError, TrustError

HERE = Path(__file__).parent
CORPUS, CRASHES = HERE / "corpus", HERE / "crashes"

SECONDS, SECONDS_PER_BYTE = 1.0, 20e-6
"""CPU time one input may take: generous to a linear reader under instrumentation, and to no other."""

T = TypeVar("T")


class Target(Protocol):
    """A module of `tests.fuzz.targets`; its docstring states the invariant that `check` asserts."""

    def seeds(self) -> Mapping[str, bytes]:
        """Inputs that reach deep, by name; those named `bad-…` must be refused, the others accepted."""

    def check(self, data: bytes) -> bool:
        """Whether a reader accepts the input. Raises for input that breaks the invariant."""


def names() -> list[str]:
    """Every target; read from the directory, so that listing them imports none."""
    return sorted(module.name for module in pkgutil.iter_modules([str(HERE / "targets")]))


def load(name: str) -> Target:
    return cast(Target, importlib.import_module(f"tests.fuzz.targets.{name}"))


def kept(name: str) -> Iterator[Path]:
    """Committed inputs of a target, those that once broke it included."""
    for directory in (CORPUS / name, CRASHES / name):
        if directory.is_dir():
            yield from sorted(path for path in directory.iterdir() if path.is_file())


def exercise(target: Target, data: bytes) -> bool:
    """Check one input, and that it costs linear time; returns whether it was accepted."""
    start = time.thread_time()
    taken = target.check(data)
    spent, allowed = time.thread_time() - start, SECONDS + SECONDS_PER_BYTE * len(data)
    assert spent < allowed, f"{len(data)} bytes took {spent:.2f} s, more than {allowed:.2f} s"
    return taken


def accepted(parse: Callable[[bytes], T], data: bytes) -> T | None:
    """What `parse` makes of the bytes; None when it refuses them as a reader may."""
    try:
        return parse(data)
    except (InputError, TrustError) as error:
        assert error.message
        return None
