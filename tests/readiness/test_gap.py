"""Which releases can run a model: every pair through the rules, from recorded bytes and from made tables."""

import re
from functools import cache
from html.parser import HTMLParser

import hypothesis.strategies as st
import pytest
from hypothesis import given

from airgap.readers.python_syntax import NotUnderstood
from airgap.readiness.gap import Candidate, Gap, judge_pairs, registered
from airgap.readiness.gap_page import gap_page
from airgap.readiness.gap_table import as_json, render_gap
from airgap.readiness.judgement import Verdict
from airgap.readiness.reading import Seen, read_package
from airgap.readiness.steps import find_edge
from tests.readers.recordings import TRANSFORMERS, VLLM, Replay
from tests.readiness.compositions import TARGET, model, recorded
from tests.readiness.test_field_note import BLOCKS
from tests.readiness.test_search import TINY, engine, library

MATRIX = """\
            transformers
vllm        4.57.6             5.5.0              5.5.4              5.19.0             5.23.0
----------  -----------------  -----------------  -----------------  -----------------  -----------------
0.17.1      blocked: type,     blocked: pin,      blocked: pin,      blocked: pin,      blocked: pin,
2026-03-11  arch               arch?              arch?              arch?              arch?
0.19.0      blocked: type      blocked: pin       blocked: pin       blocked: pin       blocked: pin
2026-04-03
0.19.1      blocked: type      blocked: pin       no blocker         no blocker         no blocker
2026-04-18
0.33.0      blocked: pin,      blocked: pin       blocked: pin       no blocker         blocked: pin
2026-11-02  type
"""

DAYS = {"0.17.1": "2026-03-11", "0.19.0": "2026-04-03", "0.19.1": "2026-04-18", "0.33.0": "2026-11-02"}


def candidate(seen: Seen) -> Candidate:
    package = seen.distribution
    return Candidate(package.key, package.version, DAYS.get(package.version, ""), seen)


@cache
def note() -> Gap:
    return judge_pairs(
        model(),
        TARGET,
        [candidate(recorded(file)) for file in VLLM.values()],
        [candidate(recorded(file)) for file in TRANSFORMERS.values()],
    )


def test_the_field_notes_matrix_through_the_rules_for_all_cells() -> None:
    found = note()
    blocks = {
        (cell.vllm.version, cell.transformers.version): {judgement.rule for judgement in cell.blocked}
        for cell in found.cells
    }
    assert blocks == {(v, t): rules for v, row in BLOCKS.items() for t, rules in row.items()}
    assert [(c.vllm.version, c.transformers.version) for c in found.runs] == [
        ("0.19.1", "5.5.4"),
        ("0.19.1", "5.19.0"),
        ("0.19.1", "5.23.0"),
        ("0.33.0", "5.19.0"),
    ]


def test_the_field_notes_matrix_as_a_terminal_shows_it() -> None:
    lines = render_gap(note(), 108)
    begin = lines.index(MATRIX.split("\n", 1)[0])
    assert "\n".join(lines[begin : lines.index("", begin)]) + "\n" == MATRIX
    assert (
        "BLOCKED  vllm 0.19.0 requires transformers<5,>=4.56.0  [pin 1], 4 pairs"
        "  vllm-0.19.0.dist-info/METADATA:31"
    ) in lines
    assert lines[-1] == "4 of 20 pairs have no blocker; 16 blocked, 0 unknown"


@pytest.mark.parametrize("width", [40, 80, 100, 300])
def test_no_column_is_lost_where_the_terminal_is_narrow(width: int) -> None:
    vllms = [candidate(engine(f"1.{minor}", "<5", "Tiny")) for minor in range(2)]
    libraries = [candidate(library(f"5.{minor}.0", "tiny")) for minor in range(12)]
    lines = render_gap(judge_pairs(model(TINY), TARGET, vllms, libraries), width)
    matrix = lines[3 : next(n for n, line in enumerate(lines) if line.startswith("BLOCKED"))]
    assert max(map(len, matrix)) <= max(width, 80)
    assert " ".join(matrix).count("blocked:") == 24
    heads = re.findall(r"5\.\d+\.0", " ".join(line for line in matrix if line.startswith("vllm")))
    assert heads == [one.version for one in libraries]


def test_a_table_that_moved_is_unknown_and_names_the_file() -> None:
    missing = "vllm/model_executor/models/registry.py"
    archive = Replay().open(VLLM["0.19.1"])
    archive._members.pop(missing)  # type: ignore[call-overload]
    moved = read_package(archive, VLLM["0.19.1"])
    found = judge_pairs(model(), TARGET, [candidate(moved)], [candidate(recorded(TRANSFORMERS["5.5.4"]))])
    [cell] = found.cells
    assert (cell.verdict, cell.reasons) == (Verdict.UNKNOWN, ("arch?",))
    assert not found.runs
    [unknown] = cell.unknown
    assert missing in [evidence.member for evidence in unknown.evidence]
    assert isinstance(registered(model(), candidate(moved)), NotUnderstood)


def test_a_release_that_cannot_be_read_is_unknown() -> None:
    broken = Candidate("vllm", "1.1", "", "no zip archive")
    found = judge_pairs(
        model(TINY),
        TARGET,
        [candidate(engine("1.0", ">=4", "Tiny")), broken],
        [candidate(library("4.0", "tiny"))],
    )
    assert [str(cell) for cell in found.cells] == ["no blocker", "unknown: unread"]
    assert "unread: vllm 1.1: no zip archive" in render_gap(found, 80)
    assert as_json(found)["cells"][1]["verdict"] == "unknown"  # type: ignore[index]


def test_pins_that_cannot_be_read_are_unknown() -> None:
    vllms = [candidate(engine("1.0", "=>4", "Tiny"))]
    found = judge_pairs(model(TINY), TARGET, vllms, [candidate(library("4.0", "tiny"))])
    assert [str(cell) for cell in found.cells] == ["unknown: pin?"]


class Page(HTMLParser):
    """Elements, attributes that fetch something, and the text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.fetched: list[str] = []
        self.shown = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_the_page_stands_alone_and_says_the_same() -> None:
    page = Page(gap_page(note(), "91 requests", "Made today"))
    assert not page.elements & {"script", "iframe", "img", "form", "object", "embed"}
    assert page.fetched == ["data:,"]
    assert page.shown.count("no blocker") == 4 + len(re.findall("have no blocker", page.shown))
    assert "vllm 0.19.0 requires transformers<5,>=4.56.0" in page.shown
    assert "vllm-0.19.0.dist-info/METADATA:31" in page.shown
    assert "2d0e5fae45367bdbf111fcad68f4c0f8fdddd2f2fb643e52f0f2daebef7b41cf" in page.shown


def test_a_hostile_model_is_no_markup() -> None:
    hostile = "<script>alert(1)</script>"
    config = b'{"model_type": "%s", "architectures": ["%s"]}' % (hostile.encode(), hostile.encode())
    found = judge_pairs(
        model(config, name=hostile),
        TARGET,
        [candidate(engine("1.0", ">=4"))],
        [candidate(library("4.0"))],
    )
    page = Page(gap_page(found, "", ""))
    assert "script" not in page.elements
    assert hostile in page.shown


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.data())
def test_an_edge_is_between_neighbours(having: list[bool], data: st.DataObject) -> None:
    having[-1] = True
    looked: list[int] = []

    def look(place: int) -> bool:
        looked.append(place)
        return having[place]

    lacks = data.draw(st.sampled_from([-1, *(n for n, has in enumerate(having) if not has)]))
    edge = find_edge(len(having) - 1, lacks, look)
    assert edge.unclear == -1
    assert having[edge.has]
    assert edge.has == 0 if edge.lacks == -1 else (edge.has - edge.lacks == 1 and not having[edge.lacks])
    assert len(looked) == len(set(looked)) <= 14


def test_an_edge_that_nobody_can_see_says_where() -> None:
    edge = find_edge(9, -1, lambda place: None if place < 8 else True)
    assert (edge.has, edge.lacks, edge.unclear) == (8, -1, 6)
