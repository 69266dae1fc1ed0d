"""A container as the server of a model: the packages in its layers, and a backend that an upgrade breaks."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from tests.images import LAYER_TYPES, OCI, Layout, image_config, sha256

SITE = "opt/venv/lib/python3.12/site-packages"
REGISTRY = f"{SITE}/vllm/model_executor/models/registry.py"
TYPES = f"{SITE}/transformers/models/auto/configuration_auto.py"

VLLM = {
    f"{SITE}/vllm-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 1.0\n"
    "Requires-Dist: transformers>=5\n",
    f"{SITE}/vllm/__init__.py": "",
    f"{SITE}/vllm/inputs/__init__.py": "class TokensPrompt: ...\n",
    REGISTRY: '_VLLM_MODELS = {"Tiny": ("tiny", "Tiny")}\n_PREVIOUSLY_SUPPORTED_MODELS = {}\n',
    f"{SITE}/vllm/transformers_utils/config.py": "_CONFIG_REGISTRY = {}\n",
    f"{SITE}/vllm/model_executor/layers/quantization/__init__.py": "from typing import Literal\n"
    'QuantizationMethods = Literal["fp8"]\n',
}


def transformers(version: str, types: str, site: str = SITE) -> dict[str, str]:
    info = f"{site}/transformers-{version}.dist-info"
    return {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n",
        TYPES.replace(SITE, site): f"CONFIG_MAPPING_NAMES = dict({types})\n",
    }


BACKEND = {"backend/serve.py": "import json\nfrom vllm.inputs.data import TokensPrompt\n"}
OLD, NEW = transformers("4.0", "old='X'"), transformers("5.0", "tiny='TinyConfig'")
UPGRADE = {f"{SITE}/.wh.transformers-4.0.dist-info": ""} | NEW


def layer(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def image(path: Path, *layers: dict[str, str]) -> None:
    """An OCI layout of one uncompressed image."""
    layout = Layout(path)
    tars = [layer(files) for files in layers]
    document = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}manifest.v1+json",
        "config": layout.blob(image_config([sha256(tar) for tar in tars]), f"{OCI}config.v1+json"),
        "layers": [layout.blob(tar, LAYER_TYPES[""]) for tar in tars],
    }
    layout.finish(latest=layout.blob(json.dumps(document).encode(), f"{OCI}manifest.v1+json"))


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Lock a manifest of one image and the model it serves, and check that."""
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))

    def judge(*layers: dict[str, str]) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        image(tmp_path / "image", *layers)
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text('{"model_type": "tiny", "architectures": ["Tiny"]}')
        (tmp_path / "m.toml").write_text(
            '[bundle]\nname = "m"\nversion = "1"\n'
            '[target]\npython = "3.12"\nplatform = "linux/amd64"\nglibc = "2.35"\n'
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
    assert any("ambiguous" in judgement["message"] for judgement in rules["pin"])


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
