"""The manifest: everything wrong with it in one run, each problem by its key path."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.connected.starter import starter_manifest
from airgap.errors import InputError
from airgap.manifest import (
    ContainerRequest,
    FileRequest,
    ModelRequest,
    VariantsRequest,
    WheelsRequest,
    parse_manifest,
    request_digest,
)

GOOD = """
[bundle]
name = "gemma4-serving"
version = "2026.11"
channel = "gpu-serving"

[target]
python = "3.12"
platform = "linux/amd64"
glibc = "2.35"
gpu = { name = "NVIDIA L4", compute_capability = "8.9", memory_gib = 24, count = 4 }
driver = "570.86"

[[wheels]]
name = "serving"
requirements = ["vllm==0.19.1"]

[[models]]
name = "gemma"
repo = "nvidia/Gemma-4-31B-IT-NVFP4"
include = ["*.safetensors"]
quantization = "NVFP4"
served-by = "serving"

[[containers]]
name = "vllm"
image = "docker.io/vllm/vllm-openai:v0.19.1"
platforms = ["linux/amd64", "linux/arm64"]

[[files]]
name = "notes"
path = "NOTES.md"
"""


def problems(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_manifest(text.encode(), "x.toml", Path())
    return str(caught.value)


def test_reads_all_four_kinds() -> None:
    manifest = parse_manifest(GOOD.encode(), "x.toml", Path())
    assert (manifest.name, manifest.version, manifest.channel) == (
        "gemma4-serving",
        "2026.11",
        "gpu-serving",
    )
    assert manifest.target.gpu is not None
    assert manifest.target.gpu.count == 4
    wheels, model, container, file = manifest.requests
    assert isinstance(wheels, WheelsRequest)
    assert isinstance(model, ModelRequest)
    assert (model.revision, model.quantization, model.served_by) == ("main", "nvfp4", "serving")
    assert isinstance(container, ContainerRequest)
    assert container.platforms == ("linux/amd64", "linux/arm64")
    assert isinstance(file, FileRequest)


def test_the_starter_is_a_valid_manifest() -> None:
    manifest = parse_manifest(starter_manifest("gemma4").encode(), "gemma4.toml", Path())
    assert manifest.name == "gemma4"
    assert manifest.channel == "gemma4"


def test_every_problem_is_named_at_once() -> None:
    text = """
[bundle]
name = "Has Spaces"
versoin = "1"
[target]
python = 3.12
platform = "linux"
glibc = "2.35"
[[wheels]]
name = "a"
[[models]]
name = "m"
repo = "one-part"
path = "and/path"
served-by = "nobody"
[[containers]]
name = "a"
image = "x"
platforms = ["amd64"]
plain-http = "yes"
[[files]]
name = "f"
url = "ftp://old"
sha256 = "abc"
"""
    message = problems(text)
    for expected in (
        "bundle.name: expected a name",
        "bundle.version: missing",
        "bundle.versoin: unknown key; known here:",
        "target.python: expected a Python version such as 3.12",
        "target.platform: expected a platform such as linux/amd64, found 'linux'",
        "wheels[0]: expected requirements or requirements-file",
        "models[0]: expected exactly one of repo, path; found repo and path",
        "models[0].repo: expected a hub repository such as org/name, found 'one-part'",
        "containers[0].platforms[0]: expected a platform",
        "containers[0].plain-http: expected true or false",
        "files[0].url: expected an http(s) or file URL",
        "files[0].sha256: expected a sha256 of 64 lower-case hex digits",
        "the name 'a' is used by a wheels and a container",
        "models.m.served-by: no wheels set or container is named 'nobody'",
    ):
        assert expected in message, expected
    assert message.startswith("x.toml: ")


VARIANTS = """
[[models.variants]]
repo = "org/fast"
quantization = "NVFP4"
[[models.variants]]
path = "weights"
"""
HEAD, MODEL = GOOD.partition("[[wheels]]")[0], '[[models]]\nname = "m"\n'


def test_variants_have_the_models_name_and_server() -> None:
    serving = '[[wheels]]\nname = "serving"\nrequirements = ["vllm"]\n'
    text = f'{HEAD}{serving}{MODEL}served-by = "serving"\n{VARIANTS}'
    _, model = parse_manifest(text.encode(), "x.toml", Path()).requests
    assert isinstance(model, VariantsRequest)
    assert [(v.name, v.served_by) for v in model.variants] == [("m", "serving")] * 2
    assert [(v.repo, v.path, v.quantization) for v in model.variants] == [
        ("org/fast", "", "nvfp4"),
        ("", "weights", ""),
    ]
    other = parse_manifest(text.replace("weights", "w").encode(), "x.toml", Path()).requests[1]
    assert request_digest(model) != request_digest(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("variants = []", "models[0].variants: expected [[models.variants]], one or more"),
        (f'repo = "org/a"\n{VARIANTS}', "models[0].repo: unknown key; known here: name, served-by, variants"),
        (f'served-by = "nobody"\n{VARIANTS}', "models.m.served-by: no wheels set or container is named"),
        (f'{VARIANTS}name = "n"', "models[0].variants[1].name: unknown key"),
        (f'{VARIANTS}repo = "org/a"', "models[0].variants[1]: expected exactly one of repo, path"),
    ],
)
def test_variants_that_are_none(text: str, expected: str) -> None:
    assert expected in problems(HEAD + MODEL + text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("= 1", "not TOML"),
        ("[bundle]\nname = 'a'\nname = 'b'", "not TOML"),
        ("\ufeff[bundle]", "byte order mark"),
        ("bundle = 3", "bundle: expected a table, found an integer"),
        ("[[wheels]]\n[bundle]", "bundle.name: missing"),
        ("wheels = 'x'", "wheels: expected a list of tables, found a string"),
        ("x = " + "[" * 200 + "]" * 200, "levels deep"),
    ],
)
def test_malformed_text_is_one_clear_error(text: str, expected: str) -> None:
    assert expected in problems(text)


def test_a_directory_is_no_manifest(tmp_path: Path) -> None:
    from airgap.manifest import load_manifest

    with pytest.raises(InputError, match="cannot be read"):
        load_manifest(tmp_path)


def test_the_request_digest_moves_with_what_is_wanted() -> None:
    one = parse_manifest(GOOD.encode(), "x.toml", Path()).requests[0]
    two = parse_manifest(GOOD.replace("0.19.1", "0.19.0").encode(), "x.toml", Path()).requests[0]
    assert request_digest(one) == request_digest(one)
    assert request_digest(one) != request_digest(two)
    assert request_digest(one, {"r.in": "six"}) != request_digest(one, {"r.in": "idna"})


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_a_manifest_or_an_input_error(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_manifest(data, "x.toml", Path())
