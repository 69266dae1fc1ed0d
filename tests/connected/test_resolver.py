"""The resolver on the real index, where a naive resolution is silently wrong; and the pinned versions."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from airgap.connected import resolver, wheels
from airgap.connected.resolver_protocol import Refusal
from airgap.model import Platform, Target, WheelsArtifact
from tests.connected.resolving import context_at, pins, request_for

REAL_3_10 = Path.home() / ".pyenv/versions/3.10.13/bin/python"

_PIP_REPORT = ["-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
_PIP_REPORT += ["--only-binary", ":all:", "--report", "-"]


def test_backports_that_the_running_interpreter_does_not_need(tmp_path: Path) -> None:
    resolved = wheels.resolve(request_for("pytest==8.3.4"), None, context_at(tmp_path))
    found = pins(resolved.artifact)
    assert {"tomli", "exceptiongroup", "typing-extensions", "pluggy", "iniconfig", "packaging"} < set(found)
    assert found["pytest"] == "8.3.4" and resolved.findings == ()


@pytest.mark.skipif(not REAL_3_10.exists(), reason=f"no {REAL_3_10} to compare with")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the comparison is for x86_64")
def test_same_files_as_the_real_interpreter(tmp_path: Path) -> None:
    """Its own pip, asked on CPython 3.10, chooses the files that were locked for it under another Python."""
    assert sys.version_info[:2] != (3, 10)
    wanted = ["pytest==8.3.4", "pyyaml==6.0.2", "markupsafe==3.0.2", "importlib-metadata==8.5.0"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    done = subprocess.run(
        [str(REAL_3_10), *_PIP_REPORT, *wanted],
        check=True,
        capture_output=True,
        env=clean | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    theirs = {
        (item["metadata"]["name"].lower().replace("_", "-"), item["download_info"]["archive_info"]["hash"])
        for item in json.loads(done.stdout)["install"]
    }
    here = Target("3.10", Platform("linux", "amd64"), platform.libc_ver()[1])
    artifact = wheels.resolve(request_for(*wanted), None, context_at(tmp_path, here)).artifact
    assert isinstance(artifact, WheelsArtifact)
    files = {file.path: file.sha256 for file in artifact.files}
    assert {(p.name, f"sha256={files[p.file]}") for p in artifact.packages} == theirs


def test_other_versions_of_pip_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "PINNED", {"pip": "1.0", "pip-tools": "7.6.2"})
    with pytest.raises(Refusal) as caught:
        resolver.check_versions()
    assert caught.value.table["kind"] == "host"
    assert caught.value.table["problems"][0].startswith("pip: expected 1.0, found 26.3")
    assert "pip==1.0" in caught.value.table["remedy"]


def test_the_process_answers_on_stdout_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "airgap.connected.resolver"],
        input=b"{}",
        capture_output=True,
        check=True,
    )
    assert set(json.loads(done.stdout)) == {"index_url", "cert", "roots", "refusing", "choices"}
