"""The JSON files of a model: config, quantisation, tokenizer, adapter.

Invariant: only InputError escapes, though most of their keys are nobody's standard.
"""

from functools import cache

from airgap.decode import canonical_json
from airgap.readers.model_config import (
    parse_adapter_config,
    parse_hf_quant_config,
    parse_model_config,
    parse_remote_code,
)
from tests.fuzz.harness import accepted


@cache
def seeds() -> dict[str, bytes]:
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}
    packed = {"format": "nvfp4-pack-quantized", "config_groups": {"group_0": group}, "ignore": ["lm_head"]}
    config = {
        "model_type": "gemma4",
        "architectures": ["Gemma4ForConditionalGeneration"],
        "auto_map": {"AutoConfig": "org/name--configuration_x.XConfig"},
        "text_config": {"model_type": "gemma4_text", "num_hidden_layers": 60, "rope_theta": 1e6},
        "quantization_config": {"quant_method": "compressed-tensors"} | packed,
    }
    modelopt = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "NVFP4", "exclude_modules": []},
    }
    documents = {
        "config": config,
        "modelopt": modelopt,
        "tokenizer": {"auto_map": {"AutoTokenizer": ["a.B", None]}},
        "adapter": {"base_model_name_or_path": "org/base", "peft_type": "LORA"},
        "bad-list": [],
    }
    return {name: canonical_json(document) for name, document in documents.items()}


def check(data: bytes) -> bool:
    config = accepted(lambda document: parse_model_config(document, "config.json"), data)
    if config is not None:
        assert config.parts and isinstance(config.model_type, str)
    code = accepted(lambda document: parse_remote_code(document, "tokenizer_config.json"), data)
    for reference in code or ():
        assert reference.file.endswith(".py") and isinstance(reference.repository, str)
    readers = (parse_hf_quant_config, parse_adapter_config)
    found = [accepted(lambda document, read=read: read(document, "x"), data) for read in readers]  # type: ignore[misc]
    return any(value is not None for value in (config, code, *found))
