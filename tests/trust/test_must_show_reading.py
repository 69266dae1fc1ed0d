"""Every document that crosses the gap is read by the one strict decoder: each rule, in each of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from airgap import oci
from airgap.decode import MAX_DEPTH
from airgap.errors import InputError
from airgap.isolated.record import parse_receipt, parse_record
from airgap.lock import parse_lock
from airgap.trust import envelope, root, statement

from .people import root_of
from .statements import example

REJECTS = sorted((Path(__file__).parents[3] / "shared/corpora/json-reject").glob("n_*"))

Reader = Callable[[bytes], object]

READERS: dict[str, Reader] = {
    "envelope": envelope.parse,
    "statement": statement.parse,
    "root": root.parse,
    "lock": lambda data: parse_lock(data, "lock"),
    "manifest of an image": lambda data: oci.parse_image(data, "manifest"),
    "config of an image": lambda data: oci.parse_config(data, "config"),
    "site record": lambda data: parse_record(data, "site.json"),
    "receipt": lambda data: parse_receipt(data, "receipt"),
}

HOSTILE: dict[str, tuple[bytes, str]] = {
    "a byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "duplicate keys": (b'{"a": 1, "a": 1}', "occurs twice"),
    "duplicate keys, one escaped": (rb'{"a": 1, "\u0061": 1}', "occurs twice"),
    "NaN": (b'{"a": NaN}', "NaN is not allowed"),
    "Infinity": (b'{"a": -Infinity}', "Infinity is not allowed"),
    "an integer beyond 2^63-1": (b'{"a": 9223372036854775808}', "beyond 2"),
    "depth": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "levels deep"),
    "a lone surrogate": (rb'{"a": "\ud800"}', "lone surrogate"),
    "trailing bytes": (b"{} {}", "not JSON"),
    "no object": (b"[]", "expected a table"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", HOSTILE)
def test_each_rule_in_each_document(reader: str, case: str) -> None:
    data, words = HOSTILE[case]
    with pytest.raises(InputError, match=words):
        READERS[reader](data)


@pytest.mark.parametrize("reader", ["envelope", "statement", "root", "lock", "site record", "receipt"])
def test_floats_where_integers_are_meant(reader: str) -> None:
    with pytest.raises(InputError, match=r"expected an integer, found 1\.0"):
        READERS[reader](b'{"a": 1.0}')


@pytest.mark.skipif(not REJECTS, reason="the n_* inputs of JSONTestSuite are not beside this checkout")
@pytest.mark.parametrize("reader", READERS)
def test_the_n_cases_of_jsontestsuite(reader: str) -> None:
    for path in REJECTS:
        with pytest.raises(InputError):
            READERS[reader](path.read_bytes())


@pytest.mark.parametrize(
    ("reader", "cap"),
    [
        ("root", root.MAX_ROOT),
        ("manifest of an image", oci.MAX_MANIFEST),
        ("config of an image", oci.MAX_CONFIG),
    ],
)
def test_size_caps(reader: str, cap: int) -> None:
    with pytest.raises(InputError, match=f"more than the {cap} allowed"):
        READERS[reader](b" " * (cap + 1))


def test_unknown_keys_are_refused_in_what_is_signed() -> None:
    for reader, good in (("statement", statement.render(example())), ("root", root.render(root_of("alice")))):
        assert READERS[reader](good)
        with pytest.raises(InputError, match="extra: unknown key"):
            READERS[reader](good[:-1] + b',"extra":1}')


def test_no_other_json_reader_is_used() -> None:
    """Outside of decode.py only airgap's own words are read: of its child process, installer, bills."""
    package = Path(__file__).parents[2] / "airgap"
    texts = {path.name: path.read_text() for path in package.rglob("*.py")}
    users = {name for name, text in texts.items() if "json.load" in text or ".json()" in text}
    own = {"resolver.py", "bootstrap.py", "sbom_cyclonedx.py", "sbom_spdx.py"}
    assert {"decode.py"} <= users <= {"decode.py", *own}
