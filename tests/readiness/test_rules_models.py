"""Types, architectures, quantisation, NVFP4, weights, run-time downloads, known-bad pairs."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from airgap.errors import InputError
from airgap.model import Target
from airgap.readers.checkpoint import read_checkpoints
from airgap.readers.python_syntax import NotUnderstood
from airgap.readiness import known_bad
from airgap.readiness.components import Model, Stack
from airgap.readiness.judgement import Judgement, Verdict
from airgap.readiness.known_bad import age, judge_known_bad, known_pairs, parse_pairs
from airgap.readiness.rules_models import (
    judge_architecture,
    judge_method,
    judge_model_type,
)
from airgap.readiness.rules_nvfp4 import judge_nvfp4, judge_proof, nvfp4_support
from airgap.readiness.rules_runtime import judge_downloads, judge_gate, judge_remote_code
from airgap.readiness.rules_weights import judge_memory, judge_pickles
from tests.readiness.compositions import TARGET, gpu, model, package, stack, table, vllm_tables

BLOCKED, CLEAR, UNKNOWN = Verdict.BLOCKED, Verdict.NO_BLOCKER, Verdict.UNKNOWN
MOVED = NotUnderstood("moved.py", 7, "not a form that is understood")
NVFP4 = Path(__file__).parents[1] / "data" / "nvfp4"

TYPES = table('TABLE = {"gemma4": "A", "gemma4_text": "B", "gemma4_vision": "C"}')
MAYBE = table(
    'BASE = {"gemma4": "A", "Gemma4ForConditionalGeneration": "B"}\n'
    "TABLE = {k: v for k, v in BASE.items() if v}"
)
ARCHITECTURES = table('TABLE = {"Gemma4ForConditionalGeneration": ("gemma4", "Gemma4")}')


def engine(**more: Any) -> Model:
    """Gemma 4 served by a vLLM and a transformers with these tables."""
    tables: dict[str, Any] = {"transformers": TYPES, "vllm": vllm_tables(architectures=ARCHITECTURES)} | more
    config = tables.pop("config", None)
    served = stack(package("vllm", "0.19.0"), package("transformers", "5.5.4"), **tables)
    return model(**({"config": json.dumps(config).encode()} if config else {}), served_by=served)


def one(judgements: object) -> Judgement:
    [found] = list(judgements)  # type: ignore[call-overload]
    assert isinstance(found, Judgement)
    return found


# ------------------------------------------------------------------ model types


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, CLEAR),
        ({"transformers": table("TABLE = {}")}, BLOCKED),
        ({"transformers": MOVED}, UNKNOWN),
        ({"transformers": MAYBE}, UNKNOWN),
        ({"transformers": table("TABLE = {}"), "vllm": vllm_tables(model_types=TYPES)}, CLEAR),
        ({"transformers": table("TABLE = {}"), "vllm": vllm_tables(model_types=MOVED)}, UNKNOWN),
        ({"transformers": table('TABLE = {"gemma4": "A"}')}, UNKNOWN),
        ({"transformers": None, "vllm": None}, UNKNOWN),
    ],
)
def test_model_types(tables: dict[str, object], expected: Verdict) -> None:
    assert one(judge_model_type(engine(**tables), TARGET)).verdict is expected


def test_a_nested_type_that_is_nowhere_is_named() -> None:
    found = one(judge_model_type(engine(transformers=table('TABLE = {"gemma4": "A"}')), TARGET))
    assert "text_config.model_type 'gemma4_text'" in found.message


def test_of_a_config_that_vllm_brings_the_nested_types_are_its_own_to_know() -> None:
    own = vllm_tables(model_types=table('TABLE = {"gemma4": "A"}'))
    assert one(judge_model_type(engine(transformers=table("TABLE = {}"), vllm=own), TARGET)).verdict is CLEAR


def test_another_engine_may_know_what_transformers_does_not() -> None:
    none = table("TABLE = {}")
    bare = stack(package("transformers", "5.5.4"), transformers=none)
    assert one(judge_model_type(model(served_by=bare), TARGET)).verdict is BLOCKED
    other = stack(package("transformers", "5.5.4"), package("sglang", "0.5"), transformers=none)
    assert one(judge_model_type(model(served_by=other), TARGET)).verdict is UNKNOWN
    open_ended = stack(package("transformers", "5.5.4"), transformers=none, closed=False)
    assert one(judge_model_type(model(served_by=open_ended), TARGET)).verdict is UNKNOWN


def test_a_type_that_may_or_may_not_be_there_is_unknown() -> None:
    plain = {"model_type": "gemma4"}
    for tables in ({"transformers": MAYBE}, {"transformers": None, "vllm": vllm_tables(model_types=MAYBE)}):
        found = one(judge_model_type(engine(config=plain, **tables), TARGET))
        assert (found.verdict, "may or may not" in found.message) == (UNKNOWN, True)


def test_a_model_with_its_own_config_class_needs_no_table() -> None:
    config = {"model_type": "mine", "architectures": ["Mine"], "auto_map": {"AutoConfig": "code.Config"}}
    assert one(judge_model_type(engine(config=config), TARGET)).verdict is CLEAR


def test_without_config_or_server_nothing_is_decided() -> None:
    for subject in (model(None, engine().served_by), model()):
        for rule in (judge_model_type, judge_architecture):
            assert one(rule(subject, TARGET)).verdict is UNKNOWN


def test_what_settles_a_server_without_vllm_is_what_is_left_to_do() -> None:
    def remedy(served_by: Stack) -> str:
        return one(judge_architecture(model(served_by=served_by), TARGET)).remedy

    library = package("transformers", "5.5.4")
    asked = stack(library, closed=False)
    assert remedy(asked) == "pin vllm and transformers in serving with '==', or run: airgap lock"
    locked = stack(library)
    assert remedy(locked) == "add vllm to serving, or let served-by name what has it"


# ------------------------------------------------------------------ architectures


@pytest.mark.parametrize(
    ("tables", "expected", "word"),
    [
        ({}, CLEAR, "implements"),
        ({"vllm": vllm_tables()}, UNKNOWN, "Transformers backend"),
        ({"vllm": vllm_tables(), "transformers": table("TABLE = {}")}, BLOCKED, "has no Gemma4"),
        ({"vllm": vllm_tables(), "transformers": MOVED}, UNKNOWN, "Transformers backend"),
        ({"vllm": vllm_tables(architectures=MOVED)}, UNKNOWN, "cannot be read"),
        ({"vllm": vllm_tables(architectures=MAYBE)}, UNKNOWN, "cannot be read"),
        (
            {
                "vllm": vllm_tables(
                    previously_supported=table('TABLE = {"Gemma4ForConditionalGeneration": "0.9"}')
                )
            },
            BLOCKED,
            "up to 0.9",
        ),
        (
            {
                "vllm": vllm_tables(
                    out_of_tree=table('TABLE = {"Gemma4ForConditionalGeneration": "github.com/x"}')
                )
            },
            UNKNOWN,
            "plugin: github.com/x",
        ),
    ],
)
def test_architectures(tables: dict[str, object], expected: Verdict, word: str) -> None:
    found = one(judge_architecture(engine(**tables), TARGET))
    assert found.verdict is expected
    assert word in found.message


def test_an_architecture_that_the_model_brings_itself_is_not_impossible() -> None:
    config = {"model_type": "mine", "architectures": ["Mine"], "auto_map": {"AutoModel": "code.Mine"}}
    found = one(judge_architecture(engine(config=config, vllm=vllm_tables()), TARGET))
    assert (found.verdict, "Transformers backend" in found.message) == (UNKNOWN, True)


# ------------------------------------------------------------------ quantisation


@pytest.mark.parametrize(
    ("quantization", "methods", "expected"),
    [
        (None, [], CLEAR),
        ({"quant_method": "fp8"}, ["fp8"], CLEAR),
        ({"quant_method": "fp8"}, ["awq"], BLOCKED),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ["modelopt"], BLOCKED),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ["modelopt_fp4"], CLEAR),
    ],
)
def test_quantisation_methods(quantization: object, methods: list[str], expected: Verdict) -> None:
    known = table(
        f"from typing import Literal\nTABLE = Literal[{', '.join(map(repr, methods)) or repr('x')}]"
    )
    config = {"model_type": "gemma4", "quantization_config": quantization}
    subject = engine(config=config, vllm=vllm_tables(quantization=known))
    assert one(judge_method(subject, TARGET)).verdict is expected


def test_of_two_methods_that_are_declared_each_must_be_known() -> None:
    known = table('from typing import Literal\nTABLE = Literal["modelopt_fp4"]')
    two = engine(
        config={"model_type": "gemma4", "quantization_config": {"quant_method": "fp8"}},
        vllm=vllm_tables(quantization=known),
    )
    found = one(judge_method(replace(two, checkpoints=on_disk("modelopt", "").checkpoints), TARGET))
    assert (found.verdict, found.gap) == (BLOCKED, "vllm 0.19.0 lacks fp8")


def test_a_quantisation_table_that_moved_is_unknown() -> None:
    config = {"model_type": "gemma4", "quantization_config": {"quant_method": "fp8"}}
    subject = engine(config=config, vllm=vllm_tables(quantization=MOVED))
    assert one(judge_method(subject, TARGET)).verdict is UNKNOWN


@pytest.mark.parametrize(
    ("capability", "support", "verdict", "warning"),
    [
        ("12.0", "native", CLEAR, False),
        ("10.0", "native", CLEAR, False),
        ("10.0a", "native", CLEAR, False),
        ("9.0", "fallback", CLEAR, True),
        ("8.9", "fallback", CLEAR, True),
        ("7.5", "fallback", CLEAR, True),
        ("7.0", "refused", BLOCKED, False),
    ],
)
def test_nvfp4_by_compute_capability(capability: str, support: str, verdict: Verdict, warning: bool) -> None:
    target = gpu(capability)
    assert nvfp4_support(target) == support
    found = one(judge_nvfp4(model(claim="nvfp4"), target))
    assert (found.verdict, found.warning) == (verdict, warning)


def test_nvfp4_without_a_gpu_is_unknown_and_elsewhere_no_question() -> None:
    bare = Target("3.12", TARGET.platform, "2.35")
    assert one(judge_nvfp4(model(claim="nvfp4"), bare)).verdict is UNKNOWN
    assert not list(judge_nvfp4(model(), TARGET))


# ------------------------------------------------------------------ weights


def on_disk(name: str, claim: str = "nvfp4") -> Model:
    """A checkpoint that a real writer made (scripts/make-nvfp4)."""
    root = NVFP4 / name
    sizes = {path.name: path.stat().st_size for path in root.iterdir()}

    def read(path: str, start: int, count: int) -> bytes:
        return (root / path).read_bytes()[start : start + count]

    return model(claim=claim, files=sizes, checkpoints=read_checkpoints(sizes, read))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("modelopt", CLEAR),
        ("compressed-tensors", CLEAR),
        ("modelopt-sharded", CLEAR),
        ("bf16", BLOCKED),
        ("compressed-tensors-mxfp4", BLOCKED),
    ],
)
def test_a_claim_of_nvfp4_is_proven_not_believed(name: str, expected: Verdict) -> None:
    assert one(judge_proof(on_disk(name), TARGET)).verdict is expected


def places(judgement: Judgement) -> list[tuple[str, str]]:
    return [(evidence.source, evidence.text) for evidence in judgement.evidence]


def test_what_refutes_a_claim_names_the_claim_and_the_file_with_the_tensor() -> None:
    sums = {"model.safetensors": "d" * 64}
    found = one(judge_proof(replace(on_disk("bf16"), sums=sums), TARGET))
    claim, *tensors = places(found)
    assert claim == ("the manifest", "quantization = 'nvfp4'"), "its config.json says nothing of it"
    assert {source for source, _ in tensors} == {"gemma/model.safetensors"}
    assert {evidence.digest for evidence in found.evidence[1:]} == {"d" * 64}


def test_a_method_is_said_by_the_file_that_declares_it() -> None:
    declared = replace(on_disk("modelopt", ""), config=None)
    assert places(one(judge_nvfp4(declared, TARGET))) == [
        ("gemma/hf_quant_config.json", "quant_method: modelopt (NVFP4)")
    ]


def test_a_config_that_is_damaged_is_to_be_mended_not_added() -> None:
    absent = model(None, files={})
    damaged = model(None, checkpoints=read_checkpoints({"config.json": 1}, lambda *_: b"{"))
    for judge in (judge_model_type, judge_architecture, judge_method):
        assert one(judge(absent, TARGET)).remedy.startswith("add its config.json")
        found = one(judge(damaged, TARGET))
        assert found.remedy.startswith("mend its config.json") and "not JSON" in found.message


def test_a_model_that_is_only_a_config_is_unknown() -> None:
    subject = model(claim="nvfp4")
    assert one(judge_proof(subject, TARGET)).verdict is UNKNOWN
    assert one(judge_memory(subject, TARGET)).verdict is UNKNOWN
    assert one(judge_pickles(subject, TARGET)).verdict is UNKNOWN


def test_weights_fit_or_not() -> None:
    subject = on_disk("bf16", "")
    assert one(judge_memory(subject, TARGET)).verdict is CLEAR
    assert one(judge_pickles(subject, TARGET)).verdict is CLEAR


def test_pickles_are_said() -> None:
    sizes = {"pytorch_model.bin": 10}
    subject = model(files=sizes, checkpoints=read_checkpoints(sizes, lambda *_: b""))
    found = one(judge_pickles(subject, TARGET))
    assert found.verdict is UNKNOWN
    assert "run code" in found.message


# ------------------------------------------------------------------ run time


def test_code_in_another_repository() -> None:
    config = {"model_type": "mine", "auto_map": {"AutoModel": "other/repo--code.Model"}}
    found = one(judge_downloads(engine(config=config), TARGET, ()))
    assert (found.verdict, found.things[0]) == (BLOCKED, "other/repo--code.Model")
    assert one(judge_downloads(engine(config=config), TARGET, ("other/repo",))).verdict is CLEAR
    known = {"model_type": "gemma4", "auto_map": {"AutoModel": "other/repo--code.Model"}}
    found = one(judge_downloads(engine(config=known), TARGET, ()))
    assert (found.verdict, found.warning) == (CLEAR, True)


def test_own_code_must_travel() -> None:
    config = json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "code.Model"}}).encode()
    assert one(judge_downloads(model(config), TARGET, ())).verdict is BLOCKED
    with_code = model(config, files={"config.json": 1, "code.py": 1})
    assert one(judge_downloads(with_code, TARGET, ())).verdict is CLEAR
    assert one(judge_remote_code(with_code, TARGET)).warning
    known = {"model_type": "gemma4", "auto_map": {"AutoModel": "code.Model"}}
    assert not one(judge_remote_code(engine(config=known), TARGET)).warning


def test_own_code_that_is_named_by_its_own_repository_must_travel_too() -> None:
    named = {"model_type": "mine", "auto_map": {"AutoModel": "example/gemma--code.Model"}}
    config = json.dumps(named).encode()
    for carried in ((), ("example/gemma",)):
        assert one(judge_downloads(model(config), TARGET, carried)).verdict is BLOCKED
        with_code = model(config, files={"config.json": 1, "code.py": 1})
        assert one(judge_downloads(with_code, TARGET, carried)).verdict is CLEAR


def test_the_base_of_an_adapter() -> None:
    data = b'{"base_model_name_or_path": "org/base"}'
    sizes = {"adapter_config.json": len(data), "adapter_model.safetensors": 0}
    checkpoints = read_checkpoints(sizes, lambda path, start, count: data if "json" in path else b"")
    adapter = model(None, files=sizes, checkpoints=checkpoints)
    assert one(judge_downloads(adapter, TARGET, ())).verdict is UNKNOWN
    assert one(judge_downloads(adapter, TARGET, ("org/base",))).verdict is CLEAR


def test_a_gate_is_a_warning() -> None:
    assert one(judge_gate(model(gated="manual", licence="gemma"), TARGET)).warning
    assert not list(judge_gate(model(), TARGET))


# ------------------------------------------------------------------ known-bad pairs


@pytest.mark.parametrize(
    ("vllm", "transformers", "expected"),
    [
        ("0.27.0", "5.15.0", BLOCKED),
        ("0.27.1", "5.15.0", BLOCKED),
        ("0.27.1rc1", "5.15.0", BLOCKED),
        ("0.27.1", "5.15.1", CLEAR),
        ("0.28", "5.15.0", CLEAR),
    ],
)
def test_known_pairs(vllm: str, transformers: str, expected: Verdict) -> None:
    served = stack(package("vllm", vllm), package("transformers", transformers))
    found = one(judge_known_bad(model(served_by=served), TARGET))
    assert found.verdict is expected
    if expected is BLOCKED:
        assert any("51744" in evidence.source for evidence in found.evidence)


def test_how_old_the_known_pairs_are_is_said() -> None:
    newest = max(pair.dated for pair in known_pairs())
    said = age(date.fromisoformat(newest) + timedelta(days=40))
    assert said == f"known to fail together: {len(known_pairs())} combination, as of {newest}, 40 days ago"


def test_a_known_pair_is_about_its_models() -> None:
    served = stack(package("vllm", "0.27.0"), package("transformers", "5.15.0"))
    other = model(b'{"model_type": "llama"}', served)
    assert one(judge_known_bad(other, TARGET)).verdict is CLEAR


def test_the_data_is_dated_and_every_problem_of_other_data_is_named() -> None:
    assert all(pair.dated and pair.sources for pair in known_pairs())
    bad = {"format": 2, "pairs": [{"id": "X", "dated": "soon", "packages": {"vllm": "~"}, "more": 1}]}
    with pytest.raises(InputError) as error:
        parse_pairs(json.dumps(bad).encode(), known_bad.DATA)
    text = "\n".join(error.value.problems)
    for word in ("format", "id", "dated", "packages.vllm", "message", "sources", "remedy", "more"):
        assert word in text
