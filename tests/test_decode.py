"""The strict reader: what differing readers differ on is refused, everything else round trips."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.decode import (
    MAX_DEPTH,
    MAX_INTEGER,
    Fields,
    canonical_json,
    parse_base64,
    parse_json,
    parse_toml,
    read_capped,
    read_document,
)
from airgap.errors import InputError

CORPUS = Path(__file__).parents[2] / "shared/corpora/json-reject"

rejects = sorted(CORPUS.glob("n_*"))

READ = "import sys, airgap.decode; print(airgap.decode.read_capped(sys.argv[1]).decode(), end='')"
"""Shows a document in a process of its own, which can be stopped when it waits for a writer."""

text = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
documents = st.recursive(
    st.none() | st.booleans() | integers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.skipif(not rejects, reason="the n_* inputs of JSONTestSuite are not beside this checkout")
@pytest.mark.parametrize("path", rejects, ids=lambda path: path.name)
def test_jsontestsuite_rejects(path: Path) -> None:
    with pytest.raises(InputError, match=r"^document: "):
        parse_json(path.read_bytes(), "document", floats=True)


@given(documents)
def test_canonical_json_round_trips(value: object) -> None:
    data = canonical_json(value)
    assert parse_json(data, "document") == value
    assert canonical_json(parse_json(data, "document")) == data


@given(st.binary(max_size=300) | st.text('{}[]":,\\u0123dtrue.-e ').map(str.encode))
def test_any_bytes_give_a_value_or_an_input_error(data: bytes) -> None:
    try:
        value = parse_json(data, "document", floats=True)
    except InputError:
        return
    assert value == json.loads(data)


@given(st.binary(max_size=300) | st.text('[]=."\\{}\n0123a-:T#').map(str.encode))
def test_any_bytes_give_toml_or_an_input_error(data: bytes) -> None:
    try:
        parse_toml(data, "document")
    except InputError as error:
        assert str(error).startswith("document: ")


REFUSED = {
    "byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "utf-16": ('{"a":1}'.encode("utf-16"), "not UTF-8 at byte 0"),
    "duplicate key": (b'{"a":1,"b":2,"a":1}', "the key 'a' occurs twice"),
    "duplicate key spelled otherwise": (rb'{"a":1,"\u0061":2}', "the key 'a' occurs twice"),
    "duplicate key deep inside": (b'[[{"x":{"a":1,"a":1}}]]', "occurs twice"),
    "NaN": (b"[NaN]", "NaN is not allowed"),
    "Infinity": (b"[-Infinity]", "-Infinity is not allowed"),
    "float": (b"[1.0]", "expected an integer, found 1.0"),
    "exponent": (b"[1e3]", "expected an integer, found 1e3"),
    "negative zero": (b"[-0]", "expected an integer, found -0"),
    "2^63": (b"[9223372036854775808]", r"beyond 2\^63-1"),
    "-2^63": (b"[-9223372036854775808]", r"beyond 2\^63-1"),
    "10 000 digits": (b"1" * 10_000, r"beyond 2\^63-1"),
    "minus 10 000 digits": (b"-" + b"1" * 10_000, r"beyond 2\^63-1"),
    "lone surrogate": (rb'["\ud800"]', "lone surrogate"),
    "lone surrogate in a key": (rb'{"\udfff":1}', "lone surrogate"),
    "surrogate in UTF-8": (b'["\xed\xa0\x80"]', "not UTF-8"),
    "too deep": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "more than 64 levels"),
    "a million brackets": (b"[" * 1_000_000, "more than 64 levels"),
    "a million objects": (b'{"a":' * 1_000_000, "more than 64 levels"),
    "trailing bytes": (b"{} x", "not JSON, line 1 column 4"),
    "trailing NUL": (b"{}\0", "not JSON"),
    "nothing": (b"", "not JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_json(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(InputError, match=f"^document: .*{message}"):
        parse_json(data, "document")


def test_a_float_is_finite() -> None:
    with pytest.raises(InputError, match="beyond what a float holds"):
        parse_json(b"[1e999]", "document", floats=True)


def test_what_is_allowed_stays_allowed() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "document")
    assert parse_json(b'["' + b"[" * 500 + b'\\"[["]', "document") == ["[" * 500 + '"[[']
    assert parse_json(rb'["\ud83d\ude00"]', "document") == ["\U0001f600"]
    assert parse_json(b" [9223372036854775807, -9223372036854775807]\n", "document")
    assert parse_json(b"[1.5]", "document", floats=True) == [1.5]


KEYS = ",".join(f'"{number}":0' for number in range(100_000))

SLOW_FOR_CARELESS_READERS = {
    "a key twice after 100 000 others": f'{{{KEYS},"99999":1}}',
    "a string of escaped quotes without an end": '"' + '\\"' * 200_000,
    "a million quotes": '"' * 1_000_001,
    "a million escapes": '"' + "\\" * 1_000_001,
}


@pytest.mark.parametrize("case", SLOW_FOR_CARELESS_READERS)
def test_hostile_documents_cost_linear_time(case: str) -> None:
    """An unsigned envelope is read by this parser: each of these took minutes in a quadratic one."""
    start = time.process_time()
    with pytest.raises(InputError):
        parse_json(SLOW_FOR_CARELESS_READERS[case].encode(), "document")
    assert time.process_time() - start < 5


REFUSED_TOML = {
    "5000 digits": (b"a = " + b"1" * 5000, "a number is too long"),
    "5000 digits of a float that is none": (b"a = 1" + b"_1" * 5000 + b".x", "a number is too long"),
    "a dotted key of 65 parts": (b"a" + b".a" * 64 + b" = 1", "a key of 64 parts"),
    "a dotted key with quotes and spaces": (b"\"a b\" . 'c' ." * 40 + b"d = 1", "a key of 64 parts"),
    "a table of 65 parts": (b"[a" + b".a" * 64 + b"]", "a key of 64 parts"),
}


@pytest.mark.parametrize("case", REFUSED_TOML)
def test_refused_toml(case: str) -> None:
    data, message = REFUSED_TOML[case]
    with pytest.raises(InputError, match=f"^document: .*{message}"):
        parse_toml(data, "document")


def test_a_dotted_key_costs_linear_time() -> None:
    """tomllib alone takes two seconds for 16 000 parts, and four times that for twice as many."""
    start = time.process_time()
    for data in (b"a" + b".a" * 200_000 + b" = 1", b"a" * 400_000, b"'a" * 200_000, b'"a"' * 200_000):
        with pytest.raises(InputError):
            parse_toml(data, "document")
    assert time.process_time() - start < 5


def test_a_dotted_key_of_many_parts_stays_allowed() -> None:
    value: object = parse_toml(b"a" + b".a" * 62 + b" = '" + b"a. " * 62 + b"'", "document")
    for _ in range(63):
        assert isinstance(value, dict)
        value = value["a"]
    assert value == "a. " * 62


def test_the_cap_counts_bytes() -> None:
    assert parse_json(b'"1234"', "document", max_bytes=6) == "1234"
    with pytest.raises(InputError, match="6 bytes, more than the 5 allowed"):
        parse_json(b'"1234"', "document", max_bytes=5)


def test_toml_is_as_strict() -> None:
    assert parse_toml(b"a = [1, 2]\n", "m.toml") == {"a": [1, 2]}
    for bad in (b"a = 1\na = 2", b"\xef\xbb\xbfa = 1", b"a = " + b"[" * 3000, b"a = '\xff'", b"a ="):
        with pytest.raises(InputError, match=r"^m\.toml: "):
            parse_toml(bad, "m.toml")


@given(st.binary())
def test_base64_round_trips(data: bytes) -> None:
    assert parse_base64(base64.b64encode(data).decode(), "x") == data


@given(st.text("AB+/=-_\n é", max_size=12))
def test_base64_has_one_spelling(spelled: str) -> None:
    try:
        data = parse_base64(spelled, "x")
    except InputError:
        return
    assert base64.b64encode(data).decode() == spelled


def test_a_document_is_read_up_to_its_cap(tmp_path: Path) -> None:
    (tmp_path / "five").write_bytes(b"12345")
    assert read_capped(tmp_path / "five", max_bytes=5) == b"12345"
    with pytest.raises(InputError, match="larger than 4 bytes"):
        read_capped(tmp_path / "five", max_bytes=4)
    with pytest.raises(InputError, match="No such file"):
        read_capped(tmp_path / "six")
    with pytest.raises(InputError, match="Is a directory"):
        read_capped(tmp_path)


def test_a_fifo_is_refused_and_a_shells_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    call = [sys.executable, "-c", READ]
    refused = subprocess.run([*call, tmp_path / "fifo"], capture_output=True, check=False, timeout=60)
    assert b"expected a file, found a FIFO" in refused.stderr
    slow = "echo first; sleep 0.1; echo second"
    for script in (f'"$@" <({slow})', f'({slow}) | "$@" /dev/stdin', f'({slow}) | "$@" /proc/self/fd/0'):
        shell = ["bash", "-c", script, "bash", *call]
        shown = subprocess.run(shell, capture_output=True, check=False, timeout=60)
        assert shown.stdout == b"first\nsecond\n", script


@given(st.text('"[]{}a', max_size=200).map(str.encode), st.integers(0, MAX_DEPTH + 2))
def test_depth_is_judged_alike_with_and_without_escapes(around: bytes, deep: int) -> None:
    data = around + b"[" * deep
    inside = data.count(b'"') % 2
    assert too_deep(data) == too_deep(data + (b"\\\\" if inside else b'"\\\\"'))


def too_deep(data: bytes) -> bool:
    try:
        parse_json(data, "x")
    except InputError as error:
        return "levels deep" in error.message
    return False


def build(fields: Fields) -> tuple[object, ...]:
    inner = fields.table("inner")
    value = (
        fields.text("name", pattern="[a-z]+", expected="a name"),
        fields.integer("count", minimum=1),
        fields.flag("on"),
        fields.texts("words"),
        inner.optional_text("note"),
    )
    inner.done()
    return value


def test_fields_give_values() -> None:
    data = b'{"name":"x","count":2,"on":true,"words":["a"],"inner":{}}'
    assert read_document(data, "doc", build) == ("x", 2, True, ("a",), None)


def test_fields_name_every_problem_with_its_path() -> None:
    data = b'{"name":"X","count":true,"on":1,"words":["a",1],"inner":{"note":null,"more":1},"extra":0}'
    with pytest.raises(InputError) as caught:
        read_document(data, "doc", build)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "name",
        "count",
        "on",
        "words",
        "inner.note",
        "inner.more",
        "extra",
    ]
    assert str(caught.value).startswith("doc: 7 problems\n")


def test_integers_are_none_but_integers_of_at_least_zero() -> None:
    fields = Fields(parse_json(b'{"a":[0,7],"b":[true],"c":[-1],"d":1,"f":[]}', "document"))
    assert (fields.integers("a"), fields.integers("f")) == ((0, 7), ())
    for key in "bcde":
        assert fields.integers(key) == ()
    assert [problem.partition(":")[0] for problem in fields.problems] == ["b", "c", "d", "e"]


def test_what_is_said_of_a_hostile_document_is_short() -> None:
    """Every problem repeats where it is: this document of 150 kB used to cost 500 MB of messages."""
    key = "k" * 100_000
    inner = ",".join(f'"{number}":0' for number in range(5_000))
    data = f'{{"{key}":{{{inner}}}}}'.encode()
    with pytest.raises(InputError, match="more than 100 problems") as caught:
        read_document(data, "document", lambda fields: fields.table(key).done())
    assert len(str(caught.value)) < 100_000
    assert caught.value.problems[-1] == "further problems are not listed"


def test_a_value_of_any_depth_can_be_called_wrong() -> None:
    table: object = 1
    for _ in range(5000):
        table = {"a": table}
    fields = Fields({"count": table})
    fields.integer("count")
    assert fields.problems == ["count: expected an integer of at least 0, found a table"]


@given(documents)
@settings(max_examples=60)
def test_fields_survive_any_document(value: object) -> None:
    try:
        read_document(canonical_json(value), "doc", build)
    except InputError as error:
        assert error.problems


def test_no_reader_is_left_with_a_raised_recursion_limit() -> None:
    limit = sys.getrecursionlimit()
    with pytest.raises(InputError):
        parse_json(b"[" * 100_000, "document")
    assert sys.getrecursionlimit() == limit
