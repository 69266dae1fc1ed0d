"""The store: a name under blobs/sha256 means whole bytes, whatever happened on the way."""

import errno
import hashlib
import io
import os
import re
import threading
from pathlib import Path

import pytest

from airgap.errors import HostError, IntegrityError
from airgap.model import Sha256
from airgap.store import WORTH_THREADS, Store, host_errors, pour, write_durably

DATA = b"bytes" * 1000
DIGEST = Sha256(hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.prepare()
    return made


def test_what_is_added_is_held_and_read_back(store: Store) -> None:
    for add in (store.add_bytes(DATA), store.add_stream(io.BytesIO(DATA), name="x")):
        assert (add.sha256, add.size) == (DIGEST, len(DATA))
    assert store.holds(DIGEST, len(DATA))
    assert not store.holds(DIGEST, len(DATA) + 1)
    assert store.read(DIGEST, max_bytes=len(DATA)) == DATA
    assert list(store.partial.iterdir()) == []


def test_a_stream_with_other_bytes_than_expected_is_not_kept(store: Store) -> None:
    blob = store.add_stream(io.BytesIO(DATA + b"!"), name="x", expected=DIGEST)
    assert blob.sha256 != DIGEST
    assert not store.holds(DIGEST)
    assert not store.holds(blob.sha256)
    assert list(store.partial.iterdir()) == []


def test_a_changed_blob_is_not_read(store: Store) -> None:
    store.add_bytes(DATA)
    store.path(DIGEST).write_bytes(DATA[:-1] + b"X")
    with pytest.raises(IntegrityError, match="not the bytes it is named for"):
        store.read(DIGEST, max_bytes=len(DATA))
    with pytest.raises(IntegrityError, match="not the bytes"):
        store.read(DIGEST, max_bytes=10)
    with pytest.raises(IntegrityError, match="cannot be read"):
        store.read(Sha256("0" * 64), max_bytes=10)


def test_a_source_that_fails_leaves_nothing_behind(store: Store) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(10)
            if not data:
                raise OSError(errno.EIO, "Input/output error")
            return data

    with pytest.raises(HostError, match="Input/output error"):
        store.add_stream(Failing(DATA), name="x")
    assert list(store.partial.iterdir()) == []


def test_a_link_is_never_adopted(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    link = store.partial / "x"
    link.symlink_to(secret)
    with pytest.raises(HostError):
        store.adopt(link, DIGEST)
    assert not store.holds(DIGEST)


def test_write_durably_replaces_whole_and_keeps_the_old_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(HostError):
        write_durably(tmp_path / "missing" / "file", b"three")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EROFS, "read-only"),
        (errno.ENOENT, "mounted"),
        (errno.EIO, "dmesg"),
        (errno.EACCES, "may write"),
    ],
)
def test_the_hosts_refusal_says_what_to_do(number: int, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught, host_errors(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))
    assert remedy in caught.value.remedy
    assert str(tmp_path) in caught.value.message


def test_a_refusal_names_where_something_was_to_be_not_what(tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match=re.escape(f"{tmp_path}/nowhere/link: No such file")),
        host_errors(tmp_path),
    ):
        os.symlink("generations/1", tmp_path / "nowhere" / "link")


class Recorded(io.BytesIO):
    """A file as `Media.open` gives it."""

    def fill(self, buffer: memoryview) -> int:
        return self.readinto(buffer)


def test_the_hashers_of_a_large_file_work_at_the_same_time(tmp_path: Path) -> None:
    data = os.urandom(WORTH_THREADS + 12345)
    together = threading.Barrier(2, timeout=60)

    class Meeting:
        """A hasher that goes on only once another one has the same bytes."""

        def __init__(self) -> None:
            self.digest = hashlib.sha384()

        def update(self, data: memoryview, /) -> None:
            together.wait()
            self.digest.update(data)

    hashers = [Meeting(), Meeting()]
    with open(tmp_path / "out", "wb", buffering=0) as out:
        buffer = memoryview(bytearray(100_000))
        read = Recorded(data).fill
        done = pour(read, len(data), buffer, hashers=hashers, out=out.fileno(), go_on=lambda _: True)
    assert done == len(data) and (tmp_path / "out").read_bytes() == data
    assert {hasher.digest.digest() for hasher in hashers} == {hashlib.sha384(data).digest()}


@pytest.mark.parametrize("size", [10, WORTH_THREADS])
def test_pouring_ends_where_it_is_told_to_with_what_was_read_hashed(size: int) -> None:
    hasher = hashlib.sha384()
    buffer = memoryview(bytearray(4))
    data = bytes(range(10)) * (size // 10)
    told: list[int] = []

    def go_on(count: int) -> bool:
        told.append(count)
        return len(told) < 2

    done = pour(Recorded(data).fill, size, buffer, hashers=[hasher], out=None, go_on=go_on)
    assert (done, told) == (8, [4, 4]) and hasher.digest() == hashlib.sha384(data[:8]).digest()


def test_no_thread_is_left_where_reading_fails() -> None:
    def fail(buffer: memoryview) -> int:
        raise IntegrityError("the medium is gone")

    with pytest.raises(IntegrityError, match="the medium is gone"):
        pour(
            fail,
            WORTH_THREADS,
            memoryview(bytearray(4)),
            hashers=[hashlib.sha384()],
            out=None,
            go_on=lambda _: True,
        )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hashing")]
