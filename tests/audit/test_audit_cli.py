"""`airgap audit` from outside: planted faults are found, each once and nothing else; clean has none."""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.layout import digest_of
from airgap.model import ContainerArtifact, Sha384, WheelsArtifact
from airgap.trust.blobs import Base
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


def audit(*subjects: Path, to: Path, options: Sequence[str | Path] = ()) -> Run:
    shutil.rmtree(to, ignore_errors=True)
    code, out, error = airgap("audit", *subjects, "-o", to, *options)
    report, files = {}, []
    if (to / "report.json").exists():
        report = json.loads((to / "report.json").read_text())
        files = list(csv.DictReader((to / "files.csv").read_text().splitlines()))
    return Run(code, out, error, report, files)


def airgap(*arguments: str | Path) -> tuple[int, str, str]:
    """A command in this process: its exit code, and what it prints."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = run([str(argument) for argument in arguments])
    return code, out.getvalue(), error.getvalue()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return bundles.pin(tmp_path / "site")


def audited(tmp_path: Path, contents: Sequence[Content], *options: str | Path) -> Run:
    """Audit a bundle of these, judged by the root of the tests."""
    bundle = bundles.write_bundle(tmp_path / "bundle", contents)
    return audit(bundle, to=tmp_path / "evidence", options=options)


def test_a_clean_bundle_has_no_finding_and_every_file_is_listed(tmp_path: Path, site: Path) -> None:
    found = audited(tmp_path, clean(), "--site", site, "--fail-on", "warning")
    assert (found.code, found.findings, found.error) == (0, [], "")
    assert "findings: none" in found.out
    assert "signed by alice, bob; not signed by carol, not needed" in found.out
    report = found.report
    assert report["totals"]["read"] == report["totals"]["bytes"], "every byte was read once"
    listed = {(row["artifact"], row["path"].rpartition("/")[2]) for row in found.files}
    assert {
        ("packages", "alpha-1.0-py3-none-any.whl"),
        ("packages", "__init__.py"),
        ("tiny", "model.safetensors"),
        ("engine", "status"),
        ("notes", "notes.txt"),
    } <= listed
    [member] = [row for row in found.files if row["path"] == "alpha-1.0-py3-none-any.whl!alpha/__init__.py"]
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
    hooks = {
        "hooks-1.0.data/platlib/sitecustomize.py": b"print(1)\n",
        "hooks-1.0.data/data/lib/python3.11/site-packages/hooks.pth": b"import os\n",
        "hooks-1.0.data/data/lib/python3.11/os.py": b"print(1)\n",
        "hooks-1.0.data/data/local/lib/python3.11/dist-packages/local.pth": b"import os\n",
        "inside.zip!hooks.pth": b"import os\n",
        "pickled.pth": b"ccollections\nOrderedDict\n(tR.\nimport os\n",
        "sitecustomize/__init__.abi3.so": b"\x7fELF" + bytes(60),
    }
    bomb = wheel("bomb", members={"bomb/data.bin": bytes(80_000_000)})
    packages = [
        wheel("alpha"),
        wheel("free", licence="GPL-3.0-or-later"),
        spoiled,
        startup,
        bomb,
        wheel("hooks", members=hooks),
    ]
    su = (Entry("usr/bin/su", b"\x7fELF" + bytes(60), 0o4755),)
    found = audited(
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
    assert found.findings == [
        ("audit-bomb", "packages: bomb-1.0-py3-none-any.whl"),
        ("audit-pickle-code", "tiny: model.safetensors"),
        ("audit-record", "packages: spoiled-1.0-py3-none-any.whl"),
        ("audit-secret", "engine: config: Env GITHUB_TOKEN"),
        ("audit-setuid", "engine: usr/bin/su"),
        *(("audit-startup-code", f"packages: hooks-1.0-py3-none-any.whl!{path}") for path in sorted(hooks)),
        ("audit-startup-code", "packages: startup-1.0-py3-none-any.whl!startup.pth"),
    ]
    assert found.code == 8
    assert "os.system" in found.out
    assert DETECTOR not in found.out + json.dumps(found.report), "a secret is never repeated"
    free = next(p for p in found.report["packages"] if p["name"] == "free")
    assert free["licence"] == "GPL-3.0-or-later", "a fact for a policy to forbid, and no finding by itself"


def test_a_pth_file_that_is_too_large_to_read_is_said_not_to_have_been(tmp_path: Path) -> None:
    large = wheel("large", members={"large.pth": b"#" * (1 << 20) + b"\nimport os\n"})
    found = audited(tmp_path, [bundles.wheels("packages", dict([large]))])
    assert ("audit-not-looked", "packages: large-1.0-py3-none-any.whl!large.pth") in found.findings


@pytest.mark.parametrize(
    "named", [{}, {"platform": {"os": "unknown", "architecture": "unknown"}}], ids=["nothing", "unknown"]
)
def test_an_image_that_an_index_gives_no_platform_is_one(
    tmp_path: Path, site: Path, named: dict[str, object]
) -> None:
    """Engines take it: they ask its config."""
    su = Entry("usr/bin/su", b"su", 0o4755)
    found = audited(
        tmp_path, [faults.indexed(image("engine", [*faults.SYSTEM, su]), **named)], "--site", site
    )
    assert found.findings == [("audit-setuid", "engine: usr/bin/su")]
    assert {one["name"] for one in found.report["packages"]} == {"libssl3", "six"}


def test_a_config_that_is_too_large_to_read_is_said_not_to_have_been(tmp_path: Path, site: Path) -> None:
    large = image("engine", env=(f"GITHUB_TOKEN={DETECTOR}",), more={"padding": "x" * (16 << 20)})
    found = audited(tmp_path, [large], "--site", site)
    assert found.findings == [("audit-not-looked", "engine: config")]


def test_a_file_that_is_a_manifest_as_well_is_looked_into_as_what_it_is_declared(
    tmp_path: Path, site: Path
) -> None:
    engine = image("engine")
    manifest = engine.blobs[engine.artifact.files[0].sha256]
    token = b'{"token": "%b", ' % DETECTOR.encode() + manifest[1:]
    assert isinstance(engine.artifact, ContainerArtifact)
    made = replace(engine.artifact.files[0], sha256=digest_of(token), size=len(token))
    files = (made, *engine.artifact.files[1:])
    artifact = replace(engine.artifact, root=made.sha256, digest=made.sha256, files=files)
    both = [Content(artifact, {**engine.blobs, made.sha256: token}), bundles.file("notes", token)]
    found = audited(tmp_path, both, "--site", site)
    assert found.findings == [("audit-secret", "notes: notes.txt")]
    assert [
        row["path"] for row in found.files if row["sha256"] == made.sha256 and row["artifact"] == "engine"
    ]


def test_a_layer_that_is_a_models_file_as_well_was_looked_into_as_a_layer(tmp_path: Path, site: Path) -> None:
    engine = image("engine")
    layer = engine.blobs[engine.artifact.files[2].sha256]
    tiny = bundles.model("tiny", model_files(**{"more.tar.gz": layer}), repo="org/tiny")
    found = audited(tmp_path, [engine, tiny], "--site", site)
    assert found.findings == [("audit-not-looked", "tiny: more.tar.gz")]


def test_what_is_no_fault_and_still_to_be_known(tmp_path: Path, site: Path) -> None:
    packages = [wheel("none", licence=""), wheel("own", licence="Acme-Terms-1")]
    contents = [
        bundles.wheels("packages", dict(packages)),
        bundles.model(
            "tiny", model_files(**{"model.safetensors": b"moved to another place\n"}), repo="org/tiny"
        ),
    ]
    found = audited(tmp_path, contents, "--site", site)
    assert found.findings == [
        ("audit-licence-none", "packages: none-1.0-py3-none-any.whl"),
        ("audit-licence-unknown", "packages: own-1.0-py3-none-any.whl"),
        ("audit-malformed", "tiny: model.safetensors"),
    ]
    assert "its content is text, its name says safetensors" in found.out


def test_a_damaged_blob_is_verifys_finding_and_nothing_in_it_is_believed(tmp_path: Path, site: Path) -> None:
    name, data = wheel("alpha")
    bundle = bundles.write_bundle(tmp_path / "bundle", [bundles.wheels("packages", {name: data})])
    blob = bundle / "blobs" / "sha256" / hashlib.sha256(data).hexdigest()
    changed = bytearray(data)
    changed[data.index(b"VERSION") if b"VERSION" in data else 40] ^= 1
    blob.write_bytes(changed)
    found = audit(bundle, to=tmp_path / "evidence", options=("--site", site))
    assert found.code == 6
    verified = json.loads(airgap("verify", bundle, "--site", site, "--json")[1])
    assert found.report["findings"] == verified["bundles"][0]["findings"]
    assert found.files == []
    assert found.report["wheels"] == []


def test_without_a_root_nobody_judged_and_it_is_said(tmp_path: Path) -> None:
    found = audited(tmp_path, [bundles.file("notes", b"text\n")])
    assert (found.code, found.findings) == (0, [("audit-unjudged", "bundle.dsse.json")])
    assert not found.report["subject"]["bundles"][0]["signing"]["judged"]


def test_signatures_that_do_not_hold_are_exit_code_7_and_the_bytes_are_still_shown(
    tmp_path: Path, site: Path
) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", clean(), signers=("alice",))
    found = audit(bundle, to=tmp_path / "evidence", options=("--site", site))
    assert (found.code, found.findings) == (7, [("audit-untrusted", "bundle.dsse.json")])
    assert "NOT to be believed" in found.out
    assert len(found.report["wheels"]) == 2


def test_what_expires_soon_is_found(tmp_path: Path, site: Path) -> None:
    soon = bundles.CREATED + timedelta(days=20)
    bundle = bundles.write_bundle(tmp_path / "bundle", [bundles.file("notes", b"x\n")], expires_at=soon)
    assert audit(bundle, to=tmp_path / "evidence", options=("--site", site)).findings == [
        ("audit-expires", "bundle.dsse.json")
    ]


def test_a_site_is_the_union_of_its_bundles_read_from_its_own_store(tmp_path: Path, site: Path) -> None:
    other = [bundles.file("more", b"further text\n"), clean()[2]]
    for name, contents in (("one", clean()), ("two", other)):
        bundle = bundles.write_bundle(tmp_path / name, contents, name=name)
        assert airgap("install", bundle, "--site", site)[0] == 0
        shutil.rmtree(bundle)
    found = audit(site, to=tmp_path / "evidence")
    assert (found.code, found.findings) == (0, [])
    subject = found.report["subject"]
    assert (subject["kind"], subject["generation"]) == ("site", 2)
    assert [(b["name"], b["signing"]["signers"]) for b in subject["bundles"]] == [
        ("one", ["alice", "bob"]),
        ("two", ["alice", "bob"]),
    ]
    assert {row["artifact"] for row in found.files} == {"packages", "tiny", "engine", "notes", "more"}
    blob = next(p for p in (site / "blobs" / "sha256").iterdir() if p.read_bytes() == b"further text\n")
    blob.write_bytes(b"FURTHER TEXT\n")
    found = audit(site, to=tmp_path / "evidence")
    assert (found.code, [code for code, _ in found.findings]) == (6, ["integrity-changed"])


@pytest.mark.parametrize("subject", ["empty", "nothing"])
def test_what_is_neither_bundle_nor_site_is_exit_code_3(tmp_path: Path, subject: str) -> None:
    (tmp_path / "empty").mkdir()
    found = audit(tmp_path / subject, to=tmp_path / "evidence")
    assert found.code == 3
    assert "bundle" in found.error
    assert not (tmp_path / "evidence").exists()


def test_a_site_is_not_checked_and_it_is_said_before_anything_is_read(tmp_path: Path, site: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", clean())
    assert airgap("install", bundle, "--site", site)[0] == 0
    code, _, error = airgap("audit", site, "--check")
    assert (code, "neither its volumes nor a site" in error) == (2, True)


def test_the_page_stays_one_page_and_the_pack_has_everything(tmp_path: Path, site: Path) -> None:
    many = [Entry(f"usr/bin/su{number}", b"", 0o4755) for number in range(40)]
    found = audited(tmp_path, [image("engine", [*faults.SYSTEM, *many])], "--site", site)
    assert len(found.findings) == 40
    assert found.out.count("[audit-setuid]") == 25
    assert "and 15 more: -o DIR or --json has every one" in found.out
    assert len(found.out.splitlines()) < 100


def test_what_this_host_lacks_to_look_is_said(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airgap.audit.secrets.available", lambda: False)
    monkeypatch.setattr("airgap.audit.licences.available", lambda: False)
    found = audited(tmp_path, clean(), "--site", site)
    assert found.findings == [("audit-not-looked", "licences"), ("audit-not-looked", "secrets")]
    assert "airgap[audit]" in found.out


def test_what_a_delta_counts_on_was_not_looked_into(tmp_path: Path, site: Path) -> None:
    wanted = clean()[-1].artifact.files[0].sha256
    base = Base(Sha384("a" * 96), frozenset({wanted}))
    bundle = bundles.write_bundle(tmp_path / "bundle", clean(), base=base)
    found = audit(bundle, to=tmp_path / "evidence", options=("--site", site))
    assert found.findings == [("audit-not-looked", "bundle.dsse.json")]
    assert "notes" not in {row["artifact"] for row in found.files}


# ------------------------------------------------------------------ volumes


@pytest.fixture
def volumes(tmp_path: Path) -> list[Path]:
    """A bundle cut into volumes so small that a wheel and a layer lie on several."""
    name, data = wheel("alpha", members={"alpha/data.bin": os.urandom(700_000)})
    contents = [
        bundles.wheels("packages", {name: data}),
        image(
            "engine", [*faults.SYSTEM, Entry("srv/data", os.urandom(600_000)), Entry("bin/su", b"", 0o4755)]
        ),
        bundles.model("tiny", model_files(), repo="org/tiny"),
    ]
    bundle = bundles.write_bundle(tmp_path / "bundle", contents)
    assert airgap("split", bundle, "--size", "500kB", "-o", tmp_path / "volumes")[0] == 0
    return sorted((tmp_path / "volumes").iterdir())


def test_volumes_together_are_audited_as_the_bundle_they_were_cut_from(
    tmp_path: Path, site: Path, volumes: list[Path]
) -> None:
    assert len(volumes) > 2
    options = ("--site", site)
    whole = audit(tmp_path / "bundle", to=tmp_path / "whole", options=options)
    found = audit(*reversed(volumes), to=tmp_path / "cut", options=options)
    assert found.code == whole.code == 0
    assert found.findings == whole.findings == [("audit-setuid", "engine: bin/su")]
    assert found.files == whole.files
    assert found.report["subject"]["kind"] == "volumes"
    assert {k: v for k, v in found.report.items() if k != "subject"} | {"at": ""} == {
        k: v for k, v in whole.report.items() if k != "subject"
    } | {"at": ""}


def test_what_lies_on_a_volume_that_is_not_here_was_not_looked_into(
    tmp_path: Path, site: Path, volumes: list[Path]
) -> None:
    for one in volumes:  # whichever end or middle of a blob it has
        found = audit(one, to=tmp_path / "evidence", options=("--site", site))
        assert (found.code, found.error) == (0, "")
        assert ("audit-not-looked", "quickstart") in found.findings
        remedies = {one["remedy"] for one in found.report["findings"] if one["subject"] == "quickstart"}
        assert remedies == {"name all volumes of the bundle at once"}
        assert found.report["totals"]["read"] < found.report["totals"]["bytes"]


def test_a_range_that_is_damaged_makes_its_blob_one_that_is_not_believed(
    tmp_path: Path, site: Path, volumes: list[Path]
) -> None:
    part = next(path for volume in volumes for path in sorted(volume.glob("parts/*/*")))
    part.write_bytes(bytes(part.stat().st_size))
    found = audit(*volumes, to=tmp_path / "evidence", options=("--site", site))
    assert found.code == 6
    assert f"blobs/sha256/{part.parent.name}" in [subject for _, subject in found.findings]


def test_volumes_of_two_bundles_are_not_audited_as_one(
    tmp_path: Path, site: Path, volumes: list[Path]
) -> None:
    other = bundles.write_bundle(tmp_path / "other", [bundles.file("notes", b"other")], name="other")
    found = audit(volumes[0], other, to=tmp_path / "evidence", options=("--site", site))
    assert (found.code, found.report) == (3, {})


@pytest.mark.parametrize(("reason", "said"), [("it breaks", "locked: it breaks"), ("", "it gives no reason")])
def test_a_release_that_its_index_withdrew_is_named(
    tmp_path: Path, site: Path, reason: str, said: str
) -> None:
    content = bundles.wheels("packages", dict([wheel("alpha"), wheel("beta")]))
    assert isinstance(content.artifact, WheelsArtifact)
    alpha, beta = content.artifact.packages
    artifact = replace(content.artifact, packages=(replace(alpha, yanked=reason), beta))
    run = audited(tmp_path, [replace(content, artifact=artifact)], "--site", site)
    assert run.findings == [("audit-yanked", "packages: alpha-1.0-py3-none-any.whl")]
    assert said in run.report["findings"][0]["message"]
    assert [one["yanked"] for one in run.report["wheels"]] == [reason, None]
