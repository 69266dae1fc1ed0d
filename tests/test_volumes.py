"""Cutting: the same cut for everybody, nothing lost, nothing too large, little left empty."""

import json
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.cli.split import file_limit_of, medium_of
from airgap.errors import InputError
from airgap.layout import digest_of
from airgap.model import Sha256, Sha384
from airgap.trust.blobs import StatedBlob
from airgap.trust.statement import Statement
from airgap.volumes import (
    FAT32_FILE,
    MEDIA,
    Item,
    Mark,
    Medium,
    company,
    cut,
    medium_options,
    parse_list,
    parse_mark,
    parse_part,
    part_path,
    render_list,
    render_mark,
    volume_name,
)
from airgap.wanted import Held, lacking, parse_only, render_only
from tests import strategies
from tests.trust import statements

MB = 10**6


def stated(sizes: list[int]) -> Statement:
    """A statement over a lock of 100 bytes and blobs of these sizes."""
    blobs = {digest_of(b"%d" % n): StatedBlob(Sha384("0" * 96), size) for n, size in enumerate(sizes)}
    lock = digest_of(b"lock")
    return statements.example(
        lock=lock, artifacts=(), blobs={lock: StatedBlob(Sha384("0" * 96), 100), **blobs}
    )


sizes = st.one_of(st.integers(0, 50_000), st.integers(0, 60 * MB), st.integers(0, 400 * MB))
media = st.builds(
    Medium, st.integers(100 * MB, 300 * MB), st.sampled_from([1 << 50, FAT32_FILE, 30 * MB + 7])
)


@given(st.lists(sizes, max_size=60), media)
@settings(max_examples=200, deadline=None)
def test_every_byte_is_in_exactly_one_item_and_everything_fits(sizes: list[int], medium: Medium) -> None:
    statement = stated(sizes)
    volumes = cut(statement, medium)
    assert volumes == cut(statement, medium)
    assert [volume.number for volume in volumes] == list(range(1, len(volumes) + 1))
    found: dict[Sha256, list[Item]] = {}
    for volume in volumes:
        assert sum(medium.takes(item.size) for item in volume.items) <= medium.capacity
        for item in volume.items:
            assert item.size <= medium.file_limit
            found.setdefault(item.digest, []).append(item)
    assert found.keys() == statement.blobs.keys() - company(statement).keys()
    for digest, items in found.items():
        ends = [0, *(item.end for item in items)]
        assert [item.offset for item in items] == ends[:-1]  # in order, without gap or overlap
        assert ends[-1] == statement.blobs[digest].size
        assert all(item.whole for item in items) == (len(items) == 1)


@given(st.lists(sizes, min_size=5, max_size=60), media)
@settings(max_examples=200, deadline=None)
def test_less_than_two_percent_of_every_volume_but_the_last_stays_empty(
    sizes: list[int], medium: Medium
) -> None:
    statement = stated(sizes)
    own = medium.takes(100) + sum(720 for _ in statement.blobs)  # what the documents on each volume take
    for volume in cut(statement, medium)[:-1]:
        taken = own + sum(medium.takes(item.size) for item in volume.items)
        assert taken >= 0.98 * medium.capacity, volume


def test_a_blob_that_fits_somewhere_whole_is_cut_only_to_fill_a_volume() -> None:
    assert all(item.whole for item in cut(stated([60 * MB, 39 * MB]), Medium(100 * MB))[0].items)
    small = cut(stated([10 * MB] * 50), Medium(100 * MB))
    ranged = {item.digest for volume in small for item in volume.items if not item.whole}
    assert len(ranged) < len(small)


def test_the_cut_depends_on_nothing_but_what_is_signed() -> None:
    """In particular not on the order in which a reader holds the blobs."""
    statement = stated([random.Random(1).randrange(40 * MB) for _ in range(50)])
    turned = replace(statement, blobs=dict(reversed(list(statement.blobs.items()))))
    assert cut(statement, Medium(100 * MB)) == cut(turned, Medium(100 * MB))


def test_an_empty_bundle_is_one_volume() -> None:
    assert [volume.items for volume in cut(stated([]), MEDIA["cd"])] == [()]


@pytest.mark.parametrize(
    ("medium", "word"),
    [
        ((1000, 1 << 50), "capacity"),
        ((1 << 30, 1), "file limit"),
        ((0, 0), "capacity"),
    ],
)
def test_what_no_medium_is(medium: tuple[int, int], word: str) -> None:
    with pytest.raises(InputError, match=word):
        Medium(*medium)


def test_a_cut_into_millions_is_refused_before_it_is_computed() -> None:
    with pytest.raises(InputError, match="more than 9999 volumes or 1000000 items"):
        cut(stated([1 << 40]), Medium(1 << 50, 65536))
    with pytest.raises(InputError, match="more than 9999 volumes"):
        cut(stated([1 << 36]), Medium(1 << 20))


def test_a_volume_that_the_statement_alone_fills_is_refused() -> None:
    """And it is said what would do: that does, and a kilobyte less does not."""
    for medium in (Medium(1 << 20), Medium(1 << 20, FAT32_FILE)):
        with pytest.raises(InputError, match="too small a volume") as refused:
            cut(stated([1] * 2000), medium)
        least = re.fullmatch(r"give at least --size ([0-9]+)kB", refused.value.remedy)
        assert least
        enough = replace(medium, capacity=int(least[1]) * 1000)
        assert cut(stated([1] * 2000), enough)
        with pytest.raises(InputError, match="too small a volume"):
            cut(stated([1] * 2000), replace(enough, capacity=enough.capacity - 1000))


def test_names_sort_as_volumes_count() -> None:
    statement = stated([])
    names = [volume_name(statement, number, 12) for number in range(1, 13)]
    assert names == sorted(names)
    assert names[2] == f"{statement.name}-{statement.version}.03of12"


@pytest.mark.parametrize(
    "medium", [*MEDIA.values(), Medium(10**9), Medium(10**9, 10**6), Medium(10**9, FAT32_FILE)]
)
def test_the_options_shown_for_a_medium_are_those_that_make_it(medium: Medium) -> None:
    options = dict(zip(*[iter(medium_options(medium).split())] * 2, strict=True))
    made = medium_of(options["--size"])
    if "--file-limit" in options:
        made = replace(made, file_limit=file_limit_of(options["--file-limit"]))
    assert made == medium


# ------------------------------------------------------------------ volume.json, SHA384SUMS, paths

marks = st.builds(
    Mark,
    st.just(Sha384("ab" * 48)),
    media,
    st.integers(1, 20),
    st.integers(20, 9999),
    st.none() | st.lists(st.integers(0, 99), max_size=4).map(tuple),
)


@given(marks)
def test_a_mark_reads_back(mark: Mark) -> None:
    assert parse_mark(render_mark(mark)) == mark


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"capacity": 2**63}, "beyond"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": 1}, "capacity"),
        ({"number": 0}, "number"),
        ({"number": 5}, "number"),
        ({"count": 10**6}, "count"),
        ({"format": 2}, "format"),
        ({"extra": 1}, "unknown key"),
        ({"items": ["1"]}, "items"),
        ({"statement": "00"}, "sha384"),
    ],
)
def test_a_hostile_mark_is_refused(change: dict[str, object], word: str) -> None:
    data = json.loads(render_mark(Mark(Sha384("ab" * 48), MEDIA["cd"], 1, 3))) | change
    with pytest.raises(InputError, match=word):
        parse_mark(json.dumps(data).encode())


@given(st.dictionaries(strategies.names, st.just(Sha384("cd" * 48)), max_size=5))
def test_a_list_reads_back(listed: dict[str, Sha384]) -> None:
    assert parse_list(render_list(listed.items())) == listed


@pytest.mark.parametrize(
    "line", ["", "x", f"{'0' * 96} one", f"{'0' * 96}  a b", f"{'0' * 96}  a\n{'0' * 96}  a"]
)
def test_a_list_of_other_lines_is_refused(line: str) -> None:
    with pytest.raises(InputError, match=r"SHA384SUMS: line \d"):
        parse_list(line.encode() + b"\n")


@given(strategies.digests, st.integers(0, 10**15 - 1))
def test_a_range_is_named_by_its_blob_and_where_it_begins(digest: Sha256, offset: int) -> None:
    assert parse_part(part_path(digest, offset)) == (digest, offset)
    assert parse_part(f"{part_path(digest, offset)}x") is None


# ------------------------------------------------------------------ what lacks

wanteds = st.dictionaries(
    st.integers(1, 40),
    st.none() | st.sets(st.integers(0, 60), min_size=1, max_size=8).map(lambda s: tuple(sorted(s))),
    min_size=1,
    max_size=8,
)


@given(wanteds)
def test_what_is_read_aloud_reads_back(wanted: dict[int, tuple[int, ...] | None]) -> None:
    assert parse_only(render_only(wanted)) == wanted


def test_it_is_short() -> None:
    assert render_only({5: None, 3: (17,)}) == "5,3:17"
    assert render_only({2: None, 3: None, 4: None, 7: (3, 9, 10, 11)}) == "2-4,7:3+9-11"
    assert parse_only("3:17,5") == {3: (17,), 5: None}
    assert parse_only("3:1, 3:2 ,3:1") == {3: (1, 2)}


@pytest.mark.parametrize("text", ["", "x", "3:", "3-5:1", "5-3", "1-99999999", "3:1;2", "-1"])
def test_another_list_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_only(text)


@given(st.lists(sizes, min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_what_lacks_is_exactly_what_is_not_held(sizes: list[int], chance: random.Random) -> None:
    statement, medium = stated(sizes), Medium(100 * MB)
    held = Held()
    for digest in company(statement):
        held.add(Item(digest, 0, 0, whole=True))
    missing = set()
    for volume in cut(statement, medium):
        for number, item in enumerate(volume.items, 1):
            if chance.random() < 0.5:
                held.add(item)
            else:
                missing.add((volume.number, number))
    wanted = lacking(statement, medium, held)
    volumes = cut(statement, medium)
    found = {
        (number, item)
        for number, items in wanted.items()
        for item in (range(1, len(volumes[number - 1].items) + 1) if items is None else items)
    }
    assert found == missing


def test_ranges_of_another_cut_count_by_where_they_lie() -> None:
    statement = stated([250 * MB])
    held = Held()
    for digest in company(statement):
        held.add(Item(digest, 0, 0, whole=True))
    first = cut(statement, Medium(130 * MB))[0].items[0]
    held.add(first)
    held.add(cut(statement, Medium(100 * MB))[-1].items[-1])
    assert held.covers(Item(first.digest, 10, 90 * MB, whole=False))
    assert not held.covers(Item(first.digest, 0, 250 * MB, whole=True))
    assert render_only(lacking(statement, Medium(100 * MB), held)) == "2"
    assert render_only(lacking(statement, Medium(130 * MB), held)) == "2"


def test_documents_alone_can_be_asked_for() -> None:
    statement = stated([1000])
    held = Held()
    held.add(Item(digest_of(b"0"), 0, 1000, whole=True))
    assert render_only(lacking(statement, MEDIA["cd"], held)) == "1:0"
