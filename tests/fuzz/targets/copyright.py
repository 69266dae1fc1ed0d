"""A Debian package's copyright file, from an image.

Invariant: what it says is an expression that can be judged and whose references are legal, or a short text
that is none; what is kept of a file is what was read of it.
"""

import re
from functools import cache

from airgap.audit.debian_copyright import MAX_SHOWN, condense, condensed, expression, synopses
from airgap.audit.spdx import MAX_EXPRESSION, permitted

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
FILE = f"""{HEAD}Upstream-Name: example

Files: *
Copyright: 2024, somebody
License: GPL-2+ or Artistic-2.0, and Expat

Files: debian/*
License: public-domain
 It is nobody's.
"""


@cache
def seeds() -> dict[str, bytes]:
    texts = {
        "several": FILE,
        "head": f"{HEAD}License: Apache-2.0 with LLVM-exception\n",
        "bad-prose": "This package was debianized by hand.\n",
        "bad-indented": f" {FILE}",
    }
    return {name: text.encode() for name, text in texts.items()}


def check(data: bytes) -> bool:
    said = synopses(data)
    assert condensed(condense(data)) == said
    stated = expression(said)
    assert len(stated) <= MAX_EXPRESSION
    if permitted(stated, ()) is None:
        assert len(stated) <= MAX_SHOWN + 1
    else:
        assert re.fullmatch(r"[A-Za-z0-9.() -]+", stated)
    return bool(said)
