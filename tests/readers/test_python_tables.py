"""Tables evaluated from source, against Python itself; and what must not be called understood."""

import itertools
from collections import OrderedDict
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.readers.python_syntax import MAX_SOURCE, NotUnderstood
from airgap.readers.python_tables import Entry, Module, Table, read_module

PREAMBLE = "from collections import OrderedDict\nfrom typing import Literal\n"


def module(text: str, imports: dict[str, Module] | None = None) -> Module:
    return read_module((PREAMBLE + text).encode(), "m.py", imports)


def table(text: str, name: str = "T") -> Table:
    found = module(text).table(name)
    assert isinstance(found, Table), found
    return found


def run(text: str, name: str = "T") -> dict[str, object]:
    """What Python makes of it."""
    scope: dict[str, object] = {"OrderedDict": OrderedDict, "Literal": Literal}
    exec(compile(text, "m.py", "exec"), scope)
    value = scope[name]
    return dict(value) if isinstance(value, dict) else {choice: choice for choice in get_args(value)}


UNDERSTOOD = {
    "a dictionary": "T = {'a': 'A', 'b': ('m', 'B')}",
    "annotated": "T: dict[str, str] = {'a': 'A'}",
    "OrderedDict of pairs": "T = OrderedDict([('a', 'A'), ('b', 'B')])",
    "OrderedDict of a tuple of pairs": "T = OrderedDict((('a', 'A'), ('b', 'B')))",
    "subscripted OrderedDict": "T = OrderedDict[str, str]([('a', 'A')])",
    "keywords": "T = dict(a='A', **{'b-c': 'B'})",
    "a spread and a table": "X = {'x': 'X'}\nT = OrderedDict(**{'gpt-sw3': 'G'}, **X)",
    "of itself": "T = {'a': 'A'}\nT = OrderedDict(**{'b': 'B'}, **T)",
    "update": "T = {'a': 'A'}\nT.update({'a': 'A2', 'b': 'B'})\nT.update(c='C')\nT.update([('d', 'D')])",
    "or": "X = {'x': 'X'}\nT = {'a': 'A'} | X\nT |= {'b': 'B'}",
    "keys": "T = {'a': 'A'}\nT['b'] = 'B'\ndel T['a']",
    "spreads": "X = {'a': 'A', 'b': 'B'}\nT = {**X, 'a': 'A2', **{'c': 'C'}}",
    "literal": "T = Literal['a', 'b']",
    "literal of literals": "X = Literal['a']\nT = Literal[X, 'b', Literal['c']]",
    "a dict that reads lazily": "class L(dict):\n  def __getitem__(self, k):\n    return 1\nT = L(a='A')",
    "a later reader": "T = {'a': 'A'}\nclass C:\n  def __init__(self, m):\n    self.m = m\nx = C(T)",
    "read in a loop": "T = {'a': 'A'}\nfor k, v in T.items():\n  x = (k, v)",
    "doc string": "'''T.'''\nT = {'a': 'A'}",
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_equals_what_python_makes_of_it(name: str) -> None:
    found = table(UNDERSTOOD[name])
    assert not found.open
    assert {key: entry.value for key, entry in found.entries.items()} == run(UNDERSTOOD[name])
    assert all(entry.certain for entry in found.entries.values())


NOT_UNDERSTOOD = {
    "made by a function": "T = make()",
    "a condition": "if x:\n  T = {'a': 'A'}",
    "changed under a condition": "T = {'a': 'A'}\nif x:\n  T['z'] = 'Z'",
    "changed in a try": "T = {'a': 'A'}\ntry:\n  T.update(y)\nexcept ValueError:\n  pass",
    "changed in a loop": "T = {'a': 'A'}\nfor k in y:\n  T[k] = k",
    "changed by a method": "T = {'a': 'A'}\nT.clear()",
    "changed in passing": "T = {'a': 'A'}\nx = T.setdefault('z', 'Z')",
    "bound in passing": "T = {'a': 'A'}\nprint(T := {'z': 'Z'})",
    "changed by its function": "T = {'a': 'A'}\ndef f():\n  T['z'] = 'Z'\nf()",
    "changed by a function's function": "T = {}\ndef g():\n  T.update(z='Z')\ndef f():\n  g()\nx = f()",
    "passed to a function that changes": "T = {'a': 'A'}\ndef f(t):\n  t['z'] = 'Z'\nf(T)",
    "changed by a decorator": "T = {}\ndef f(g):\n  T['z'] = g\n  return g\n@f\ndef h():\n  pass",
    "changed by a class": "T = {}\nclass C:\n  def __init__(self):\n    T['z'] = 'Z'\nC()",
    "changed in a class": "T = {'a': 'A'}\nclass C:\n  T['z'] = 'Z'",
    "a second name": "T = {'a': 'A'}\nU = T\nU['z'] = 'Z'",
    "the first of two names": "U = {'a': 'A'}\nT = U\nU['z'] = 'Z'",
    "two targets": "T = U = {'a': 'A'}\nU['z'] = 'Z'",
    "unpacked": "T, U = {'a': 'A'}, {}",
    "spread of a stranger": "T = {'a': 'A', **x}",
    "key of a stranger": "T = {'a': 'A', x: 'X'}",
    "updated from a stranger": "T = {'a': 'A'}\nT.update(x)",
    "pairs of a stranger": "T = OrderedDict([('a', 'A'), x])",
    "pairs computed": "T = OrderedDict((k, k) for k in x)",
    "imported": "from .other import T",
    "imported over": "T = {'a': 'A'}\nfrom .other import T",
    "imported as": "T = {'a': 'A'}\nimport other as T",
    "everything imported": "T = {'a': 'A'}\nfrom .other import *",
    "everything imported in a try": "T = {}\ntry:\n  from .other import *\nexcept ImportError:\n  pass",
    "globals": "T = {'a': 'A'}\nglobals()['T'] = {}",
    "exec": "T = {'a': 'A'}\nexec('T = {}')",
    "deleted": "T = {'a': 'A'}\ndel T",
    "a shadowed dict": "def dict(**k):\n  return {}\nT = dict(z='Z')",
    "a shadowed OrderedDict": "class OrderedDict(dict):\n  def __init__(self):\n    pass\nT = OrderedDict()",
    "a writing dict": "class L(dict):\n  def __init__(self, **k):\n    self['z'] = 'Z'\nT = L(a='A')",
    "a stranger's Literal": "Literal = {'a': {}}\nT = Literal['z']",
    "a comprehension of strangers": "T = {k: k for k in x}",
    "a syntax error": "T = {'a': 'A'",
    "too deep": "T = " + "(" * 5000 + ")" * 5000,
    "a NUL": "T = {}\0",
    "with": "with x as T:\n  pass",
    "an exception's name": "T = {}\ntry:\n  pass\nexcept ValueError as T:\n  pass",
}


@pytest.mark.parametrize("name", NOT_UNDERSTOOD)
def test_never_answers_what_it_did_not_understand(name: str) -> None:
    found = module(NOT_UNDERSTOOD[name]).table("T").get("z")
    assert isinstance(found, NotUnderstood), found
    assert found.member == "m.py"


def test_says_which_line() -> None:
    found = table("T = {\n  'a': 'A',\n  **stranger,\n  'b': 'B',\n}\nT.update(\n  c='C')")
    assert found.get("a") == Entry("a", None, "m.py", 4)  # the stranger may have replaced the value
    assert found.get("b") == Entry("b", "B", "m.py", 6)
    assert found.get("c") == Entry("c", "C", "m.py", 9)
    stranger = found.get("z")
    assert isinstance(stranger, NotUnderstood)
    assert (stranger.line, str(stranger)) == (5, "m.py:5: stranger is not a table")


def test_a_comprehension_over_a_known_table_brings_keys_perhaps() -> None:
    perhaps = "**{k: (m, c) for k, (m, c) in X.items() if c == 'A'}"
    text = f"X = {{'a': ('m', 'A'), 'b': ('m', 'B')}}\nT = {{'c': 'C', {perhaps}}}"
    found = table(text)
    assert not found.open
    assert found.get("z") is None
    for key in ("a", "b"):
        entry = found.get(key)
        assert isinstance(entry, Entry)
        assert (entry.certain, entry.line) == (False, 3)
    assert found.get("c") == Entry("c", "C", "m.py", 4)
    whole = table(f"{text}\nU = {{**X, **T}}", "U").get("a")
    assert isinstance(whole, Entry)
    assert whole.certain  # X has it, whatever the comprehension does


def test_a_key_that_perhaps_has_another_value_has_none_that_is_known() -> None:
    found = table("X = {'a': 'A'}\nT = {'a': 'B', 'c': 'C', **{k: v for k, v in X.items() if x}}")
    assert found.get("a") == Entry("a", None, "m.py", 4)
    assert found.get("c") == Entry("c", "C", "m.py", 4)


def test_a_missing_name_is_not_an_empty_table() -> None:
    found = module("x = 1").table("T")
    assert isinstance(found, NotUnderstood)
    assert (found.line, found.reason) == (0, "expected T, found no such name")


def test_tables_come_from_modules_that_were_read() -> None:
    other = module("T = {'a': 'A'}")
    taken = module("from .other import T\nT.update({'b': 'B'})", {".other": other}).table("T")
    assert isinstance(taken, Table)
    assert sorted(taken.entries) == ["a", "b"]
    assert isinstance(first := other.table("T"), Table)
    assert sorted(first.entries) == ["a"]


def test_texts() -> None:
    found = module("cuda: str = '12.8'\nhip = None\nx = f()\nT = {}")
    assert (found.text("cuda"), found.text("hip")) == ("12.8", None)
    for name in ("x", "T", "absent"):
        assert isinstance(found.text(name), NotUnderstood)


HOSTILE = {
    "too long": (b"#" * (MAX_SOURCE + 1), "bytes, more than"),
    "too many words": (b"a," * 60_000, "words and signs"),
    "copied often": (
        b"T = {" + b"".join(b"'%d':''," % n for n in range(3000)) + b"}\n" + b"U = {**T, **T}\n" * 500,
        "more work",
    ),
    "growing": (b"T = {}\n" + b"".join(b"T['k%d'] = 'v'\n" % n for n in range(6000)), "more work"),
    "shrinking": (
        b"T = {" + b"".join(b"'k%d': ''," % n for n in range(3000)) + b"}\n"
        b"" + b"".join(b"del T['k%d']\n" % n for n in range(3000)),
        "more work",
    ),
    "functions that call each other": (
        b"T = {}\n" + b"".join(b"def f%d():\n  f%d(); g%d()\n" % (n, n + 1, n) for n in range(5500)),
        "more work",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_costs_no_more_than_real_modules_do(name: str) -> None:
    source, reason = HOSTILE[name]
    found = read_module(source, "m.py").table("T")
    assert isinstance(found, NotUnderstood)
    assert reason in found.reason


_KEYS = st.sampled_from("abcdef")
_VALUES = st.sampled_from("XYZ")
_PLAIN = st.dictionaries(_KEYS, _VALUES, max_size=4)
_FORMS = st.one_of(
    _PLAIN.map(repr),
    _PLAIN.map(lambda d: f"OrderedDict({list(d.items())!r})"),
    _PLAIN.map(lambda d: f"dict(**{d!r})"),
    st.tuples(_PLAIN, _PLAIN).map(lambda p: f"{{**{p[0]!r}, **{p[1]!r}, **T}}"),
    _PLAIN.map(lambda d: f"T | {d!r}"),
)
_STATEMENTS = st.one_of(
    _FORMS.map(lambda form: f"T = {form}"),
    _FORMS.map(lambda form: f"T.update({form})"),
    _FORMS.map(lambda form: f"T |= {form}"),
    st.tuples(_KEYS, _VALUES).map(lambda p: f"T[{p[0]!r}] = {p[1]!r}"),
)


@given(st.lists(_STATEMENTS, max_size=8))
@settings(max_examples=150)
def test_any_sequence_of_understood_forms_equals_python(statements: list[str]) -> None:
    text = "\n".join(["T = {}", *statements])
    found = table(text)
    assert not found.open
    assert {key: entry.value for key, entry in found.entries.items()} == run(text)


_SOURCES = [
    "T['a'] = 'A'",
    "T.pop('a', 0)",
    "del T",
    "T = f()",
    "f(T)",
    "T = {**T}",
    "x = [T]",
    "T.x = 1",
    "def T(): pass",
]


@pytest.mark.parametrize("pair", list(itertools.permutations(_SOURCES, 2)))
def test_no_pair_of_statements_gives_a_wrong_key(pair: tuple[str, str]) -> None:
    """Whatever is answered is what Python answers; `f` changes nothing and gives a table with `z`."""
    text = "\n".join(["T = {'b': 'B'}", *pair])
    found = module(text).table("T")
    if not isinstance(found, Table) or found.open:
        return
    scope: dict[str, object] = {"f": lambda *_: {"z": "Z"}}
    exec(compile(text, "m.py", "exec"), scope)
    real = scope["T"]
    assert isinstance(real, dict)
    assert {key: entry.value for key, entry in found.entries.items()} == real
