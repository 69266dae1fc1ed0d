"""Paths and digests that come from outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.model import Platform, bundle_path, oci_digest, path_collisions, sha256_hex
from tests.strategies import paths


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "a//b", "a/", ".", "..", "a/../b", "a/./b", "a\\b", "C:evil", "a/c:b"),
        *("a\0b", "a\nb", "a\u202eb", "a\u200bb", "a\u2028b", "\ud800", "nul", "NUL.txt", "a/com1.x"),
        *("a.", "a ", "a/b. ", "x" * 256, "\u00e9" * 128, "a/" * 2500 + "a"),
    ],
)
def test_paths_that_mean_different_things_in_different_places_are_refused(path: str) -> None:
    with pytest.raises(InputError, match="not a path inside a bundle"):
        bundle_path(path)


@pytest.mark.parametrize(
    "path",
    ["a", "a/b", ".gitattributes", "caf\u00e9/\u65e5\u672c.json", "x" * 255, "console", "a b", "comic"],
)
def test_ordinary_paths_are_kept_as_they_are(path: str) -> None:
    assert bundle_path(path) == path


@given(st.text(max_size=30))
def test_an_accepted_path_stays_below_its_directory(text: str) -> None:
    try:
        path = bundle_path(text)
    except InputError:
        return
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/"))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("README.md", "readme.md"),
        ("caf\u00e9", "cafe\u0301"),
        ("stra\u00dfe", "strasse"),
        ("\ufb01le", "file"),
        ("a/B/c", "a/b/c"),
    ],
)
def test_two_names_of_one_file_collide(one: str, two: str) -> None:
    (problem,) = path_collisions([one, two])
    assert repr(one) in problem
    assert repr(two) in problem


def test_the_same_path_twice_collides() -> None:
    assert path_collisions(["a", "a"])


def test_a_file_cannot_be_a_directory_too() -> None:
    (problem,) = path_collisions(["Weights/a", "weights"])
    assert "also the parent" in problem


@given(st.lists(paths, max_size=5, unique=True))
def test_paths_below_distinct_directories_do_not_collide(found: list[str]) -> None:
    assert path_collisions(f"{index}/{path}" for index, path in enumerate(found)) == []


@pytest.mark.parametrize("text", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "sha256:" + "a" * 64])
def test_only_64_lower_case_hex_digits_are_a_sha256(text: str) -> None:
    with pytest.raises(InputError):
        sha256_hex(text)


@pytest.mark.parametrize("text", ["a" * 64, "sha512:" + "a" * 128, "sha256:" + "A" * 64])
def test_only_sha256_digests_name_blobs(text: str) -> None:
    with pytest.raises(InputError):
        oci_digest(text)


@pytest.mark.parametrize("text", ["linux", "linux/", "/amd64", "Linux/amd64", "a/b/c/d", "linux/amd 64"])
def test_platforms_are_oci_notation(text: str) -> None:
    with pytest.raises(InputError, match="such as linux/amd64"):
        Platform.parse(text)


def test_a_platform_reads_back_as_written() -> None:
    assert str(Platform.parse("linux/arm/v7")) == "linux/arm/v7"
