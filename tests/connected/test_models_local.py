"""Models from a local directory."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from airgap.connected import models
from airgap.connected.source import Context
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.model import Local, ModelArtifact
from tests.connected.modelling import Counting, from_path, make_context

CARD = b"---\ntags: [x]\nlicense: 'apache-2.0'\n---\n# model\nlicense: mit\n"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path)


@pytest.fixture
def weights(context: Context) -> Path:
    root = context.directory / "weights"
    (root / "nested").mkdir(parents=True)
    (root / "README.md").write_bytes(CARD)
    (root / "model.safetensors").write_bytes(os.urandom(2_500_000))
    (root / "nested/config.json").write_bytes(b"{}")
    return root


def lock(context: Context, path: str = "weights", include: tuple[str, ...] = ()) -> ModelArtifact:
    artifact = models.resolve(from_path(path, include), None, context).artifact
    assert isinstance(artifact, ModelArtifact)
    return artifact


def test_a_directory_is_locked_by_content_and_fetched(context: Context, weights: Path) -> None:
    artifact = lock(context)
    assert [f.path for f in artifact.files] == ["README.md", "model.safetensors", "nested/config.json"]
    for file in artifact.files:
        content = (weights / file.path).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(content).hexdigest(), len(content))
        assert file.origin == Local(f"weights/{file.path}")
    assert (artifact.repo, artifact.revision, artifact.commit) == ("", "", "")
    assert artifact.licence == "apache-2.0"
    assert isinstance(context.progress, Counting)
    assert context.progress.bytes == sum(f.size for f in artifact.files)
    models.fetch(artifact, context)
    assert all(context.store.holds(f.sha256, f.size) for f in artifact.files)


def test_a_directory_locks_the_same_twice_and_notices_a_change(context: Context, weights: Path) -> None:
    before = lock(context)
    assert models.resolve(from_path(), before, context).artifact == before
    (weights / "nested/config.json").write_bytes(b"{1}")
    assert models.resolve(from_path(), before, context).artifact != before
    with pytest.raises(IntegrityError, match="as locked"):
        models.fetch(before, context)


def test_hidden_files_stay_behind_unless_named(context: Context, weights: Path) -> None:
    (weights / ".git").mkdir()
    (weights / ".git/config").write_bytes(b"[core]")
    (weights / ".cache").mkdir()
    (weights / ".cache/x.json").write_bytes(b"{}")
    resolved = models.resolve(from_path(include=("*.json",)), None, context)
    assert [f.path for f in resolved.artifact.files] == ["nested/config.json"]
    (finding,) = resolved.findings
    assert "2 hidden files (8 bytes)" in finding.message
    named = models.resolve(from_path(include=(".cache/*",)), None, context)
    assert [f.path for f in named.artifact.files] == [".cache/x.json"]


def test_a_snapshot_of_a_hub_cache_is_a_directory_like_any(context: Context) -> None:
    repo = context.directory / "models--org--name"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs/abc").write_bytes(b"{}")
    snapshot = repo / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    (file,) = lock(context, f"models--org--name/snapshots/{'c' * 40}").files
    assert (file.path, file.size) == ("config.json", 2)


def test_a_link_within_the_directory_is_followed_once(context: Context, weights: Path) -> None:
    (weights / "again.json").symlink_to("nested/config.json")
    assert ("again.json", 2) in {(f.path, f.size) for f in lock(context).files}
    (weights / "twice.json").symlink_to("again.json")
    with pytest.raises(InputError, match=r"'twice.json' is a link to a link"):
        lock(context)


@pytest.mark.parametrize("target", ["/etc/hostname", "../secret", "nested/../../secret", "missing", "nested"])
def test_a_link_to_elsewhere_nowhere_or_a_directory_is_refused(
    context: Context, weights: Path, target: str
) -> None:
    (context.directory / "secret").write_bytes(b"secret")
    (weights / "link").symlink_to(target)
    with pytest.raises(InputError, match="'link' is a link"):
        lock(context)


def test_a_link_that_loops_is_refused(context: Context, weights: Path) -> None:
    (weights / "link").symlink_to("link")
    with pytest.raises(InputError, match="'link' is a link"):
        lock(context)


def test_special_files_are_refused_all_at_once(context: Context, weights: Path) -> None:
    os.mkfifo(weights / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(weights / "s"))
        with pytest.raises(InputError) as refused:
            lock(context)
    assert sorted(refused.value.problems) == [
        "'fifo' is a FIFO; expected a regular file",
        "'s' is a socket; expected a regular file",
    ]


@pytest.mark.parametrize("made", ["", "file"])
def test_what_is_no_directory_is_an_error(context: Context, made: str) -> None:
    if made:
        (context.directory / "weights").write_bytes(b"x")
    with pytest.raises(InputError, match="expected the directory of a model, found"):
        lock(context)


def test_an_empty_directory_and_a_pattern_without_match_are_errors(context: Context) -> None:
    (context.directory / "weights").mkdir()
    with pytest.raises(SourceError, match="no file at all"):
        lock(context)
    with pytest.raises(SourceError, match=r"nothing matches include '\*.bin'"):
        lock(context, include=("*.bin",))


def test_names_that_are_one_on_some_file_systems_are_refused(context: Context, weights: Path) -> None:
    (weights / "readme.MD").write_bytes(b"x")
    with pytest.raises(InputError, match="one file on some file systems"):
        lock(context)
