"""The field note's matrix (vLLM × transformers for Gemma 4) as `check` judges it, from recorded bytes."""

import json
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.readiness.check import judge
from airgap.readiness.components import Composition
from airgap.readiness.judgement import Report, Verdict
from tests.readers.recordings import TRANSFORMERS, VLLM
from tests.readiness.compositions import GEMMA, TARGET, model, recorded_stack

BLOCKS = {
    "0.17.1": {
        "4.57.6": {"architecture", "model-type"},
        "5.5.0": {"pin"},
        "5.5.4": {"pin"},
        "5.19.0": {"pin"},
        "5.23.0": {"pin"},
    },
    "0.19.0": {
        "4.57.6": {"model-type"},
        "5.5.0": {"pin"},
        "5.5.4": {"pin"},
        "5.19.0": {"pin"},
        "5.23.0": {"pin"},
    },
    "0.19.1": {"4.57.6": {"model-type"}, "5.5.0": {"pin"}, "5.5.4": set(), "5.19.0": set(), "5.23.0": set()},
    "0.33.0": {
        "4.57.6": {"model-type", "pin"},
        "5.5.0": {"pin"},
        "5.5.4": {"pin"},
        "5.19.0": set(),
        "5.23.0": {"pin"},
    },
}
"""The rules that prove each pair unable to run."""


def report(vllm: str, transformers: str) -> Report:
    stack = recorded_stack(vllm, transformers)
    return judge(Composition(TARGET, (stack,), (model(served_by=stack),)))


@pytest.mark.parametrize(("vllm", "transformers"), [(v, t) for v in VLLM for t in TRANSFORMERS])
def test_the_matrix(vllm: str, transformers: str) -> None:
    found = report(vllm, transformers)
    assert {j.rule for j in found.judgements(Verdict.BLOCKED)} == BLOCKS[vllm][transformers]
    assert found.exit_code(strict=False) == (5 if BLOCKS[vllm][transformers] else 0)
    assert found.exit_code(strict=True) == 5, "what is not locked is unknown"


def test_an_absent_architecture_with_a_known_type_is_unknown_not_impossible() -> None:
    unknown = {j.rule: j for j in report("0.17.1", "5.5.4").judgements(Verdict.UNKNOWN)}
    assert "Transformers backend may run it" in unknown["architecture"].message


def test_the_field_notes_own_case_is_proven_by_a_line() -> None:
    [pin] = report("0.19.0", "5.5.4").judgements(Verdict.BLOCKED)
    assert pin.rule == "pin"
    assert pin.things == ("vllm 0.19.0", "transformers 5.5.4")
    declared, met = pin.evidence
    assert declared.text == "Requires-Dist: transformers<5,>=4.56.0"
    assert (declared.member, declared.line) == ("vllm-0.19.0.dist-info/METADATA", 31)
    assert declared.digest == "2d0e5fae45367bdbf111fcad68f4c0f8fdddd2f2fb643e52f0f2daebef7b41cf"
    assert met.source == TRANSFORMERS["5.5.4"]


def test_the_other_half_says_what_transformers_lacks_and_where_it_was_looked_up() -> None:
    [kind] = report("0.19.0", "4.57.6").judgements(Verdict.BLOCKED)
    assert kind.gap == "transformers 4.57.6 lacks gemma4"
    assert [e.member for e in kind.evidence] == [
        "",
        "transformers/models/auto/configuration_auto.py",
        "vllm/transformers_utils/config.py",
    ]
    assert all(len(e.digest) == 64 for e in kind.evidence)


def test_what_runs_is_only_not_blocked() -> None:
    found = report("0.19.1", "5.5.4")
    served = next(c for c in found.components if c.name == "gemma")
    assert served.verdict is Verdict.NO_BLOCKER
    assert 0 < served.decided < len(served.rules)
    assert found.verdict is Verdict.UNKNOWN
    clear = {j.rule: j.evidence[0].line for j in served.judgements if j.evidence}
    assert (clear["model-type"], clear["architecture"]) == (177, 385)


@pytest.mark.parametrize(("vllm", "code"), [("0.19.0", 5), ("0.19.1", 0)])
def test_the_verb_on_the_public_index(
    vllm: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The field note's manifest, whole: index pages, ranges, rules, exit code."""
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes(GEMMA)
    manifest = tmp_path / "note.toml"
    manifest.write_text(MANIFEST.format(vllm=vllm))
    assert run(["check", str(manifest), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    blocked = [j for c in found["components"] for j in c["judgements"] if j["verdict"] == "blocked"]
    assert [j["rule"] for j in blocked] == (["pin"] if code else [])
    with capsys.disabled():
        print(f"\nchecking vllm {vllm} before any download took {found['traffic_bytes']:,} bytes")
    assert 0 < found["traffic_bytes"] < 5_000_000


MANIFEST = """
[bundle]
name = "field-note"
version = "1"
[target]
python = "3.12"
platform = "linux/amd64"
glibc = "2.35"
[[wheels]]
name = "serving"
requirements = ["vllm=={vllm}", "transformers==5.5.4"]
index-url = "https://pypi.org/simple"
[[models]]
name = "gemma"
path = "model"
served-by = "serving"
"""
