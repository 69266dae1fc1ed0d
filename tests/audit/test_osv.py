"""The evaluation of advisories by the schema's algorithm, and the reading of exports."""

import io
import json
import tracemalloc
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from airgap.audit.advisories import Database, read_database
from airgap.audit.osv import Advisory, Answer, Evaluation, evaluate, parse_advisory, same_package
from airgap.audit.rating import Rating, base_score, rate
from airgap.errors import InputError
from airgap.progress import Silent
from airgap.readers.source import BytesSource
from airgap.readers.zip import Archive
from tests.audit.advisories import PROXY, PUBLISHED, RELEASES, Document, advisory, export, ranges_only, span

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def parsed(document: Document) -> Advisory:
    return parse_advisory(json.dumps(document).encode(), "advisory")


def judged(document: Document, version: str) -> Evaluation:
    [affected] = parsed(document).affected
    return evaluate(affected, version)


def read(data: bytes, *names: str) -> Database:
    return read_database(Archive(BytesSource(data), "all.zip"), names, NOW, Silent())


# ------------------------------------------------------------------ ranges


@pytest.mark.parametrize("document", ranges_only(), ids=lambda document: document["id"])
def test_ranges_say_what_lists_say(document: Document) -> None:
    """`versions` was made by packaging from specifiers; the ranges alone must give the same."""
    [whole] = [one for one in PUBLISHED if one["id"] == document["id"]]
    if whole.get("withdrawn"):
        return
    [affected] = whole["affected"]
    for release in RELEASES[affected["package"]["name"]]:
        expected = Answer.AFFECTED if release in affected["versions"] else Answer.UNAFFECTED
        assert judged(document, release).answer is expected, release


def events(*pairs: tuple[str, str]) -> Document:
    return advisory("X-1", [], "demo", [{kind: version} for kind, version in pairs])


@pytest.mark.parametrize(
    ("document", "inside", "outside"),
    [
        (events(("introduced", "0")), ["0", "0.dev1", "99"], []),
        (events(("introduced", "1"), ("fixed", "2")), ["1", "1.9", "2rc1"], ["1rc1", "2", "2.post1", "3"]),
        (events(("introduced", "1"), ("last_affected", "2")), ["1", "2", "2.0"], ["2.post1", "2.0.1"]),
        # Events come in any order; each introduction begins a new stretch.
        (
            events(("fixed", "4"), ("introduced", "3"), ("fixed", "2"), ("introduced", "1")),
            ["1", "3", "3.9"],
            ["0.9", "2", "2.9", "4"],
        ),
        (events(("introduced", "0"), ("limit", "2")), ["0", "1.9"], ["2", "3"]),
        (events(("introduced", "0"), ("limit", "*")), ["0", "1000"], []),
    ],
)
def test_events_are_judged_in_the_order_of_versions(
    document: Document, inside: list[str], outside: list[str]
) -> None:
    assert {version: judged(document, version).answer for version in inside + outside} == {
        **dict.fromkeys(inside, Answer.AFFECTED),
        **dict.fromkeys(outside, Answer.UNAFFECTED),
    }


NUMBERS = st.integers(0, 12)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=6, unique=True), NUMBERS, st.randoms())
def test_stretches_are_half_open(bounds: list[int], version: int, random: Any) -> None:
    """Sorted bounds alternate between introduced and fixed; packaging says which specifiers hold."""
    ordered = sorted(bounds)
    pairs = [("introduced" if place % 2 == 0 else "fixed", str(n)) for place, n in enumerate(ordered)]
    specifiers = [f">={low},<{high}" for low, high in zip(ordered[::2], [*ordered[1::2], 99], strict=False)]
    random.shuffle(pairs)
    expected = any(SpecifierSet(one).contains(Version(str(version))) for one in specifiers)
    assert (judged(events(*pairs), str(version)).answer is Answer.AFFECTED) == expected


def test_what_fixes_is_of_the_stretch_that_holds() -> None:
    document = next(one for one in PUBLISHED if one["id"] == "GHSA-v845-jxx5-vc9f")
    assert judged(document, "2.0.3").fixed == ("2.0.6",)
    assert judged(document, "1.26.4").fixed == ("1.26.17", "2.0.6")


def test_a_local_label_does_not_hide_what_a_version_was_built_from() -> None:
    document = advisory("X-1", [], "torch", [{"introduced": "0"}, {"last_affected": "2.5.1"}])
    assert judged(document, "2.5.1+cu124").answer is Answer.AFFECTED
    listed = advisory("X-2", [], "requests", [], ["==2.31.0"])
    assert judged(listed, "2.31.0+site.1").answer is Answer.AFFECTED
    fixed = advisory("X-3", [], "torch", span("0", "2.5.1"))
    assert judged(fixed, "2.5.1+cu124").answer is Answer.UNAFFECTED


def test_debian_and_alpine_are_judged_by_their_own_order() -> None:
    debian = advisory("DSA-1-1", [], "openssl", span("0", "3.0.11-1~deb12u2"), ecosystem="Debian:12")
    assert judged(debian, "3.0.11-1~deb12u1").answer is Answer.AFFECTED
    assert judged(debian, "3.0.11-1").answer is Answer.UNAFFECTED
    alpine = advisory("ALPINE-1", [], "musl", span("0", "1.2.4_git20230717-r5"), ecosystem="Alpine:v3.19")
    assert judged(alpine, "1.2.4-r1").answer is Answer.AFFECTED
    assert judged(alpine, "1.2.5-r0").answer is Answer.UNAFFECTED


@pytest.mark.parametrize(
    ("document", "version"),
    [
        (events(("introduced", "0"), ("fixed", "not a version")), "1"),
        (events(("introduced", "0")), "2004-final-cut"),
        (advisory("X-1", [], "left-pad", [{"introduced": "0"}], ecosystem="npm"), "1.0"),
    ],
)
def test_what_cannot_be_judged_is_never_unaffected(document: Document, version: str) -> None:
    evaluation = judged(document, version)
    assert evaluation.answer is Answer.UNKNOWN
    assert evaluation.reason


def test_a_range_of_another_type_is_unknown_and_one_of_commits_nothing() -> None:
    document = events(("introduced", "0"), ("fixed", "2"))
    document["affected"][0]["ranges"][0]["type"] = "SEMVER"
    assert judged(document, "1").answer is Answer.UNKNOWN
    document["affected"][0]["ranges"][0]["type"] = "GIT"
    assert judged(document, "1").answer is Answer.UNAFFECTED


def test_packages_are_named_as_their_ecosystem_names_them() -> None:
    [python] = parsed(advisory("X", [], "Foo_Bar", [])).affected
    assert same_package(python, ["PyPI"], "foo-bar")
    assert not same_package(python, ["Debian:12"], "foo-bar")
    [debian] = parsed(advisory("X", [], "openssl", [], ecosystem="Debian:12")).affected
    assert same_package(debian, ["Debian:12"], "openssl")
    assert not same_package(debian, ["Debian:11"], "openssl")


# ------------------------------------------------------------------ documents and exports


def test_nulls_are_absent_and_unknown_keys_are_none_of_our_business() -> None:
    document = events(("introduced", "0")) | {
        "aliases": None, "severity": None, "withdrawn": None, "summary": None, "new": {"key": 1.5},
        "database_specific": {"severity": ["odd"]},
    }  # fmt: skip
    found = parsed(document)
    assert (found.aliases, found.scores, found.withdrawn, found.word) == ((), (), False, "")


def test_every_problem_of_an_advisory_is_named() -> None:
    with pytest.raises(InputError) as raised:
        parsed(
            {"id": 7, "affected": [{"package": {"name": "x"}, "ranges": [{"type": "GIT", "events": [{}]}]}]}
        )
    text = "\n".join(raised.value.problems)
    for expected in ("id: expected", "modified: missing", "package.ecosystem", "events[0]"):
        assert expected in text


def test_an_export_keeps_only_what_was_asked_for() -> None:
    found = read(export(), "requests", "Jinja2")
    assert {affected.name for one in found.advisories for affected in one.affected} == {"requests", "jinja2"}
    assert found.count == len(PUBLISHED)
    assert found.ecosystems == {"PyPI"}


def test_withdrawn_advisories_are_left_out() -> None:
    assert [one.id for one in read(export(), "py").advisories] == ["GHSA-w596-4wvx-j9j6"]


def test_data_are_as_old_as_their_newest_advisory() -> None:
    assert read(export(), "requests").newest == datetime(2025, 2, 26, 18, 48, 16, tzinfo=UTC)
    future = advisory("X-1", [], "other", [], modified="2099-01-01T00:00:00Z")
    assert read(export([*PUBLISHED, future]), "requests").age_days(NOW) == 637


def test_an_advisory_that_cannot_be_read_is_named_and_ends_nothing() -> None:
    broken = advisory("X-1", [], "requests", []) | {"affected": "everything"}
    mentions = {"name": "requests"}
    found = read(export([*PUBLISHED, broken | {"credits": [mentions]}]), "requests")
    assert len(found.unread) == 1
    assert "X-1.json" in found.unread[0]
    assert len(found.advisories) == 4


def test_a_name_that_is_spelled_with_escapes_is_found() -> None:
    text = json.dumps(advisory("X-1", [], "requests", span("0", "9"))).replace(
        '"requests"', '"r\\u0065quests"'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("X-1.json", text)
    assert [one.id for one in read(out.getvalue(), "requests").advisories] == ["X-1"]


@pytest.mark.parametrize("data", [export([]), b"no archive"])
def test_what_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        read(data, "requests")


def test_memory_does_not_grow_with_the_export() -> None:
    def peak(count: int) -> int:
        padding = [
            advisory(f"X-{n}", [], f"other-{n}", []) | {"details": f"{n}" * 20_000} for n in range(count)
        ]
        data = export([*PUBLISHED, *padding])
        del padding
        tracemalloc.start()
        assert len(read(data, "requests").advisories) == 4
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small, large = peak(20), peak(400)
    assert large < small + 380 * 2_000  # a directory entry each, where an advisory has 20 kB and more


# ------------------------------------------------------------------ severity


def test_severity_is_the_worst_that_is_said() -> None:
    assert rate(["GHSA-1"], [PROXY], []) is Rating.MEDIUM
    assert rate(["GHSA-1"], [PROXY], ["high"]) is Rating.HIGH
    assert rate(["GHSA-1"], [], ["moderate"]) is Rating.MEDIUM
    assert rate(["PYSEC-1"], [], []) is Rating.UNKNOWN
    assert rate(["MAL-2024-1"], [], []) is Rating.CRITICAL


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        (PROXY, 6.1),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3),
        ("AV:N/AC:L/Au:N/C:P/I:P/A:P", 7.5),
        ("CVSS:3.1/AV:N", None),
        ("CVSS:9.9/nonsense", None),
        ("x" * 1000, None),
        ("", None),
    ],
)
def test_vectors_are_scored(vector: str, score: float | None) -> None:
    assert base_score(vector) == score


def test_what_is_unknown_exceeds_every_limit_that_excludes_anything() -> None:
    assert Rating.HIGH.exceeds(Rating.MEDIUM)
    assert not Rating.MEDIUM.exceeds(Rating.MEDIUM)
    assert Rating.UNKNOWN.exceeds(Rating.HIGH)
    assert not Rating.UNKNOWN.exceeds(Rating.CRITICAL)
