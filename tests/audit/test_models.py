"""A model's card and terms, and what is made of headers that were read already."""

import sys
from collections.abc import Mapping

import pytest

from airgap.audit import models
from airgap.audit.models import ModelSeen, judge_terms
from airgap.model import ModelArtifact
from tests import bundles
from tests.audit.faults import CARD, model_files, safetensors


def see(files: Mapping[str, bytes]) -> ModelSeen:
    artifact = bundles.model("tiny", files, repo="org/tiny").artifact
    assert isinstance(artifact, ModelArtifact)
    return models.see_model(
        artifact, {path: data for path, data in files.items() if not path.endswith(".bin")}, frozenset()
    )


def codes(seen: ModelSeen) -> list[str]:
    return [one.code for one in seen.findings]


def card(front: str) -> dict[str, bytes]:
    return model_files(**{"README.md": f"---\n{front}\n---\n# Text\n".encode()})


def test_a_card_and_its_weights() -> None:
    seen = see(model_files())
    assert seen.findings == ()
    fact = seen.fact
    assert (fact.licence, fact.base_models, fact.languages) == ("apache-2.0", ("org/base",), ("en", "de"))
    assert (fact.tensors, fact.parameters, fact.bytes_by_dtype, fact.format) == (2, 16, {"BF16": 32}, "BF16")


def test_quantised_weights_are_counted() -> None:
    fact = see(model_files(**{"model.safetensors": safetensors(3, "F16")})).fact
    assert (fact.bytes_by_dtype, fact.quantized_share) == ({"F16": 48}, 0.0)


@pytest.mark.parametrize(
    ("licence", "name", "code"),
    [
        ("apache-2.0", "", ""),
        ("MIT OR Apache-2.0", "", ""),
        ("other", "MIT", ""),
        ("", "", "audit-licence-none"),
        ("unknown", "", "audit-licence-none"),
        ("other", "", "audit-licence-unknown"),
        ("gemma", "", "audit-licence-unknown"),
        ("llama3.1", "", "audit-licence-unknown"),
        ("other", "my-terms", "audit-licence-unknown"),
        ("MIT License\n\nCopyright", "", "audit-licence-unknown"),
        ("cc-by-nc-4.0", "", "audit-noncommercial"),
        ("CC-BY-NC-SA-4.0", "", "audit-noncommercial"),
        ("other", "acme-non-commercial-license", "audit-noncommercial"),
        ("other", "acme-research-license", "audit-noncommercial"),
        ("NCSA", "", ""),
    ],
)
def test_terms(licence: str, name: str, code: str) -> None:
    assert [one.code for one in judge_terms("m", licence, name)] == ([code] if code else [])


def test_gated_models_and_remote_code() -> None:
    assert codes(see(card("license: mit\nextra_gated_prompt: agree"))) == ["audit-gated"]
    remote = b'{"model_type": "x", "auto_map": {"AutoModel": "modeling.Net"}}'
    seen = see(model_files(**{"config.json": remote, "modeling.py": b"class Net: ...\n"}))
    assert codes(seen) == ["audit-remote-code"]
    assert seen.fact.remote_code == ("modeling.py", "auto_map.AutoModel: modeling.Net")


def test_of_several_licences_of_a_card_all_hold() -> None:
    """Nothing says that there is a choice."""
    seen = see(card("license: [mit, cc-by-nc-4.0]"))
    assert (seen.fact.licence, codes(seen)) == ("mit AND cc-by-nc-4.0", ["audit-noncommercial"])


@pytest.mark.parametrize(
    "path",
    ["tokenizer_config.json", "preprocessor_config.json", "tokenizer/config.json", "model_index.json"],
)
def test_code_that_any_config_names(path: str) -> None:
    remote = b'{"auto_map": {"AutoTokenizer": ["else/where--tok.Tok", null]}}'
    seen = see(model_files(**{path: remote}))
    assert codes(seen) == ["audit-remote-code"]
    assert seen.fact.remote_code == ("auto_map.AutoTokenizer: else/where--tok.Tok",)
    assert models.keep(path) > len(remote)
    assert codes(see(model_files(**{path: b"{"}))) == ["audit-malformed"]


def test_a_config_that_was_not_read_may_name_code() -> None:
    artifact = bundles.model(
        "tiny", model_files(**{"tokenizer_config.json": b"{}"}), repo="org/tiny"
    ).artifact
    assert isinstance(artifact, ModelArtifact)
    seen = models.see_model(artifact, model_files(), frozenset())
    assert codes(seen) == ["audit-not-looked"]
    assert codes(models.see_model(artifact, model_files(), frozenset({"tokenizer_config.json"}))) == []


@pytest.mark.parametrize(
    "front",
    [
        "a: [",
        "a: &x [*x]\nb: *y",
        "? [a]\n: b",
        "a: 9999-99-99",
        "!!python/object/apply:os.system ['x']",
        "{" * 3000,
    ],
)
def test_a_card_that_is_no_yaml_is_a_finding(front: str) -> None:
    assert "audit-malformed" in codes(see(card(front)))


def test_a_card_that_repeats_itself_costs_nothing() -> None:
    """References to references: nine levels of nine are 387 million texts to who writes them out."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert see(card("license: mit\n" + "\n".join(lines))).findings == ()


def test_no_card_is_a_matter_of_licences_alone() -> None:
    for text in (b"# No front matter\n", b"", b"---\nnever closed\n"):
        assert codes(see(model_files(**{"README.md": text}))) == ["audit-licence-none"]


def test_without_yaml_a_card_was_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert codes(see(model_files())) == ["audit-not-looked", "audit-licence-none"]


def test_a_damaged_header_is_a_finding_once() -> None:
    broken = safetensors()[:-1]
    assert codes(see(model_files(**{"model.safetensors": broken}))) == ["audit-malformed"]
    assert CARD


def test_weights_that_no_engine_would_load_by_itself_are_whole_too() -> None:
    spare = {"spare.safetensors": safetensors() + b"behind"}
    [found] = see(model_files(**spare)).findings
    assert (found.code, found.subject) == ("audit-malformed", "tiny: spare.safetensors")
    assert see(model_files(**{"spare.safetensors": safetensors()})).findings == ()
