"""`airgap build`: the same bytes for the same inputs, and a bundle that is whole or not there."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers.index import Index, make_wheel
from tests.stage import Stage

FILES = """
[[files]]
name = "notes"
path = "notes.txt"
[[files]]
name = "big"
path = "big.bin"
[[models]]
name = "tuned"
path = "model"
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    made.holders("alice")
    made.write("notes.txt", "notes\n")
    made.write("big.bin", random.Random(1).randbytes(3_000_000))
    made.write("model/config.json", "{}")
    made.write("model/sub/weights.bin", b"w" * 1000)
    made.manifest(FILES)
    made.run("lock", "demo.toml")
    return made


def tree(directory: Path) -> dict[str, str]:
    """Path to sha256 of every file below a directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_the_same_lock_sequence_and_time_give_the_same_bytes(stage: Stage) -> None:
    one = stage.build("--sequence", "3", "--json").document
    first = tree(stage.bundle)
    shutil.rmtree(stage.directory / "cache" / "blobs")
    two = stage.build("--sequence", "3", "--replace", "--json").document
    second = tree(stage.bundle)
    signed = {"bundle.dsse.json"}  # ECDSA signatures differ from run to run
    differing = {path for path in first if first[path] != second.get(path)}
    assert differing - {path for path in differing if path.endswith(".sig")} <= signed
    assert first.keys() == second.keys()
    assert one["payload_sha384"] == two["payload_sha384"]


def test_a_second_build_fetches_nothing(stage: Stage) -> None:
    assert stage.build("--json").document["fetched_bytes"] > 3_000_000
    again = stage.build("--replace", "--json").document
    assert again["fetched_bytes"] == 0
    assert again["sequence"] == 2


def test_blobs_are_linked_from_the_store_not_copied(stage: Stage) -> None:
    stage.build()
    digest = hashlib.sha256((stage.directory / "big.bin").read_bytes()).hexdigest()
    shipped = stage.bundle / "blobs" / "sha256" / digest
    assert shipped.samefile(stage.directory / "cache" / "blobs" / "sha256" / digest)


def test_an_existing_bundle_is_kept_unless_replaced(stage: Stage) -> None:
    stage.build()
    before = tree(stage.bundle)
    run = stage.build(code=3)
    assert "exists already" in run.err
    assert "--replace" in run.err
    assert tree(stage.bundle) == before


def test_a_store_without_memory_of_the_channel_says_so(stage: Stage) -> None:
    assert "give --sequence" in stage.build().err
    assert "give --sequence" not in stage.build("--replace").err
    assert "give --sequence" not in stage.build("--replace", "--sequence", "9").err


def test_a_sequence_is_never_given_to_two_bundles(stage: Stage) -> None:
    stage.build("--sequence", "5")
    run = stage.build("--sequence", "5", "--expires-in", "30d", "--replace", code=3)
    assert "already given to another bundle" in run.err
    assert "--sequence 6" in run.err


def test_each_bundle_names_the_one_before_it(stage: Stage) -> None:
    one = stage.build("--json").document
    stage.build("--replace")
    envelope = (stage.bundle / "verify" / "pae.bin").read_bytes().decode()
    assert f'"previous":{{"sequence":1,"sha384":"{one["payload_sha384"]}"}}' in envelope


def test_a_changed_manifest_needs_a_new_lock(stage: Stage) -> None:
    stage.manifest(FILES + "\n# changed\n")
    run = stage.build(code=3)
    assert "airgap lock" in run.err
    assert not stage.bundle.exists()


def test_no_lock_no_build(stage: Stage) -> None:
    (stage.directory / "demo.lock.json").unlink()
    assert "airgap lock demo.toml" in stage.build(code=3).err


def test_a_local_file_changed_since_the_lock_is_refused(stage: Stage) -> None:
    stage.write("notes.txt", "other\n")
    run = stage.build(code=6)
    assert "notes.txt" in run.err
    assert "as locked" in run.err
    assert not stage.bundle.exists()


def test_a_store_damaged_since_the_fetch_never_gets_signed(stage: Stage) -> None:
    stage.build()
    digest = hashlib.sha256((stage.directory / "big.bin").read_bytes()).hexdigest()
    stored = stage.directory / "cache" / "blobs" / "sha256" / digest
    data = bytearray(stored.read_bytes())
    data[1_000_000] ^= 1
    stored.chmod(0o644)
    stored.write_bytes(data)
    run = stage.build("--out", "out2", code=6)
    assert digest in run.err
    assert not (stage.directory / "out2" / "demo-1").exists()


def test_a_key_of_nobody_in_the_root_cannot_sign(stage: Stage) -> None:
    stage.run("key", "generate", "mallory", "--out", "keys", "--no-passphrase")
    run = stage.run(
        *("build", "demo.toml", "--key", "keys/mallory.key", "--root", "trust/1.root.json"), code=7
    )
    assert "mallory" in run.err
    assert "alice" in run.err


def test_source_date_epoch_sets_the_creation_time(stage: Stage) -> None:
    run = stage.run(
        *("build", "demo.toml", "--key", "keys/alice.key", "--root", "trust/1.root.json", "--json"),
        SOURCE_DATE_EPOCH="1700000000",
    )
    assert run.document["created_at"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("delay", [0.25, 0.45, 0.6, 0.8])
def test_a_killed_build_leaves_no_half_bundle_under_the_final_name(stage: Stage, delay: float) -> None:
    arguments = (
        "build",
        "demo.toml",
        "--key",
        "keys/alice.key",
        "--root",
        "trust/1.root.json",
        "--out",
        "out",
    )
    child = subprocess.Popen(
        stage.command(*arguments),
        cwd=stage.directory,
        env=stage.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.wait()
    if stage.bundle.exists():
        stage.pin()
        stage.run("verify", "out/demo-1", "--site", "site")
    stage.build("--replace")
    stage.pin("site2")
    stage.run("verify", "out/demo-1", "--site", "site2")
    assert os.listdir(stage.directory / "out") == ["demo-1"]


def test_a_password_in_the_manifest_serves_the_build_and_is_written_nowhere(stage: Stage) -> None:
    with Index(login="user:s3cret-word") as index:
        index.add(*make_wheel("private-thing", "1.0"))
        url = index.url.replace("://", "://user:s3cret-word@")
        table = f'[[wheels]]\nname = "set"\nrequirements = ["private-thing"]\nindex-url = "{url}"\n'
        stage.manifest(table)
        locked = stage.run("lock", "demo.toml")
        shutil.rmtree(stage.directory / "cache")
        built = stage.build("--json")
    assert built.document["fetched_bytes"] > 0
    for run in (locked, built):
        assert "s3cret" not in run.out + run.err
    written = [
        stage.directory / "demo.lock.json",
        *stage.bundle.rglob("*"),
        *(stage.directory / "cache").rglob("*"),
    ]
    for path in written:
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


def test_a_build_may_be_split_at_once(stage: Stage) -> None:
    built = stage.build("--volume-size", "1800kB", "--json").document
    names = [f"out/demo-1.{number}of2" for number in (1, 2)]
    assert built["volumes"] == names
    stage.pin()
    stage.run("verify", *names, "--site", "site")
