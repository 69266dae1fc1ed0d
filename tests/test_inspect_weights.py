"""What `airgap inspect` says of a model's weights, from the blobs of a bundle."""

import hashlib
import json
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.cli.weights import UNVERIFIED, read_weights, weights_document, weights_lines
from airgap.lock import Lock, render_lock
from airgap.media import Media
from airgap.model import Local, LockedFile, ModelArtifact, Platform, Sha256, Target, bundle_path
from tests.readiness.checkpoints import Files, load


def bundled(root: Path, files: Files, claim: str = "nvfp4") -> ModelArtifact:
    """The blobs of a bundle with one model."""
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    locked = []
    for name, data in files.items():
        digest = Sha256(hashlib.sha256(data).hexdigest())
        (blobs / digest).write_bytes(data)
        locked.append(LockedFile(bundle_path(name), len(data), digest, Local(name)))
    return ModelArtifact("m", "0" * 64, "", "", "", claim, "", "", "", tuple(locked))


def shown(root: Path, artifact: ModelArtifact) -> list[str]:
    with Media(root) as media:
        return weights_lines(read_weights(media, artifact), artifact.quantization)


def test_format_share_sizes_and_parameters_are_shown(tmp_path: Path) -> None:
    assert shown(tmp_path, bundled(tmp_path, load("modelopt-hybrid"))) == [
        "NVFP4 (modelopt W4A4): 11.4 k parameters, 54% of it quantised",
        "BF16 10.4 kB, U8 3.1 kB, F8_E4M3 384 B, F32 24 B",
        "the claim nvfp4 is proven",
        f"({UNVERIFIED})",
    ]


def test_a_false_claim_names_the_tensor(tmp_path: Path) -> None:
    lines = shown(tmp_path, bundled(tmp_path, load("bf16")))
    assert lines[0] == "BF16: 11.4 k parameters"
    assert lines[2].startswith("the claim nvfp4 is refuted: tensor 'model.layers.0.")


def test_what_contradicts_itself_is_not_called_nvfp4(tmp_path: Path) -> None:
    files = load("modelopt") | {"config.json": load("compressed-tensors")["config.json"]}
    assert shown(tmp_path, bundled(tmp_path, files))[0].startswith("like NVFP4 (modelopt W4A4): ")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damage_and_absence_are_said(tmp_path: Path, name: str) -> None:
    artifact = bundled(tmp_path, load("modelopt"))
    digest = next(file.sha256 for file in artifact.files if file.path == name)
    path = tmp_path / "blobs" / "sha256" / digest
    path.write_bytes(path.read_bytes()[:-1])
    assert f"damaged: {name}: ends before byte" in "\n".join(shown(tmp_path, artifact))
    path.unlink()
    (line,) = shown(tmp_path, artifact)
    assert line.startswith("weights not known: ") and digest in line and "missing" in line


def test_the_document_says_that_nothing_is_verified(tmp_path: Path) -> None:
    artifact = bundled(tmp_path, load("compressed-tensors"))
    with Media(tmp_path) as media:
        document = weights_document(read_weights(media, artifact), "nvfp4")
    assert (document["verified"], document["claim_verdict"]) == (False, "proven")
    (checkpoint,) = json.loads(json.dumps(document))["checkpoints"]
    assert checkpoint["parameters"] == 11_360 and checkpoint["bytes"] == 8056
    assert checkpoint["bytes_by_dtype"]["U8"] == 5120


def test_of_a_lock_alone_it_says_why_nothing_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = bundled(tmp_path, load("modelopt"))
    target = Target("3.12", Platform("linux", "amd64"), "2.35")
    path = tmp_path / "m.lock.json"
    path.write_bytes(render_lock(Lock("m", "1", "m", Sha256("0" * 64), target, {}, (artifact,))))
    assert run(["inspect", str(path)]) == 0
    assert "weights not known: a lock names files and has no headers" in capsys.readouterr().out
    assert run(["inspect", str(path), "--json"]) == 0
    [shown] = json.loads(capsys.readouterr().out)["artifacts"]
    assert (shown["weights"]["checkpoints"], shown["weights"]["claim_verdict"]) == ([], None)
    assert "airgap check" in shown["weights"]["problem"]
