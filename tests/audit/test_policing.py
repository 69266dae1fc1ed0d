"""`--osv` and `--policy` from outside: what audit, verify, install and build do with them."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.media import Media
from airgap.model import Sha384
from airgap.trust.blobs import Base
from tests import bundles
from tests.audit.advisories import PUBLISHED, advisory, export, span
from tests.audit.faults import SYSTEM, Entry, image, model_files, wheel
from tests.isolated.sites import problems, snapshot
from tests.servers.index import make_wheel
from tests.stage import Stage

OPENSSL = advisory(
    "DSA-9999-1", ["CVE-2099-1"], "openssl", span("0", "3.0.2-1"), ecosystem="Debian:12", word="HIGH"
)
ADVISORIES = export([*PUBLISHED, OPENSSL])

STRICT = """
format = 1
[licences]
allowed = ["Apache-2.0", "MIT"]
[formats]
weights = ["safetensors"]
pickle = false
[signers]
minimum = 2
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Old wheels, an image of Debian, a model, and advisories that speak of them."""
    wheels = dict(
        [make_wheel("requests", "2.30.0", licence="Apache-2.0"), make_wheel("six", "1.16.0", licence="MIT")]
    )
    contents = [
        bundles.wheels("packages", wheels),
        bundles.model("tiny", model_files(), repo="org/tiny"),
        image("engine"),
        bundles.file("osv", ADVISORIES, path="all.zip"),
    ]
    return bundles.write_bundle(tmp_path / "bundle", contents)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return bundles.pin(tmp_path / "site")


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return path

    return write


def document(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def ids(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["package"], one["id"]) for one in report["vulnerabilities"]}


# ------------------------------------------------------------------ vulnerabilities


def test_advisories_that_travel_are_matched_with_wheels_and_images(
    bundle: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = document(capsys, "audit", bundle, "--site", site)
    assert ids(report) == {
        ("requests", "CVE-2023-32681"), ("requests", "CVE-2024-35195"), ("requests", "CVE-2024-47081"),
        ("libssl3", "CVE-2099-1"),
    }  # fmt: skip
    [data] = report["vulnerability_data"]
    assert data["source"] == "artifact osv"
    assert data["sha256"] == hashlib.sha256(ADVISORIES).hexdigest()
    assert data["newest"] == "2025-02-26T18:48:16Z"
    [openssl] = [one for one in report["vulnerabilities"] if one["package"] == "libssl3"]
    assert (openssl["rating"], openssl["fixed"], openssl["version"]) == ("high", ["3.0.2-1"], "3.0.1-1+b2")


def test_a_site_is_audited_again_with_newer_advisories_and_no_new_bundle(
    bundle: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    before = document(capsys, "audit", site)
    newer = tmp_path / "newer.zip"
    newer.write_bytes(export([*PUBLISHED, OPENSSL, advisory("X-1", [], "six", span("0", "2"))]))
    after = document(capsys, "audit", site, "--osv", newer)
    assert ids(after) - ids(before) == {("six", "X-1")}
    assert run(["audit", str(site), "--osv", str(newer)]) == 0
    shown = capsys.readouterr().out
    assert f"advisories of {newer}: {len(PUBLISHED) + 2}" in shown
    assert "vulnerabilities: 1 high" in shown


def test_without_advisories_nobody_says_that_there_is_no_vulnerability(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = bundles.write_bundle(tmp_path / "bare", [bundles.file("notes", b"x")])
    assert document(capsys, "audit", bare, "--site", site)["vulnerabilities"] is None
    assert run(["audit", str(bare), "--site", str(site), "--osv", "nothing"]) == 3


# ------------------------------------------------------------------ policy


LAX = "format = 1\n[signers]\nminimum = 2\n"
FORBIDS = 'format = 1\n[vulnerabilities]\nmaximum = "medium"\n'


def waived(subject: str, days: int) -> str:
    last = (datetime.now(UTC) + timedelta(days=days)).date()
    return (
        f'[[waivers]]\nrule = "vulnerabilities.maximum"\nsubject = "{subject}"\nreason = "not reachable"\n'
        f'name = "Jane Doe"\nexpires = {last}\n'
    )


def test_audit_says_all_of_it_and_ends_with_8(
    bundle: Path, site: Path, policy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = policy(FORBIDS)
    report = document(capsys, "audit", bundle, "--site", site, "--policy", file, code=8)
    assert [(one["rule"], one["subject"]) for one in report["policy"]["violations"]] == [
        ("vulnerabilities.maximum", "engine: libssl3 3.0.1-1+b2: CVE-2099-1")
    ]
    waiver = policy(FORBIDS + waived("engine: libssl3 *: CVE-2099-1", 30))
    assert run(["audit", str(bundle), "--site", str(site), "--policy", str(waiver)]) == 0
    assert "not reachable (Jane Doe)" in capsys.readouterr().out
    ended = policy(FORBIDS + waived("engine: libssl3 *: CVE-2099-1", -1))
    assert run(["audit", str(bundle), "--site", str(site), "--policy", str(ended)]) == 8
    assert "waivers.expires" in capsys.readouterr().out


def test_verify_judges_what_is_as_signed(
    bundle: Path, site: Path, policy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("verify", bundle, "--site", site, "--policy")
    found = document(capsys, *arguments, policy(LAX))
    assert found["bundles"][0]["policy"]["violations"] == []
    found = document(capsys, *arguments, policy(FORBIDS), code=8)
    assert found["bundles"][0]["sound"] is True
    assert len(found["bundles"][0]["policy"]["violations"]) == 1
    blob = max((bundle / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"other")
    assert document(capsys, *arguments, policy(FORBIDS), code=6)["bundles"][0]["policy"] is None


def test_a_refused_install_leaves_what_is_installed(
    bundle: Path,
    site: Path,
    tmp_path: Path,
    policy: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = bundles.write_bundle(tmp_path / "first", [bundles.file("notes", b"one")], version="1")
    second = bundles.write_bundle(
        bundle, [bundles.file("osv", ADVISORIES, path="all.zip"), image("engine")], sequence=2
    )
    assert run(["install", str(first), "--site", str(site)]) == 0
    before, floors = snapshot(site), (site / "trust").stat().st_mtime_ns
    capsys.readouterr()
    assert run(["install", str(second), "--site", str(site), "--policy", str(policy(FORBIDS))]) == 8
    error = capsys.readouterr().err
    assert "policy.toml: 1 violation of the policy" in error
    assert "vulnerabilities.maximum: engine: libssl3 3.0.1-1+b2: CVE-2099-1" in error
    assert (snapshot(site), (site / "trust").stat().st_mtime_ns) == (before, floors)
    assert problems(site) == []
    # The bytes are there already: what a laxer policy lets in is not copied again.
    found = document(capsys, "install", second, "--site", site, "--policy", policy(LAX))
    assert found["missing"]["blobs"] == 0
    assert found["policy"]["violations"] == []
    assert found["generation"] == 2


def test_what_is_installed_already_is_judged_again(
    bundle: Path, site: Path, policy: Callable[[str], Path]
) -> None:
    arguments = ["install", str(bundle), "--site", str(site)]
    assert run(arguments) == 0
    assert run([*arguments, "--policy", str(policy(FORBIDS))]) == 8
    assert run([*arguments, "--policy", str(policy(LAX))]) == 0


@pytest.mark.parametrize("verb", ["install", "verify"])
def test_the_media_are_read_once(
    bundle: Path, site: Path, policy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    contents = [image("engine"), bundles.model("tiny", model_files(), repo="org/tiny")]
    bundles.write_bundle(bundle, contents)  # without advisories: those are read again, from a copy
    opened: Counter[str] = Counter()
    real = Media.open

    @contextmanager
    def counting(media: Media, path: str) -> Iterator[Callable[[memoryview], int]]:
        if media.root == bundle:
            opened[path] += 1
        with real(media, path) as readinto:
            yield readinto

    monkeypatch.setattr(Media, "open", counting)
    assert run([verb, str(bundle), "--site", str(site), "--policy", str(policy(LAX))]) == 0
    assert len(opened) > 8
    assert set(opened.values()) == {1}


BASE_ALONE = """
import sys
sys.modules.update(dict.fromkeys(["license_expression", "detect_secrets", "picklescan", "cvss"]))
from airgap.cli import run
sys.exit(run(sys.argv[1:]))
"""
"""airgap with its three base dependencies alone."""


def test_what_the_installed_python_cannot_look_into_is_a_violation(
    bundle: Path, site: Path, policy: Callable[[str], Path]
) -> None:
    arguments = ["install", str(bundle), "--site", str(site), "--policy", str(policy(STRICT))]
    alone = subprocess.run(
        [sys.executable, "-c", BASE_ALONE, *arguments], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 8, alone.stderr
    assert "licences.allowed: licences: not known" in alone.stderr
    assert not (site / "current").exists()
    secrets = policy('format = 1\n[checks]\nrequired = ["secrets"]\n')
    alone = subprocess.run(
        [sys.executable, "-c", BASE_ALONE, *arguments[:-1], secrets],
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 8, alone.stderr
    assert run([*arguments[:-1], str(secrets)]) == 0


def test_a_dry_run_says_what_would_be_refused_and_writes_nothing(
    bundle: Path, site: Path, policy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["install", str(bundle), "--site", str(site), "--dry-run", "--policy"]
    before = snapshot(site)
    assert run([*arguments, str(policy(LAX))]) == 0
    said = capsys.readouterr().out
    assert "policy.toml: " in said
    assert "REFUSED" not in said
    assert run([*arguments, str(policy(FORBIDS))]) == 8
    said = capsys.readouterr().out
    assert "vulnerabilities.maximum: engine: libssl3 3.0.1-1+b2: CVE-2099-1" in said
    assert "would be REFUSED by the policy" in said
    found = document(capsys, *arguments, policy(FORBIDS), code=8)
    assert len(found["policy"]["violations"]) == 1
    assert snapshot(site) == before
    assert run(["install", str(bundle), "--site", str(site), "--osv", "osv"]) == 2


def test_a_dry_run_of_a_delta_looks_into_what_the_site_holds_too(
    bundle: Path,
    site: Path,
    tmp_path: Path,
    policy: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    contents = [image("engine"), bundles.file("osv", ADVISORIES, path="all.zip")]
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    held = {
        file.sha256
        for content in contents
        for file in content.artifact.files
        if "manifest" not in file.media_type
    }
    delta = bundles.write_bundle(
        tmp_path / "delta",
        [*contents, bundles.file("notes", b"new")],
        sequence=2,
        base=Base(Sha384("a" * 96), frozenset(held)),
    )
    whole = policy(FORBIDS + '[checks]\nrequired = ["contents"]\n')
    found = document(capsys, "install", delta, "--site", site, "--policy", whole, "--dry-run", code=8)
    engine = "engine: libssl3 3.0.1-1+b2: CVE-2099-1"
    assert [one["subject"] for one in found["policy"]["violations"]] == [engine]
    assert run(["install", str(delta), "--site", str(site), "--policy", str(whole)]) == 8
    assert engine in capsys.readouterr().err


@pytest.fixture
def volumes(bundle: Path, tmp_path: Path) -> list[Path]:
    """The same bundle, cut so small that its layer and its advisories lie on several volumes."""
    wheels = dict([make_wheel("requests", "2.30.0", licence="Apache-2.0"), make_wheel("six", "1.16.0")])
    padded = export(
        [
            *PUBLISHED,
            OPENSSL,
            {"id": "X-2", "modified": "2020-01-01T00:00:00Z", "details": os.urandom(400_000).hex()},
        ]
    )
    contents = [
        bundles.wheels("packages", wheels),
        image("engine", [*SYSTEM, Entry("srv/data", os.urandom(600_000))]),
        bundles.file("osv", padded, path="all.zip"),
    ]
    bundles.write_bundle(bundle, contents)
    assert run(["split", str(bundle), "--size", "500kB", "-o", str(tmp_path / "discs")]) == 0
    return sorted((tmp_path / "discs").iterdir())


def test_volumes_are_judged_as_the_bundle_they_were_cut_from(
    bundle: Path,
    site: Path,
    volumes: list[Path],
    tmp_path: Path,
    policy: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(volumes) > 3
    file = policy(FORBIDS + waived("requests *: CVE-2024-35195", 30))
    options = ("--site", site, "--policy", file)
    whole = document(capsys, "audit", bundle, *options, code=8)
    cut = document(capsys, "audit", *reversed(volumes), *options, code=8)
    assert whole["vulnerability_data"][0]["source"] == "artifact osv"
    for key in ("vulnerabilities", "vulnerability_data", "policy"):
        assert cut[key] == whole[key]
    newer = tmp_path / "newer.zip"
    newer.write_bytes(export([advisory("X-1", [], "six", span("0", "2"))]))
    given = document(capsys, "audit", *volumes, *options, "--osv", newer, code=8)
    assert ids(given) == {("six", "X-1")}
    # verify: the same answer, once all are here
    whole_verified = document(capsys, "verify", bundle, *options, code=8)["bundles"][0]["policy"]
    [found] = document(capsys, "verify", *reversed(volumes), *options, code=8)["collections"]
    assert (found["policy"], found["complete"]) == (whole_verified, True)
    assert found["policy"]["violations"] == whole["policy"]["violations"]
    assert run(["verify", *map(str, volumes), *map(str, options)]) == 8
    assert "vulnerabilities.maximum: engine: libssl3" in capsys.readouterr().out
    lax = ("--site", site, "--policy", policy(LAX))
    assert document(capsys, "verify", *volumes, *lax)["collections"][0]["policy"]["violations"] == []


@pytest.mark.parametrize("inside", [True, False], ids=["looked into", "verified alone"])
def test_volumes_are_read_once_for_their_bytes_and_what_is_inside(
    inside: bool,
    site: Path,
    bundle: Path,
    tmp_path: Path,
    policy: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without advisories: those are read again, from a copy. The wheel and the layer are cut."""
    padded = dict([wheel("alpha", members={"alpha/x.bin": os.urandom(800_000)})])
    data = [Entry("srv/data", os.urandom(700_000))]
    contents = [bundles.wheels("packages", padded), image("engine", [*SYSTEM, *data])]
    bundles.write_bundle(bundle, contents)
    assert run(["split", str(bundle), "--size", "500kB", "-o", str(tmp_path / "discs")]) == 0
    found = sorted((tmp_path / "discs").iterdir())
    read: Counter[str] = Counter()
    real_open, real_open_at = Media.open, Media.open_at

    @contextmanager
    def counting(media: Media, path: str, start: int = 0) -> Iterator[Callable[[memoryview], int]]:
        with real_open(media, path, start) as readinto:

            def counted(buffer: memoryview) -> int:
                read[f"{media.root}/{path}"] += (count := readinto(buffer))
                return count

            yield counted

    @contextmanager
    def counting_at(media: Media, path: str) -> Iterator[Callable[[int, int], bytes]]:
        with real_open_at(media, path) as read_at:

            def counted(begin: int, count: int) -> bytes:
                data = read_at(begin, count)
                read[f"{media.root}/{path}"] += len(data)
                return data

            yield counted

    monkeypatch.setattr(Media, "open", counting)
    monkeypatch.setattr(Media, "open_at", counting_at)
    asked = ["--policy", str(policy(LAX))] if inside else []
    assert run(["verify", *map(str, found), "--site", str(site), *asked]) == 0
    large = [path for volume in found for path in volume.rglob("*") if path.stat().st_size > 100_000]
    assert len([path for path in large if "parts" in path.parts]) > 3
    assert {str(path): read[str(path)] for path in large if path.is_file()} == {
        str(path): path.stat().st_size for path in large if path.is_file()
    }


def test_volumes_that_are_not_all_here_are_not_judged(
    site: Path, volumes: list[Path], policy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--site", site, "--policy", policy(FORBIDS))
    [found] = document(capsys, "verify", *volumes[1:], *options, code=10)["collections"]
    assert found["policy"] is None
    assert run(["verify", *map(str, volumes[1:]), *map(str, options)]) == 10
    assert "policy: not judged" in capsys.readouterr().out
    assert run(["install", *map(str, volumes[1:]), "--dry-run", *map(str, options)]) == 10
    assert "policy: not judged" in capsys.readouterr().out
    assert run(["install", *map(str, volumes), *map(str, options)]) == 8
    assert not (site / "current").exists()


def test_a_dry_run_with_volumes_says_what_a_policy_refuses(
    bundle: Path,
    site: Path,
    volumes: list[Path],
    policy: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--site", site, "--policy", policy(FORBIDS), "--dry-run")
    whole = document(capsys, "install", bundle, *options, code=8)["policy"]
    assert whole["violations"]
    assert document(capsys, "install", *reversed(volumes), *options, code=8)["policy"] == whole
    assert not (site / "arrivals").exists()
    # some on the disk already, ranges and whole blobs, and the others on their media
    assert run(["receive", *map(str, volumes[::2]), "--site", str(site)]) == 10
    assert list(site.glob("arrivals/*/parts/*")) and list(site.glob("arrivals/*/bundle/blobs/sha256/*"))
    before = sorted(str(path) for path in site.rglob("*"))
    assert document(capsys, "install", *volumes[1::2], *options, code=8)["policy"] == whole
    assert sorted(str(path) for path in site.rglob("*")) == before
    assert run(["install", *map(str, volumes[1::2]), *map(str, options)]) == 8
    assert "would be REFUSED by the policy; nothing was written" in capsys.readouterr().out
    lax = ("--site", site, "--policy", policy(LAX), "--dry-run")
    assert document(capsys, "install", *volumes[1::2], *lax, code=0)["policy"]["violations"] == []
    assert run(["install", str(bundle), *map(str, volumes), *map(str, lax)]) == 2
    assert "not both at once" in capsys.readouterr().err
    for damaged, given in ((volumes[1], volumes[1::2]), (bundle, [bundle])):
        file = max(
            (path for path in damaged.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
        )
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert run(["install", *map(str, given), *map(str, lax)]) == 6
        assert "its bytes are not what was signed" in capsys.readouterr().err


def test_a_policy_that_cannot_be_read_ends_everything_before_it_begins(
    bundle: Path, site: Path, policy: Callable[[str], Path]
) -> None:
    bad = policy("format = 1\n[licences]\nallow = []\n")
    for verb in ("verify", "install", "audit"):
        assert run([verb, str(bundle), "--site", str(site), "--policy", str(bad)]) == 3
    assert not (site / "blobs").exists()


def test_build_leaves_nothing_of_a_bundle_that_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.holders("alice")
    stage.write("notes.txt", b"\x80\x04cos\nsystem\n(S'x'\ntR.")
    stage.manifest('[[files]]\nname = "notes"\npath = "notes.txt"\n')
    stage.run("lock", "demo.toml")
    stage.write(
        "policy.toml",
        "format = 1\n[signers]\nminimum = 2\n[formats]\npickle = false\n[sources]\nlocal = false\n",
    )
    refused = stage.build("--policy", "policy.toml", code=8)
    assert "sources.local: notes" in refused.err
    assert "formats.pickle" in refused.err
    assert "signers" not in refused.err
    assert list((tmp_path / "out").iterdir()) == []
    stage.write("policy.toml", "format = 1\n[signers]\nminimum = 2\n")
    built = stage.build("--policy", "policy.toml", "--json").document
    assert built["sequence"] == 1
    assert built["policy"]["violations"] == []
