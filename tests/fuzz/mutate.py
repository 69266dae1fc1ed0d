"""Changes a JSON document as a document: bytes changed blindly hardly ever leave a valid one."""

import copy
import json
import re
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

SPELLINGS = (b"-0", b"1.0", b"1e999", b"01", b"NaN", b"-1", b"9223372036854775808", b"null")
"""Of a number, none of which json.dumps would write."""

CHARACTERS = ("\0", "\n", " ", "/", ".", "-", ":", "=", "0", "9", "a", "A", "\u00e9", "\u202e", "\ud800")


def mutate_json(data: bytes, seed: int) -> bytes | None:
    """Another document with one to four places changed; None when the bytes are no JSON."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    random = Random(seed)
    for _ in range(random.randint(1, 4)):
        document = _changed(document, random)
    written = json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    numbers = list(re.finditer(rb"(?<=[\[: ])\d+(?=[,\]}])", written))
    if numbers and random.random() < 0.1:
        number = random.choice(numbers)
        written = written[: number.start()] + random.choice(SPELLINGS) + written[number.end() :]
    return written


def _changed(document: Any, random: Random) -> Any:
    places = list(_places(document))
    if not places:
        return random.choice(HOSTILE)
    holder, key = random.choice(places)
    match random.randrange(6):
        case 0 | 1:
            holder[key] = _near(holder[key], random)
        case 2:
            holder[key] = copy.deepcopy(random.choice(HOSTILE))
        case 3:
            other, from_key = random.choice(places)
            holder[key] = copy.deepcopy(other[from_key])
        case 4:
            del holder[key]
        case _:
            if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            else:
                _, name = random.choice(places)
                holder[str(name)] = copy.deepcopy(holder[key])
    return document


def _near(value: Any, random: Random) -> Any:
    """A value of the same type, hardly different."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((value + 1, value - 1, -value, random.randrange(300)))
    if isinstance(value, str):
        place = random.randint(0, len(value))
        return value[:place] + random.choice(("", *CHARACTERS)) + value[place + random.randint(0, 2) :]
    return copy.deepcopy(random.choice(HOSTILE))


def _places(value: Any) -> Any:
    """Every container and key in the document, as pairs."""
    if isinstance(value, list | dict):
        for key, item in list(enumerate(value) if isinstance(value, list) else value.items()):
            yield value, key
            yield from _places(item)
