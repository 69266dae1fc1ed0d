"""Spelled digests: what a person reads out is understood, and what they mistake is noticed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.base32 import ALPHABET, _expand, _polymod, read_spelled, shorten, spell
from airgap.errors import InputError

shorts = st.text(ALPHABET, min_size=18, max_size=18)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60)

BECH32M = 0x2BC830A3


@pytest.mark.parametrize(
    "text",
    [  # BIP-350, "Test vectors for Bech32m"
        "a1lqfn3a",
        "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
        "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
        "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
        "?1v759aa",
    ],
)
def test_the_check_is_that_of_bech32m(text: str) -> None:
    human, _, data = text.rpartition("1")
    values = ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(symbol) for symbol in data]
    assert _polymod([*_expand(human), *values]) == BECH32M


@given(words, shorts)
def test_what_is_spelled_is_read(said: str, short: str) -> None:
    assert read_spelled(said, spell(said, short)) == short


@given(shorts)
def test_it_is_read_as_people_write_it(short: str) -> None:
    spelled = spell("x", short)
    for typed in (
        spelled.lower(),
        spelled.replace("-", " "),
        spelled.replace("-", ""),
        spelled.replace("0", "O").replace("1", "l"),
        f"  {spelled}\n",
    ):
        assert read_spelled("x", typed) == short


@given(shorts, st.data())
@settings(max_examples=120)
def test_up_to_four_wrong_symbols_are_noticed_anywhere(short: str, data: st.DataObject) -> None:
    symbols = list(spell("inventory", short).replace("-", ""))
    for place in data.draw(st.sets(st.integers(0, 23), min_size=1, max_size=4)):
        symbols[place] = data.draw(st.sampled_from(ALPHABET.replace(symbols[place], "")))
    with pytest.raises(InputError, match="mistyped or misheard"):
        read_spelled("inventory", "".join(symbols))


def test_every_single_mistake_and_every_swap_of_neighbours_is_noticed() -> None:
    symbols = spell("inventory", "7K2M9QXR1F0GT3VW8S").replace("-", "")
    mistakes = [
        symbols[:place] + other + symbols[place + 1 :]
        for place in range(24)
        for other in ALPHABET
        if other != symbols[place]
    ]
    mistakes += [
        symbols[:place] + symbols[place + 1] + symbols[place] + symbols[place + 2 :]
        for place in range(23)
        if symbols[place] != symbols[place + 1]
    ]
    for mistake in mistakes:
        with pytest.raises(InputError):
            read_spelled("inventory", mistake)


@given(words.filter(bool), shorts, st.data())
def test_a_wrong_letter_in_the_words_is_noticed(said: str, short: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(said) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != said[place]))
    with pytest.raises(InputError):
        read_spelled(said[:place] + other + said[place + 1 :], spell(said, short))


@pytest.mark.parametrize("text", ["", "7K2", "7K2-M9Q-XR1-F0G-T3V-W8S-6BZ-8Q", "U" * 24, "é" * 24, "7" * 25])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected 8 groups"):
        read_spelled("x", text)


def test_a_digest_is_shortened_to_its_first_90_bits() -> None:
    assert shorten("f" * 22 + "c" + "0" * 73) == "Z" * 18
    assert shorten("0" * 96) == "0" * 18
