"""A container as the server of a model: the packages in its layers, and a backend that an upgrade breaks."""

import json
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.cli.workspace import open_context
from airgap.connected.evidence import gather_lock
from airgap.connected.opener import Opener
from airgap.lock import parse_lock
from airgap.progress import Silent
from airgap.readiness.ran import stack_digests
from tests.images import sha256
from tests.readers.objects import dynamic, elf, gpu_code
from tests.readiness.served import (
    BACKEND,
    NEW,
    OLD,
    SITE,
    TYPES,
    UPGRADE,
    VLLM,
    Files,
    image,
    layer,
    transformers,
)


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Lock a manifest of one image and the model it serves, and check that."""
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))

    def judge(*layers: Files, target: str = "") -> tuple[int, dict[str, list[dict[str, Any]]]]:
        image(tmp_path / "image", *layers)
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text('{"model_type": "tiny", "architectures": ["Tiny"]}')
        (tmp_path / "m.toml").write_text(
            '[bundle]\nname = "m"\nversion = "1"\n'
            f'[target]\npython = "3.12"\nplatform = "linux/amd64"\nglibc = "2.35"\n{target}'
            '[[containers]]\nname = "server"\nlayout = "image"\n'
            '[[models]]\nname = "tiny-model"\npath = "model"\nserved-by = "server"\n'
        )
        assert run(["lock", str(tmp_path / "m.toml")]) == 0
        capsys.readouterr()
        code = run(["check", str(tmp_path / "m.toml"), "--json"])
        document = json.loads(capsys.readouterr().out)
        rules: dict[str, list[dict[str, Any]]] = {}
        for component in document["components"]:
            for judgement in component["judgements"]:
                rules.setdefault(judgement["rule"], []).append(judgement)
        return code, rules

    return judge


def test_a_layer_that_upgrades_transformers_leaves_the_newer_alone(judged: Any) -> None:
    code, rules = judged(VLLM | OLD, UPGRADE)
    assert code == 0
    [found] = rules["model-type"]
    assert (found["verdict"], found["message"]) == ("no_blocker", "transformers 5.0 knows tiny")
    assert found["evidence"][0]["member"] == TYPES
    assert rules["pin"][0]["verdict"] == "no_blocker"


def test_without_the_upgrade_the_models_type_is_missing(judged: Any) -> None:
    code, rules = judged(VLLM | OLD)
    assert (code, rules["model-type"][0]["verdict"]) == (5, "blocked")
    assert rules["pin"][0]["warning"], "what is installed may run against its pins"


def test_two_copies_are_ambiguous(judged: Any) -> None:
    code, rules = judged(VLLM | NEW | transformers("4.0", "", "usr/lib/python3/dist-packages"))
    assert (code, rules["model-type"][0]["verdict"]) == (0, "unknown")
    for found in (rules["pin"][0], rules["model-type"][0]):
        assert "transformers: is ambiguous: 5.0 in /opt" in found["message"]
        assert found["remedy"] == "leave one of them in the image"


def test_of_an_image_that_cannot_be_read_the_model_says_so(judged: Any) -> None:
    code, rules = judged(VLLM | NEW, {"x" * 300 + "/" + "../" * 5: ""})
    assert (code, rules["evidence"][0]["verdict"]) == (0, "unknown")
    for rule in ("model-type", "architecture"):
        [found] = rules[rule]
        assert found["message"] == "server, which must run it, was not read"
        assert found["remedy"] == "mend what is unknown of server"


def test_an_image_without_an_engine_is_not_to_be_pinned(judged: Any) -> None:
    _, rules = judged({"etc/os-release": "ID=none"})
    assert {rules[rule][0]["verdict"] for rule in ("model-type", "architecture")} == {"unknown"}
    assert "on a staging host" in rules["architecture"][0]["remedy"]


# ------------------------------------------------------------------ GPU code

L4 = 'gpu = { name = "NVIDIA L4", compute_capability = "8.9", memory_gib = 24 }\ndriver = "570.86"\n'
KERNELS = f"{SITE}/vllm/_C.abi3.so"
SM80, SM90A = (2, 80, 0x11), (2, 90, 0x100011)


def kernels(*entries: tuple[int, int, int], cuda: str = "12") -> bytes:
    """An extension module with this GPU code, which links that CUDA."""
    return elf(
        [
            (".dynstr", 3, b"\0libcudart.so." + cuda.encode() + b"\0", 0),
            (".dynamic", 6, dynamic([(1, 1)]), 1),
            (".nv_fatbin", 1, gpu_code(*entries), 0),
        ]
    )


def test_gpu_code_inside_an_image_is_judged_as_in_a_wheel(judged: Any) -> None:
    below = layer(VLLM | NEW | {KERNELS: kernels(SM90A)})
    code, rules = judged(VLLM | NEW | {KERNELS: kernels(SM90A)}, target=L4)
    [found] = rules["gpu-code"]
    assert (code, found["verdict"]) == (5, "blocked")
    assert found["message"] == "no GPU code of vllm 1.0 runs on NVIDIA L4 (8.9)"
    assert found["evidence"][0]["member"] == f"/{KERNELS}"
    assert found["evidence"][0]["sha256"] == sha256(below)
    assert found["evidence"][0]["text"] == "sm_90a"


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([{KERNELS: kernels(SM90A)}, {KERNELS: kernels(SM80)}], id="replaced by a layer above"),
        pytest.param(
            [{"root/.cache/x/vllm/_C.abi3.so": kernels(SM80), KERNELS: ("root/.cache/x/vllm/_C.abi3.so",)}],
            id="a hard link to a file before it",
        ),
        pytest.param(
            [{"root/.cache/0123": kernels(SM80), KERNELS: ("root/.cache/0123",)}],
            id="a hard link to a file of another name",
        ),
    ],
)
def test_the_module_that_python_would_load_counts(judged: Any, layers: list[Files]) -> None:
    _, rules = judged(VLLM | NEW, *layers, target=L4)
    assert [(j["verdict"], j["message"]) for j in rules["gpu-code"]] == [
        ("no_blocker", "sm_80 runs on NVIDIA L4 (8.9)")
    ]


def test_a_module_that_is_gone_is_unknown(judged: Any) -> None:
    gone = {f"{SITE}/vllm/.wh._C.abi3.so": ""}
    _, rules = judged(VLLM | NEW | {KERNELS: kernels(SM90A)}, gone, target=L4)
    assert [j["verdict"] for j in rules["gpu-code"]] == ["unknown"]


def test_a_damaged_module_is_unknown_and_named(judged: Any) -> None:
    _, rules = judged(VLLM | NEW | {KERNELS: kernels(SM90A)[:-30]}, target=L4)
    [found] = rules["gpu-code"]
    assert found["verdict"] == "unknown" and found["message"].startswith(f"/{KERNELS}: ")


def test_without_torch_the_cuda_that_the_modules_link_needs_a_driver(judged: Any) -> None:
    code, rules = judged(VLLM | NEW | {KERNELS: kernels(SM80, cuda="13")}, target=L4)
    [found] = rules["cuda-driver"]
    assert (code, found["verdict"]) == (5, "blocked")
    assert (
        found["message"] == "vllm 1.0 links CUDA 13, which needs driver 580 or newer; the target has 570.86"
    )
    assert found["evidence"][0]["member"] == f"/{KERNELS}"


def test_without_either_another_lock_does_not_help(judged: Any) -> None:
    _, rules = judged(VLLM | NEW, target=L4)
    [found] = rules["cuda-driver"]
    assert (found["verdict"], found["message"]) == ("unknown", "no torch was read, so its CUDA is not known")
    assert found["remedy"] == "run python -c 'import torch; print(torch.version.cuda)' in server"


def test_a_torch_that_is_ambiguous_says_what_settles_it(judged: Any) -> None:
    torch = {
        f"{site}/torch-2.{n}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: 2.{n}\n"
        for n, site in enumerate((SITE, "usr/lib/python3/dist-packages"))
    }
    _, rules = judged(VLLM | NEW | torch, target=L4)
    [found] = rules["cuda-driver"]
    assert found["remedy"] == "leave one of them in the image"


# ------------------------------------------------------------------ code that serves


def test_a_backend_that_imports_what_its_vllm_lacks_is_blocked_with_file_and_line(judged: Any) -> None:
    code, rules = judged(VLLM | NEW | BACKEND)
    [found] = rules["imports"]
    assert (code, found["verdict"]) == (5, "blocked")
    assert found["evidence"][0]["member"] == "/backend/serve.py"
    assert found["evidence"][0]["line"] == 2


def test_a_guarded_import_only_warns(judged: Any) -> None:
    text = "try:\n    from vllm.inputs.data import X\nexcept ImportError:\n    from vllm.inputs import X\n"
    code, rules = judged(VLLM | NEW | {"backend/serve.py": text.replace("X", "TokensPrompt")})
    assert code == 0
    assert [(j["verdict"], j["warning"]) for j in rules["imports"]] == [("no_blocker", True)]


def test_an_image_ran_when_every_layer_of_it_did_and_not_only_those_with_packages(
    tmp_path: Path, judged: Any
) -> None:
    judged(VLLM | NEW, {"etc/motd": "no package at all"})
    lock = parse_lock((tmp_path / "m.lock.json").read_bytes(), "lock")
    context = open_context(lock.target, tmp_path, Silent(), ())
    with Opener(context) as opener:
        [served] = gather_lock(lock, lock.target, opener).composition.stacks
    image = lock.find("server")
    assert image
    assert stack_digests(served) == {file.sha256 for file in image.files}
    assert len(image.files) == 4
