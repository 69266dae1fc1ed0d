"""Rules over a model and the packages that must run it: its types, architecture and quantisation."""

from collections.abc import Iterator

from airgap.model import Kind, Target
from airgap.readers.model_config import Declaration, ModelConfig
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.python_tables import Entry
from airgap.readiness.components import Distribution, Model, Stack
from airgap.readiness.judgement import Evidence, Judgement, Rule

MODEL_TYPE = Rule("model-type", 1, "transformers, or vLLM itself, has a configuration for the model's type")
ARCHITECTURE = Rule("architecture", 1, "vLLM has an implementation of the model's architecture")
METHOD = Rule("quantization-method", 1, "vLLM knows the method by which the weights are quantised")

_TYPES = "transformers/models/auto/configuration_auto.py"
_CONFIGS = "vllm/transformers_utils/config.py"
_REGISTRY = "vllm/model_executor/models/registry.py"
_QUANTIZATION = "vllm/model_executor/layers/quantization/__init__.py"

_ENGINES = ("sglang", "lmdeploy", "tensorrt-llm", "text-generation-server", "llama-cpp-python", "mlc-llm")
"""Engines with registries of their own, which airgap does not read."""

Found = Entry | NotUnderstood | None


def judge_model_type(model: Model, target: Target) -> Iterator[Judgement]:
    """config.json's `model_type` and those nested in it, in CONFIG_MAPPING_NAMES or _CONFIG_REGISTRY."""
    if model.config is None:
        yield MODEL_TYPE.unknown(model.name, _no_config(model), settle=_settle_config(model))
        return
    stack = model.served_by
    if stack is None or (stack.transformers is None and stack.vllm is None):
        yield MODEL_TYPE.unknown(model.name, _no_server(model), settle=_settle_server(model))
        return
    if not model.config.model_type:
        yield MODEL_TYPE.unknown(
            model.name, "its config.json names no model_type", settle="ask the model's authors"
        )
        return
    yield from _judge_types(model, model.config, stack)


def _judge_types(model: Model, config: ModelConfig, stack: Stack) -> Iterator[Judgement]:
    found, where = look_up_type(config.model_type, stack)
    if isinstance(found, Entry):
        yield from _judge_nested(model, config, stack, found, where)
    elif isinstance(found, NotUnderstood):
        yield MODEL_TYPE.unknown(
            model.name,
            f"whether {config.model_type!r} is known cannot be read: {found}",
            settle="load the config with that release: AutoConfig.from_pretrained",
            evidence=[where.says(found)] if where else [],
        )
    elif _has_own_config(config):
        yield MODEL_TYPE.clear(
            model.name,
            f"{config.model_type!r} is in no table; the model brings its own code for it",
            evidence=[model.says("auto_map.AutoConfig")],
        )
    elif not (transformers := stack.find("transformers")):
        why = stack.unread.get("transformers")
        lacks = "pins" if stack.kind is Kind.WHEELS else "has"
        yield MODEL_TYPE.unknown(
            model.name,
            f"{stack.name}: transformers: {why.reason}"
            if why
            else f"{stack.name} {lacks} no transformers to look {config.model_type!r} up in",
            settle=why.settle if why else _settle_server(model),
        )
    elif engine := _another_engine(stack):
        yield MODEL_TYPE.unknown(
            model.name,
            f"{transformers.label} has no model type {config.model_type!r}; {engine} may bring its own",
            settle="load the model on a staging host",
            evidence=[transformers.states(_TYPES, f"CONFIG_MAPPING_NAMES has no {config.model_type!r}")],
        )
    else:
        yield MODEL_TYPE.blocked(
            model.name,
            f"{transformers.label} has no model type {config.model_type!r}, and no vLLM here brings its own",
            gap=f"{transformers.label} lacks {config.model_type}",
            things=(f"model_type {config.model_type}", *_labels(stack)),
            evidence=[
                model.says(f"model_type: {config.model_type}"),
                transformers.states(_TYPES, f"CONFIG_MAPPING_NAMES has no {config.model_type!r}"),
                *_vllm_lacks(stack, _CONFIGS, f"_CONFIG_REGISTRY has no {config.model_type!r}"),
            ],
            remedy=f"a transformers that registers {config.model_type}, and a vllm whose pin accepts it",
        )


def _judge_nested(
    model: Model, config: ModelConfig, stack: Stack, found: Entry, where: Distribution | None
) -> Iterator[Judgement]:
    assert where, "an entry is in a package"
    own = where.key == "vllm"  # its classes read the nested configs themselves
    for part in config.parts[1:]:
        nested, _ = look_up_type(part.model_type, stack)
        if part.model_type and not own and not isinstance(nested, Entry):
            yield MODEL_TYPE.unknown(
                model.name,
                f"{part.path}.model_type {part.model_type!r} is in no table that was read; the class for"
                f" {config.model_type!r} may know it",
                settle="load the config with that release: AutoConfig.from_pretrained",
                evidence=[model.says(f"{part.path}.model_type: {part.model_type}"), where.says(found)],
            )
            return
    types = ", ".join(dict.fromkeys(part.model_type for part in config.parts if part.model_type))
    yield MODEL_TYPE.clear(model.name, f"{where.label} knows {types}", evidence=[where.says(found)])


def _another_engine(stack: Stack) -> str:
    """What could run the model although transformers does not know it; '' for nothing."""
    found = [package.label for name in _ENGINES if (package := stack.find(name))]
    if found:
        return found[0]
    return "" if stack.vllm or stack.closed else "an engine that is not chosen yet"


def look_up_type(model_type: str, stack: Stack) -> tuple[Found, Distribution | None]:
    """Where a model type is registered: vLLM's own config first, as vLLM itself looks (config.py)."""
    vllm, transformers = stack.find("vllm"), stack.find("transformers")
    own = stack.vllm.model_types.get(model_type) if stack.vllm else None
    if isinstance(own, Entry) and own.certain:
        return own, vllm
    general = stack.transformers.get(model_type) if stack.transformers else None
    if isinstance(general, Entry) and general.certain:
        return general, transformers
    for found, where in ((general, transformers), (own, vllm)):
        if isinstance(found, NotUnderstood):
            return found, where
        if isinstance(found, Entry):
            return NotUnderstood(found.member, found.line, f"{model_type!r} may or may not be there"), where
    return None, None


def judge_architecture(model: Model, target: Target) -> Iterator[Judgement]:
    """config.json's `architectures` in vLLM's registry; vLLM takes the first that it has."""
    if model.config is None or not model.config.architectures:
        reason = "its config.json names no architectures" if model.config else _no_config(model)
        yield ARCHITECTURE.unknown(model.name, reason, settle=_settle_config(model))
        return
    stack = model.served_by
    if stack is None or stack.vllm is None:
        yield ARCHITECTURE.unknown(model.name, _no_server(model, "vllm"), settle=_settle_server(model))
        return
    vllm = stack.find("vllm")
    assert vllm, "its tables were read from it"
    looked = {name: stack.vllm.architectures.get(name) for name in model.config.architectures}
    for name, found in looked.items():
        if isinstance(found, Entry) and found.certain:
            yield ARCHITECTURE.clear(
                model.name, f"{vllm.label} implements {name}", evidence=[vllm.says(found)]
            )
            return
    name, found = next(iter(looked.items()))
    if found is not None:
        yield ARCHITECTURE.unknown(
            model.name,
            f"whether {vllm.label} implements {name} cannot be read from its registry",
            settle="load the model on a staging host",
            evidence=[vllm.says(found)],
        )
        return
    yield from _judge_absent(model, model.config, name, stack, vllm)


def _judge_absent(
    model: Model, config: ModelConfig, name: str, stack: Stack, vllm: Distribution
) -> Iterator[Judgement]:
    """Not native: previously supported, out of tree, perhaps by the Transformers backend, or by nothing."""
    assert stack.vllm
    evidence = [
        model.says(f"architectures: {', '.join(config.architectures)}"),
        vllm.states(_REGISTRY, f"_VLLM_MODELS has no {name!r}"),
    ]
    before = stack.vllm.previously_supported.get(name)
    if isinstance(before, Entry):
        last = f" up to {before.value}" if isinstance(before.value, str) else ""
        yield ARCHITECTURE.blocked(
            model.name,
            f"{vllm.label} no longer implements {name}; releases{last} did",
            gap=f"{vllm.label} dropped {name}",
            things=(name, vllm.label),
            evidence=[evidence[0], vllm.says(before)],
            remedy=f"vllm{f'=={before.value}' if last else ' of an older release'}",
        )
        return
    plugin = stack.vllm.out_of_tree.get(name)
    if isinstance(plugin, Entry):
        place = f": {plugin.value}" if isinstance(plugin.value, str) else ""
        yield ARCHITECTURE.unknown(
            model.name,
            f"{vllm.label} leaves {name} to a plugin{place}",
            settle="carry the plugin's wheel, and load the model on a staging host",
            evidence=[vllm.says(plugin)],
        )
        return
    found, _ = look_up_type(config.model_type, stack)
    if found is None and stack.transformers is not None and not config.remote_code:
        yield ARCHITECTURE.blocked(
            model.name,
            f"{vllm.label} has no {name}, and no transformers here knows the model for its backend",
            gap=f"{vllm.label} lacks {name}",
            things=(name, *_labels(stack)),
            evidence=evidence,
            remedy=f"a vllm whose registry has {name}",
        )
        return
    yield ARCHITECTURE.unknown(
        model.name,
        f"{name} is not native to {vllm.label}; the Transformers backend may run it",
        settle=f"a vllm whose registry has {name}, or load the model on a staging host",
        evidence=evidence,
    )


def judge_method(model: Model, target: Target) -> Iterator[Judgement]:
    """The declared quantisation in vLLM's `QuantizationMethods`."""
    stack = model.served_by
    methods = methods_of(model)
    if model.config is None:
        yield METHOD.unknown(model.name, _no_config(model), settle=_settle_config(model))
    elif not methods:
        yield METHOD.clear(model.name, "its configs declare no quantisation")
    elif stack is None or stack.vllm is None:
        yield METHOD.unknown(model.name, _no_server(model, "vllm"), settle=_settle_server(model))
    else:
        yield from _judge_methods(model, methods, stack)


def _judge_methods(model: Model, methods: tuple[str, ...], stack: Stack) -> Iterator[Judgement]:
    vllm = stack.find("vllm")
    assert vllm and stack.vllm, "the caller looked"
    looked = {method: stack.vllm.quantization.get(method) for method in methods}
    if not all(looked.values()):
        method = next(name for name, found in looked.items() if not found)
        yield METHOD.blocked(
            model.name,
            f"{vllm.label} has no quantisation method {method!r}",
            gap=f"{vllm.label} lacks {method}",
            things=(f"quantisation {method}", vllm.label),
            evidence=[
                *(where for name, where in declarations(model) if name == method),
                vllm.states(_QUANTIZATION, f"QuantizationMethods has no {method!r}"),
            ],
            remedy=f"a vllm that has {method}, or the model in another quantisation",
        )
        return
    evidence = [vllm.says(found) for found in looked.values() if found]
    if all(isinstance(found, Entry) and found.certain for found in looked.values()):
        yield METHOD.clear(model.name, f"{vllm.label} knows {', '.join(methods)}", evidence=evidence)
    else:
        yield METHOD.unknown(
            model.name,
            f"whether {vllm.label} knows {', '.join(methods)} cannot be read",
            settle="load the model on a staging host",
            evidence=evidence,
        )


def methods_of(model: Model) -> tuple[str, ...]:
    """The names by which vLLM looks the declared quantisation up; modelopt's NVFP4 is one of its own."""
    return tuple(dict.fromkeys(name for name, _ in declarations(model)))


def declarations(model: Model) -> list[tuple[str, Evidence]]:
    """Every declaration of a method: vLLM's name for it, and the file that says it."""
    found = [(model.config.quantization, "config.json")] if model.config else []
    found += [(c.hf_quant_config, c.at("hf_quant_config.json")) for c in model.checkpoints]
    return [
        (
            "modelopt_fp4"
            if (d.method.lower(), d.algorithm.upper()) == ("modelopt", "NVFP4")
            else d.method.lower(),
            model.says(_written(d)) if path == "config.json" else model.shows(path, _written(d)),
        )
        for d, path in found
        if d and d.method
    ]


def _written(declared: Declaration) -> str:
    algorithm = f" ({declared.algorithm})" if declared.algorithm else ""
    return f"quant_method: {declared.method}{algorithm}"


def _has_own_config(config: ModelConfig) -> bool:
    return any(code.key == "auto_map.AutoConfig" for code in config.remote_code)


def _labels(stack: Stack) -> tuple[str, ...]:
    return tuple(p.label for name in ("transformers", "vllm") if (p := stack.find(name)))


def _vllm_lacks(stack: Stack, member: str, text: str) -> list[Evidence]:
    vllm = stack.find("vllm")
    return [vllm.states(member, text)] if vllm else []


def _no_config(model: Model) -> str:
    damaged = [d for c in model.checkpoints for d in c.damaged if d.path == "config.json"]
    return f"config.json: {damaged[0].message}" if damaged else "it has no config.json"


def _settle_config(model: Model) -> str:
    return (
        f"{'add' if 'config.json' not in model.files else 'mend'} its config.json, as its authors publish it"
    )


def _no_server(model: Model, engine: str = "vllm or transformers") -> str:
    if not model.server:
        return "the manifest does not say what runs it"
    if model.served_by is None:
        return f"{model.server}, which must run it, was not read"
    return f"no {engine} was read in {model.server}, which must run it"


def _settle_server(model: Model) -> str:
    if not model.server:
        return "add served-by to the model"
    if model.served_by is None:
        return f"mend what is unknown of {model.server}"
    if model.served_by.kind is Kind.CONTAINER:
        return f"load the model in {model.server} on a staging host, or name the server that has vllm"
    if model.served_by.closed:
        return f"add vllm to {model.server}, or let served-by name what has it"
    return f"pin vllm and transformers in {model.server} with '==', or run: airgap lock"
