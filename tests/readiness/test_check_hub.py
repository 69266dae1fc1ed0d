"""Models on a hub (a small one on loopback), judged before anything but headers and configs is fetched."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from airgap.cli import run
from airgap.connected import hub as hub_module
from tests.images import sha256
from tests.servers.hub import Hub

NVFP4 = Path(__file__).parents[1] / "data" / "nvfp4"

MANIFEST = """
[bundle]
name = "m"
version = "1"
[target]
python = "3.12"
platform = "linux/amd64"
glibc = "2.35"
gpu = { name = "NVIDIA B200", compute_capability = "10.0", memory_gib = 180 }
[[models]]
name = "tiny"
repo = "org/name"
quantization = "nvfp4"
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that is HF_ENDPOINT, and a user who is logged in nowhere."""
    monkeypatch.setattr(hub_module, "PAUSES", (0.01, 0.01))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    close_session()


def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    (tmp_path / "m.toml").write_text(MANIFEST)
    code = run(["check", str(tmp_path / "m.toml"), "--json"])
    [component] = json.loads(capsys.readouterr().out)["components"]
    return code, {j["rule"]: j for j in component["judgements"]} | {"nvfp4": component["nvfp4"]}


def publish(hub: Hub, name: str, padding: int = 0) -> None:
    hub.add("org/name", {p.name: p.read_bytes() + bytes(padding) for p in (NVFP4 / name).iterdir()})


def test_a_real_checkpoint_is_proven_by_its_headers(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, "modelopt")
    code, rules = checked(tmp_path, capsys)
    assert (code, rules["nvfp4"]) == (0, "native")
    assert rules["nvfp4-proof"]["verdict"] == "no_blocker"
    assert rules["weights-memory"]["verdict"] == "no_blocker"
    assert len(rules["nvfp4-gpu"]["evidence"][0]["sha256"]) == 64


def test_a_relabelled_one_is_refuted_and_the_tensor_named(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, "bf16")
    code, rules = checked(tmp_path, capsys)
    assert (code, rules["nvfp4-proof"]["verdict"]) == (5, "blocked")
    assert "tensor" in rules["nvfp4-proof"]["message"]
    weights = "tiny/model.safetensors", sha256((NVFP4 / "bf16" / "model.safetensors").read_bytes())
    for rule in ("nvfp4-proof", "weights-memory"):
        assert weights in [(e["source"], e["sha256"]) for e in rules[rule]["evidence"]], rule


def test_a_gate_without_a_token_is_unknown_and_says_what_to_do(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, "modelopt")
    hub.gate("org/name", {"hf_reader": "granted"})
    code, rules = checked(tmp_path, capsys)
    [unknown] = [judgement for judgement in rules.values() if isinstance(judgement, dict)]
    assert (code, unknown["rule"], unknown["verdict"]) == (0, "evidence", "unknown")
    assert "accept the licence" in unknown["remedy"]
