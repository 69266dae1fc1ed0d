"""The lock: what is written is what is read, and nothing else is."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from airgap.errors import InputError
from airgap.lock import Lock, distinct_files, parse_lock, render_lock, require_current
from airgap.model import (
    FileArtifact,
    Local,
    LockedFile,
    ModelArtifact,
    Platform,
    Sha256,
    Target,
    Variant,
    bundle_path,
)
from tests.strategies import locks

DIGEST = Sha256("a" * 64)


def small_lock() -> Lock:
    file = LockedFile(bundle_path("notes.md"), 5, DIGEST, Local("notes.md"))
    target = Target("3.12", Platform("linux", "amd64"), "2.35")
    return Lock(
        "demo", "1", "demo", DIGEST, target, {"airgap": "0.1.0"}, (FileArtifact("notes", "r", (file,)),)
    )


def changed(path: list[Any], value: object) -> bytes:
    """The small lock with one value of its document replaced."""
    document = json.loads(render_lock(small_lock()))
    table = document
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    return json.dumps(document).encode()


@given(locks())
@settings(max_examples=60)
def test_round_trip(lock: Lock) -> None:
    data = render_lock(lock)
    assert parse_lock(data, "x") == lock
    assert render_lock(parse_lock(data, "x")) == data


def test_a_lock_has_one_value_a_line_so_that_git_diff_reads_well() -> None:
    one = render_lock(small_lock()).decode().splitlines()
    file = LockedFile(bundle_path("notes.md"), 6, Sha256("b" * 64), Local("notes.md"))
    lock = small_lock()
    other = Lock(
        lock.name,
        lock.version,
        lock.channel,
        lock.manifest,
        lock.target,
        lock.tools,
        (FileArtifact("notes", "r", (file,)),),
    )
    two = render_lock(other).decode().splitlines()
    differing = [(a.strip(), b.strip()) for a, b in zip(one, two, strict=True) if a != b]
    assert differing == [
        ('"size": 5,', '"size": 6,'),
        (f'"sha256": "{DIGEST}",', f'"sha256": "{"b" * 64}",'),
    ]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["format"], 2, "this airgap reads lock format 1"),
        (["format"], 1.0, "expected an integer"),
        (["artifacts", 0, "kind"], "firmware", "expected one of wheels, model, container, file"),
        (["artifacts", 0, "name"], "../up", "expected an artifact name"),
        (["artifacts", 0, "files", 0, "path"], "../up", "not a path inside a bundle"),
        (["artifacts", 0, "files", 0, "size"], -1, "expected an integer of at least 0"),
        (["artifacts", 0, "files", 0, "sha256"], "A" * 64, "expected a sha256"),
        (["artifacts", 0, "files"], [], "expected one file, found 0"),
        (["artifacts", 0, "extra"], 1, "unknown key"),
        (["target", "python"], "2.7", "expected a Python version"),
        (["bundle"], None, "expected a table"),
    ],
)
def test_a_wrong_lock_names_the_key(path: list[Any], value: object, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_lock(changed(path, value), "x.lock.json")
    assert expected in str(caught.value)


def test_two_artifacts_of_one_name_are_refused() -> None:
    document = json.loads(render_lock(small_lock()))
    document["artifacts"] *= 2
    with pytest.raises(InputError, match="two artifacts are named 'notes'"):
        parse_lock(json.dumps(document).encode(), "x")


@pytest.mark.parametrize(
    ("one", "two"), [("a", "A"), ("caf\u00e9", "cafe\u0301"), ("a", "a/b"), ("\ufb01le", "file")]
)
def test_files_that_collide_are_refused(one: str, two: str) -> None:
    document = json.loads(render_lock(small_lock()))
    artifact = document["artifacts"][0]
    artifact |= {"kind": "model"}
    artifact["files"] = [artifact["files"][0] | {"path": path} for path in (one, two)]
    with pytest.raises(InputError, match=r"on some file systems|also the parent"):
        parse_lock(json.dumps(document).encode(), "x")


def test_a_blob_that_two_artifacts_share_counts_once() -> None:
    lock = small_lock()
    both = (lock.artifacts[0], FileArtifact("again", "r", lock.artifacts[0].files))
    assert list(distinct_files(both)) == [DIGEST]


def test_a_lock_of_an_older_manifest_is_refused() -> None:
    require_current(small_lock(), DIGEST, "x")
    with pytest.raises(InputError, match="another version of the manifest") as caught:
        require_current(small_lock(), Sha256("b" * 64), "x")
    assert "airgap lock" in caught.value.remedy


@pytest.mark.parametrize("chosen", [(), (0, 1)])
def test_of_variants_exactly_one_is_chosen(chosen: tuple[int, ...]) -> None:
    variants = tuple(Variant("org/name", "BF16", "because", chosen=index in chosen) for index in range(2))
    model = ModelArtifact("m", "r", "", "", "", "", "", "", "", (), variants)
    data = render_lock(replace(small_lock(), artifacts=(model,)))
    with pytest.raises(InputError, match=r"artifacts\[0\]\.variants: expected exactly one that is chosen"):
        parse_lock(data, "x")
