"""Index pages: both forms say the same, hostile ones are refused or read, and the best wheel is chosen."""

import contextlib
import hashlib
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given
from packaging.specifiers import SpecifierSet

from airgap.connected.simple_index import IndexFile, choose, parse_html_page, parse_json_page
from airgap.errors import InputError
from airgap.model import Platform, Target
from airgap.tags import WheelName, supported_tags

URL = "https://index.example/simple/one/"
TAGS = supported_tags(Target("3.12", Platform("linux", "amd64"), "2.35"))
DIGEST = hashlib.sha256(b"").hexdigest()

versions = st.from_regex(r"[1-9]{1,2}\.[0-9](rc1|\.post2)?", fullmatch=True)
tags = st.sampled_from(["py3-none-any", "cp312-cp312-manylinux_2_28_x86_64", "cp38-abi3-win_amd64"])
names = st.builds(lambda v, t: f"one-{v}-{t}.whl", versions, tags)

reasons = st.sampled_from([None, "", "broken"])


@given(st.lists(st.tuples(names, reasons), unique_by=lambda file: file[0], max_size=6))
def test_html_and_json_say_the_same(files: list[tuple[str, str | None]]) -> None:
    """PEP 592: `data-yanked`, its value a reason that may be empty; in JSON that reason, true or false."""
    anchors, entries = "", []
    for f, yanked in [*files, ("one-1.tar.gz", None)]:
        attribute = "" if yanked is None else f' data-yanked="{yanked}"'
        anchors += f'<a href="../../files/{f}#sha256={DIGEST}"{attribute}>{f}</a>'
        about = {"yanked": False if yanked is None else yanked or True}
        entries.append({"filename": f, "url": f"../../files/{f}", "hashes": {"sha256": DIGEST}} | about)
    html = list(parse_html_page(anchors.encode(), URL, "page"))
    assert html == list(parse_json_page(json.dumps({"files": entries}).encode(), URL, "page"))
    assert [file.url for file in html] == [f"https://index.example/files/{f}" for f, _ in files]
    assert [file.yanked for file in html] == [yanked is not None for _, yanked in files]


@pytest.mark.parametrize(
    ("said", "day"), [("2026-04-03T01:02:03Z", "2026-04-03"), ("yesterday", ""), (5, ""), (None, "")]
)
def test_the_day_is_the_indexs_word_or_nothing(said: object, day: str) -> None:
    entry = {"filename": "one-1-py3-none-any.whl", "url": "one", "hashes": {}, "upload-time": said}
    [file] = parse_json_page(json.dumps({"files": [entry]}).encode(), URL, "page")
    assert (file.uploaded, file.yanked) == (day, False)


@given(st.text(st.sampled_from("<>![]-aA= \"'/:hrefbs#?\\"), max_size=80))
def test_a_hostile_page_is_read_or_refused(text: str) -> None:
    for parse in (parse_html_page, parse_json_page):
        with contextlib.suppress(InputError):
            assert isinstance(list(parse(text.encode(), URL, "page")), list)


@pytest.mark.parametrize(
    "page", [b"<![x[ ", b'<base href="http://["><a href="one-1-py3-none-any.whl">', b'<a href="//[one">']
)
def test_pages_that_break_parsers(page: bytes) -> None:
    try:
        assert all(
            file.url.startswith("https://index.example/") for file in parse_html_page(page, URL, "page")
        )
    except InputError as error:
        assert "marked section" in error.message


def on_page(*files: str) -> tuple[IndexFile, ...]:
    return tuple(IndexFile(WheelName.parse(f), f, URL + f, "", None) for f in files)


@pytest.mark.parametrize(
    ("files", "specifier", "expected"),
    [
        (["one-1.0-py3-none-any.whl", "one-1.1-py3-none-any.whl"], "==1.0", "one-1.0-py3-none-any.whl"),
        (
            ["one-1.0-py3-none-any.whl", "one-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"],
            "==1.0",
            "one-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        ),
        (["one-1.0-py3-none-any.whl", "one-1.0-2-py3-none-any.whl"], "==1.0", "one-1.0-2-py3-none-any.whl"),
        (["one-1.0-cp38-abi3-win_amd64.whl"], "==1.0", "one-1.0-cp38-abi3-win_amd64.whl"),
        (  # none fits: the one that is the least wrong shows why
            [
                "one-1.0-cp312-cp312-manylinux_2_99_aarch64.whl",
                "one-1.0-cp312-cp312-macosx_10_9_x86_64.whl",
                "one-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
                "one-1.0-cp312-cp312-manylinux_2_99_x86_64.whl",
            ],
            "==1.0",
            "one-1.0-cp312-cp312-manylinux_2_99_x86_64.whl",
        ),
        (
            ["one-1.0-cp313-cp313-win_amd64.whl", "one-1.0-cp313-cp313-manylinux_2_28_x86_64.whl"],
            "==1.0",
            "one-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
        ),
        (["one-1.0+cu128-py3-none-any.whl"], "==1.0", "one-1.0+cu128-py3-none-any.whl"),
        (["one-2.0-py3-none-any.whl"], "==1.0", None),
        (["two-1.0-py3-none-any.whl"], "==1.0", None),
    ],
)
def test_the_wheel_that_pip_would_take(files: list[str], specifier: str, expected: str | None) -> None:
    found = choose(on_page(*files), "one", SpecifierSet(specifier), TAGS)
    assert (found.file if found else None) == expected
