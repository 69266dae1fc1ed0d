"""Shared objects that go by once, in any pieces: the same is learned as from a file that lies there."""

import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.readers import fatbin, passing
from airgap.readers.elf import read_elf
from airgap.readers.fatbin import read_architectures
from airgap.readers.passing import PassingObject
from airgap.readers.source import BytesSource
from tests.readers.objects import dynamic, elf, gpu_code

NAMES = b"\0libcudart.so.12\0"
MARK = struct.pack("<I", 0xBA55ED50)
SM80, SM90A = (2, 80, 0x11), (2, 90, 0x100011)


def passed(data: bytes, piece: int = 4096, size: int | None = None) -> PassingObject:
    found = PassingObject("lib.so", len(data) if size is None else size)
    for start in range(0, len(data), piece):
        found.feed(data[start : start + piece])
    found.end()
    return found


def module(code: bytes, before: bytes = b"text") -> bytes:
    return elf(
        [
            (".dynstr", 3, NAMES, 0),
            (".text", 1, before, 0),
            (".dynamic", 6, dynamic([(1, 1)]), 1),
            (".nv_fatbin", 1, code, 0),
            (".data", 1, b"behind it", 0),
        ]
    )


containers = st.lists(
    st.tuples(
        st.lists(st.sampled_from([SM80, SM90A, (1, 90, 0x11), (3, 80, 0)]), max_size=4),
        st.binary(max_size=40) | st.just(MARK * 3) | st.just(gpu_code(SM80)),
        st.sampled_from([0, 0, 8, 64, 4096, 5000]),
    ),
    max_size=5,
)


@given(containers, st.binary(max_size=60) | st.just(gpu_code(SM90A) * 2), st.integers(1, 5000))
def test_the_same_as_of_a_file_that_lies_there(
    parts: list[tuple[Sequence[tuple[int, int, int]], bytes, int]], before: bytes, piece: int
) -> None:
    code = b""
    for entries, inside, zeros in parts:
        one = gpu_code(*entries, code=inside)
        code += one + bytes(-len(one) % 8 + zeros)
    data = module(code, before)
    source = BytesSource(data)
    found = passed(data, piece)
    try:
        expected = read_architectures(source, read_elf(source, "lib.so"), "lib.so")
    except InputError:
        assert found.problem
    else:
        assert found.problem is None
        assert found.architectures == set(expected)
        assert found.needed == ("libcudart.so.12",)


def test_a_table_across_what_is_kept_of_both_ends_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = module(gpu_code(SM80))
    for head in range(64, len(data)):
        monkeypatch.setattr(passing, "HEAD", head)
        monkeypatch.setattr(passing, "TAIL", len(data) - head)
        found = passed(data)
        assert (found.problem, found.needed) == (None, ("libcudart.so.12",)), head


def test_what_is_no_object_or_is_cut_off_is_said() -> None:
    for data in (b"", b"text", module(gpu_code(SM80))[:200]):
        problem = passed(data).problem
        assert problem and problem.member == "lib.so"


def test_tables_in_the_middle_have_gone_by(monkeypatch: pytest.MonkeyPatch) -> None:
    data = module(gpu_code(SM80), before=bytes(1000))
    assert passed(data).problem is None
    monkeypatch.setattr(passing, "HEAD", 650)
    monkeypatch.setattr(passing, "TAIL", 650)
    assert passed(data).problem is None
    monkeypatch.setattr(passing, "TAIL", 200)
    assert "has gone by unread" in str(passed(data).problem)


def test_marks_and_entries_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = module(b"", before=(MARK + bytes(4)) * 30)
    assert passed(marks).problem is None, "none of them is in a section of GPU code"
    monkeypatch.setattr(fatbin, "MAX_CONTAINERS", 29)
    assert "more than 29 containers" in str(passed(marks).problem)
    monkeypatch.setattr(fatbin, "MAX_STEPS", 3)
    assert "more than 3 entries" in str(passed(module(gpu_code(*[SM80] * 3))).problem)


LARGE = """
import resource, struct
from airgap.readers.passing import PassingObject
from tests.readers.objects import elf, gpu_code, dynamic
SIZE = 1 << 30
# The section's header says 1 GiB; so do one container and its one entry, whose code is what goes by.
code = gpu_code((2, 90, 0x100011), code=b"")
code = code[:8] + struct.pack("<Q", SIZE - 16) + code[16:]
code = code[:24] + struct.pack("<Q", SIZE - 80) + code[32:]
whole = elf([(".dynstr", 3, b"\\0libcudart.so.12\\0", 0), (".dynamic", 6, dynamic([(1, 1)]), 1),
    (".nv_fatbin", 1, code, 0)])
at = whole.index(code)
head, tail = whole[: at + len(code)], bytearray(whole[at + len(code) :])
more = SIZE - len(code)
head = bytearray(head)
struct.pack_into("<Q", head, 40, struct.unpack_from("<Q", head, 40)[0] + more)
table = len(tail) - 5 * 64
for number, (shift, grow) in enumerate([(0, 0), (0, 0), (0, 0), (0, more), (more, 0)]):
    offset, size = struct.unpack_from("<2Q", tail, table + number * 64 + 24)
    struct.pack_into("<2Q", tail, table + number * 64 + 24, offset + shift, size + grow)
found = PassingObject("lib.so", len(head) + more + len(tail))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found.feed(bytes(head))
zeros = bytes(1 << 20)
for start in range(0, more, 1 << 20):
    found.feed(zeros[: min(1 << 20, more - start)])
found.feed(bytes(tail))
found.end()
assert found.problem is None, found.problem
assert {str(a) for a in found.architectures} == {"sm_90a"}, found.architectures
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_an_object_of_a_gigabyte_takes_little_memory() -> None:
    said = subprocess.run(
        [sys.executable, "-c", LARGE],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert int(said.stdout) < 60_000, f"{said.stdout} KiB"
