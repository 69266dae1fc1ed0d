"""`[[models.variants]]` locked from a hub and from directories: by real checkpoints, on several targets."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.connected import model_variants
from airgap.connected.source import Context
from airgap.errors import BlockedError, InputError, SourceError
from airgap.manifest import ModelRequest, VariantsRequest
from airgap.model import Gpu, ModelArtifact, Variant
from tests.connected.modelling import make_context
from tests.connected.test_model_claims import hub as hub  # noqa: PLC0414 - a fixture
from tests.readiness.checkpoints import load
from tests.servers.hub import Hub

CASES = {"nvfp4": "modelopt", "fp8": "compressed-tensors-fp8", "bf16": "bf16"}


@pytest.fixture
def context(tmp_path: Path, hub: Hub) -> Iterator[Context]:
    for name, case in CASES.items():
        hub.add(f"org/{name}", dict(load(case)))
    yield make_context(tmp_path)


def asked(*names: str, claim: str = "") -> VariantsRequest:
    request = ModelRequest("gemma", "", "", "main", "", (), (), "serving")
    variants = tuple(
        replace(request, repo=f"org/{name}", quantization=claim or (name if name != "bf16" else ""))
        for name in names
    )
    return VariantsRequest("gemma", "serving", variants)


def on(context: Context, capability: str, memory: int = 24) -> Context:
    return replace(context, target=replace(context.target, gpu=Gpu("GPU", capability, memory)))


def lock(request: VariantsRequest, context: Context, previous: ModelArtifact | None = None) -> ModelArtifact:
    artifact = model_variants.resolve(request, previous, context).artifact
    assert isinstance(artifact, ModelArtifact)
    return artifact


@pytest.mark.parametrize(
    ("capability", "repo"),
    [("10.0", "org/nvfp4"), ("8.9", "org/fp8"), ("8.0", "org/bf16"), ("7.5", "org/nvfp4")],
)
def test_the_target_decides(context: Context, capability: str, repo: str) -> None:
    found = lock(asked("nvfp4", "fp8", "bf16"), on(context, capability))
    assert found.repo == repo
    assert (found.name, found.served_by) == ("gemma", "serving")
    (chosen,) = [variant for variant in found.variants if variant.chosen]
    assert chosen.source == f"{repo}@main"
    assert [variant.format for variant in found.variants] == ["NVFP4", "FP8", "BF16"], "read from the headers"


def test_a_relock_asks_nobody_and_changes_nothing(context: Context, hub: Hub) -> None:
    request, target = asked("nvfp4", "bf16"), on(context, "8.9")
    before = lock(request, target)
    hub.add("org/bf16", dict(load("bf16")) | {"new.txt": b"upstream moved"})
    requests = len(hub.requests)
    assert lock(request, target, before) == before
    assert len(hub.requests) == requests
    assert lock(request, target, None) != before, "--upgrade moves"


def test_a_lock_that_someone_edited_is_chosen_anew(context: Context) -> None:
    request, target = asked("nvfp4", "bf16"), on(context, "8.9")
    before = lock(request, target)
    others = (replace(variant, chosen=False) for variant in before.variants)
    edited = replace(before, variants=(*others, Variant("org/more", "FP8", "because", chosen=True)))
    assert lock(request, target, edited) == before


def test_weights_that_nobody_can_weigh_fit_as_far_as_is_known(context: Context) -> None:
    for path, data in {**load("modelopt"), "part/pytorch_model.bin": b"pickled"}.items():
        file = context.directory / "weights" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    local = replace(asked("bf16").variants[0], repo="", path="weights")
    (found,) = lock(VariantsRequest("gemma", "", (local,)), on(context, "10.0")).variants
    assert found.reason == "NVFP4 is native on 10.0; the bytes of its tensors are not known"


def test_another_gpu_chooses_anew_and_so_does_another_table(context: Context) -> None:
    request = asked("nvfp4", "bf16")
    before = lock(request, on(context, "8.9"))
    assert before.repo == "org/bf16"
    assert lock(request, on(context, "10.0"), before).repo == "org/nvfp4"
    more = asked("nvfp4", "fp8", "bf16")
    assert lock(more, on(context, "8.9"), before).repo == "org/fp8"


def test_a_pin_of_the_same_source_stays_when_the_table_changes(context: Context, hub: Hub) -> None:
    before = lock(asked("bf16"), on(context, "8.9"))
    hub.add("org/bf16", dict(load("bf16")) | {"new.txt": b"upstream moved"})
    after = lock(asked("bf16", "nvfp4"), on(context, "8.9"), before)
    assert (after.repo, after.commit) == (before.repo, before.commit)


def test_without_a_gpu_the_first_is_taken_and_only_it_is_asked(context: Context, hub: Hub) -> None:
    resolved = model_variants.resolve(asked("fp8", "nvfp4", "gone"), None, context)
    assert isinstance(resolved.artifact, ModelArtifact)
    assert resolved.artifact.repo == "org/fp8"
    assert "[target] names no GPU" in resolved.findings[0].message
    assert not [seen for seen in hub.requests if "nvfp4" in seen.path]


def test_none_that_runs_is_an_error_with_every_reason(context: Context) -> None:
    with pytest.raises(BlockedError) as caught:
        lock(asked("nvfp4", "fp8"), on(context, "7.0"))
    assert "org/nvfp4@main: NVFP4 needs 7.5 or above, refused on 7.0" in caught.value.message
    assert "org/fp8@main: FP8 needs 7.5 or above, refused on 7.0" in caught.value.message


def test_a_variant_that_is_not_what_it_claims_or_not_there_is_an_error_not_a_reason(context: Context) -> None:
    lying = asked("bf16", claim="nvfp4")
    with pytest.raises(InputError, match="expected the claimed nvfp4"):
        lock(lying, on(context, "10.0"))
    with pytest.raises(SourceError):
        lock(asked("bf16", "gone"), on(context, "8.9"))


def test_a_directory_is_a_variant_like_any_other(context: Context) -> None:
    for path, data in load("modelopt").items():
        file = context.directory / "weights" / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    request = asked("bf16")
    local = replace(request.variants[0], repo="", path="weights")
    both = replace(request, variants=(local, *request.variants))
    found = lock(both, on(context, "10.0"))
    assert (found.repo, found.variants[0].source, found.variants[0].format) == ("", "weights", "NVFP4")
    assert lock(both, on(context, "10.0"), found) == found
    assert lock(both, on(context, "8.9")).repo == "org/bf16"


MANIFEST = """
[bundle]
name = "tiny"
version = "1"
[target]
python = "3.12"
platform = "linux/amd64"
glibc = "2.35"
gpu = { name = "NVIDIA T4", compute_capability = "CAPABILITY", memory_gib = 16 }
[[models]]
name = "gemma"
[[models.variants]]
repo = "org/nvfp4"
quantization = "nvfp4"
[[models.variants]]
repo = "org/fp8"
"""


def test_as_a_person_runs_it(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.toml"
    path.write_text(MANIFEST.replace("CAPABILITY", "8.9"))
    assert run(["check", str(path)]) == 0
    assert "which of its 2 variants is meant is not chosen yet" in capsys.readouterr().out
    assert run(["lock", str(path)]) == 0
    told = capsys.readouterr().err
    assert "info: gemma: left out: org/nvfp4@main: NVFP4 runs on 8.9 by Marlin" in told
    assert "info: gemma: chosen: org/fp8@main: FP8 is native on 8.9" in told
    locked = (tmp_path / "tiny.lock.json").read_bytes()
    assert [v.get("chosen") for v in json.loads(locked)["artifacts"][0]["variants"]] == [None, True]
    assert run(["lock", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not document["changed"]
    assert [f["code"] for f in document["findings"]][:2] == ["model-variant", "model-variant"]
    assert (tmp_path / "tiny.lock.json").read_bytes() == locked
    path.write_text(MANIFEST.replace("CAPABILITY", "7.0"))
    assert run(["lock", str(path)]) == 5
    assert "1 × NVIDIA T4 can run none of its variants" in capsys.readouterr().err
    path.write_text(MANIFEST.replace('name = "gemma"', 'name = "gemma"\nrepo = "org/other"'))
    assert run(["lock", str(path)]) == 3
