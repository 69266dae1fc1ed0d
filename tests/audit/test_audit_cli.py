"""`airgap audit` from outside: planted faults are found, each once and nothing else; clean has none."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import bundles
from tests.audit import faults
from tests.audit.faults import Entry, image, model_files, wheel
from tests.bundles import Content

DETECTOR = "ghp_" + "1234567890abcdefghij" * 2
"""Not a token: it is what one looks like."""


def clean() -> list[Content]:
    return [
        bundles.wheels("packages", dict([wheel("alpha"), wheel("beta", licence="Apache-2.0 OR MIT")])),
        bundles.model("tiny", model_files(), repo="org/tiny"),
        image("engine"),
        bundles.file("notes", b"carried across\n"),
    ]


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    error: str
    report: dict[str, Any]
    files: list[dict[str, str]]

    @property
    def findings(self) -> list[tuple[str, str]]:
        return sorted((one["code"], one["subject"]) for one in self.report["findings"])


def audit(subject: Path, out: Path, *options: str | Path) -> Run:
    argv = [sys.executable, "-m", "airgap", "audit", subject, "-o", out, *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    report, files = {}, []
    if (out / "report.json").exists():
        report = json.loads((out / "report.json").read_text())
        files = list(csv.DictReader((out / "files.csv").read_text().splitlines()))
    return Run(done.returncode, done.stdout, done.stderr, report, files)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return bundles.pin(tmp_path / "site")


def audited(tmp_path: Path, contents: Sequence[Content], *options: str | Path) -> Run:
    """Audit a bundle of these, judged by the root of the tests."""
    bundle = bundles.write_bundle(tmp_path / "bundle", contents)
    return audit(bundle, tmp_path / "evidence", *options)


def test_a_clean_bundle_has_no_finding_and_every_file_is_listed(tmp_path: Path, site: Path) -> None:
    run = audited(tmp_path, clean(), "--site", site, "--fail-on", "warning")
    assert (run.code, run.findings, run.error) == (0, [], "")
    assert "findings: none" in run.out
    assert "signed by alice, bob; not signed by carol, not needed" in run.out
    report = run.report
    assert report["totals"]["read"] == report["totals"]["bytes"], "every byte was read once"
    listed = {(row["artifact"], row["path"].rpartition("/")[2]) for row in run.files}
    assert {
        ("packages", "alpha-1.0-py3-none-any.whl"),
        ("packages", "__init__.py"),
        ("tiny", "model.safetensors"),
        ("engine", "status"),
        ("notes", "notes.txt"),
    } <= listed
    [member] = [row for row in run.files if row["path"] == "alpha-1.0-py3-none-any.whl!alpha/__init__.py"]
    assert member["sha256"] == hashlib.sha256(b"VERSION = 1\n").hexdigest()
    assert (member["type"], member["size"], member["licence"]) == ("text", "12", "MIT")
    assert member["source"] == "local:alpha-1.0-py3-none-any.whl"


def test_the_report_says_what_an_auditor_asks(tmp_path: Path, site: Path) -> None:
    report = audited(tmp_path, clean(), "--site", site).report
    [bundle] = report["subject"]["bundles"]
    assert (bundle["name"], bundle["sequence"], bundle["signing"]["signers"]) == (
        "quickstart",
        1,
        ["alice", "bob"],
    )
    assert {(p["ecosystem"], p["name"], p["version"], p["purl"]) for p in report["packages"]} == {
        ("pypi", "alpha", "1.0", "pkg:pypi/alpha@1.0"),
        ("pypi", "beta", "1.0", "pkg:pypi/beta@1.0"),
        ("pypi", "six", "1.16.0", "pkg:pypi/six@1.16.0"),
        ("deb", "libssl3", "3.0.1-1+b2", "pkg:deb/debian/libssl3@3.0.1-1%2Bb2?arch=amd64&distro=debian-12"),
    }
    [alpha, _] = report["wheels"]
    assert alpha["entry_points"] == [{"group": "console_scripts", "name": "alpha", "target": "alpha:main"}]
    assert alpha["record"]["checked"] == 4
    [engine] = report["images"]
    assert (engine["user"], engine["entrypoint"], engine["exposed_ports"]) == (
        "serve",
        ["/bin/serve"],
        ["8000/tcp"],
    )
    assert engine["environment"] == ["PATH", "LANG"]
    assert [account["name"] for account in engine["accounts"]] == ["root", "serve"]
    assert engine["os_release"]["ID"] == "debian"
    [tiny] = report["models"]
    assert (tiny["licence"], tiny["base_models"], tiny["languages"]) == (
        "apache-2.0",
        ["org/base"],
        ["en", "de"],
    )
    assert (tiny["tensors"], tiny["parameters"], tiny["bytes_by_dtype"]) == (2, 16, {"BF16": 32})


def test_one_of_each_planted_fault_yields_exactly_those_findings(tmp_path: Path, site: Path) -> None:
    spoiled = wheel("spoiled", record={"spoiled/__init__.py": b"VERSION = 2\n"})
    startup = wheel("startup", members={"startup.pth": b"import os; os.getcwd()\n/a/path\n"})
    bomb = wheel("bomb", members={"bomb/data.bin": bytes(80_000_000)})
    packages = [wheel("alpha"), wheel("free", licence="GPL-3.0-or-later"), spoiled, startup, bomb]
    su = (Entry("usr/bin/su", b"\x7fELF" + bytes(60), 0o4755),)
    run = audited(
        tmp_path,
        [
            bundles.wheels("packages", dict(packages)),
            bundles.model("tiny", model_files(**{"model.safetensors": faults.MALICIOUS}), repo="org/tiny"),
            image("engine", faults.SYSTEM, su, env=("PATH=/bin", f"GITHUB_TOKEN={DETECTOR}")),
        ],
        "--site",
        site,
        "--fail-on",
        "error",
    )
    assert run.findings == [
        ("audit-bomb", "packages: bomb-1.0-py3-none-any.whl"),
        ("audit-pickle-code", "tiny: model.safetensors"),
        ("audit-record", "packages: spoiled-1.0-py3-none-any.whl"),
        ("audit-secret", "engine: config: Env GITHUB_TOKEN"),
        ("audit-setuid", "engine: usr/bin/su"),
        ("audit-startup-code", "packages: startup-1.0-py3-none-any.whl!startup.pth"),
    ]
    assert run.code == 8
    assert "os.system" in run.out
    assert DETECTOR not in run.out + json.dumps(run.report), "a secret is never repeated"
    free = next(p for p in run.report["packages"] if p["name"] == "free")
    assert free["licence"] == "GPL-3.0-or-later", "a fact for a policy to forbid, and no finding by itself"


def test_a_damaged_blob_is_verifys_finding_and_nothing_in_it_is_believed(tmp_path: Path, site: Path) -> None:
    name, data = wheel("alpha")
    bundle = bundles.write_bundle(tmp_path / "bundle", [bundles.wheels("packages", {name: data})])
    blob = bundle / "blobs" / "sha256" / hashlib.sha256(data).hexdigest()
    changed = bytearray(data)
    changed[data.index(b"VERSION") if b"VERSION" in data else 40] ^= 1
    blob.write_bytes(changed)
    run = audit(bundle, tmp_path / "evidence", "--site", site)
    assert run.code == 6
    verify = [sys.executable, "-m", "airgap", "verify", str(bundle), "--site", str(site), "--json"]
    verified = json.loads(subprocess.run(verify, capture_output=True, text=True, check=False).stdout)
    assert run.report["findings"] == verified["bundles"][0]["findings"]
    assert run.files == []
    assert run.report["wheels"] == []


def test_without_a_root_nobody_judged_and_it_is_said(tmp_path: Path) -> None:
    run = audited(tmp_path, [bundles.file("notes", b"text\n")])
    assert (run.code, run.findings) == (0, [("audit-unjudged", "bundle.dsse.json")])
    assert not run.report["subject"]["bundles"][0]["signing"]["judged"]


def test_signatures_that_do_not_hold_are_exit_code_7_and_the_bytes_are_still_shown(
    tmp_path: Path, site: Path
) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", clean(), signers=("alice",))
    run = audit(bundle, tmp_path / "evidence", "--site", site)
    assert (run.code, run.findings) == (7, [("audit-untrusted", "bundle.dsse.json")])
    assert "NOT to be believed" in run.out
    assert len(run.report["wheels"]) == 2


def test_what_expires_soon_is_found(tmp_path: Path, site: Path) -> None:
    soon = bundles.CREATED + timedelta(days=20)
    bundle = bundles.write_bundle(tmp_path / "bundle", [bundles.file("notes", b"x\n")], expires_at=soon)
    assert audit(bundle, tmp_path / "evidence", "--site", site).findings == [
        ("audit-expires", "bundle.dsse.json")
    ]


def test_a_site_is_the_union_of_its_bundles_read_from_its_own_store(tmp_path: Path, site: Path) -> None:
    other = [bundles.file("more", b"further text\n"), clean()[2]]
    for name, contents in (("one", clean()), ("two", other)):
        bundle = bundles.write_bundle(tmp_path / name, contents, name=name)
        install = [sys.executable, "-m", "airgap", "install", str(bundle), "--site", str(site)]
        subprocess.run(install, check=True, capture_output=True)
        shutil.rmtree(bundle)
    run = audit(site, tmp_path / "evidence")
    assert (run.code, run.findings) == (0, [])
    subject = run.report["subject"]
    assert (subject["kind"], subject["generation"]) == ("site", 2)
    assert [(b["name"], b["signing"]["signers"]) for b in subject["bundles"]] == [
        ("one", ["alice", "bob"]),
        ("two", ["alice", "bob"]),
    ]
    assert {row["artifact"] for row in run.files} == {"packages", "tiny", "engine", "notes", "more"}
    blob = next(p for p in (site / "blobs" / "sha256").iterdir() if p.read_bytes() == b"further text\n")
    blob.write_bytes(b"FURTHER TEXT\n")
    run = audit(site, tmp_path / "evidence")
    assert (run.code, [code for code, _ in run.findings]) == (6, ["integrity-changed"])


@pytest.mark.parametrize("subject", ["empty", "nothing"])
def test_what_is_neither_bundle_nor_site_is_exit_code_3(tmp_path: Path, subject: str) -> None:
    (tmp_path / "empty").mkdir()
    run = audit(tmp_path / subject, tmp_path / "evidence")
    assert run.code == 3
    assert "bundle" in run.error
    assert not (tmp_path / "evidence").exists()
