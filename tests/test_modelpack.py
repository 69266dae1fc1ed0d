"""ModelPack documents, against the specification's own schema where it is at hand."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import modelpack
from airgap.errors import InputError
from airgap.model import BundlePath, Local, LockedFile, ModelArtifact, Remote, Sha256

SCHEMA = Path(__file__).resolve().parents[2] / "shared/corpora/schemas/modelpack/config-schema.json"


def make_file(path: str, digit: str = "a") -> LockedFile:
    url = f"https://huggingface.co/org/name/resolve/{'c' * 40}/{path}"
    return LockedFile(BundlePath(path), 3, Sha256(digit * 64), Remote(url))


def make_model(*files: LockedFile) -> ModelArtifact:
    return ModelArtifact(
        "m", "r", "org/name", "main", "c" * 40, "nvfp4", "", "apache-2.0", "", files or (make_file("x"),)
    )


HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.sampled_from(["model.safetensors", "w.bin", "config.json", "README.md", "run.py", "LICENSE"])
LOCKED = st.builds(
    lambda path, sha256: LockedFile(BundlePath(path), 1, Sha256(sha256), Local(path)), NAMES, HEX
)
MODELS = st.builds(
    lambda licence, quantization, files: ModelArtifact(
        "m", "r", "", "", "", quantization, "", licence, "", tuple(files)
    ),
    st.text(max_size=20, alphabet=st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["", "nvfp4"]),
    st.lists(LOCKED, min_size=1, max_size=6),
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("model-00001-of-00002.safetensors", "weight"),
        ("original/consolidated.00.PTH", "weight"),
        ("model.safetensors.index.json", "weight.config"),
        ("tokenizer.model", "weight.config"),
        ("merges.txt", "weight.config"),
        ("chat_template.jinja", "weight.config"),
        (".gitattributes", "weight.config"),
        ("README.md", "doc"),
        ("LICENSE", "doc"),
        ("NOTICE.txt", "doc"),
        ("license.json", "weight.config"),
        ("modeling_custom.py", "code"),
    ],
)
def test_a_file_is_classified_by_its_name(path: str, kind: str) -> None:
    assert modelpack.layer_media_type(path) == f"application/vnd.cncf.model.{kind}.v1.raw"


def test_the_config_says_what_the_artifact_is_in_layer_order() -> None:
    model = make_model(make_file("z.safetensors", "a"), make_file("b.json", "0"))
    assert json.loads(modelpack.render_config(model)) == {
        "descriptor": {
            "name": "m",
            "vendor": "org",
            "version": "main",
            "revision": "c" * 40,
            "sourceURL": "https://huggingface.co/org/name",
            "licenses": ["apache-2.0"],
        },
        "config": {"format": "safetensors", "quantization": "nvfp4"},
        "modelfs": {"type": "layers", "diffIds": ["sha256:" + "a" * 64, "sha256:" + "0" * 64]},
    }


@pytest.mark.skipif(not SCHEMA.exists(), reason="the ModelPack schema (shared/corpora) is not here")
@given(MODELS)
def test_the_config_is_valid_under_the_specification(model: ModelArtifact) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes()))
    validator.validate(json.loads(modelpack.render_config(model)))


@given(MODELS)
def test_what_is_rendered_reads_back(model: ModelArtifact) -> None:
    data = modelpack.render_config(model)
    assert data == modelpack.render_config(model)
    config = modelpack.read_config(data, "config")
    assert config.diff_ids == tuple(f.sha256 for f in model.files)
    assert (config.name, config.quantization) == ("m", model.quantization)
    assert config.licences == ((model.licence,) if model.licence else ())


@pytest.mark.parametrize(
    ("modelfs", "problem"),
    [
        ({"type": "layers"}, "modelfs.diffIds: missing"),
        ({"type": "layers", "diffIds": []}, "at least one digest"),
        ({"type": "tar", "diffIds": ["sha256:" + "a" * 64]}, "expected 'layers'"),
        ({"type": "layers", "diffIds": ["md5:" + "a" * 64]}, r"diffIds\[0\]: expected a sha256"),
    ],
)
def test_a_bad_config_is_refused_with_its_key(modelfs: object, problem: str) -> None:
    data = json.dumps({"descriptor": {}, "config": {}, "modelfs": modelfs}).encode()
    with pytest.raises(InputError, match=problem):
        modelpack.read_config(data, "config")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    with pytest.raises(InputError):
        modelpack.read_config(data, "config")
