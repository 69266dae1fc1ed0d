"""`airgap probe` on this host, and on hosts whose programs lie, hang, chatter or are not there."""

import json
import os
import platform
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import probe as probing
from airgap.cli import run
from airgap.decode import Fields
from airgap.destination import read_target
from airgap.model import Card, Gpu, Platform, Target
from airgap.probe import Facts, Python, Space, ask, find_pythons, parse_cards, parse_ldd, render_target

L4 = Card("NVIDIA L4", "8.9", 23034, "570.86.15")
H200 = Card("NVIDIA H200", "9.0", 143771, "570.86.15")


def host(**changed: object) -> Facts:
    facts: dict[str, object] = {
        "pythons": (Python("/usr/bin/python3", "3.12.3"), Python("/opt/python3.11", "3.11.9")),
        "libc": "glibc 2.35",
        "platform": Platform("linux", "amd64"),
        "kernel": "Linux 6.8",
        "cpu": "AMD EPYC 9654",
        "cpus": 96,
        "cards": (),
        "engines": (("podman", "4.3.1"),),
        "space": (Space("/", 10**9, 10**10, None),),
    }
    return Facts(**{**facts, **changed})  # type: ignore[arg-type]


def read(text: str) -> tuple[Target, list[str]]:
    """The target as a manifest's reader reads it, and what it finds wrong."""
    fields = Fields(tomllib.loads(text)["target"])
    return read_target(fields), fields.problems


def program(directory: Path, name: str, script: str) -> None:
    """A fake tool: a shell script of that name."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# ------------------------------------------------------------------ this host


def test_this_host_is_a_target(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet"
    assert run(["probe", "--site", str(place)]) == 0
    shown = capsys.readouterr().out
    target, problems = read(shown)
    assert problems == []
    asked = ["python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    assert target.python == subprocess.check_output(asked, text=True).strip()
    assert target.platform == Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()])
    assert f"glibc {target.glibc}" == os.confstr("CS_GNU_LIBC_VERSION")
    assert f"# kernel: Linux {platform.release()}" in shown
    assert f"# free at {place}: " in shown and "# free at /: " in shown


def test_the_document_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["platform"].startswith("linux/")
    assert document["python"] == ".".join(document["pythons"][0]["version"].split(".")[:2])
    assert document["space"][0]["free"] <= document["space"][0]["total"]


def test_a_bare_host_is_described_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["probe"]) == 0
    shown = capsys.readouterr().out
    assert "# python: no python3 is on the PATH" in shown and "# engines: none" in shown
    _, problems = read(shown)
    assert [problem.partition(":")[0] for problem in problems] == ["python"]


# ------------------------------------------------------------------ programs that misbehave


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "exec yes",
        "(sleep 60) & exit 0",
        "printf '\\377\\000\\033[31m, 8.9\\n, 1, 2, 3'",
        "kill -9 $$",
        "printf '9%.0s' $(seq 5000)",
        "exit 3",
    ],
)
def test_no_tool_can_hold_up_or_break_a_probe(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    monkeypatch.setattr(probing, "ANSWER_SECONDS", 0.3)
    for name in ("nvidia-smi", "podman", "python3.12"):
        program(tools, name, script)
    begun = time.monotonic()
    assert run(["probe"]) == 0
    assert time.monotonic() - begun < 5
    shown = capsys.readouterr().out
    assert read(shown)[1] == []
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_what_nvidia_smi_says_becomes_the_gpu(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(
        tools,
        "nvidia-smi",
        '[ "$1" = "--query-gpu=name,compute_cap,memory.total,driver_version" ]'
        ' && [ "$2" = "--format=csv,noheader,nounits" ]'
        " && printf 'NVIDIA L4, 8.9, 23034, 570.86.15\\n%.0s' 1 2 3 4",
    )
    assert run(["probe"]) == 0
    target, problems = read(capsys.readouterr().out)
    assert problems == []
    assert (target.gpu, target.driver) == (Gpu("NVIDIA L4", "8.9", 22, 4), "570.86.15")


def test_an_older_driver_without_compute_capability(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(
        tools,
        "nvidia-smi",
        "case $1 in *compute_cap*) echo 'Field compute_cap is not a valid field to query.'; exit 2;; esac;"
        " echo 'Tesla V100-SXM2-16GB, 16160, 470.57.02'",
    )
    assert run(["probe"]) == 0
    shown = capsys.readouterr().out
    target, problems = read(shown)
    assert (target.gpu, target.driver, problems) == (None, "470.57.02", [])
    assert "# gpu: 1 x Tesla V100-SXM2-16GB, compute capability ?, 16160 MiB" in shown


def test_the_first_python_decides_and_the_others_are_named(tmp_path: Path) -> None:
    here = tmp_path / "a"
    program(here, "python3", "echo 3.10.4")
    program(here, "python3.9", "echo 3.9.2")
    program(here, "python3.13", "echo 3.13.1")
    program(here, "python3.99", "echo hello")
    (here / "python3.8").symlink_to("python3.9")
    (here / "python3.7").mkdir()
    found = find_pythons(f"relative:{tmp_path}/absent:{here}:{here}")
    assert [python.version for python in found] == ["3.10.4", "3.13.1", "3.9.2"]
    assert find_pythons("") == ()


def test_the_running_python_is_found() -> None:
    (found, *_) = find_pythons(str(Path(sys.executable).parent))
    assert found.version == platform.python_version()


# ------------------------------------------------------------------ the table


@pytest.mark.parametrize(
    ("said", "libc"),
    [
        ("ldd (Debian GLIBC 2.36-9+deb12u10) 2.36\nCopyright", "glibc 2.36"),
        ("ldd (GNU libc) 2.28\n", "glibc 2.28"),
        ("musl libc (x86_64)\nVersion 1.2.4\nDynamic Program Loader", "musl 1.2.4"),
        ("musl libc (aarch64)", "musl"),
        ("ldd (something) 9.9", ""),
        ("", ""),
    ],
)
def test_the_c_library_is_named(said: str, libc: str) -> None:
    assert parse_ldd(said) == libc


def test_musl_is_said_plainly_and_is_no_target() -> None:
    shown = render_target(host(libc="musl 1.2.4"))
    assert "# glibc: this host has musl 1.2.4; manylinux wheels do not run on it" in shown
    assert [problem.partition(":")[0] for problem in read(shown)[1]] == ["glibc"]


def test_of_different_cards_the_most_are_the_target() -> None:
    shown = render_target(host(cards=(H200, L4, L4)))
    target, problems = read(shown)
    assert (target.gpu, problems) == (Gpu("NVIDIA L4", "8.9", 22, 2), [])
    assert "# also here: 1 x NVIDIA H200, compute capability 9.0, 143771 MiB" in shown


names = st.text(max_size=40).map(probing._plain)


@given(
    st.builds(
        Card, names, st.sampled_from(["", "8.9", "10.0", "9.0a"]), st.integers(0, 10**9), st.just("1.2")
    ),
    names,
    names,
)
def test_whatever_a_host_is_called_the_table_is_read_back(card: Card, cpu: str, path: str) -> None:
    shown = render_target(host(cards=(card,), cpu=cpu, space=(Space(path, 1, 1, 1),)))
    target, problems = read(shown)
    assert problems == []
    if card.name and card.compute_capability and card.memory_mib >= 1024:
        assert target.gpu == Gpu(card.name, card.compute_capability, card.memory_mib // 1024, 1)
    else:
        assert target.gpu is None


@given(st.text(max_size=300))
def test_any_answer_of_nvidia_smi_is_read(said: str) -> None:
    cards = tuple(parse_cards(said))
    assert read(render_target(host(cards=cards)))[1] == []


def test_a_program_is_asked_in_english_and_its_failure_is_no_answer(tools: Path) -> None:
    program(tools, "tool", 'echo "$LC_ALL"; exit "$1"')
    assert ask(["tool", "0"]) == "C\n"
    assert ask(["tool", "1"]) == ""
    assert ask(["tool", "1"], failing=True) == "C\n"
    assert ask(["no-such-tool"]) == "" and ask(["tool\0"]) == ""
