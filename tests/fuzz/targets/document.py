"""The one strict reader itself: JSON and TOML.

Invariant: only InputError escapes; JSON that is accepted is what json.loads makes of it, and its canonical
form is accepted and equal.
"""

import json
from functools import cache

from airgap.decode import canonical_json, parse_json, parse_toml
from tests.fuzz.harness import accepted


@cache
def seeds() -> dict[str, bytes]:
    return {
        "json": b'{"a":[1,-2,true,false,null,"\\u00e9\\ud83d\\ude00\\n",{}],"b":{"c":[]}}',
        "float": b"[1.5,1e10,-0.0]",
        "toml": b'a = 1\nb.c = [1.5, true, "x"]\n[d]\ne = 2026-11-23T15:04:05Z\n[[f]]\n'
        b"g = { h = 'i', j = 0x1f }\n",
        "bad-twice": b'{"a":1,"\\u0061":2}',
    }


def check(data: bytes) -> bool:
    value = accepted(lambda document: (parse_json(document, "document"),), data)
    if value is not None:
        assert value[0] == json.loads(data)
        assert parse_json(canonical_json(value[0]), "document") == value[0]
    loose = accepted(lambda document: (parse_json(document, "document", floats=True),), data)
    if loose is not None:
        assert loose[0] == json.loads(data)
        canonical_json(loose[0])
    assert value is None or loose == value
    toml = accepted(lambda document: parse_toml(document, "document"), data)
    return loose is not None or toml is not None
