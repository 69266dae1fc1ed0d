"""files.csv is read back as it was meant, whatever hostile names are in it."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from airgap.audit.evidence import FileFact
from airgap.audit.table import COLUMNS, render_files
from airgap.model import Sha256


def read(facts: list[FileFact]) -> list[list[str]]:
    text = b"".join(render_files(facts)).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_names_are_read_back(name: str) -> None:
    head, row = read([FileFact("a", name, "text", 1, Sha256("0" * 64), "local:x", "MIT")])
    assert tuple(head) == COLUMNS
    assert row[1].removeprefix("'") == name.removeprefix("'")


def test_no_name_becomes_a_formula() -> None:
    for name in ("=1+1", "+1", "-1", "@SUM(A1)", "\tx"):
        [_, row] = read([FileFact("a", name, "text", 1, Sha256("0" * 64))])
        assert row[1] == f"'{name}"


def test_a_name_that_is_no_unicode_is_still_written() -> None:
    [_, row] = read([FileFact("a", "x\udcff", "text", 1, Sha256("0" * 64))])
    assert row[1] == r"x\udcff"
