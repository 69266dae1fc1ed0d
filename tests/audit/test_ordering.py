"""Version orders against the programs that decide: packaging, dpkg, rpm; Alpine's against its rules."""

import subprocess
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import InvalidVersion, Version

from airgap.audit.ordering import Order, alpine_key, debian_key, order_of, python_key, rpm_key
from tests.services import need

ALPHABET = "0129.-_+!~ abcdeilnoprstv"
PARTS = ("a", "b", "rc", "alpha", "beta", "c", "pre", "preview", "post", "rev", "r", "dev", *"-+._")


def python_texts() -> st.SearchStrategy[str]:
    pieces = st.lists(st.sampled_from([*PARTS, "0", "1", "2", "10", "1!", "local", "v"]), max_size=8)
    return st.one_of(pieces.map("".join), st.text(ALPHABET, max_size=10))


def sign(order: Order, left: str, right: str) -> int:
    a, b = order(left), order(right)
    assert a is not None and b is not None
    return (a > b) - (a < b)


@settings(deadline=None)  # other work on the machine is not what it measures
@given(python_texts(), python_texts())
def test_python_is_ordered_as_packaging_orders(left: str, right: str) -> None:
    known = []
    for text in (left, right):
        try:
            known.append(Version(text))
        except InvalidVersion:
            assert python_key(text) is None
    if len(known) == 2:
        assert sign(python_key, left, right) == (known[0] > known[1]) - (known[0] < known[1])


def test_python_orders_what_chance_seldom_meets() -> None:
    texts = [
        "1.dev1", "1.0.dev2", "1a1.dev1", "1a1", "1a1.post1", "1b1", "1rc1.dev1", "1rc1", "1", "1+a", "1+1",
        "1+1.a", "1+1.1", "1.post1.dev1", "1.post1", "1.0-2", "1.1", "1.10", "1!0.1",
    ]  # fmt: skip
    assert sorted(texts, key=Version) == texts
    for left, right in combinations(texts, 2):
        assert sign(python_key, left, right) == -1, (left, right)


def spellings(alphabet: str, extra: list[str]) -> list[str]:
    """Short texts that put each character beside each other one, and what is known to be difficult."""
    return [f"1{a}{b}" for a in alphabet for b in alphabet] + extra


DEBIAN = spellings(
    "0a.+~",
    [
        "1:0",
        "0:1",
        "1-1",
        "1-0",
        "1",
        "1-1~bpo",
        "1.0-1-1",
        "2:1.0~rc1-2+deb12u1",
        "1.0.0",
        "1.00",
        "01",
        "1-~",
    ],
)
RPM = spellings(
    "0a.~^",
    ["1:0", "0:1", "1-1", "1-2.el9", "1-2.el9_2.1", "1", "1.0.0", "1.00", "01", "1a1", "1A", "a", "~1", "^1"],
)


def test_debian_is_ordered_as_dpkg_orders() -> None:
    need("dpkg")
    pairs = [
        (a, b) for a, b in combinations(DEBIAN, 2) if (len(a) + len(b)) % 2 or ":" in a + b or "-" in a + b
    ]
    pairs = pairs[:: max(1, len(pairs) // 300)]
    lines = [f"dpkg --compare-versions '{a}' lt '{b}' && echo -1 || echo 1" for a, b in pairs]
    lines += [f"dpkg --compare-versions '{a}' eq '{b}' && echo 0 || echo 1" for a, b in pairs]
    ran = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    answers = [int(line) for line in ran.stdout.split()]
    less, equal = answers[: len(pairs)], answers[len(pairs) :]
    for (left, right), is_less, is_equal in zip(pairs, less, equal, strict=True):
        expected = 0 if is_equal == 0 else is_less
        assert sign(debian_key, left, right) == expected, (left, right)


def test_rpm_is_ordered_as_rpm_orders() -> None:
    need("rpm")
    pairs = list(combinations(RPM, 2))
    compare = "local a, b = rpm.ver(x), rpm.ver(y) print(a < b and -1 or a == b and 0 or 1, '')"
    calls = f"function compare(x, y) {compare} end " + " ".join(f"compare('{a}', '{b}')" for a, b in pairs)
    ran = subprocess.run(["rpm", "--eval", f"%{{lua:{calls}}}"], capture_output=True, text=True, check=True)
    answers = [int(answer) for answer in ran.stdout.split()]
    for (left, right), expected in zip(pairs, answers, strict=True):
        assert sign(rpm_key, left, right) == expected, (left, right)


def test_alpine_is_ordered_by_its_rules() -> None:
    """No system but Alpine carries its program; each neighbour differs in one kind of token."""
    ascending = [
        "1.2_alpha", "1.2_alpha1", "1.2_alpha2", "1.2_beta", "1.2_pre", "1.2_rc1", "1.2_rc1-r1", "1.2_rc2",
        "1.2", "1.2-r0", "1.2-r1", "1.2-r10", "1.2_git20200101", "1.2_git20200101-r1", "1.2_p1", "1.2_p2",
        "1.2a", "1.2a-r1", "1.2b", "1.2.0", "1.2.01", "1.2.1", "1.2.9", "1.2.10", "1.3", "1.10", "2", "10",
    ]  # fmt: skip
    for left, right in combinations(ascending, 2):
        assert sign(alpine_key, left, right) == -1, (left, right)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (python_key, "2004d-final-cut"), (python_key, ""), (python_key, "1" * 300),
        (debian_key, "abc"), (debian_key, "1:2:x y"), (debian_key, "a:1"), (debian_key, "1" * 300),
        (alpine_key, "1.2_gamma"), (alpine_key, "1.2-1"), (alpine_key, "1" * 300),
        (rpm_key, "1-2-3"), (rpm_key, "1 2"), (rpm_key, "1" * 300),
    ],
)  # fmt: skip
def test_what_is_no_version_has_no_place(order: Order, text: str) -> None:
    assert order(text) is None


def test_an_ecosystem_is_known_by_its_first_word() -> None:
    assert order_of("PyPI") is python_key
    assert order_of("Debian:12") is order_of("Ubuntu:22.04:LTS") is debian_key
    assert order_of("Alpine:v3.20") is alpine_key
    assert order_of("Rocky Linux:9") is rpm_key
    assert order_of("npm") is None


def test_keys_of_one_order_are_total() -> None:
    """Sorting must not meet two keys that Python cannot compare."""
    for order, texts in ((debian_key, DEBIAN), (rpm_key, RPM)):
        keys = sorted(key for text in texts if (key := order(text)) is not None)
        assert all(a <= b for a, b in pairwise(keys))
