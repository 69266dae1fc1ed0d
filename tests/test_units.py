"""Amounts as a person reads them."""

import pytest

from airgap.units import amount, human_bytes, shortage


@pytest.mark.parametrize(
    ("count", "noun", "plural", "said"),
    [
        (0, "file", "", "0 files"),
        (1, "file", "", "1 file"),
        (2, "file", "", "2 files"),
        (2, "entry", "entries", "2 entries"),
    ],
)
def test_one_is_said_as_one(count: int, noun: str, plural: str, said: str) -> None:
    assert amount(count, noun, plural) == said


def test_what_lacks_is_said_where_both_amounts_round_to_one() -> None:
    assert human_bytes(1_250_000_000) == human_bytes(1_249_999_000) == "1.2 GB"
    assert shortage(1_250_000_000, 1_249_999_000) == "1.2 GB needed, 1.2 GB free: 1.0 kB too little"
