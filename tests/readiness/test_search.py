"""The search for the nearest releases that clear a block: over the recorded wheels, and over made ones."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import pytest
from packaging.version import Version

from airgap.errors import InputError
from airgap.readers.python_syntax import NotUnderstood
from airgap.readiness.components import Stack
from airgap.readiness.reading import Seen, read_name
from airgap.readiness.search import Depth, Found, OutOfRequests, Search, opened, with_moves
from airgap.readiness.suggestions import Suggested, pasteable, render_suggested
from tests.readers.recordings import TRANSFORMERS, VLLM
from tests.readiness.compositions import (
    GEMMA,
    TARGET,
    model,
    package,
    recorded,
    recorded_stack,
    stack,
    table,
    vllm_tables,
)


@dataclass
class Known:
    """An index of these packages. Each METADATA and each reading of tables costs one request."""

    packages: dict[str, dict[str, Seen]]
    limit: int = 1000
    asked: list[tuple[str, str, Depth]] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)

    def releases(self, project: str, *, prereleases: bool) -> Sequence[Version]:
        known = map(Version, self.packages.get(project, {}))
        return [v for v in known if prereleases or not v.is_prerelease]

    def read(self, project: str, version: Version, depth: Depth) -> Seen:
        seen = self.packages[project][str(version)]
        if depth is Depth.NAME:
            return read_name(seen.distribution.file, seen.distribution.digest)
        if len(self.asked) >= self.limit:
            raise OutOfRequests(f"all {self.limit} requests are spent")
        if str(version) in self.damaged:
            raise InputError(f"{version} is damaged")
        self.asked.append((project, str(version), depth))
        return Seen(seen.distribution, type(seen.tables)()) if depth is Depth.METADATA else seen


@cache
def recordings() -> dict[str, dict[str, Seen]]:
    return {
        "vllm": {version: recorded(file) for version, file in VLLM.items()},
        "transformers": {version: recorded(file) for version, file in TRANSFORMERS.items()},
    }


def searched(asked: Stack, known: Known, config: bytes = GEMMA) -> Found:
    return Search(opened(asked), (model(config, asked),), TARGET, known).run()


def note(vllm: str, transformers: str) -> Found:
    asked = recorded_stack(vllm, transformers)
    lines = (f"vllm=={vllm}", f"transformers=={transformers}")
    made = stack(recorded(VLLM[vllm]), recorded(TRANSFORMERS[transformers]), closed=False, requirements=lines)
    assert made.packages == asked.packages
    return searched(made, Known(recordings()))


@pytest.mark.parametrize(
    ("vllm", "transformers", "answer"),
    [
        ("0.19.0", "5.5.4", ("vllm==0.19.1", "transformers==5.5.4")),
        ("0.19.0", "4.57.6", ("vllm==0.19.1", "transformers==5.5.4")),
        ("0.17.1", "4.57.6", ("vllm==0.19.1", "transformers==5.5.4")),
        ("0.33.0", "5.23.0", ("vllm==0.33.0", "transformers==5.19.0")),
        ("0.33.0", "4.57.6", ("vllm==0.33.0", "transformers==5.19.0")),
    ],
)
def test_the_field_note_is_solved_from_recorded_bytes(
    vllm: str, transformers: str, answer: tuple[str, ...]
) -> None:
    found = note(vllm, transformers)
    assert answer in [suggestion.requirements for suggestion in found.suggestions]
    assert all(suggestion.clears == found.blocks for suggestion in found.suggestions)


def test_what_was_moved_in_vain_is_told_with_the_reason() -> None:
    [vain] = note("0.19.0", "5.5.4").vain
    assert (vain.projects, vain.newer, vain.farthest) == (("transformers",), True, "transformers 5.23.0")
    assert vain.reason == "vllm 0.19.0 requires transformers<5,>=4.56.0"


# ------------------------------------------------------------------ made packages


def engine(version: str, pin: str, *architectures: str) -> Seen:
    """A vLLM with this pin and these architectures."""
    rows = ", ".join(f'"{name}": ("m", "C")' for name in architectures)
    seen = package("vllm", version, f"transformers{pin}")
    return Seen(
        seen.distribution, seen.tables._replace(vllm=vllm_tables(architectures=table(f"TABLE = {{{rows}}}")))
    )


def library(version: str, *types: str) -> Seen:
    """A transformers that knows these model types."""
    rows = ", ".join(f'"{name}": "C"' for name in types)
    seen = package("transformers", version)
    return Seen(seen.distribution, seen.tables._replace(transformers=table(f"TABLE = {{{rows}}}")))


TINY = b'{"model_type": "tiny", "architectures": ["Tiny"]}'


def index(*seen: Seen) -> Known:
    known: dict[str, dict[str, Seen]] = {}
    for one in seen:
        known.setdefault(one.distribution.key, {})[one.distribution.version] = one
    return Known(known)


def tiny(asked: Sequence[Seen], known: Known, *requirements: str) -> Found:
    made = stack(*asked, closed=False, requirements=requirements)
    return searched(made, known, TINY)


def moves(found: Found) -> list[list[str]]:
    return [[f"{m.project} {m.after.version}" for m in s.moves] for s in found.suggestions]


def test_each_package_that_is_involved_gets_its_own_nearest_release() -> None:
    known = index(engine("1.1", ">=5", "Tiny"), library("4.1", "tiny"), library("4.2", "tiny"))
    found = tiny([engine("1.0", "<5,>=4.1", "Tiny"), library("4.0", "tiny")], known)
    assert moves(found) == [["transformers 4.1"]]
    found = tiny(
        [engine("1.0", "<5", "Tiny"), library("5.0", "tiny")],
        index(
            engine("1.1", ">=5", "Tiny"), engine("1.2", ">=5", "Tiny"), library("5.1", "tiny"), library("6.0")
        ),
    )
    assert moves(found) == [["vllm 1.1"]]


def test_a_release_that_clears_the_block_and_breaks_another_rule_is_passed_over() -> None:
    known = index(engine("1.1", ">=5"), engine("1.2", ">=5", "Tiny"))
    found = tiny([engine("1.0", "<5", "Tiny"), library("5.0", "tiny")], known)
    assert moves(found) == [["vllm 1.2"]], "1.1 has no such architecture: unknown where it was decided"


def test_a_release_whose_table_moved_is_no_answer() -> None:
    moved = library("4.1", "tiny")
    unclear = NotUnderstood("auto.py", 0, "expected this file, found none of that name")
    moved = Seen(moved.distribution, moved.tables._replace(transformers=unclear))
    known = index(moved, library("4.2", "tiny"))
    found = tiny([engine("1.0", ">=4", "Tiny"), library("4.0")], known)
    assert moves(found) == [["transformers 4.2"]]


def test_a_release_whose_pins_cannot_be_read_is_no_answer() -> None:
    known = index(engine("1.1", "=>5", "Tiny"), engine("1.2", ">=5", "Tiny"))
    found = tiny([engine("1.0", "<5", "Tiny"), library("5.0", "tiny")], known)
    assert moves(found) == [["vllm 1.2"]]


def test_a_damaged_release_is_passed_over() -> None:
    known = index(library("4.1", "tiny"), library("4.2", "tiny"))
    known.damaged = {"4.1"}
    found = tiny([engine("1.0", ">=4", "Tiny"), library("4.0")], known)
    assert moves(found) == [["transformers 4.2"]]


def test_pre_releases_are_for_those_who_asked_for_one() -> None:
    known = index(library("4.1rc1", "tiny"), library("4.2", "tiny"))
    vllm = engine("1.0", ">=4", "Tiny")
    assert moves(tiny([vllm, library("4.0")], known)) == [["transformers 4.2"]]
    assert moves(tiny([vllm, library("4.0rc1")], known)) == [["transformers 4.1rc1"]]


def test_older_releases_are_looked_at_only_where_no_newer_one_helps() -> None:
    known = index(library("4.0", "tiny"), library("5.1", "tiny"))
    found = tiny([engine("1.0", "<5", "Tiny"), library("5.0", "tiny")], known)
    assert moves(found) == [["transformers 4.0"]]
    assert [v.projects for v in found.vain] == [("transformers",)], "vllm has no other release"


def test_two_are_moved_together_only_where_none_helps_alone() -> None:
    known = index(
        engine("1.1", "<6,>=5", "Tiny"), engine("1.2", "<6", "Tiny"), library("5.0"), library("5.1", "tiny")
    )
    found = tiny(
        [engine("1.0", "<5", "Tiny"), library("4.0")], known, "vllm[x]==1.0", "other", "transformers>=4"
    )
    assert moves(found) == [["vllm 1.1", "transformers 5.1"]]
    assert found.suggestions[0].requirements == ("vllm[x]==1.1", "other", "transformers==5.1")


def test_names_refuse_without_a_request() -> None:
    known = index(*(library(f"5.{minor}", "tiny") for minor in range(20)))
    found = tiny([engine("1.0", "<5", "Tiny"), library("5.0.1", "tiny")], known)
    assert not found.suggestions
    assert known.asked == []
    assert sum(vain.looked for vain in found.vain) == 20


def test_the_bound_ends_the_search_and_says_so() -> None:
    known = index(*(library(f"4.{minor}") for minor in range(1, 9)), library("4.9", "tiny"))
    asked = [engine("1.0", ">=4", "Tiny"), library("4.0")]
    known.limit = 5
    found = tiny(asked, known)
    assert (moves(found), found.stopped) == ([], "all 5 requests are spent")
    assert any("stopped: all 5" in line for line in render_suggested(Suggested((found,), (), 5, 5, 0)))
    known.limit = 1000
    assert moves(tiny(asked, known)) == [["transformers 4.9"]]


def test_blocks_that_nothing_clears_together_are_tried_one_by_one() -> None:
    known = index(library("4.1", "tiny"))
    other = package("other", "1.0", "third<1")
    found = tiny([engine("1.0", ">=4", "Tiny"), library("4.0"), other, package("third", "1.0")], known)
    [only] = found.suggestions
    assert moves(found) == [["transformers 4.1"]]
    assert [block.rule for block in only.clears] == ["model-type"]
    assert {block.rule for block in found.blocks} == {"model-type", "pin"}
    shown = "\n".join(render_suggested(Suggested((found,), (), 1, 9, 0)))
    assert "clears only: transformers 4.0 has no model type 'tiny'" in shown


def test_a_locked_set_is_searched_as_it_was_asked_for() -> None:
    """What the resolver chose besides would refuse every candidate: it chooses again."""
    locked = stack(
        engine("1.0", "<5", "Tiny"),
        library("4.0"),
        package("chosen", "1.0", "vllm==1.0"),
        closed=True,
        requirements=("vllm==1.0",),
    )
    known = index(engine("1.1", ">=5", "Tiny"), library("5.0", "tiny"))
    found = searched(locked, known, TINY)
    assert found.suggestions[0].requirements == ("vllm==1.1", "transformers==5.0")


def test_what_no_release_changes_is_not_searched() -> None:
    found = tiny([engine("1.0", ">=4", "Tiny"), library("4.0", "tiny")], index())
    assert (found.blocks, found.suggestions) == ((), ())
    assert "no release" in found.why_not


def test_a_set_of_another_target_is_searched_by_tags_alone() -> None:
    def built(version: str, platform: str) -> Seen:
        return package("native", version, file=f"native-{version}-cp312-cp312-{platform}.whl")

    known = index(built("1.1", "manylinux_2_39_x86_64"), built("1.2", "manylinux_2_28_x86_64"))
    made = stack(built("1.0", "win_amd64"), closed=False, requirements=("native==1.0",))
    found = Search(made, (), TARGET, known).run()
    assert moves(found) == [["native 1.2"]]
    assert {version for _, version, _ in known.asked} == {"1.2"}


def test_a_block_that_becomes_unknown_is_not_cleared() -> None:
    def torch(version: str, cuda: str | NotUnderstood) -> Seen:
        seen = package("torch", version)
        return Seen(seen.distribution, seen.tables._replace(torch_cuda=cuda))

    known = index(torch("1.1", NotUnderstood("torch/version.py", 0, "found none")), torch("1.2", "12.8"))
    asked = [engine("1.0", ">=4", "Tiny"), library("4.0", "tiny"), torch("1.0", "")]
    assert moves(tiny(asked, known)) == [["torch 1.2"]]


def test_the_line_to_paste_is_toml() -> None:
    lines = with_moves(
        ('one[b,a]>=1 ; python_version < "4"', "two", "not a requirement"), {"one": "2", "three": "3"}
    )
    assert tomllib.loads(pasteable(lines))["requirements"] == [
        'one[a,b]==2 ; python_version < "4"',
        "two",
        "not a requirement",
        "three==3",
    ]
