"""Volumes on real file systems: an ISO 9660 image and a FAT32 one, written, mounted and read back."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airgap.cli import run
from tests import bundles
from tests.services import need


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blob that no volume of a megabyte holds, and a few that do."""
    files = {"big.bin": os.urandom(2_000_000), **{f"part-{n}.bin": os.urandom(50_000) for n in range(8)}}
    made = tmp_path_factory.mktemp("forms") / "bundle"
    return bundles.write_bundle(made, [bundles.model("weights", files)])


@contextmanager
def mounted(image: Path, at: Path, *, kind: str) -> Iterator[Path]:
    """By the kernel where it may and can, else in user space: both read what was written, not our code."""
    at.mkdir()
    loop = ["mount", "-o", "loop" if kind == "vfat" else "loop,ro", "-t", kind, str(image), str(at)]
    user = {
        "iso9660": ["fuseiso", str(image), str(at)],
        "vfat": ["fusefat", "-o", "rw+", str(image), str(at)],
    }
    by_kernel = subprocess.run(loop, capture_output=True, check=False).returncode == 0
    if not by_kernel:
        need(user[kind][0], "fusermount")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip(f"this machine mounts no {kind}: neither its kernel nor FUSE")
        subprocess.run(user[kind], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at] if by_kernel else ["fusermount", "-u", at], check=True)


def test_an_iso_is_mounted_verified_and_received(bundle: Path, tmp_path: Path) -> None:
    need("xorriso")
    site = bundles.pin(tmp_path / "site")
    assert run(["split", str(bundle), "--size", "1500kB", "--iso", "-o", str(tmp_path / "isos")]) == 0
    images = sorted((tmp_path / "isos").iterdir())
    assert len(images) == 2
    assert all(image.stat().st_size <= 1_500_000 for image in images)
    for number, image in enumerate(images, 1):
        with mounted(image, tmp_path / f"mounted-{number}", kind="iso9660") as volume:
            listed = ["sha384sum", "--check", "--strict", "--quiet", "SHA384SUMS"]
            subprocess.run(listed, cwd=volume, check=True)
            assert run(["verify", str(volume), "--site", str(site)]) == 10
            assert run(["receive", str(volume), "--site", str(site)]) == (0 if number == 2 else 10)
    assert run(["install", "--site", str(site)]) == 0
    assert run(["status", "--verify", "--site", str(site)]) == 0


def test_an_iso_holds_what_the_directory_holds(bundle: Path, tmp_path: Path) -> None:
    """xorriso takes ranges out of the bundle by itself: they must be ours."""
    need("xorriso")
    for form in ([], ["--iso"]):
        argv = ["split", str(bundle), "--size", "1500kB", "--only", "2", "-o", str(tmp_path / "out"), *form]
        assert run(argv) == 0
    directory, image = sorted((tmp_path / "out").iterdir())
    with mounted(image, tmp_path / "mounted", kind="iso9660") as volume:
        subprocess.run(["diff", "-r", directory, volume], check=True)


def test_a_fat32_stick_takes_the_volumes_it_was_cut_for(bundle: Path, tmp_path: Path) -> None:
    need("mkfs.fat")
    site = bundles.pin(tmp_path / "site")
    stick = tmp_path / "stick.img"
    with open(stick, "wb") as image:
        image.truncate(40_000_000)
    subprocess.run(["mkfs.fat", "-F", "32", stick], check=True, capture_output=True)
    argv = ["split", str(bundle), "--size", "8MB", "--file-limit", "700kB", "-o", str(tmp_path / "out")]
    assert run(argv) == 0
    with mounted(stick, tmp_path / "stick", kind="vfat") as volume:
        subprocess.run(["cp", "-r", *(tmp_path / "out").iterdir(), volume], check=True)
    with mounted(stick, tmp_path / "again", kind="vfat") as volume:
        (only,) = volume.iterdir()
        sizes = [path.stat().st_size for path in only.rglob("*") if path.is_file()]
        assert max(sizes) <= 700_000
        assert len(list(only.glob("parts/*/*"))) == 3
        assert run(["install", str(only), "--site", str(site)]) == 0
    assert run(["status", "--verify", "--site", str(site)]) == 0
