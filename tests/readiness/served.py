"""Images that serve a model: a vLLM, a transformers, a backend, as files of their layers."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.images import LAYER_TYPES, OCI, Layout, image_config, sha256

Files = dict[str, str | bytes | tuple[str]]
"""By path: text, bytes, or what it is a hard link to."""

SITE = "opt/venv/lib/python3.12/site-packages"
REGISTRY = f"{SITE}/vllm/model_executor/models/registry.py"
TYPES = f"{SITE}/transformers/models/auto/configuration_auto.py"

VLLM: Files = {
    f"{SITE}/vllm-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 1.0\n"
    "Requires-Dist: transformers>=5\n",
    f"{SITE}/vllm/__init__.py": "",
    f"{SITE}/vllm/inputs/__init__.py": "class TokensPrompt: ...\n",
    REGISTRY: '_VLLM_MODELS = {"Tiny": ("tiny", "Tiny")}\n_PREVIOUSLY_SUPPORTED_MODELS = {}\n',
    f"{SITE}/vllm/transformers_utils/config.py": "_CONFIG_REGISTRY = {}\n",
    f"{SITE}/vllm/model_executor/layers/quantization/__init__.py": "from typing import Literal\n"
    'QuantizationMethods = Literal["fp8"]\n',
}


def transformers(version: str, types: str, site: str = SITE) -> Files:
    info = f"{site}/transformers-{version}.dist-info"
    return {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n",
        TYPES.replace(SITE, site): f"CONFIG_MAPPING_NAMES = dict({types})\n",
    }


BACKEND: Files = {"backend/serve.py": "import json\nfrom vllm.inputs.data import TokensPrompt\n"}
OLD, NEW = transformers("4.0", "old='X'"), transformers("5.0", "tiny='TinyConfig'")
UPGRADE: Files = {f"{SITE}/.wh.transformers-4.0.dist-info": ""} | NEW


def layer(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            if isinstance(content, tuple):
                info.type, [info.linkname] = tarfile.LNKTYPE, content
                tar.addfile(info)
                continue
            data = content.encode() if isinstance(content, str) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def image(
    path: Path, *layers: Files, pack: Callable[[bytes], bytes] = bytes, media_type: str = LAYER_TYPES[""]
) -> None:
    """An OCI layout of one image, whose layers are as `pack` makes them of a tar."""
    layout = Layout(path)
    tars = [layer(files) for files in layers]
    document = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}manifest.v1+json",
        "config": layout.blob(image_config([sha256(tar) for tar in tars]), f"{OCI}config.v1+json"),
        "layers": [layout.blob(pack(tar), media_type) for tar in tars],
    }
    layout.finish(latest=layout.blob(json.dumps(document).encode(), f"{OCI}manifest.v1+json"))
