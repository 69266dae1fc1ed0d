"""Pages hold texts that nobody trusts: none of them becomes markup, none hides what it is."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from airgap.audit.page import Bar, Column, Html, bars, code, facts, page, section, table, tag, text, tiles


class Reader(HTMLParser):
    """What a browser would see: the names of all elements, and all text."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.shown = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.shown += data


def everything(hostile: str) -> str:
    """A page that has the text in every place where one can stand."""
    return page(
        hostile,
        section("a", hostile, tiles([(hostile, hostile)]), facts([(hostile, text(hostile))])),
        table([Column(hostile), Column(hostile, number=True)], [[code(hostile), tag(hostile, "error")]]),
        bars(hostile, [Bar(hostile, 1, hostile)]),
    )


@given(
    st.text("<>@given(st.text(min_size=1, max_size=80))\"'/=ab ", min_size=1, max_size=80)
    | st.text(min_size=1, max_size=80)
)
def test_no_text_becomes_markup(hostile: str) -> None:
    assert Reader(everything(hostile)).elements == Reader(everything("plain")).elements


def test_what_is_shown_is_what_was_said() -> None:
    shown = Reader(text("<b>&amp; 'x' \"y\" é")).shown
    assert shown == "<b>&amp; 'x' \"y\" é"


def test_characters_that_would_hide_something_are_named() -> None:
    assert text("a\u202eb\x1b[0m\ud800\U000e0001") == "a\\u202eb\\x1b[0m\\ud800\\U000e0001"


def test_nothing_can_be_loaded_or_run() -> None:
    document = page("x", Html("<p>y</p>"))
    assert "default-src &#x27;none&#x27;" in document
    assert "script" not in Reader(document).elements
    assert "http" not in document.replace("http-equiv", "")


def test_the_longest_bar_is_whole_and_nothing_is_no_chart() -> None:
    chart = bars("sizes", [Bar("a", 50, "50 B"), Bar("b", 200, "200 B", "error")])
    assert 'class="bar c0" style="width:25.00%"' in chart
    assert 'class="bar error" style="width:100.00%"' in chart
    assert "none" in bars("sizes", [])


def test_names_without_anything_are_left_out() -> None:
    assert "licence" not in facts([("licence", text("")), ("name", text("x"))])


@given(st.text())
def test_each_character_is_shown_as_it_is_shown_alone(hostile: str) -> None:
    assert text(hostile) == "".join(text(character) for character in hostile)
