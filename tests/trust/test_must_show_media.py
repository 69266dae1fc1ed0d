"""Every way in which a medium can differ from what was signed, before a real site."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.media import Media
from tests import bundles

from .refusals import Capture, accepted, notes, refused, remembered

MODEL = b"\x08" + bytes(70_000)
"""The largest blob of `one_of_each`; all but its first byte is zero, so that a hole can pose as it."""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("media")
    made = bundles.write_bundle(scratch / "bundle", bundles.one_of_each(scratch))
    return bundles.carry(made, bundles.next_trust(bundles.trust()))


@pytest.fixture
def bundle(master: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(master, tmp_path / "bundle"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return pinned(tmp_path / "site")


def pinned(site: Path) -> Path:
    """A site that follows to root 2 already, so that a refusal leaves its trust as it was."""
    bundles.pin(site)
    (site / "trust" / "2.root.json").write_bytes(bundles.next_trust(bundles.trust()).root_file)
    return site


def blob(bundle: Path, data: bytes = MODEL) -> Path:
    return next(p for p in (bundle / "blobs" / "sha256").iterdir() if p.read_bytes() == data)


def every_file(bundle: Path) -> Iterator[Path]:
    """Each one that is signed, or that signs: all but roots/, which vouch for themselves."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.parent.name != "roots")
    assert len(files) > 15
    yield from files


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda data: data[:-1], lambda data: data + b"\0"],
    ids=["flipped bit", "truncated by one byte", "oversized by one byte"],
)
def test_damage_in_every_kind_of_file(
    bundle: Path, tmp_path: Path, capsys: Capture, damage: Callable[[bytes], bytes]
) -> None:
    for number, path in enumerate(every_file(bundle)):
        # A site of its own: blobs that a refused install brought are not read from the medium again.
        site = pinned(tmp_path / str(number))
        before = path.read_bytes()
        path.write_bytes(damage(before))
        code = 7 if path.name == "bundle.dsse.json" else 6
        said = refused(bundle, site, capsys, code)
        assert str(path.relative_to(bundle)) in said
        path.write_bytes(before)
    accepted(bundle, site, capsys)


def test_a_flipped_bit_in_a_root_that_travels(tmp_path: Path, capsys: Capture) -> None:
    site = bundles.pin(tmp_path / "site")
    bundle = bundles.carry(notes(tmp_path / "b"), bundles.next_trust(bundles.trust()))
    root = bundle / "roots" / "2.root.json"
    for place in range(0, len(root.read_bytes()), 4001):
        data = bytearray(bundles.next_trust(bundles.trust()).root_file)
        data[place % len(data)] ^= 1
        root.write_bytes(data)
        code = run(["verify", str(bundle), "--site", str(site)])
        assert code in (0, 7), "0 where a signature too many was hit: three sign, two must"
    capsys.readouterr()


@pytest.mark.parametrize("kind", ["link", "FIFO", "directory"])
def test_in_place_of_a_root_that_the_site_has(bundle: Path, site: Path, capsys: Capture, kind: str) -> None:
    """Nobody reads it, and nothing but a file of a root's size may be there."""
    path = bundle / "roots" / "2.root.json"
    if kind == "link":
        path.rename(bundle.parent / "moved")
        path.symlink_to(bundle.parent / "moved")
    else:
        KINDS[kind][0](path)
    assert "roots/2.root.json: expected a file, found a" in refused(bundle, site, capsys, 6)


def test_a_root_that_is_too_large(bundle: Path, site: Path, capsys: Capture) -> None:
    path = bundle / "roots" / "2.root.json"
    os.truncate(path, 2**20)
    accepted(bundle, site, capsys)
    os.truncate(path, 2**20 + 1)
    capsys.readouterr()
    assert run(["verify", str(bundle), "--site", str(site)]) == 6
    assert "roots/2.root.json: expected at most 1048576 bytes" in capsys.readouterr().out


def missing(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.parents[3] / "moved")
    path.symlink_to(path.parents[3] / "moved")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which never ends


def unix_socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is limited to 108 bytes
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    os.chdir(here)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def hard_link(path: Path) -> None:
    """To a file outside the bundle, of the same size."""
    other = path.parents[3] / "other"
    other.write_bytes(flip(path.read_bytes()))
    path.unlink()
    path.hardlink_to(other)


def sparse_hole(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)
    assert path.stat().st_blocks * 512 < size


KINDS = {
    "missing": (missing, "missing"),
    "link": (link, "found a symbolic link"),
    "FIFO": (fifo, "found a FIFO"),
    "device": (device, "found a device"),
    "socket": (unix_socket, "found a socket"),
    "directory": (directory, "found a directory"),
    "hard link": (hard_link, "its bytes are not what was signed"),
    "sparse hole": (sparse_hole, "its bytes are not what was signed"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_of_a_blob(bundle: Path, site: Path, capsys: Capture, kind: str) -> None:
    act, words = KINDS[kind]
    path = blob(bundle)
    try:
        act(path)
    except PermissionError:
        pytest.skip("this user or container may not make device nodes")
    said = refused(bundle, site, capsys, 6)
    assert path.name in said
    assert words in said


def replace_document(path: Path, kind: str) -> None:
    if kind == "link":
        path.rename(path.parent.parent / "moved")
        path.symlink_to(path.parent.parent / "moved")
    else:
        KINDS[kind][0](path)


@pytest.mark.parametrize("kind", ["missing", "link", "FIFO"])
@pytest.mark.parametrize("name", ["oci-layout", "index.json", "verify/SHA384SUMS"])
def test_in_place_of_a_document(bundle: Path, site: Path, capsys: Capture, kind: str, name: str) -> None:
    replace_document(bundle / name, kind)
    assert name in refused(bundle, site, capsys, 6)


def test_a_linked_directory(bundle: Path, site: Path, capsys: Capture) -> None:
    for name in ("blobs/sha256", "blobs", "verify"):
        path = bundle / name
        path.rename(bundle.parent / "moved")
        path.symlink_to(bundle.parent / "moved")
        assert run(["install", str(bundle), "--site", str(site)]) in (6, 9), name
        path.unlink()
        (bundle.parent / "moved").rename(path)
    capsys.readouterr()
    accepted(bundle, site, capsys)


@pytest.mark.parametrize("name", ["extra", "blobs/sha256/extra", f"blobs/sha256/{'0' * 64}", "verify/x"])
def test_extra_blob_or_file(bundle: Path, site: Path, capsys: Capture, name: str) -> None:
    (bundle / name).write_bytes(b"")
    assert f"{name}: a file that no holder signed" in refused(bundle, site, capsys, 6)


def test_swapped_blobs(bundle: Path, site: Path, capsys: Capture) -> None:
    one, other = blob(bundle), blob(bundle, b"carried across\n")
    content = one.read_bytes(), other.read_bytes()
    other.write_bytes(content[0])
    one.write_bytes(content[1])
    said = refused(bundle, site, capsys, 6)
    assert one.name in said
    assert other.name in said


# ------------------------------------------------------------------ a file that changes between two reads


def test_a_file_that_changes_between_verify_and_install(bundle: Path, site: Path, capsys: Capture) -> None:
    assert run(["verify", str(bundle), "--site", str(site)]) == 0
    path = blob(bundle)
    path.write_bytes(flip(path.read_bytes()))
    assert run(["install", str(bundle), "--site", str(site)]) == 6
    assert remembered(site) is None


def test_a_file_that_changes_once_it_was_opened(
    bundle: Path, site: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that shows the signed bytes once and others ever after: nobody looks a second time."""
    opening = Media._open_file
    shown: list[str] = []

    def once(self: Media, path: str) -> int:
        descriptor = opening(self, path)
        shown.append(path)
        (self.root / path).unlink()
        (self.root / path).write_bytes(b"other bytes")
        return descriptor

    monkeypatch.setattr(Media, "_open_file", once)
    sizes = {path: path.stat().st_size for path in every_file(bundle)}
    assert sizes
    code = run(["install", str(bundle), "--site", str(site)])
    said = capsys.readouterr().err
    # The tree is listed after the envelope was read, and so shows what has been put there since.
    assert code == 6
    assert "bundle.dsse.json: expected" in said
    assert remembered(site) is None
    assert len(shown) == len(set(shown))


def test_blobs_that_change_once_they_were_opened(
    bundle: Path, site: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above for blobs alone, which are listed before: what is installed is what was signed."""
    opening = Media._open_file

    def once(self: Media, path: str) -> int:
        descriptor = opening(self, path)
        if path.startswith("blobs/"):
            (self.root / path).unlink()
            (self.root / path).write_bytes(b"other bytes")
        return descriptor

    monkeypatch.setattr(Media, "_open_file", once)
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    capsys.readouterr()
    assert (site / "current" / "models" / "tiny" / "model.safetensors").read_bytes() == MODEL


def test_a_file_that_changes_while_it_is_read(
    bundle: Path, site: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second half is another one's: neither half was signed so."""
    path, reading = blob(bundle), os.readv
    descriptor_of: dict[int, bool] = {}

    def readv(descriptor: int, buffers: list[memoryview]) -> int:
        where = os.readlink(f"/proc/self/fd/{descriptor}")
        if where.endswith(path.name) and not descriptor_of.setdefault(descriptor, False):
            descriptor_of[descriptor] = True
            count = reading(descriptor, [buffers[0][:1000]])
            with open(path, "r+b") as stream:
                stream.seek(50_000)
                stream.write(b"changed")
            return count
        return reading(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)
    assert run(["install", str(bundle), "--site", str(site)]) == 6
    assert f"{path.name}: its bytes are not what was signed" in capsys.readouterr().err
    assert not (site / "blobs" / "sha256" / path.name).exists()


@pytest.mark.parametrize("kind", ["missing", "link", "FIFO"])
@pytest.mark.parametrize("command", [("sign",), ("trust", "revoke", "1.root.json", "--out=o", "--bundle")])
def test_in_place_of_the_envelope_for_who_signs_or_revokes(
    bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], kind: str
) -> None:
    """Nothing is followed, and a pipe without a writer is waited for by nobody."""
    monkeypatch.chdir(bundle.parent)
    Path("1.root.json").write_bytes(bundles.trust().root_file)
    Path("none.key").touch()
    replace_document(bundle / "bundle.dsse.json", kind)
    assert run([*command, "bundle", "--key=none.key"]) == 3
    said = capsys.readouterr().err
    assert "not a bundle: " in said
    assert "bundle.dsse.json" in said
