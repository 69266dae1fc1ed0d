"""How far releases are apart, and in which order they are looked at."""

import hypothesis.strategies as st
from hypothesis import given
from packaging.version import Version

from airgap.readiness.steps import line_of, lines, walk

versions = st.builds(
    lambda a, b, c: Version(f"{a}.{b}.{c}"), st.integers(0, 2), st.integers(0, 4), st.integers(0, 3)
)


def order(releases: str, asked: str) -> list[tuple[str, int]]:
    return [(str(s.version), s.steps) for s in walk([Version(v) for v in releases.split()], Version(asked))]


def test_the_same_line_first_then_the_newest_of_the_next_line() -> None:
    assert order("0.18.0 0.18.1 0.19.0 0.19.1 0.19.2 0.20.0 0.20.1 0.21.0", "0.19.0") == [
        ("0.19.1", 1),
        ("0.20.1", 1),
        ("0.18.1", 1),
        ("0.19.2", 2),
        ("0.20.0", 2),
        ("0.21.0", 2),
        ("0.18.0", 2),
    ]


def test_the_field_notes_transformers_are_six_lines_away_by_the_newest_patch() -> None:
    found = dict(order("4.57.6 5.0.0 5.1.0 5.2.0 5.3.0 5.4.0 5.5.0 5.5.1 5.5.4", "4.57.6"))
    assert (found["5.5.4"], found["5.5.1"], found["5.5.0"]) == (6, 7, 8)


def test_what_was_asked_for_need_not_be_offered_any_more() -> None:
    assert order("1.0 1.2", "1.1") == [("1.2", 1), ("1.0", 1)]


@given(st.lists(versions, unique=True), versions)
def test_every_other_release_comes_once_and_the_nearest_first(
    releases: list[Version], asked: Version
) -> None:
    found = walk(releases, asked)
    assert sorted(step.version for step in found) == sorted(v for v in releases if v != asked)
    assert [step.steps for step in found] == sorted(step.steps for step in found)
    assert all(step.steps > 0 and step.newer == (step.version > asked) for step in found)
    newest = {line[-1] for line in lines([*releases, asked])}
    away = {line_of(v): n for n, v in enumerate(sorted(newest))}
    for step in found:
        if step.version in newest and line_of(step.version) != line_of(asked):
            assert step.steps == abs(away[line_of(step.version)] - away[line_of(asked)])
