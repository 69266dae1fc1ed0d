"""config.json and its like, as hubs hold them: read in part, strictly, with Python's numbers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.decode import parse_json
from airgap.errors import InputError
from airgap.readers.model_config import (
    Group,
    Part,
    RemoteCode,
    parse_adapter_config,
    parse_hf_quant_config,
    parse_model_config,
    parse_remote_code,
)

NESTED = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "model_type": "gemma4",
    "torch_dtype": "torch.bfloat16",
    "text_config": {"model_type": "gemma4_text", "num_hidden_layers": 60, "rope": {"model_type": 3}},
    "vision_config": {"model_type": "gemma4_vision", "architectures": None},
    "audio_config": None,
    "draft_config": {"inner_config": {"model_type": "deep"}},
}


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def test_nested_parts_are_found() -> None:
    config = parse_model_config(encoded(NESTED), "config.json")
    assert config.parts == (
        Part("", "gemma4", ("Gemma4ForConditionalGeneration",)),
        Part("text_config", "gemma4_text"),
        Part("vision_config", "gemma4_vision"),
        Part("draft_config.inner_config", "deep"),
    )
    assert (config.model_type, config.dtype, config.hidden_layers) == ("gemma4", "bfloat16", 60)


def test_code_from_elsewhere_is_named() -> None:
    config = parse_model_config(
        encoded(
            {
                "auto_map": {
                    "AutoConfig": "configuration_x.XConfig",
                    "AutoModel": "other/repo--deep.modeling_x.XModel",
                }
            }
        ),
        "config.json",
    )
    own, other = config.remote_code
    assert (own.key, own.repository, own.file) == ("auto_map.AutoConfig", "", "configuration_x.py")
    assert (other.repository, other.file) == ("other/repo", "deep/modeling_x.py")


def test_a_tokenizers_code_may_be_a_list() -> None:
    document = {"auto_map": {"AutoTokenizer": ["tokenization_x.T", None]}, "model_max_length": 10**30}
    assert parse_remote_code(encoded(document), "tokenizer_config.json") == (
        RemoteCode("auto_map.AutoTokenizer", "tokenization_x.T"),
    )


def test_pythons_numbers_are_read_in_configs_and_nowhere_else() -> None:
    text = b'{"model_type": "nemotron_h", "time_step_limit": [0.0, Infinity], "x": NaN, "y": %d}' % 10**30
    assert parse_model_config(text, "config.json").model_type == "nemotron_h"
    for number in (b"Infinity", b"NaN", b"1.5", b"1" * 30):
        with pytest.raises(InputError):
            parse_json(b'{"x": %b}' % number, "x")
    with pytest.raises(InputError, match="beyond what a float holds"):
        parse_json(b'{"x": 1e999}', "x", python=True)


def test_the_quantisation_of_a_nested_part_is_found() -> None:
    document = {"text_config": {"quantization_config": {"quant_method": "fp8"}}}
    declared = parse_model_config(encoded(document), "config.json").quantization
    assert declared and (declared.method, declared.where) == (
        "fp8",
        "config.json: text_config.quantization_config",
    )


def test_groups_of_compressed_tensors_are_read() -> None:
    document = {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "mixed-precision",
            "config_groups": {
                "a": {
                    "format": "nvfp4-pack-quantized",
                    "weights": {"num_bits": 4, "type": "float"},
                    "input_activations": None,
                },
                "b": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}},
            },
        }
    }
    declared = parse_model_config(encoded(document), "config.json").quantization
    assert declared and declared.groups == (
        Group("nvfp4-pack-quantized", 4, "float", False),
        Group("", 8, "int", True),
    )


def test_adapters_name_their_base() -> None:
    adapter = parse_adapter_config(
        encoded({"base_model_name_or_path": "org/base", "peft_type": "LORA", "revision": None, "r": 8}),
        "adapter_config.json",
    )
    assert (adapter.base, adapter.method, adapter.revision) == ("org/base", "LORA", "")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"model_type": 3}, "model_type: expected a string"),
        ({"architectures": "X"}, "architectures: expected a list of strings"),
        ({"auto_map": {"AutoConfig": 3}}, "auto_map.AutoConfig"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"quantization_config": {"quant_method": []}}, "quantization_config.quant_method"),
        ([], "expected a table"),
    ],
)
def test_what_is_read_is_read_strictly(document: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_model_config(encoded(document), "config.json")


def test_a_key_that_occurs_twice_is_refused() -> None:
    with pytest.raises(InputError, match="occurs twice"):
        parse_model_config(b'{"model_type": "a", "model_type": "b"}', "config.json")


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("model_type", "auto_map", "text_config", "quantization_config", "config_groups"),
                    *("quantized_layers", "quantization", "ignore", "dtype", "architectures", "quant_algo"),
                )
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(_ANY)
def test_any_document_is_read_or_refused(document: object) -> None:
    for parse in (parse_model_config, parse_hf_quant_config, parse_adapter_config, parse_remote_code):
        try:
            parse(encoded(document), "x.json")
        except InputError as error:
            assert error.message.startswith("x.json")
