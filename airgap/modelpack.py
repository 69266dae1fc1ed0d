"""Models as CNCF ModelPack artifacts: media types, and the config document.

Source: modelpack/model-spec v1, docs/spec.md, docs/config.md, specs-go/v1/{mediatype,annotations}.go
and schema/config-schema.json. Layers are raw files, so a layer's DiffID is its digest.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from airgap.decode import Fields, canonical_json, read_document
from airgap.errors import InputError
from airgap.model import LockedFile, ModelArtifact, Remote, Sha256, oci_digest

MANIFEST_ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
"""The `artifactType` of the OCI image manifest."""

CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"

WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw"
DOC_TYPE = "application/vnd.cncf.model.doc.v1.raw"
CODE_TYPE = "application/vnd.cncf.model.code.v1.raw"

FILEPATH_ANNOTATION = "org.cncf.model.filepath"
"""On a layer: the path of the file in the model."""

MAX_CONFIG = 4 * 1024 * 1024
"""Bytes: the digests of some forty thousand layers."""

_WEIGHTS = (
    *(".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".gguf", ".ggml", ".onnx", ".onnx_data", ".h5"),
    *(".msgpack", ".ot", ".npz", ".npy", ".tflite", ".engine", ".nemo"),
)
_CODE = (".py", ".ipynb", ".sh", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".rs", ".go", ".so")
_DOCS = (".md", ".rst", ".pdf", ".html", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".mp4")
_DOC_NAME = re.compile(
    r"(readme|licen[cs]e|notice|copying|copyright|changelog|authors|use_policy)\b[^.]*(\.txt)?"
)


def layer_media_type(path: str) -> str:
    """What the layer of a model's file is, judged by its name; what is nothing else is configuration."""
    name = PurePosixPath(path).name.lower()
    if name.endswith(_WEIGHTS):
        return WEIGHT_TYPE
    if name.endswith(_CODE):
        return CODE_TYPE
    if name.endswith(_DOCS) or _DOC_NAME.fullmatch(name):
        return DOC_TYPE
    return WEIGHT_CONFIG_TYPE


@dataclass(frozen=True, slots=True)
class PackConfig:
    """What a config document says that airgap reads back. `diff_ids` are in layer order."""

    name: str
    diff_ids: tuple[Sha256, ...]
    revision: str = ""
    licences: tuple[str, ...] = ()
    source: str = ""
    format: str = ""
    quantization: str = ""


def render_config(artifact: ModelArtifact) -> bytes:
    """The config document of a model: the same bytes for the same artifact, layers in its files' order."""
    descriptor = {
        "name": artifact.name,
        "vendor": artifact.repo.partition("/")[0],
        "version": artifact.revision,
        "revision": artifact.commit,
        "sourceURL": _source(artifact),
        "licenses": [artifact.licence] if artifact.licence else [],
    }
    config = {"format": _format(artifact.files), "quantization": artifact.quantization}
    return canonical_json(
        {
            "descriptor": {key: value for key, value in descriptor.items() if value},
            "config": {key: value for key, value in config.items() if value},
            "modelfs": {"type": "layers", "diffIds": [f"sha256:{file.sha256}" for file in artifact.files]},
        }
    )


def read_config(data: bytes, what: str) -> PackConfig:
    """Read any ModelPack config, airgap's or another's; keys airgap has no use for are passed over.

    Raises InputError naming every problem.
    """
    return read_document(data, what, _read_config)


def _read_config(fields: Fields) -> PackConfig:
    descriptor = fields.table("descriptor")
    config = fields.table("config")
    modelfs = fields.table("modelfs")
    if modelfs.text("type") != "layers":
        modelfs.problem("type", "expected 'layers'")
    return PackConfig(
        name=descriptor.text("name", default=""),
        diff_ids=_diff_ids(modelfs),
        revision=descriptor.text("revision", default=""),
        licences=descriptor.texts("licenses"),
        source=descriptor.text("sourceURL", default=""),
        format=config.text("format", default=""),
        quantization=config.text("quantization", default=""),
    )


def _diff_ids(modelfs: Fields) -> tuple[Sha256, ...]:
    """At least one (config-schema.json, modelfs.diffIds.minItems)."""
    digests = []
    if modelfs.has("diffIds") and not modelfs.texts("diffIds"):
        modelfs.problem("diffIds", "expected at least one digest")
    for index, text in enumerate(modelfs.texts("diffIds", default=None)):
        try:
            digests.append(oci_digest(text))
        except InputError as error:
            modelfs.problem(f"diffIds[{index}]", error.message)
    return tuple(digests)


def _source(artifact: ModelArtifact) -> str:
    """The repository's page: what precedes `/resolve/` in any of its files' URLs."""
    for file in artifact.files:
        if isinstance(file.origin, Remote) and artifact.repo:
            return file.origin.url.partition("/resolve/")[0]
    return ""


def _format(files: tuple[LockedFile, ...]) -> str:
    """The one format of all weights: `safetensors`, `gguf`, `onnx` or `pytorch`; '' for none or a mixture."""
    names = {".safetensors": "safetensors", ".gguf": "gguf", ".onnx": "onnx"}
    names |= dict.fromkeys((".bin", ".pth", ".pt", ".ckpt"), "pytorch")
    weights = [file.path for file in files if layer_media_type(file.path) == WEIGHT_TYPE]
    formats = {names.get(PurePosixPath(path).suffix.lower(), "") for path in weights}
    return formats.pop() if len(formats) == 1 else ""
