"""An audit as a value, for whatever is made from one: nothing here was read from bytes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from airgap.audit.evidence import (
    Account,
    ArtifactFact,
    Audit,
    BundleFact,
    Ecosystem,
    EntryPoint,
    FileFact,
    ImageFact,
    ModelFact,
    PackageFact,
    PrivilegedFile,
    PthLine,
    RecordState,
    Secret,
    Signing,
    Subject,
    SubjectKind,
    Totals,
    WheelFact,
)
from airgap.model import Finding, Gpu, Kind, Severity, Sha256, Sha384
from tests.bundles import TARGET

MADE = datetime(2026, 11, 1, 12, tzinfo=UTC)
WHEEL, LAYER, IMAGE = Sha256("1" * 64), Sha256("2" * 64), Sha256("3" * 64)


def audit(**changes: object) -> Audit:
    """One artifact of each kind, one finding of each severity; `changes` override fields."""
    value = Audit(
        "1.2.3",
        MADE + timedelta(days=3),
        Subject(SubjectKind.BUNDLE, "out/serving-2026.11", (bundle(),)),
        Totals(artifacts=4, blobs=9, bytes=1_200_000, read=1_200_000, files=3, unpacked=900, packages=2),
        artifacts=(
            ArtifactFact("serving", Kind.WHEELS, "packages", Sha256("a" * 64), 1, 1000),
            ArtifactFact("serving", Kind.CONTAINER, "engine", IMAGE, 3, 700_000, "registry.example/e:1"),
            ArtifactFact("serving", Kind.MODEL, "tiny", Sha256("b" * 64), 2, 1000, "org/tiny@c", "mit"),
            ArtifactFact("serving", Kind.FILE, "notes", Sha256("c" * 64), 1, 10),
        ),
        files=(
            FileFact("packages", WHEEL_FILE, "zip", 1000, WHEEL, "https://index.example/x", "MIT"),
            FileFact("packages", f"{WHEEL_FILE}!alpha/x.py", "text", 3, Sha256("4" * 64), "", "MIT", depth=1),
            FileFact("notes", "notes.txt", "text", 10, Sha256("5" * 64), "local:notes.txt"),
        ),
        packages=(
            PackageFact(
                Ecosystem.PYPI, "alpha", "1.0", "pkg:pypi/alpha@1.0", "packages", WHEEL_FILE, WHEEL,
                licence="MIT", requires=("beta",),
            ),
            PackageFact(
                Ecosystem.DEB, "libssl3", "3.0.1-1", "pkg:deb/debian/libssl3@3.0.1-1?distro=debian-12",
                "engine", "var/lib/dpkg/status", LAYER, "amd64", "debian", "12", source_name="openssl",
            ),
        ),
        wheels=(
            WheelFact(
                "packages", WHEEL_FILE, WHEEL, "alpha", "1.0", ("py3-none-any",), ">=3.9", "",
                (EntryPoint("console_scripts", "alpha", "alpha:main"),), (),
                (PthLine("alpha.pth", 1, "import os", runs=True),), (), RecordState(3),
            ),
        ),
        images=(
            ImageFact(
                "engine", IMAGE, "linux/amd64", "2026-10-01T00:00:00Z", (LAYER,), {"ID": "debian"}, "",
                ("/bin/serve",), (), "/", ("PATH", "TOKEN"), ("8000/tcp",), (),
                (Account("root", 0, 0, "/root", "/bin/sh"),),
                (PrivilegedFile("usr/bin/su", 0o4755, 0, 0, LAYER),),
                (Secret("config: Env TOKEN", 0, "Secret Keyword", "abc…"),),
            ),
        ),
        models=(
            ModelFact(
                "tiny", "org/tiny", "c" * 40, "apache-2.0", "", "", ("org/base",), "", {"tags": ("text",)},
                "bf16", 2, 1000, 250, {"BF16": 2000}, (),
            ),
        ),
        findings=(
            Finding("audit-setuid", Severity.WARNING, "engine: usr/bin/su", "runs as its owner, root"),
            Finding("audit-pickle", Severity.ERROR, "tiny: model.bin", "runs code when it is loaded"),
        ),
    )  # fmt: skip
    return replace(value, **changes)  # type: ignore[arg-type]


WHEEL_FILE = "alpha-1.0-py3-none-any.whl"


def bundle(**changes: object) -> BundleFact:
    target = replace(TARGET, gpu=Gpu("NVIDIA L4", "8.9", 24, 4), driver="570.86")
    signing = Signing(True, ("k1", "k2"), ("alice", "bob"), ("carol",), 2, 1, MADE + timedelta(days=90))
    value = BundleFact(
        "serving", "2026.11", "gpu", 0, 3, MADE, MADE + timedelta(days=90), ("plant",), Sha384("d" * 96),
        target, signing,
    )  # fmt: skip
    return replace(value, **changes)  # type: ignore[arg-type]
