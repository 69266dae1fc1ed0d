"""Other people's tools make what airgap carries, and read what airgap wrote."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.services import need
from tests.stage import Stage


def call(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """An image that umoci made, as `app` in an OCI layout, locked and built."""
    need("umoci", "skopeo")
    made = Stage(tmp_path)
    made.holders("alice")
    made.write("root/etc/app.conf", "port = 8080\n")
    for command in (
        ("init", "--layout", "image"),
        ("new", "--image", "image:app"),
        ("insert", "--rootless", "--image", "image:app", "root/etc", "/etc"),
        ("config", "--image", "image:app", "--config.entrypoint", "/bin/app", "--config.env", "A=b"),
    ):
        call("umoci", *command, cwd=tmp_path)
    made.manifest('[[containers]]\nname = "server"\nlayout = "image:app"\n')
    made.run("lock", "demo.toml")
    made.build()
    return made


def upstream_digest(stage: Stage) -> str:
    index = json.loads((stage.directory / "image" / "index.json").read_bytes())
    (entry,) = index["manifests"]
    return str(entry["digest"])


def test_skopeo_and_umoci_read_an_image_of_umoci_from_the_bundle(stage: Stage) -> None:
    shown = json.loads(call("skopeo", "inspect", "oci:out/demo-1:server", cwd=stage.directory))
    assert shown["Digest"] == upstream_digest(stage)
    assert "A=b" in shown["Env"]
    call("umoci", "unpack", "--rootless", "--image", "out/demo-1:server", "unpacked", cwd=stage.directory)
    unpacked = stage.directory / "unpacked" / "rootfs" / "etc" / "app.conf"
    assert unpacked.read_text() == "port = 8080\n"


def test_the_installed_image_has_the_digest_that_umoci_gave_it(stage: Stage) -> None:
    stage.pin()
    stage.run("install", "out/demo-1", "--site", "site")
    shown = json.loads(call("skopeo", "inspect", "oci:site:server", cwd=stage.directory))
    assert shown["Digest"] == upstream_digest(stage)
    stage.run("export", "server", "--site", "site", "-o", "server.tar")
    archived = json.loads(call("skopeo", "inspect", "oci-archive:server.tar", cwd=stage.directory))
    assert archived["Digest"] == upstream_digest(stage)


def test_skopeo_copies_every_artifact_out_of_the_bundle(stage: Stage) -> None:
    stage.write("weights/model.safetensors", b"\x02\0\0\0\0\0\0\0{}")
    model = '[[models]]\nname = "tuned"\npath = "weights"\n'
    stage.manifest(model + '[[containers]]\nname = "server"\nlayout = "image:app"\n')
    stage.run("lock", "demo.toml")
    stage.build("--replace")
    for name in ("tuned", "server"):
        call("skopeo", "copy", f"oci:out/demo-1:{name}", f"oci:copied:{name}", cwd=stage.directory)
    copied = json.loads((stage.directory / "copied" / "index.json").read_bytes())["manifests"]
    bundled = json.loads((stage.bundle / "index.json").read_bytes())["manifests"]
    assert sorted(entry["digest"] for entry in copied) == sorted(entry["digest"] for entry in bundled)
