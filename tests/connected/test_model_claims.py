"""`quantization = "nvfp4"` is proven when a model is locked, from local files and from a hub by ranges."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from airgap.connected import models
from airgap.connected.source import Context, Resolved
from airgap.errors import InputError
from airgap.manifest import ModelRequest
from airgap.model import Severity
from tests.connected.modelling import from_hub, make_context
from tests.readiness.checkpoints import Files, load
from tests.servers.hub import Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    close_session()


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path)


def lock_local(context: Context, files: Files, claim: str = "nvfp4") -> Resolved:
    for name, data in files.items():
        path = context.directory / "weights" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return models.resolve(ModelRequest("model", "", "weights", "main", claim, (), (), ""), None, context)


def relabelled() -> Files:
    return load("modelopt") | {"model.safetensors": load("bf16")["model.safetensors"]}


@pytest.mark.parametrize("case", ["modelopt-sharded", "compressed-tensors-w4a16"])
def test_a_claim_that_is_true_says_nothing(context: Context, hub: Hub, case: str) -> None:
    hub.add("org/name", dict(load(case)))
    assert models.resolve(from_hub(quantization="nvfp4"), None, context).findings == ()
    assert lock_local(context, load(case)).findings == ()


def test_a_local_model_that_is_relabelled_is_refused(context: Context) -> None:
    with pytest.raises(InputError) as caught:
        lock_local(context, relabelled())
    assert (
        "models.model.quantization: expected the claimed nvfp4; tensor 'model.layers.0"
        in caught.value.message
    )
    assert "is BF16; declared is NVFP4" in caught.value.message
    assert caught.value.remedy


def test_a_remote_model_is_refused_before_its_weights_are_fetched(context: Context, hub: Hub) -> None:
    """64 MiB of zeros after a true header: only its beginning is asked for."""
    weights = context.directory / "model.safetensors"
    header = b'{"model.embed.weight":{"dtype":"BF16","shape":[1024,32768],"data_offsets":[0,67108864]}}'
    with open(weights, "wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(8 + len(header) + (1 << 26))
    small = {name: data for name, data in load("modelopt").items() if name.endswith(".json")}
    hub.add("org/name", {**small, "model.safetensors": weights})
    with pytest.raises(InputError, match=r"tensor 'model.embed.weight' is BF16; declared is NVFP4"):
        models.resolve(from_hub(quantization="nvfp4"), None, context)
    asked = [
        seen for seen in hub.requests if seen.path.endswith("model.safetensors") and seen.method == "GET"
    ]
    assert 1 <= len(asked) <= 2 and all("range" in seen.headers for seen in asked)


def test_a_model_without_a_claim_is_not_asked_for_its_headers(context: Context, hub: Hub) -> None:
    hub.add("org/name", dict(relabelled()))
    assert models.resolve(from_hub(), None, context).findings == ()
    assert not [seen for seen in hub.requests if seen.path.endswith("model.safetensors")]


def test_a_claim_that_cannot_be_decided_is_a_warning(context: Context) -> None:
    found = lock_local(context, {"model.Q4_K_M.gguf": b"GGUF", "config.json": b"{}"})
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("model-quantization-claim", Severity.WARNING)
    assert "expected safetensors, found model.Q4_K_M.gguf" in finding.message


@pytest.mark.parametrize(
    ("claim", "case", "told"),
    [("fp8", "bf16", "its tensors are BF16"), ("fp8", "compressed-tensors-fp8", "")],
)
def test_other_claims_are_compared_with_the_dtypes(
    context: Context, claim: str, case: str, told: str
) -> None:
    findings = lock_local(context, load(case), claim).findings
    assert [told in finding.message for finding in findings] == [True] * bool(told)
