"""What a model's JSON files say of it: architecture, parts, quantisation, code and weights from elsewhere.

Sources: transformers `configuration_utils.py` (config.json, `auto_map`), modelopt 0.47
`export/convert_hf_config.py` (hf_quant_config.json), compressed-tensors 0.19 `quantization_config`, PEFT
adapter_config.json. Keys that airgap has no use for are passed over; those it reads are read strictly.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from airgap.decode import Fields, parse_json
from airgap.oci import without_nulls

MAX_CONFIG = 16 * 1024 * 1024
"""Bytes; a config that lists a quantisation for each layer of a large model is below 2 MiB."""

MAX_PARTS = 100
"""Configs nested in one config; models have up to five."""


@dataclass(frozen=True, slots=True)
class Part:
    """A config with a `model_type`: the model's own at `path` '', or one below such as `text_config`."""

    path: str
    model_type: str
    architectures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteCode:
    """A class that `trust_remote_code=True` would import. Written `[org/name--]module.Class` in auto_map."""

    key: str
    """Where it is named, such as `auto_map.AutoModelForCausalLM`."""
    reference: str

    @property
    def repository(self) -> str:
        """The other repository that it is fetched from; '' for the model's own."""
        return self.reference.partition("--")[0] if "--" in self.reference else ""

    @property
    def file(self) -> str:
        """The Python file in that repository."""
        return self.reference.rpartition("--")[2].rpartition(".")[0].replace(".", "/") + ".py"


@dataclass(frozen=True, slots=True)
class Group:
    """A compressed-tensors config group. `bits` is 0 where the weights are not quantised."""

    format: str
    bits: int
    type: str
    activations: bool
    """Whether inputs are quantised, too."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a document says of how weights are quantised; `where` names it in errors.

    `algorithm` is modelopt's quant_algo or compressed-tensors' format; `layers` maps modules to
    algorithms where modelopt names them one by one; `ignored` are modules, globs (modelopt) or `re:`
    expressions (compressed-tensors) that stay as they were.
    """

    where: str
    method: str
    algorithm: str
    groups: tuple[Group, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    bits: int = 0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A config.json. `parts` begins with the model itself; `hidden_layers` is None where nothing says it."""

    parts: tuple[Part, ...]
    dtype: str
    remote_code: tuple[RemoteCode, ...]
    quantization: Declaration | None
    hidden_layers: int | None

    @property
    def model_type(self) -> str:
        return self.parts[0].model_type

    @property
    def architectures(self) -> tuple[str, ...]:
        return self.parts[0].architectures


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A PEFT adapter_config.json: `base` is the repository or path of the model it changes."""

    base: str
    revision: str
    method: str
    remote_code: tuple[RemoteCode, ...]


def parse_model_config(data: bytes, what: str) -> ModelConfig:
    """Read a config.json. Raises InputError naming every key that is not what it should be."""
    fields = _document(data, what)
    parts = tuple(_parts(fields, ""))
    text = _text_config(fields)
    dtype = fields.raw("dtype" if fields.has("dtype") else "torch_dtype")  # newer ones map parts to dtypes
    layers = text.integer("num_hidden_layers") if text.has("num_hidden_layers") else None
    config = ModelConfig(
        parts or (Part("", ""),),
        dtype.removeprefix("torch.") if isinstance(dtype, str) else "",
        _remote_code(fields),
        _declared(fields, text, what),
        layers,
    )
    fields.raise_if_bad(what)
    return config


def parse_remote_code(data: bytes, what: str) -> tuple[RemoteCode, ...]:
    """The code that a tokenizer_config.json or a processor's config names. Raises InputError."""
    fields = _document(data, what)
    code = _remote_code(fields)
    fields.raise_if_bad(what)
    return code


def parse_hf_quant_config(data: bytes, what: str) -> Declaration:
    """Read modelopt's hf_quant_config.json. Raises InputError."""
    fields = _document(data, what)
    declaration = _modelopt(fields.table("quantization"), "modelopt", what)  # whoever produced it
    fields.raise_if_bad(what)
    return declaration


def parse_adapter_config(data: bytes, what: str) -> AdapterConfig:
    """Read a PEFT adapter_config.json. Raises InputError."""
    fields = _document(data, what)
    adapter = AdapterConfig(
        fields.text("base_model_name_or_path", default=""),
        fields.text("revision", default=""),
        fields.text("peft_type", default=""),
        _remote_code(fields),
    )
    fields.raise_if_bad(what)
    return adapter


def _document(data: bytes, what: str) -> Fields:
    fields = Fields(without_nulls(parse_json(data, what, max_bytes=MAX_CONFIG, python=True)))
    fields.raise_if_bad(what)
    return fields


def _parts(fields: Fields, path: str) -> Iterator[Part]:
    """The model's own type and those of the configs nested in it: text, vision, audio, a draft model's."""
    pending = [(path, fields)]
    found = 0
    while pending and found < MAX_PARTS:
        at, table = pending.pop(0)
        if not at or table.has("model_type"):
            found += 1
            yield Part(at, table.text("model_type", default=""), table.texts("architectures"))
        for key in table.all_keys():
            if (key.endswith("_config") or key == "config") and _is_table(table, key):
                pending.append((f"{at}.{key}" if at else key, table.table(key)))


def _text_config(fields: Fields) -> Fields:
    """The part that generates text, whose layers are counted: where transformers looks for it."""
    for key in ("text_config", "llm_config", "language_config"):
        if _is_table(fields, key):
            return fields.table(key)
    return fields


def _remote_code(fields: Fields) -> tuple[RemoteCode, ...]:
    found = []
    if fields.has("auto_map"):
        table = fields.table("auto_map")
        for key in table.all_keys():
            value = table.raw(key)
            # A tokenizer's is a list: the slow class and the fast one, either of them null.
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    found.append(RemoteCode(f"auto_map.{key}", name))
                elif name is not None:
                    table.problem(key, "expected the name of a class, or a list of names")
    if _is_table(fields, "custom_pipelines"):
        pipelines = fields.table("custom_pipelines")
        for key in pipelines.all_keys():
            implementation = pipelines.table(key).text("impl", default="")
            found += [RemoteCode(f"custom_pipelines.{key}", implementation)] if implementation else []
    return tuple(found)


def _is_table(fields: Fields, key: str) -> bool:
    return isinstance(fields.raw(key), dict)


def _declared(fields: Fields, text: Fields, what: str) -> Declaration | None:
    for table, at in ((fields, ""), (text, "text_config.")):
        for key in ("quantization_config", "compression_config"):
            if _is_table(table, key):
                return _quantization(table.table(key), f"{what}: {at}{key}")
    return None


def _quantization(fields: Fields, where: str) -> Declaration | None:
    if not fields.all_keys():
        return None
    method = fields.text("quant_method", default="")
    if _is_table(fields, "quantization"):  # what hf_quant_config.json holds, put into config.json whole
        return _modelopt(fields.table("quantization"), method or "modelopt", where)
    if fields.has("quant_algo"):
        return _modelopt(fields, method or "modelopt", where)
    bits = fields.integer("bits", default=0) if fields.has("bits") else 0
    return Declaration(
        where,
        method,
        fields.text("format", default=""),
        _groups(fields),
        {},
        fields.texts("ignore"),
        bits,
    )


def _modelopt(fields: Fields, method: str, where: str) -> Declaration:
    """Both of modelopt's spellings: `exclude_modules` in its own file, `ignore` in config.json."""
    layers = {}
    if _is_table(fields, "quantized_layers"):
        table = fields.table("quantized_layers")
        layers = {name: table.table(name).text("quant_algo", default="") for name in table.all_keys()}
    return Declaration(
        where,
        method,
        fields.text("quant_algo", default=""),
        (),
        layers,
        fields.texts("exclude_modules") + fields.texts("ignore"),
    )


def _groups(fields: Fields) -> tuple[Group, ...]:
    if not _is_table(fields, "config_groups"):
        return ()
    groups = []
    table = fields.table("config_groups")
    for name in table.all_keys():
        group = table.table(name)
        weights = group.table("weights") if _is_table(group, "weights") else None
        groups.append(
            Group(
                group.text("format", default=""),
                weights.integer("num_bits", default=0) if weights else 0,
                weights.text("type", default="") if weights else "",
                _is_table(group, "input_activations"),
            )
        )
    return tuple(groups)
