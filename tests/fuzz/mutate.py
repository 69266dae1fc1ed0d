"""Changes a JSON document as a document: bytes changed blindly hardly ever leave a valid one."""

import copy
import json
from random import Random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 2**53, 2**63 - 1, 2**63, 1.5, 1e300),
    *(
        "",
        ".",
        "..",
        "a/../b",
        "/a",
        "A",
        "\0",
        "\u202e",
        "a" * 300,
        "sha256:",
        "0" * 64,
        "0" * 96,
        "linux/amd64",
    ),
    *("https://[", "https://user:password@example.org/", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z"),
    *([], {}, [[]], [{}], {"": None}, ["a", "a"]),
)


def mutate_json(data: bytes, seed: int) -> bytes | None:
    """Another document with one to four places changed; None when the bytes are no JSON."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    random = Random(seed)
    for _ in range(random.randint(1, 4)):
        document = _changed(document, random)
    return json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def _changed(document: Any, random: Random) -> Any:
    places = list(_places(document))
    if not places:
        return random.choice(HOSTILE)
    holder, key = random.choice(places)
    match random.randrange(4):
        case 0:
            holder[key] = copy.deepcopy(random.choice(HOSTILE))
        case 1:
            other, from_key = random.choice(places)
            holder[key] = copy.deepcopy(other[from_key])
        case 2:
            del holder[key]
        case _:
            if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            else:
                _, name = random.choice(places)
                holder[str(name)] = copy.deepcopy(holder[key])
    return document


def _places(value: Any) -> Any:
    """Every container and key in the document, as pairs."""
    if isinstance(value, list | dict):
        for key, item in list(enumerate(value) if isinstance(value, list) else value.items()):
            yield value, key
            yield from _places(item)
