"""Parts of wheels on disk: used only for what they are, and a loss of them costs a request, no more."""

from pathlib import Path

import pytest

from airgap.connected.kept import MAX_PART, Kept

URL, DIGEST = "https://index.example/one-1-py3-none-any.whl", "a" * 64


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    kept = Kept(tmp_path, URL, DIGEST)
    kept.keep(0, 300, b"first")
    kept.keep(200, 300, b"second")
    return kept


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_parts_come_back_with_their_place(kept: Kept, tmp_path: Path) -> None:
    parts = [(0, 300, b"first"), (200, 300, b"second")]
    assert sorted(kept.parts()) == sorted(Kept(tmp_path, URL, DIGEST).parts()) == parts


@pytest.mark.parametrize(("url", "digest"), [(f"{URL}x", DIGEST), (URL, "b" * 64), (URL, "")])
def test_they_are_of_one_address_and_one_digest(kept: Kept, tmp_path: Path, url: str, digest: str) -> None:
    assert list(Kept(tmp_path, url, digest).parts()) == []


def test_a_login_is_no_part_of_the_address(kept: Kept, tmp_path: Path) -> None:
    assert len(list(Kept(tmp_path, URL.replace("://", "://user:secret@"), DIGEST).parts())) == 2


def test_a_damaged_part_is_not_there(kept: Kept, tmp_path: Path) -> None:
    first, second = files(tmp_path)
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    assert list(kept.parts()) == []


def test_other_files_and_large_parts_are_passed_over(kept: Kept, tmp_path: Path) -> None:
    kept.keep(1, 300, bytes(MAX_PART + 1))
    directory = files(tmp_path)[0].parent
    (directory / "0-300.1.new").write_bytes(b"half")
    (directory / "notes").mkdir()
    assert len(list(kept.parts())) == 2


def test_what_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "ranges").write_bytes(b"a file where the directory should be")
    kept = Kept(tmp_path / "ranges", URL, DIGEST)
    kept.keep(0, 5, b"first")
    assert list(kept.parts()) == []
