"""Python from a wheel: its tables, its imports, its names; and the wheel's METADATA. None of it is run.

Invariant: source is understood or it is said that it was not, nothing escapes; of METADATA only InputError.
"""

from functools import cache

from airgap.readers.imports import read_imports, read_names
from airgap.readers.python_tables import Table, read_module
from airgap.readers.requires import pins
from airgap.readers.wheel import Metadata
from airgap.tags import marker_environment
from tests.fuzz.harness import accepted
from tests.trust.statements import TARGET

MODULE = b"""
from collections import OrderedDict
import a.b as c
try:
    from d import e, f as g
except ImportError:
    e = None
A = {"x": ("m", "N"), **{"y": "z"}}
B = OrderedDict([("k", A["x"]), ("l", 1)])
B.update(A); B |= {"n": None}
del A["y"]
if True:
    C = {k: v for k, v in A.items()}
def h(x=A): A["q"] = x
class D(e): h()
"""
METADATA = b"""Metadata-Version: 2.1
Name: alpha
Version: 1.0
Requires-Python: >=3.8
Requires-Dist: beta[x]>=1,!=1.5; python_version < "3.13" and extra == "y"
Provides-Extra: y

text
"""


@cache
def seeds() -> dict[str, bytes]:
    return {"module": MODULE, "metadata": METADATA, "bad-nul": b"a = 1\0"}


def check(data: bytes) -> bool:
    module = read_module(data, "m.py")
    table = module.table("B")
    if isinstance(table, Table):
        assert all(isinstance(key, str) for key in table.entries)
    imports = read_imports(data, "m.py", "pkg.m")
    names = read_names(data, "m.py")
    metadata = accepted(lambda text: Metadata.parse(text, "METADATA"), data)
    if metadata is not None:
        accepted(lambda _: pins(metadata, marker_environment(TARGET), ["y"]), data)
    return metadata is not None or (isinstance(imports, tuple) and not names.open)
