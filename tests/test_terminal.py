"""What a person sees: progress on a terminal and nowhere else, and nothing that steers a terminal."""

import os
import pty
import subprocess
import sys

import pytest

from airgap.cli import run
from airgap.cli.terminal import printable, progress_for
from airgap.progress import Silent
from airgap.units import human_bytes

WORK = """
import time
from airgap.cli.terminal import progress_for
progress = progress_for()
with progress.task("fetching", 4_000_000):
    for _ in range(4):
        progress.advance(1_000_000)
        time.sleep(0.15)
    with progress.task("inner", None):
        progress.note("a note")
"""


def on_a_terminal(term: str) -> str:
    """What WORK writes to a pseudo-terminal that reports no size, as a serial console does."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", WORK], stderr=theirs, env=os.environ | {"TERM": term}
    ) as child:
        os.close(theirs)
        written = b""
        try:
            while data := os.read(ours, 65536):
                written += data
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(ours)
    assert child.returncode == 0
    return written.decode()


def test_a_terminal_sees_bytes_rate_and_remaining_time() -> None:
    shown = on_a_terminal("xterm")
    assert "fetching" in shown
    assert "4.00M" in shown
    assert "B/s" in shown
    assert "a note" in shown


def test_a_dumb_terminal_sees_none() -> None:
    assert on_a_terminal("dumb") == ""


def test_a_pipe_and_json_see_none() -> None:
    assert isinstance(progress_for(json=True), Silent)
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, check=True)
    assert done.stderr == b""


def test_control_sequences_in_names_never_reach_the_terminal() -> None:
    assert printable("a\x1b[2Jb\r\u202ec") == "a\\x1b[2Jb\\x0d\\x202ec"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5 * 10**15, "5000.0 TB")],
)
def test_sizes_are_in_human_units(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_finds_no_space_is_said_in_words(unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "airgap", "probe"],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 9
    assert done.stderr.startswith("airgap: the output cannot be written: No space left")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "2</dev/null"])
@pytest.mark.parametrize(("arguments", "code"), [("bogus", 2), ("inspect /nowhere", 3), ("probe", 0)])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(redirected: str, arguments: str, code: int) -> None:
    assert shell(f"{arguments} {redirected}") == (code, "")


def shell(command: str) -> tuple[int, str]:
    """Exit code and stderr of airgap as a shell starts it."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m airgap {command}', sys.executable], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("redirected", [">&-", ">/dev/full", "1</dev/null"])
def test_a_stdout_that_takes_nothing_is_the_hosts_fault(redirected: str) -> None:
    code, said = shell(f"probe {redirected}")
    assert code == 9
    assert said.startswith("airgap: the output cannot be written: ")
    assert "Traceback" not in said and "Exception" not in said
    assert shell(f"probe {redirected} 2>/dev/full")[0] == 9


def test_whoever_reads_no_further_is_told_nothing() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "airgap", "probe"], stdout=theirs, stderr=subprocess.PIPE, check=False
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (9, b"")


def test_where_there_is_no_stdin_nobody_is_asked() -> None:
    code, said = shell("key generate alice --out /nowhere/keys <&-")
    assert (code, "there is no terminal to ask on" in said, "Traceback" in said) == (7, True, False)


def test_a_verb_that_is_misspelt_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verfy"]) == 2
    assert "No such command 'verfy'. Did you mean 'verify'?" in capsys.readouterr().err
    assert run(["zzz"]) == 2
    assert "mean" not in capsys.readouterr().err
