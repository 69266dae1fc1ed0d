"""Who hashes goes on beside who unpacks, and nothing is left out or taken twice."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.audit.turns import Turns


def test_what_is_packed_goes_first_and_leaves_a_thread_to_the_rest() -> None:
    turns = Turns(["wheel", "layer"], ["shard", "card"], packed_at_once=1)
    with ExitStack() as held:
        first, second = (held.enter_context(turns.next()) for _ in range(2))
        assert (first, second) == ("wheel", "shard")
    with turns.next() as third, turns.next() as fourth:
        assert (third, fourth) == ("layer", "card")


def test_nobody_waits_while_only_packed_is_left() -> None:
    turns = Turns(["wheel", "layer"], [], packed_at_once=1)
    with turns.next() as one, turns.next() as other:
        assert (one, other) == ("wheel", "layer")
    with pytest.raises(IndexError), turns.next():
        pass


def test_a_turn_that_fails_is_over_all_the_same() -> None:
    turns = Turns(["wheel", "layer"], ["shard"], packed_at_once=1)
    with pytest.raises(OSError, match="gone"), turns.next():
        raise OSError("gone")
    with turns.next() as one:
        assert one == "layer"


@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 3), st.lists(st.booleans(), max_size=12))
def test_everything_has_its_turn_once_whatever_ends_when(
    packed: int, others: int, at_once: int, ending: list[bool]
) -> None:
    turns = Turns(range(packed), range(100, 100 + others), at_once)
    had: list[int] = []
    running: list[ExitStack] = []
    endings = iter([*ending, *[False] * 20])
    for _ in range(packed + others):
        running.append(ExitStack())
        had.append(running[-1].enter_context(turns.next()))
        if next(endings):
            running.pop(0).close()
    assert sorted(had) == [*range(packed), *range(100, 100 + others)]
    assert [one for one in had if one < 100] == [*range(packed)]
    for stack in running:
        stack.close()
