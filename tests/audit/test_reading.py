"""What an audit costs, by the operating system's own count: each byte is read once, and memory stays flat."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import bundles
from tests.audit.faults import SYSTEM, Entry, image, model_files, wheel

MEASURE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from airgap.audit.run import Judge, audit_bundle
from airgap.media import Media
from airgap.progress import Silent

def counted():
    return int(dict(line.split(": ") for line in open("/proc/self/io"))["rchar"])

def peak():
    return int(dict(line.split(":") for line in open("/proc/self/status"))["VmHWM"].split()[0]) * 1024

with Media(Path(sys.argv[1])) as media:
    envelope = media.read("bundle.dsse.json", max_bytes=1 << 24)
    audit_bundle(media, "", Judge(datetime.now(UTC)), envelope, progress=Silent())  # imports what it needs
    before = counted()
    found = audit_bundle(media, "", Judge(datetime.now(UTC)), envelope, progress=Silent())
    print(counted() - before, found.totals.read, peak())
"""


def measured(bundle: Path) -> tuple[int, int, int]:
    """Bytes read by system calls, bytes that the audit says it read, and its own peak of memory."""
    argv = [sys.executable, "-c", MEASURE, str(bundle)]
    read, said, peak = map(int, subprocess.check_output(argv, text=True).split())
    return read, said, peak


def test_every_byte_is_read_once_whatever_it_is_in(tmp_path: Path) -> None:
    """A wheel larger than what is kept behind, layers, weights: nothing is read twice to be looked into."""
    large = {"alpha/stored.bin": os.urandom(9_000_000), "alpha/text.py": b"x = 1\n" * 300_000}
    contents = [
        bundles.wheels("packages", dict([wheel("alpha", members=large, compression=zipfile.ZIP_STORED)])),
        bundles.wheels("many", dict(wheel(f"w{n}", members={"x.bin": os.urandom(9000)}) for n in range(30))),
        image("engine", [*SYSTEM, Entry("srv/data", os.urandom(3_000_000))]),
        bundles.model("tiny", model_files(**{"part.bin": os.urandom(3_000_000)}), repo="org/tiny"),
    ]
    bundle = bundles.write_bundle(tmp_path / "bundle", contents)
    size = sum(path.stat().st_size for path in (bundle / "blobs" / "sha256").iterdir())
    read, said, _ = measured(bundle)
    assert said == size
    beside = 64 * 1024  # index.json, verify/, /proc itself
    assert size <= read < size + beside


def test_memory_does_not_grow_with_what_is_read(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (1, 24):
        data = os.urandom(megabytes * 1_000_000)
        contents = [
            bundles.model("m", model_files(**{"part.bin": data}), repo="org/m"),
            bundles.wheels(
                "w", dict([wheel(members={"alpha/x.bin": data[::-1]}, compression=zipfile.ZIP_STORED)])
            ),
            image("i", [*SYSTEM, Entry("srv/x", bytes(2 * len(data)))]),
        ]
        peaks.append(measured(bundles.write_bundle(tmp_path / "bundle", contents))[2])
    assert peaks[1] - peaks[0] < 12_000_000


LOADED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from airgap.audit.run import Judge, audit_bundle
from airgap.media import Media
from airgap.progress import Silent

conclude, ready = sys.modules["airgap.audit.run"].conclude, []

def concluding(*arguments, **named):
    ready.extend(name for name in ("detect_secrets", "license_expression") if name in sys.modules)
    return conclude(*arguments, **named)

sys.modules["airgap.audit.run"].conclude = concluding
with Media(Path(sys.argv[1])) as media:
    envelope = media.read("bundle.dsse.json", max_bytes=1 << 24)
    audit_bundle(media, "", Judge(datetime.now(UTC)), envelope, progress=Silent())
print(*ready)
"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("wheels", "license_expression"),
        ("files", "detect_secrets"),
        ("image", "detect_secrets license_expression"),
    ],
)
def test_the_rules_are_loaded_while_blobs_are_read(tmp_path: Path, kind: str, expected: str) -> None:
    """Before the conclusion, which has to wait for them, and only those that it will ask."""
    contents = {
        "wheels": bundles.wheels("packages", dict([wheel("alpha", members={})])),
        "files": bundles.file("data", b"\0" * 99),
        "image": image("engine", [*SYSTEM]),
    }
    bundle = bundles.write_bundle(tmp_path / "bundle", [contents[kind]])
    argv = [sys.executable, "-c", LOADED, str(bundle)]
    assert subprocess.check_output(argv, text=True).split() == expected.split()
