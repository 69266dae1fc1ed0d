"""Real container engines of the tests' own: daemons, storage and sockets below a temporary directory."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 20


@contextmanager
def short_directory() -> Iterator[Path]:
    """podman refuses a run root above 50 characters, and sockets have names of at most 107."""
    with tempfile.TemporaryDirectory(prefix="eng") as directory:
        yield Path(directory)


@contextmanager
def podman_storage() -> Iterator[Mapping[str, str]]:
    """vfs storage for podman and skopeo: the environment that makes both use it."""
    with short_directory() as directory:
        config = directory / "storage.conf"
        config.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/root"\nrunroot = "{directory}/run"\n'
        )
        yield {"CONTAINERS_STORAGE_CONF": str(config)}


@contextmanager
def containerd() -> Iterator[Mapping[str, str]]:
    """A containerd on its own: the environment that makes ctr ask it."""
    with short_directory() as directory:
        config = directory / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{directory}/sock"\n'
        )
        environment = {"CONTAINERD_ADDRESS": f"{directory}/sock", "CONTAINERD_SNAPSHOTTER": "native"}
        with _daemon(["containerd", "-c", str(config)], ["ctr", "version"], directory, environment):
            yield environment


@contextmanager
def dockerd() -> Iterator[Mapping[str, str]]:
    """A dockerd that touches no network: the environment that makes docker ask it."""
    with short_directory() as directory:
        socket = f"unix://{directory}/sock"
        command = ["dockerd", "--bridge=none", "--iptables=false", "--storage-driver=vfs", "-H", socket]
        command += ["--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec"]
        command += ["-p", f"{directory}/pid"]
        with _daemon(command, ["docker", "version"], directory, {"DOCKER_HOST": socket}):
            yield {"DOCKER_HOST": socket}


@contextmanager
def _daemon(
    command: list[str], ready: list[str], directory: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    try:
        end = time.monotonic() + START_SECONDS
        while subprocess.run(ready, capture_output=True, env={**path, **environment}, check=False).returncode:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} did not start: {(directory / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()
        for mount in _mounts(directory):
            subprocess.run(["umount", "-l", mount], check=False)


def _mounts(directory: Path) -> list[str]:
    """What a daemon left mounted below its directory, deepest first."""
    found = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((path for path in found if path.startswith(f"{directory}/")), reverse=True)


def program(directory: Path, name: str, script: str) -> Path:
    """A fake engine: a shell script of that name. For what a real one cannot be made to do."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def link(directory: Path, *names: str) -> None:
    """A PATH that holds these programs of the machine and no other."""
    directory.mkdir(exist_ok=True)
    for name in names:
        found = shutil.which(name)
        assert found
        (directory / name).symlink_to(found)


def podman_images() -> list[dict[str, object]]:
    done = subprocess.run(["podman", "images", "--format", "json"], check=True, capture_output=True)
    images: list[dict[str, object]] = json.loads(done.stdout)
    return images
