"""Streams: volumes through a real pipe, whole, cut off anywhere, altered, and made by nobody."""

import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from airgap.store import WRITEBACK
from tests import bundles
from tests.isolated.sites import problems
from tests.stage import Stage

BIG = 900_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(7)
    files = {
        "big.bin": draw.randbytes(BIG),
        **{f"part-{n}.bin": draw.randbytes(30_000 + n) for n in range(6)},
    }
    made = bundles.write_bundle(
        tmp_path_factory.mktemp("stream") / "bundle", [bundles.model("weights", files)]
    )
    return made


def airgap(*arguments: str | Path, data: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "airgap", *arguments]
    done = subprocess.run(argv, input=data, capture_output=True, check=False)
    assert done.returncode == code, done.stderr.decode() + done.stdout.decode()[:2000]
    return done


def sent(bundle: Path, *options: str) -> bytes:
    return airgap("split", bundle, "--tar", "-o", "-", *options).stdout


def receive(site: Path, data: bytes, code: int) -> str:
    done = airgap("receive", "-", "--site", site, data=data, code=code)
    return (done.stdout + done.stderr).decode()


def through_a_pipe(bundle: Path, size: str, site: Path) -> subprocess.CompletedProcess[str]:
    """What `split` writes, read by `receive` while it is written."""
    argv = [sys.executable, "-m", "airgap", "split", str(bundle), "--size", size, "--tar", "-o", "-"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as sender:
        argv = [sys.executable, "-m", "airgap", "receive", "-", "--site", str(site)]
        received = subprocess.run(argv, stdin=sender.stdout, capture_output=True, text=True, check=False)
    assert sender.returncode == 0
    return received


@pytest.mark.parametrize("size", ["stream", "500kB"])
def test_a_pipe_carries_a_bundle(bundle: Path, site: Path, size: str) -> None:
    received = through_a_pipe(bundle, size, site)
    assert received.returncode == 0, received.stderr
    assert "all of it has arrived" in received.stdout
    airgap("install", "--site", site)
    assert problems(site) == []
    assert (site / "current" / "models" / "weights" / "big.bin").stat().st_size == BIG


@pytest.mark.parametrize("size", ["stream", "40MB"])
def test_a_pipe_carries_what_the_disk_would_begin_to_write_early(
    tmp_path: Path, site: Path, size: str
) -> None:
    """A pipe takes no advice on its pages, which are asked for after so many bytes of a file."""
    files = {"large.bin": random.Random(7).randbytes(WRITEBACK + 10_000_000)}
    bundle = bundles.write_bundle(tmp_path / "bundle", [bundles.model("weights", files)])
    received = through_a_pipe(bundle, size, site)
    assert received.returncode == 0, received.stderr
    airgap("install", "--site", site)
    assert problems(site) == []


def test_the_same_stream_is_the_same_bytes_and_a_plain_tar(bundle: Path) -> None:
    data = sent(bundle, "--size", "500kB")
    assert sent(bundle, "--size", "500kB") == data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    volumes = list(dict.fromkeys(name.partition("/")[0] for name in names))
    assert len(volumes) == 4
    for volume in volumes:
        mine = [name.partition("/")[2] for name in names if name.startswith(f"{volume}/")]
        assert mine[0] == "bundle.dsse.json"
        assert mine[-1] == "SHA384SUMS"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.55, 0.8, 0.99])
def test_a_stream_cut_off_anywhere_goes_on_where_it_says(bundle: Path, site: Path, share: float) -> None:
    data = sent(bundle, "--size", "500kB")
    code = 3 if share < 0.01 else 6
    said = receive(site, data[: int(len(data) * share)], code)
    assert "the stream ends inside of this volume" in said
    only = [
        line.split("--only ")[1].split()[0]
        for line in said.splitlines()
        if "--only " in line and "=" not in line
    ]
    rest = sent(bundle, "--size", "500kB", *(("--only", only[-1]) if only else ()))
    assert len(rest) < len(data) or not only
    receive(site, rest, 0)
    airgap("install", "--site", site)
    assert problems(site) == []


def test_an_altered_item_is_refused_and_its_neighbours_are_kept(bundle: Path, site: Path) -> None:
    data = bytearray(sent(bundle, "--size", "500kB"))
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
        ranged = next(m for m in tar.getmembers() if "/parts/" in m.name)
        whole = next(m for m in tar.getmembers() if "/blobs/" in m.name and m.size == 30_003)
    for member in (ranged, whole):
        data[member.offset_data + member.size // 2] ^= 1
    said = receive(site, bytes(data), 6)
    assert "not the bytes that SHA384SUMS lists" in said
    assert whole.name.rpartition("/")[2] in said
    again = receive(site, sent(bundle, "--size", "500kB"), 0)
    assert "all of it has arrived" in again
    assert problems_after_install(site) == []


def problems_after_install(site: Path) -> list[str]:
    airgap("install", "--site", site)
    return problems(site)


def repacked(
    data: bytes, change: dict[str, bytes] | None = None, *, extra: tarfile.TarInfo | None = None
) -> bytes:
    """The stream with some files replaced, by the ends of their names, and one entry more after the first."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar, tarfile.open(fileobj=out, mode="w") as new:
        for position, member in enumerate(tar.getmembers()):
            opened = tar.extractfile(member)
            assert opened is not None
            found = opened.read()
            for name, other in (change or {}).items():
                found = other if member.name.endswith(name) else found
            member.size = len(found)
            new.addfile(member, io.BytesIO(found))
            if position == 20 and extra is not None:
                new.addfile(extra, io.BytesIO(bytes(extra.size)))
    return out.getvalue()


def test_a_statement_that_nobody_signed_lets_nothing_in(bundle: Path, site: Path) -> None:
    whole = sent(bundle, "--size", "stream")
    envelope = (bundle / "bundle.dsse.json").read_bytes().replace(b'"sig":"M', b'"sig":"N')
    said = receive(site, repacked(whole, {"bundle.dsse.json": envelope}), 7)
    assert "->" in said
    assert not (site / "arrivals").exists()


@pytest.mark.parametrize("name", ["../x", "volume/../../x", "alone", "v/con"])
def test_a_name_that_leads_out_ends_the_stream(bundle: Path, site: Path, name: str, tmp_path: Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = 3
    receive(site, repacked(sent(bundle, "--size", "stream"), extra=entry), 6)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_file_ends_the_stream(bundle: Path, site: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("quickstart-1.1of1/parts/x")
    entry.type, entry.linkname = kind, "/etc/passwd"
    assert "expected files of volumes" in receive(
        site, repacked(sent(bundle, "--size", "stream"), extra=entry), 6
    )


def test_a_file_that_nobody_signed_is_a_finding_and_passes_by(bundle: Path, site: Path) -> None:
    whole = sent(bundle, "--size", "stream")
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        volume = tar.getnames()[0].partition("/")[0]
    entry = tarfile.TarInfo(f"{volume}/blobs/sha256/{'0' * 64}")
    entry.size = 1000
    said = receive(site, repacked(whole, extra=entry), 6)
    assert "a file that no holder signed" in said
    assert "all of it has arrived" in said


def test_what_is_no_stream_is_said(site: Path) -> None:
    assert "nothing came: the stream is empty" in receive(site, b"", 3)
    assert "a tar header" in receive(site, os.urandom(4096), 3)
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("backup/notes.txt"))
    assert "does not begin with a volume's" in receive(site, other.getvalue(), 3)
    said = receive(site, b"no tar", 3)
    assert "expected volumes as a tar" in said
    assert "airgap split --tar -o -" in said


def test_a_volume_that_was_written_as_a_tar_is_received_by_itself(
    bundle: Path, site: Path, tmp_path: Path
) -> None:
    airgap("split", bundle, "--size", "500kB", "--tar", "-o", tmp_path / "tars")
    *first, last = sorted((tmp_path / "tars").iterdir())
    for tar in first:
        assert "the tar: volume" in receive(site, tar.read_bytes(), 10)
    whole = last.read_bytes()
    assert "ends inside of this volume" in receive(site, whole[: len(whole) // 2], 6)
    receive(site, whole, 0)
    airgap("install", "--site", site)
    assert problems(site) == []


def test_a_stream_twice_reads_by_and_changes_nothing(bundle: Path, site: Path) -> None:
    data = sent(bundle, "--size", "500kB")
    receive(site, data, 0)
    assert "what is on it is here already" in receive(site, data, 0)


def test_a_terminal_and_other_forms_are_wrong_usage(bundle: Path, site: Path) -> None:
    assert b"-o - takes --tar" in airgap("split", bundle, "--size", "cd", "-o", "-", code=2).stderr
    assert b"- is read alone" in airgap("receive", "-", bundle, "--site", site, code=2).stderr


def test_who_reads_no_further_is_said(bundle: Path) -> None:
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "airgap",
        "split",
        bundle,
        "--size",
        "stream",
        "--tar",
        "-o",
        "-",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        assert sender.stderr is not None
        sender.stdout.read(1000)
        sender.stdout.close()
        said = sender.stderr.read().decode()
    assert sender.returncode == 9
    assert "whoever reads the stream has ended" in said
    assert "Traceback" not in said


def test_a_full_disk_is_said_by_who_sends(bundle: Path) -> None:
    argv = [sys.executable, "-m", "airgap", "split", str(bundle), "--size", "stream", "--tar", "-o", "-"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 9
    assert done.stderr.startswith("airgap: the stream: No space left on device")


def test_build_writes_the_stream_itself(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.holders("alice")
    stage.write("notes.txt", b"carried\n" * 1000)
    stage.manifest('\n[[files]]\nname = "notes"\npath = "notes.txt"\n')
    stage.run("lock", "demo.toml")
    stage.build("--tar", "demo.tar")
    data = (tmp_path / "demo.tar").read_bytes()
    assert data == sent(tmp_path / "out" / "demo-1", "--size", "stream")
    fingerprint = stage.run("trust", "fingerprint", "trust/1.root.json").out.strip()
    stage.run("trust", "pin", "trust/1.root.json", "--site", "site", "--fingerprint", fingerprint)
    receive(tmp_path / "site", data, 0)
    stage.run("install", "--site", "site")
    found = tmp_path / "site" / "current" / "files" / "notes" / "notes.txt"
    assert hashlib.sha256(found.read_bytes()).hexdigest() == hashlib.sha256(b"carried\n" * 1000).hexdigest()


@pytest.mark.parametrize("verb", ["verify", "install"])
def test_who_would_verify_or_install_a_stream_is_told_to_receive_it(verb: str, site: Path) -> None:
    assert b"airgap receive - --site DIR" in airgap(verb, "-", "--site", site, code=2).stderr
