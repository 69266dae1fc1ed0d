"""Receipts that travel back: what is read out is understood, what is misheard is noticed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.base32 import ALPHABET, shorten
from airgap.errors import InputError
from airgap.inventory import HeldBundle, Inventory
from airgap.receipt import BundleNumber, ReceiptLine, SiteReceipt, parse_line, parse_receipt, render_receipt
from airgap.trust.blobs import StatedBlob
from tests.strategies import names
from tests.trust.statements import hex_digits, instants

numbers = st.builds(BundleNumber, names, st.just(0) | st.integers(0, 9), st.integers(1, 10**6))
lines = st.builds(
    ReceiptLine,
    st.just("") | names,
    st.integers(1, 10**6),
    st.lists(numbers, max_size=3).map(tuple),
    st.text(ALPHABET, min_size=18, max_size=18),
)
held = st.builds(
    HeldBundle,
    names,
    st.just("1"),
    names,
    st.integers(0, 3),
    st.integers(1, 10**6),
    hex_digits(96),
    st.just(()),
)
inventories = st.builds(
    Inventory,
    st.just("") | names,
    st.integers(1, 10**6),
    st.lists(held, max_size=3).map(tuple),
    st.dictionaries(hex_digits(64), st.builds(StatedBlob, hex_digits(96), st.integers(0, 2**60)), max_size=4),
)
receipts = st.builds(
    SiteReceipt,
    st.integers(1, 10**6),
    st.sampled_from(["install", "uninstall", "rollback"]),
    instants,
    inventories,
)


@given(lines)
def test_a_line_is_read_as_it_was_written(line: ReceiptLine) -> None:
    text = str(line)
    words, _, code = text.rpartition(" ")
    for typed in (
        text,
        text.upper(),
        text.lower(),
        f"{words}  {code.replace('-', ' ')}",
        f"{words} {code.replace('-', '')}",
    ):
        assert parse_line(typed) == line


@given(receipts)
@settings(max_examples=60)
def test_a_file_is_read_as_it_was_written(receipt: SiteReceipt) -> None:
    data = render_receipt(receipt)
    assert parse_receipt(data, "receipt") == receipt
    assert receipt.line.short == shorten(receipt.inventory.digest)


@given(lines, st.data())
@settings(max_examples=120)
def test_up_to_four_wrong_symbols_are_noticed(line: ReceiptLine, data: st.DataObject) -> None:
    words, _, code = str(line).rpartition(" ")
    symbols = list(code.replace("-", ""))
    for place in data.draw(st.sets(st.integers(0, 23), min_size=1, max_size=4)):
        symbols[place] = data.draw(st.sampled_from(ALPHABET.replace(symbols[place], "")))
    with pytest.raises(InputError, match="mistyped or misheard"):
        parse_line(f"{words} {''.join(symbols)}")


@given(lines, st.data())
@settings(max_examples=120)
def test_a_wrong_letter_or_digit_in_the_words_is_noticed(line: ReceiptLine, data: st.DataObject) -> None:
    words, _, code = str(line).rpartition(" ")
    place = data.draw(st.sampled_from([i for i, letter in enumerate(words) if letter.isalnum()]))
    other = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789".replace(words[place], "")))
    with pytest.raises(InputError):
        parse_line(f"{words[:place]}{other}{words[place + 1 :]} {code}")


@given(lines, st.data())
def test_a_bundle_left_out_or_said_twice_is_noticed(line: ReceiptLine, data: st.DataObject) -> None:
    tokens = str(line).split()
    place = data.draw(st.integers(1, len(tokens) - 1))
    with pytest.raises(InputError):
        parse_line(" ".join([*tokens[:place], *tokens[place + 1 :]]))
    with pytest.raises(InputError):
        parse_line(" ".join([*tokens[:place], tokens[place], *tokens[place:]]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "site-a",
        "site-a 3",
        "3 demo/7 7K2",
        f"site-a 0 demo/7 {'7' * 24}",
        f"site-a 3 demo/0 {'7' * 24}",
        f"../x 3 {'7' * 24}",
    ],
)
def test_what_is_no_line_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_line(text)


def test_a_file_whose_line_says_something_else_is_refused() -> None:
    receipt = SiteReceipt(3, "install", datetime(2026, 11, 26, tzinfo=UTC), Inventory("site-a", 3, (), {}))
    with pytest.raises(InputError, match="line: it does not say"):
        parse_receipt(render_receipt(receipt).replace(b'"line":"site-a 3', b'"line":"site-b 3'), "receipt")
