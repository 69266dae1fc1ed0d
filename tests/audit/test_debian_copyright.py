"""Debian's machine-readable copyright files: what they say is read, and nothing more than that."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airgap.audit import debian_copyright, licences
from airgap.audit.debian_copyright import condense, condensed, expression, path_of, synopses
from airgap.audit.spdx import permitted

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
FILE = f"""{HEAD}Upstream-Name: Example
Source: https://example.org/example
# a comment, as deb822 has them

Files: *
Copyright: 2019-2024, Jane Doe <jane@example.org>
           2021, somebody else
License: GPL-2+ or Artistic-2.0, and Expat

files: lib/*.c
copyright: 2020, Jane Doe
license:   BSD-3-clause
 Redistribution and use in source and binary forms are permitted.
 .
 License: not this one, which is a line of text

Files: debian/*
Copyright: 2022, a maintainer
License: GPL-2+ or Artistic-2.0, and Expat

License: GPL-2+
 On Debian systems, see /usr/share/common-licenses/GPL-2.

License: Unused-1.0
 It is named by no file.
"""


def test_every_licence_that_is_given_to_files_is_read_once() -> None:
    assert synopses(FILE.encode()) == ("GPL-2+ or Artistic-2.0, and Expat", "BSD-3-clause")
    assert expression(synopses(FILE.encode())) == (
        "(GPL-2.0-or-later OR Artistic-2.0) AND MIT AND BSD-3-Clause"
    )
    assert synopses(FILE.replace("\n", "\r\n").encode()) == synopses(FILE.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "This package was debianized by hand.\nLicense: MIT\n",
        FILE.replace("Format: ", "Comment: "),
        FILE.replace("copyright-format/1.0", "copyright-format/2.0"),
        FILE.replace("Files: *", "a line that is no field"),
        f" indented before anything\n{FILE}",
        HEAD + "\n" + "\n\n".join(f"Files: {n}\nLicense: a-{n}" for n in range(201)),
        f"{HEAD}\nFiles: *\nLicense: {'x' * 301}\n",
    ],
)
def test_what_is_not_the_format_says_nothing(text: str) -> None:
    assert synopses(text.encode()) == ()
    assert expression(()) == ""


def test_a_licence_of_the_whole_package_stands_in_the_head() -> None:
    assert synopses(f"{HEAD}License: Expat\n\nFiles: *\nLicense: ISC\n".encode()) == ("Expat", "ISC")


def test_terms_without_a_name_are_not_passed_over() -> None:
    for stanza in ("Files: *\nLicense:\n You may use it.", "Files: *\nCopyright: nobody"):
        said = synopses(f"{HEAD}\nFiles: a\nLicense: Expat\n\n{stanza}\n".encode())
        assert expression(said) == "MIT AND LicenseRef-debian-unnamed"


@pytest.mark.parametrize(
    ("said", "spdx"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2.0.0", "GPL-2.0-only"),
        ("gpl-3", "GPL-3.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("AGPL-3", "AGPL-3.0-only"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("Apache-2", "Apache-2.0"),
        ("CC0", "CC0-1.0"),
        ("CC-BY-SA-3.0", "CC-BY-SA-3.0"),
        ("MPL-2", "MPL-2.0"),
        ("Apache-2.0 with LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("GPL-2+ with Font exception", "GPL-2.0-or-later WITH Font-exception-2.0"),
        ("Expat, or ISC", "MIT OR ISC"),
        ("GPL-2+ or Artistic and Expat", "GPL-2.0-or-later OR (LicenseRef-debian-Artistic AND MIT)"),
        # Not on SPDX's list, or not known to be what is there:
        ("public-domain", "LicenseRef-debian-public-domain"),
        ("GPL", "LicenseRef-debian-GPL"),
        ("LGPL-2.2+", "LicenseRef-debian-LGPL-2.2-or-later"),
        ("Apache-2.0+", "LicenseRef-debian-Apache-2.0-or-later"),
        ("psf", "LicenseRef-debian-psf"),
        ("LicenseRef-scancode-public-domain", "LicenseRef-debian-LicenseRef-scancode-public-domain"),
        ("GPL-2+ with OpenSSL exception", "LicenseRef-debian-GPL-2-or-later-with-OpenSSL-exception"),
        # No synopsis of the format:
        ("GPL-2 and/or Expat", "LicenseRef-debian-GPL-2-and-or-Expat"),
        ("BSD (3 clause)", "LicenseRef-debian-BSD-3-clause"),
        ("Expat, ISC", "LicenseRef-debian-Expat-ISC"),
        ("Expat and", "LicenseRef-debian-Expat-and"),
        ("or Expat", "LicenseRef-debian-or-Expat"),
        ("GPL-2 with", "LicenseRef-debian-GPL-2-with"),
        ("<script>", "LicenseRef-debian-script"),
        ("??", "LicenseRef-debian-unnamed"),
    ],
)
def test_names_are_mapped_where_they_are_known_to_map(said: str, spdx: str) -> None:
    assert expression((said,)) == spdx


def test_what_is_too_long_to_be_judged_is_never_cut_into_something_else() -> None:
    names = [f"a-{n}" for n in range(150)]
    for said in (names, [" and ".join(["Expat"] * 40), *names]):
        long = expression(said)
        assert len(long) <= 201
        assert permitted(long, {"MIT", "Expat", "LicenseRef-debian-*"}) is None


def test_without_the_list_of_licences_they_are_shown_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "available", lambda: False)
    assert expression(("GPL-2+", "Expat")) == "GPL-2+; Expat"


def test_only_a_package_has_a_copyright_file() -> None:
    assert path_of("libstdc++6") == "usr/share/doc/libstdc++6/copyright"
    assert [path_of(name) for name in ("", "../../../etc", "a/b", "A", "\0x")] == [""] * 5


@given(st.binary(max_size=400).map(lambda data: HEAD.encode() + data) | st.binary(max_size=200))
@example(condense(FILE.encode()))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    said = synopses(data)
    assert len(expression(said)) <= 1000
    assert condensed(condense(data)) == said
    assert condensed(data) == () or data.startswith(debian_copyright.MARK.encode())


NAMES = {"Expat": "MIT", "ISC": "ISC", "GPL-2+": "GPL-2.0-or-later", "odd": "LicenseRef-debian-odd"}

PIECES = st.lists(st.lists(st.sampled_from(sorted(NAMES)), min_size=1, max_size=2), min_size=1, max_size=3)
"""Alternatives, each of which is all of its licences."""

SYNOPSES = st.lists(st.tuples(st.sampled_from(["and", "or"]), PIECES), min_size=1, max_size=3)
"""Pieces behind commas."""


def written(synopsis: Sequence[tuple[str, list[list[str]]]]) -> str:
    (_, first), *rest = synopsis
    text = " or ".join(" and ".join(one) for one in first)
    for word, piece in rest:
        text += f", {word} " + " or ".join(" and ".join(one) for one in piece)
    return text


def allows(synopsis: Sequence[tuple[str, list[list[str]]]], allowed: set[str]) -> bool:
    """By the format's own rule: of what commas part, `and` binds stronger than `or`."""

    def piece(alternatives: list[list[str]]) -> bool:
        return any(all(NAMES[name] in allowed for name in one) for one in alternatives)

    (_, first), *rest = synopsis
    joined, together = piece(first), True
    for word, alternatives in rest:
        if word == "or":
            joined = joined or piece(alternatives)
        else:
            together, joined = together and joined, piece(alternatives)
    return together and joined


@given(st.lists(SYNOPSES, min_size=1, max_size=2), st.sets(st.sampled_from(sorted(NAMES.values()))))
def test_a_policy_permits_what_the_file_permits(
    files: list[list[tuple[str, list[list[str]]]]], allowed: set[str]
) -> None:
    text = HEAD + "".join(
        f"\nFiles: {n}\nCopyright: somebody\nLicense: {written(one)}\n Text.\n" for n, one in enumerate(files)
    )
    said = synopses(text.encode())
    assert set(said) == {written(one) for one in files}
    assert permitted(expression(said), allowed) is all(allows(one, allowed) for one in files)
