"""Works spread over threads: results in order, and one failure ends all of it."""

import subprocess
import sys
import threading
import time

import pytest

from airgap.errors import SourceError
from airgap.workers import Stopped, run_all, spread


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_results_are_in_the_order_of_the_items(jobs: int) -> None:
    def work(item: int, stop: threading.Event) -> int:
        time.sleep((3 - item % 3) / 500)
        return item * item

    assert spread(work, range(9), jobs) == [item * item for item in range(9)]
    assert spread(work, [], jobs) == []


def test_a_failure_is_raised_once_every_thread_has_ended() -> None:
    ended = threading.Event()

    def work(item: str, stop: threading.Event) -> None:
        if item == "bad":
            raise SourceError("this one")
        stop.wait()
        time.sleep(0.2)  # the chunk in hand
        ended.set()

    with pytest.raises(SourceError, match="this one"):
        spread(work, ["slow", "bad", *["never begun"] * 100], 2)
    assert ended.is_set()


def test_who_waits_for_a_silent_server_is_left_behind() -> None:
    stop, silent, left = threading.Event(), threading.Event(), []

    def wait_for_ever() -> None:
        silent.wait()
        left.append("woke")

    def fail() -> None:
        raise SourceError("this one")

    begun = time.monotonic()
    with pytest.raises(SourceError, match="this one"):
        run_all([wait_for_ever, fail], 2, stop, grace=0.1)
    assert time.monotonic() - begun < 5 and stop.is_set() and not left
    silent.set()


def test_what_was_given_up_does_not_hide_why() -> None:
    stop = threading.Event()

    def give_up() -> None:
        stop.wait()
        raise Stopped

    def fail() -> None:
        raise SourceError("this one")

    with pytest.raises(SourceError, match="this one"):
        run_all([give_up, fail], 2, stop)


INTERRUPTED = """
import sys, threading
from airgap.workers import run_all

def ends_early(moment):
    '''Ctrl-C comes at a certain call or return of one; whether it came before the works were done.'''
    stop, before, stopped = threading.Event(), iter(range(moment)), []

    def interrupt(frame, event, argument):
        if event in ("call", "c_return") and next(before, None) is None:
            sys.setprofile(None)
            raise KeyboardInterrupt

    try:
        sys.setprofile(interrupt)
        run_all([lambda: stopped.append(stop.wait(2))] * 3, 3, stop, grace=None)
    except (KeyboardInterrupt, RuntimeError):  # which Thread.start may make of it
        return all(stopped)
    finally:
        sys.setprofile(None)

moment = 0
while ends_early(moment):
    moment += 1
    print(moment, flush=True)
"""


def test_ctrl_c_at_any_moment_ends_it() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) > 20
