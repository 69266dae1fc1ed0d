"""That the real client takes the stand-in for a hub; what the benchmarks and other tests rest on."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError
from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

from tests.servers.hub import Hub

WEIGHTS = os.urandom(300_000)


def test_the_client_lists_and_downloads(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(WEIGHTS)
    with Hub(redirect_lfs=True) as hub:
        commit = hub.add("org/name", {"config.json": b"{}", "a/model.safetensors": large})
        info = HfApi(endpoint=hub.url).model_info("org/name", revision="main", files_metadata=True)
        assert info.sha == commit and info.siblings
        lfs = next(s.lfs for s in info.siblings if s.lfs)
        assert lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
        one = hf_hub_download("org/name", "config.json", endpoint=hub.url, cache_dir=tmp_path / "one")
        assert Path(one).read_bytes() == b"{}"
        got = snapshot_download("org/name", endpoint=hub.url, cache_dir=tmp_path / "all", token="t")
        assert (Path(got) / "a/model.safetensors").read_bytes() == WEIGHTS
        assert {s.headers.get("authorization") for s in hub.requests if s.server == "cdn"} == {None}
    close_session()


def test_the_client_meets_the_gate() -> None:
    with Hub() as hub:
        hub.add("org/name", {"config.json": b"{}"})
        hub.gate("org/name", {"good": "granted"}, hidden=True)
        with pytest.raises(GatedRepoError, match="not in the authorized list"):
            HfApi(endpoint=hub.url, token="bad").model_info("org/name")
        assert HfApi(endpoint=hub.url, token="good").model_info("org/name").gated == "manual"
    close_session()


def test_hf_download_works(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.add("org/name", {"config.json": b"{}", "model.safetensors": WEIGHTS})
        command = [str(Path(sys.executable).with_name("hf")), "download", "org/name", "--local-dir", "out"]
        quiet = {"HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        environment = {**os.environ, **quiet, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert (tmp_path / "out/model.safetensors").read_bytes() == WEIGHTS
