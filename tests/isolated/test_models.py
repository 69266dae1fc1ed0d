"""The hub cache layout, judged by the real client with the network forbidden."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from airgap.errors import InputError
from airgap.isolated.entries import Entry, Link, Text
from airgap.isolated.models import catalogue_entries, hub_cache, hub_cache_entries
from airgap.model import BundlePath, LockedFile, ModelArtifact, Remote, Sha256

COMMIT = "c" * 40
FILES = (
    LockedFile(BundlePath("config.json"), 1, Sha256("a" * 64), Remote("https://hub.example/x")),
    LockedFile(BundlePath("nested/x.bin"), 1, Sha256("b" * 64), Remote("https://hub.example/y")),
)


def make_model(
    name: str = "m", repo: str = "org/name", revision: str = "main", commit: str = COMMIT
) -> ModelArtifact:
    return ModelArtifact(name, "r", repo, revision, commit if repo else "", "", "", "", "", FILES)


def put(entries: Iterable[Entry], root: Path) -> None:
    """Make the tree as an install does: texts written, blobs hard-linked from a store."""
    store = root / "store"
    store.mkdir(parents=True)
    for entry in entries:
        path = root / "hub" / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Text):
            path.write_bytes(entry.data)
        else:
            blob = store / entry.sha256
            blob.write_bytes(entry.sha256.encode())
            path.hardlink_to(blob)


def offline(home: Path, code: str) -> str:
    """What a process prints that has the site as HF_HUB_CACHE and may not ask any hub."""
    environment = {"PATH": os.environ["PATH"], "HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", f"import huggingface_hub as hub\n{code}"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_entries_are_the_documented_layout() -> None:
    assert hub_cache_entries(make_model(revision="refs/pr/1")) == [
        Text(BundlePath("models--org--name/refs/refs/pr/1"), COMMIT.encode()),
        Link(BundlePath(f"models--org--name/snapshots/{COMMIT}/config.json"), Sha256("a" * 64)),
        Link(BundlePath(f"models--org--name/snapshots/{COMMIT}/nested/x.bin"), Sha256("b" * 64)),
    ]


def test_a_local_model_is_in_the_catalogue_alone() -> None:
    model = make_model(repo="", revision="")
    assert hub_cache_entries(model) == [] and hub_cache([model]) == []
    assert catalogue_entries(model) == [
        Link(BundlePath("m/config.json"), Sha256("a" * 64)),
        Link(BundlePath("m/nested/x.bin"), Sha256("b" * 64)),
    ]


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", COMMIT])
def test_the_client_finds_the_model_by_name_and_by_revision_offline(tmp_path: Path, revision: str) -> None:
    put(hub_cache([make_model(revision=revision)]), tmp_path)
    printed = offline(
        tmp_path,
        f"""
for revision in (None, {revision!r}):
    print(open(hub.hf_hub_download("org/name", "nested/x.bin", revision=revision)).read())
    print(hub.snapshot_download("org/name", revision=revision))
""",
    )
    snapshot = str(tmp_path / f"hub/models--org--name/snapshots/{COMMIT}")
    assert printed.splitlines() == ["b" * 64, snapshot] * 2


def test_main_stays_main_when_another_revision_comes_first() -> None:
    entries = hub_cache([make_model(revision="v1", commit="d" * 40), make_model("n")])
    refs = {e.path.rpartition("/")[2]: e.data.decode() for e in entries if isinstance(e, Text)}
    assert refs == {"v1": "d" * 40, "main": COMMIT}


def test_two_artifacts_of_one_revision_are_merged() -> None:
    entries = hub_cache([make_model(), make_model("n")])
    assert len(entries) == len({entry.path for entry in entries}) == 3


def test_a_revision_that_leads_out_of_the_cache_is_refused() -> None:
    with pytest.raises(InputError):
        hub_cache_entries(make_model(revision="../../x"))
