"""What a volume says of itself, which nobody signs, volume.json and SHA384SUMS; and a list of what to burn.

Invariant: only InputError escapes; what parses is rendered and parses back equal; and however hostile a
mark is, the cut that it asks for is bounded.
"""

from contextlib import suppress
from functools import cache

from airgap.errors import InputError
from airgap.model import Sha384
from airgap.volumes import (
    MAX_ITEMS,
    MEDIA,
    Mark,
    Medium,
    cut,
    parse_list,
    parse_mark,
    render_list,
    render_mark,
)
from airgap.wanted import parse_only, render_only
from tests.fuzz.harness import accepted
from tests.trust.statements import example

PAYLOAD = Sha384("1" * 96)


@cache
def seeds() -> dict[str, bytes]:
    return {
        "mark": render_mark(Mark(PAYLOAD, MEDIA["bd"], 3, 12)),
        "again": render_mark(Mark(PAYLOAD, Medium(10**9, 10**6), 1, 1, (1, 17))),
        "list": render_list([("blobs/sha256/" + "2" * 64, PAYLOAD), ("volume.json", PAYLOAD)]),
        "only": b"2-4,7:3+9-12",
    }


def check(data: bytes) -> bool:
    mark = accepted(parse_mark, data)
    if mark is not None:
        assert parse_mark(render_mark(mark)) == mark
        with suppress(InputError):  # too small a medium
            assert sum(len(volume.items) for volume in cut(example(), mark.medium)) <= MAX_ITEMS
    listed = accepted(parse_list, data)
    if listed is not None:
        assert parse_list(render_list(listed.items())) == listed
    wanted = accepted(lambda text: parse_only(text.decode("utf-8", "surrogateescape")), data)
    if wanted is not None:
        assert parse_only(render_only(wanted)) == wanted
    return mark is not None or bool(listed) or wanted is not None
