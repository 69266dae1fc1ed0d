"""Licences as people write them, and the SPDX expressions that they are."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.audit import licences


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("MIT", "MIT"),
        ("apache-2.0", "Apache-2.0"),
        ("MIT OR apache-2.0", "MIT OR Apache-2.0"),
        ("(MIT AND BSD-3-Clause) OR GPL-2.0-only WITH Classpath-exception-2.0", None),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("MIT License", "MIT"),
        ("BSD", ""),
        ("(MIT", ""),
        ("MIT MIT", ""),
        ("", ""),
        ("MIT\n\nCopyright", ""),
        ("Gemma", ""),
    ],
)
def test_expressions(text: str, expression: str | None) -> None:
    found = licences.expression(text)
    assert found == expression if expression is not None else found


@given(st.text() | st.from_regex(r"[MIT ()ORAND+.-]{0,40}", fullmatch=True))
def test_no_text_is_too_strange(text: str) -> None:
    found = licences.expression(text)
    assert not found or licences.expression(found) == found


def test_classifiers_are_believed_where_they_name_one_licence() -> None:
    mit = "License :: OSI Approved :: MIT License"
    assert licences.of_classifiers([mit, "License :: OSI Approved", "Topic :: Software"]) == "MIT"
    assert licences.of_classifiers([mit, "License :: OSI Approved :: ISC License (ISCL)"]) == ""
    assert licences.of_classifiers(["License :: OSI Approved :: BSD License"]) == ""
    assert licences.of_classifiers([]) == ""


def test_without_the_list_nothing_is_an_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "license_expression", None)
    licences._licensing.cache_clear()
    try:
        assert licences.expression("MIT") == ""
    finally:
        licences._licensing.cache_clear()


BSD = "License :: OSI Approved :: BSD License"


@pytest.mark.parametrize(
    ("said", "classifiers", "licence"),
    [
        ("MIT", (BSD,), "MIT"),
        ("", (BSD,), "BSD License"),
        ("", (BSD, "License :: Public Domain"), "BSD License, Public Domain"),
        ("Copyright (c) 2005, Somebody.\n\nAll rights reserved.", (BSD,), "BSD License"),
        ("Copyright (c) 2005, Somebody.\n\nAll rights reserved.", (), "Copyright (c) 2005, Somebody."),
        ("BSD-like", (BSD,), "BSD-like"),
        ("GPL", ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)",), "GPL-3.0-only"),
        ("GPL", (), "GPL-1.0-or-later"),
        ("", ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)",), "GPL-3.0-only"),
        ("", (), ""),
    ],
)
def test_a_package_is_under_what_its_metadata_names_most_plainly(
    said: str, classifiers: tuple[str, ...], licence: str
) -> None:
    assert licences.of_package(said, classifiers) == licence
