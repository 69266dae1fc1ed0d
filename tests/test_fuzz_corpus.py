"""Every fuzz target over every committed input, in the normal suite and without a fuzzer.

A crash that `scripts/fuzz` wrote to tests/fuzz/crashes/ is committed with its fix, and from then on a
test of its own here.
"""

import re
import time
from functools import cache
from pathlib import Path

import pytest

from airgap.errors import SourceError
from tests.fuzz import harness
from tests.fuzz.harness import HERE, Target, exercise

TARGETS = harness.names()
KEPT = [(name, path) for name in TARGETS for path in harness.kept(name)]

FOUND = re.compile(r"[0-9a-f]{40}")
"""The name of an input that a fuzzer found; every other one is named as seeds are."""

load = cache(harness.load)

AMPLIFIERS = (
    *(b"[", b"{", b'{"a":', b"[[a]]\n", b'"', b"'", b"\\", b'\\"', b'"a",', b"=", b"a=", b"a.", b'"a".'),
    *(
        b"<",
        b"<a href=x>",
        b"&",
        b"&#",
        b"<!--",
        b"<![",
        b"a",
        b"a ",
        b" ",
        b"\t",
        b"\n",
        b",",
        b"a,",
        b'a="',
    ),
    *(
        b"1",
        b"-1,",
        b"/",
        b"a/",
        b"a-",
        b"a:",
        b"%41",
        b"\xc3\xa9",
        b"\xff",
        b"\0",
        b"A=",
        b"-----BEGIN A-----\n",
    ),
)
"""What has made a careless reader quadratic, or worse, when it comes a thousand times."""


def test_every_target_says_what_it_holds_to_be_true() -> None:
    assert TARGETS
    for name in TARGETS:
        assert "Invariant: " in (load(name).__doc__ or ""), name
        assert load(name).seeds(), name


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """A seed that everybody refuses reaches nothing, however much it is changed."""
    for seed, data in load(name).seeds().items():
        assert exercise(load(name), data) != seed.startswith("bad-"), seed


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}/{path.name}" for name, path in KEPT])
def test_committed_inputs(name: str, path: Path) -> None:
    taken = exercise(load(name), path.read_bytes())
    if path.parent.parent == harness.CORPUS and not FOUND.fullmatch(path.name):
        assert taken != path.name.startswith("bad-")


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_repetition_costs_linear_time(name: str) -> None:
    """Alone, and in place of the end of something that parses."""
    seed = min(load(name).seeds().values(), key=len)
    for unit in AMPLIFIERS:
        for before in (b"", seed[: len(seed) // 2]):
            exercise(load(name), before + unit * (32_000 // len(unit)))


def test_many_artifacts_cost_linear_time() -> None:
    """More than a fuzzer tries: these took 23 s in a reader that counted each name among all."""
    many = ",".join(f'{{"kind":"file","name":"a{number}"}}' for number in range(30_000))
    start = time.thread_time()
    assert not load("lock").check(f'{{"format":1,"artifacts":[{many}]}}'.encode())
    assert time.thread_time() - start < 8


@pytest.mark.parametrize("name", TARGETS)
def test_cut_and_flipped_seeds(name: str) -> None:
    """A small fuzzer that needs nothing installed: every seed cut short, and with a byte changed."""
    for data in load(name).seeds().values():
        step = max(1, len(data) // 24)
        for place in range(0, len(data), step):
            exercise(load(name), data[:place])
            exercise(load(name), data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_no_input_is_kept_for_a_target_that_is_gone() -> None:
    for directory in (harness.CORPUS, harness.CRASHES):
        if directory.is_dir():
            assert {path.name for path in directory.iterdir()} <= set(TARGETS)


def test_what_is_committed_stays_small() -> None:
    assert (
        sum(path.stat().st_size for path in HERE.rglob("*") if path.suffix != ".pyc" and path.is_file())
        < 200_000
    )


class Broken:
    """A target whose reader fails in one of the ways that a harness must notice."""

    def __init__(self, failure: str) -> None:
        self.failure = failure

    def seeds(self) -> dict[str, bytes]:
        return {}

    def check(self, data: bytes) -> bool:
        if self.failure == "escapes":
            harness.accepted(bytes.decode, data)
        elif self.failure == "other error":
            harness.accepted(_refuse, data)
        else:
            busy_until = time.thread_time() + 2 * harness.SECONDS  # any machine is too slow for that
            while time.thread_time() < busy_until:
                pass
        return False


def _refuse(data: bytes) -> object:
    raise SourceError("refused")


@pytest.mark.parametrize(
    ("failure", "data", "error"),
    [
        ("escapes", b"\xff", UnicodeDecodeError),
        ("other error", b"", SourceError),
        ("slow", b"", AssertionError),
    ],
)
def test_the_harness_notices(failure: str, data: bytes, error: type[Exception]) -> None:
    broken: Target = Broken(failure)
    with pytest.raises(error):
        exercise(broken, data)
