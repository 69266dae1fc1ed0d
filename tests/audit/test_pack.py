"""`airgap audit -o`: the whole evidence pack of a real bundle, each file fit for its own readers."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airgap.audit import pack
from airgap.errors import HostError
from tests import bundles
from tests.audit import values
from tests.audit.test_audit_cli import clean
from tests.audit.test_sbom import require_cyclonedx, spdx_schema


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write_bundle(tmp_path_factory.mktemp("pack") / "bundle", clean())


def audit(bundle: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "airgap", "audit", bundle, *options]
    return subprocess.run(argv, capture_output=True, text=True, check=True)


def test_one_run_writes_everything_an_auditor_files(bundle: Path, tmp_path: Path) -> None:
    run = audit(bundle, "-o", tmp_path / "evidence")
    names = {"report.html", "report.json", "files.csv", "sbom.cdx.json", "sbom.spdx.json"}
    assert {path.name for path in (tmp_path / "evidence").iterdir()} == names
    assert all(name in run.stdout for name in names)
    require_cyclonedx((tmp_path / "evidence" / "sbom.cdx.json").read_bytes())
    spdx_schema().validate(json.loads((tmp_path / "evidence" / "sbom.spdx.json").read_text()))
    page = (tmp_path / "evidence" / "report.html").read_text()
    assert "Audit of quickstart" in page
    assert "alpha-1.0-py3-none-any.whl" in page


def test_the_page_that_is_signed_names_the_digest_of_every_other_file(bundle: Path, tmp_path: Path) -> None:
    for options, count in (((), 4), (("--no-sbom",), 2)):
        out = tmp_path / str(count)
        audit(bundle, "-o", out, *options)
        cover = (out / "report.html").read_text().partition('<section id="pictures">')[0]
        others = [path for path in out.iterdir() if path.name != "report.html"]
        assert len(others) == count
        for path in others:
            row = re.search(rf"<td[^>]*>{re.escape(path.name)}</td>.*?</tr>", cover)
            assert row
            assert hashlib.sha256(path.read_bytes()).hexdigest() in row[0]
            assert f">{path.stat().st_size}</td>" in row[0]
        assert "sbom.spdx.json" not in cover or count == 4


def test_equal_audits_give_equal_packs_and_the_page_is_last() -> None:
    made = [dict(pack.render_pack(values.audit(), sbom=True)) for _ in range(2)]
    assert made[0] == made[1]
    assert list(made[0])[-1] == "report.html"


def test_both_bills_list_the_packages_of_every_kind(bundle: Path, tmp_path: Path) -> None:
    audit(bundle, "-o", tmp_path)
    listed = json.loads((tmp_path / "sbom.cdx.json").read_text())["components"]
    purls = {one.get("purl", "").partition("?")[0] for one in listed}
    assert {"pkg:pypi/alpha@1.0", "pkg:pypi/six@1.16.0"} <= purls
    assert any(purl.startswith("pkg:deb/debian/libssl3@") for purl in purls)
    assert [one["name"] for one in listed if one["type"] == "machine-learning-model"] == ["tiny"]
    spdx = {one["name"] for one in json.loads((tmp_path / "sbom.spdx.json").read_text())["packages"]}
    assert {"alpha", "six", "libssl3", "tiny"} <= spdx


def test_without_bills_nothing_else_is_missing(bundle: Path, tmp_path: Path) -> None:
    audit(bundle, "-o", tmp_path, "--no-sbom")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json", "files.csv"}


def test_what_check_says_is_on_the_first_page_when_asked(bundle: Path, tmp_path: Path) -> None:
    said = audit(bundle, "-o", tmp_path, "--no-sbom", "--check").stdout
    assert "airgap check of packages: " in said
    verdicts = {
        one["component"]: one for one in json.loads((tmp_path / "report.json").read_text())["verdicts"]
    }
    assert {"packages", "tiny"} <= verdicts.keys()
    assert all(one["reasons"][-1].endswith("rules decided") for one in verdicts.values())
    assert "not judged: airgap audit --check" not in (tmp_path / "report.html").read_text()


def test_a_library_that_is_missing_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pack.LIBRARIES, "no_such_library", "no-such-library")
    with pytest.raises(HostError, match="no-such-library"):
        pack.require_libraries()
