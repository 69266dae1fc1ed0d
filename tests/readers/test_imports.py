"""What code imports, and what of it a tree of modules does not have: against Python's own import."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.readers.imports import Guard, Import, Missing, Modules, Names, read_imports, read_names
from airgap.readers.python_syntax import NotUnderstood


class Tree:
    """Files in memory."""

    digest = ""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def paths(self) -> list[str]:
        return list(self._files)

    def read(self, path: str, max_bytes: int) -> bytes:
        if len(self._files[path]) > max_bytes:
            raise InputError("too large")
        return self._files[path].encode()


def imports(text: str, module: str = "app") -> list[Import]:
    found = read_imports(text.encode(), "app.py", module)
    assert isinstance(found, tuple)
    return list(found)


GUARDED = {
    "import a": (Guard.NONE, False),
    "from a import b": (Guard.NONE, False),
    "class C:\n  import a": (Guard.NONE, False),
    "def f():\n  import a": (Guard.NONE, True),
    "async def f():\n  import a": (Guard.NONE, True),
    "if TYPE_CHECKING:\n  import a": (Guard.TYPE_CHECKING, False),
    "if typing.TYPE_CHECKING:\n  import a": (Guard.TYPE_CHECKING, False),
    "if not TYPE_CHECKING:\n  import a": (Guard.NONE, False),
    "if TYPE_CHECKING:\n  pass\nelse:\n  import a": (Guard.NONE, False),
    "if x:\n  import a": (Guard.CONDITION, False),
    "if x:\n  pass\nelif y:\n  import a": (Guard.CONDITION, False),
    "for x in y:\n  import a": (Guard.CONDITION, False),
    "match x:\n  case 1:\n    import a": (Guard.CONDITION, False),
    "with x:\n  import a": (Guard.NONE, False),
    "with contextlib.suppress(ImportError):\n  import a": (Guard.IMPORT_ERROR, False),
    "try:\n  import a\nexcept ImportError:\n  a = None": (Guard.IMPORT_ERROR, False),
    "try:\n  import a\nexcept (KeyError, ModuleNotFoundError):\n  a = None": (Guard.IMPORT_ERROR, False),
    "try:\n  import a\nexcept:\n  a = None": (Guard.IMPORT_ERROR, False),
    "try:\n  import a\nexcept KeyError:\n  a = None": (Guard.NONE, False),
    "try:\n  import a\nfinally:\n  pass": (Guard.NONE, False),
    "try:\n  import a\nexcept ImportError as e:\n  raise RuntimeError('install a') from e": (
        Guard.NONE,
        False,
    ),
    "try:\n  x\nexcept ImportError:\n  import a": (Guard.IMPORT_ERROR, False),
    "try:\n  x\nexcept KeyError:\n  import a": (Guard.CONDITION, False),
    "try:\n  x\nexcept ImportError:\n  pass\nelse:\n  import a": (Guard.CONDITION, False),
    "def f():\n  try:\n    import a\n  except ImportError:\n    pass": (Guard.IMPORT_ERROR, True),
    "if TYPE_CHECKING:\n  try:\n    import a\n  except ImportError:\n    pass": (Guard.TYPE_CHECKING, False),
}


@pytest.mark.parametrize("text", GUARDED)
def test_tells_guards_apart(text: str) -> None:
    [found] = imports(text)
    assert (found.guard, found.deferred) == GUARDED[text]
    assert found.line == text[: text.index("import a") if "import a" in text else 0].count("\n") + 1


def test_names_are_absolute() -> None:
    text = "import a.b, c as d\nfrom . import x\nfrom .m import y as z\nfrom ..n import *\nfrom q import r, s"
    assert [(i.module, i.name) for i in imports(text, "pkg.sub.app")] == [
        ("a.b", ""),
        ("c", ""),
        ("pkg.sub", "x"),
        ("pkg.sub.m", "y"),
        ("pkg.n", ""),
        ("q", "r"),
        ("q", "s"),
    ]
    assert [(i.module, i.name) for i in imports("from . import x", "pkg.__init__")] == [("pkg", "x")]


def test_source_that_is_no_python_is_not_understood() -> None:
    found = read_imports(b"def", "app.py", "app")
    assert isinstance(found, NotUnderstood)
    assert (found.member, found.line) == ("app.py", 1)
    assert read_names(b"def", "m.py").open


PACKAGE = {
    "pkg/__init__.py": "from pkg.engine import Engine\ndef helper(): pass\n",
    "pkg/engine.py": "import os\nclass Engine:\n  inner = 1\n",
    "pkg/sub/__init__.py": "",
    "pkg/sub/deep.py": "if os:\n  value = 1\nelse:\n  (first, *rest) = 1, 2\n"
    "for n in []: pass\nwith x as handle: pass\ndef f():\n  global late\n  late = 1\n",
    "pkg/lazy.py": "def __getattr__(name): ...\n",
    "pkg/star.py": "from pkg.engine import *\n",
    "pkg/broken.py": "def",
    "pkg/_native.cpython-312-x86_64-linux-gnu.so": "",
    "pkg/space/mod.py": "",
    "pkg/magic/__init__.py": "import sys\nsys.modules[__name__] = object()\n",
    "pkg-1.dist-info/METADATA": "",
    "pkg-1.data/purelib/beside.py": "x = 1\n",
    "pkg/data.json": "",
}

JUDGED: dict[str, type[Missing] | type[NotUnderstood] | None] = {
    "import pkg": None,
    "import pkg.sub.deep": None,
    "from pkg import Engine, helper, sub, engine": None,
    "from pkg.sub.deep import value, first, rest, n, handle, f, late": None,
    "from pkg.engine import os": None,
    "from pkg.space import mod": None,
    "from pkg import space": None,
    "import beside": None,
    "import elsewhere.entirely": None,
    "from pkg import nothing": Missing,
    "from pkg.engine import inner": Missing,
    "from pkg.space import nothing": Missing,
    "import pkg.gone": Missing,
    "from pkg.gone.more import x": Missing,
    "from pkg.data import json": Missing,
    "from pkg.lazy import anything": NotUnderstood,
    "from pkg.star import anything": NotUnderstood,
    "from pkg.broken import anything": NotUnderstood,
    "from pkg._native import anything": NotUnderstood,
    "from pkg.magic import anything": NotUnderstood,
    "import pkg.magic.made": NotUnderstood,
}


@pytest.mark.parametrize("text", JUDGED)
def test_judges_imports(text: str) -> None:
    modules = Modules(Tree(PACKAGE))
    expected = JUDGED[text]
    for wanted in imports(text):
        found = modules.judge(wanted)
        assert found is None if expected is None else isinstance(found, expected), found


def test_a_missing_name_is_evidence() -> None:
    modules = Modules(Tree({f"usr/lib/{path}": text for path, text in PACKAGE.items()}), "usr/lib/")
    assert modules.top_level() == ("beside", "pkg")
    [wanted] = imports("\nfrom pkg.engine import Gone")
    found = modules.judge(wanted)
    assert isinstance(found, Missing)
    assert (str(found.wanted), found.wanted.line) == ("from pkg.engine import Gone", 2)
    assert (found.reason, found.module_member) == ("pkg.engine has no Gone", "usr/lib/pkg/engine.py")


@pytest.mark.parametrize(
    "start", ["json", "email.message", "requests", "click", "packaging.requirements", "huggingface_hub"]
)
def test_no_name_that_python_finds_is_called_missing(start: str) -> None:
    """Every public name of every module of a package that was imported, and some that are not there."""
    importlib.import_module(start)
    package = start.partition(".")[0]
    module = sys.modules[package]
    assert module.__file__
    root = Path(module.__file__).parents[1]
    files = {str(p.relative_to(root)): p.read_text() for p in (root / package).rglob("*.py")}
    modules = Modules(Tree(files))
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    judged = 0
    for name in names:
        for attribute in dir(sys.modules[name]):
            if not attribute.startswith("__"):
                found = modules.judge(Import(name, attribute, "app.py", 1))
                assert not isinstance(found, Missing), found
                judged += 1
        found = modules.judge(Import(name, "there_is_no_such_name", "app.py", 1))
        assert isinstance(found, Missing | NotUnderstood)
    assert judged > 10


@given(st.text(max_size=200))
def test_any_text_is_read_or_not_understood(text: str) -> None:
    source = text.encode("utf-8", "surrogatepass")
    assert isinstance(read_imports(source, "m.py", "m"), tuple | NotUnderstood)
    assert isinstance(read_names(source, "m.py"), Names)
