"""The one-file installer, run as an operator runs it: by a Python that has no packages, in the end without
a network in a file system that holds nothing else."""

import ast
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airgap.cli import Verbs
from airgap.connected.installer import Recipe, make, read_aloud, sha384
from airgap.connected.installer_contents import oldest_glibc, own_modules
from airgap.model import Platform, Target
from airgap.tags import WheelName
from tests import bundles
from tests.audit.faults import wheel
from tests.services import need
from tests.stage import Run, Stage
from tests.test_walls import NETWORK

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
PYTHON = "{}.{}".format(*sys.version_info[:2])
HERE = Recipe(PYTHON, Platform("linux", ARCHITECTURE), "2.28")


@pytest.fixture(scope="module")
def installer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made for the Python that runs the tests."""
    path = tmp_path_factory.mktemp("installer") / "airgap-installer.pyz"
    path.write_bytes(make(HERE))
    return path


@dataclass(frozen=True)
class Medium:
    """What arrives on the isolated side: a directory with the bundle `b`, the root, and its fingerprint."""

    directory: Path
    fingerprint: str


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Medium:
    directory = tmp_path_factory.mktemp("medium")
    bundles.write_bundle(directory / "b", bundles.one_of_each(tmp_path_factory.mktemp("scratch")))
    (directory / "1.root.json").write_bytes(bundles.trust().root_file)
    return Medium(directory, bundles.trust().fingerprint)


Console = Callable[..., Run]


def console(installer: Path, *python: str, **environment: str) -> Console:
    """Runs verbs of the installer by `python`, an interpreter and its options, in an empty environment."""

    def run(*arguments: object, code: int = 0) -> Run:
        command = [*python, str(installer), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return Run(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def alone(installer: Path, tmp_path: Path) -> Console:
    """By this interpreter without its packages: -S leaves those out, -I the rest of the environment."""
    (tmp_path / "tmp").mkdir()
    return console(installer, sys.executable, "-S", "-I", TMPDIR=str(tmp_path / "tmp"))


# ------------------------------------------------------------------ what is in it


def members(installer: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(installer) as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert len(archive.namelist()) == len(set(archive.namelist()))
        return {name: archive.read(name) for name in archive.namelist()}


def test_it_holds_no_network_and_nothing_of_the_connected_side(installer: Path) -> None:
    found = members(installer)
    assert {"airgap/cli/verify.py", "airgap/isolated/install.py", "click/__init__.py"} <= set(found)
    assert not {name for name in found if name.startswith("airgap/connected")}
    assert not {name for name in found if "requests" in name or "urllib" in name or "http" in name}
    imported: dict[str, str] = {}
    for name in found:
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(found[name])):
                if isinstance(node, ast.Import):
                    imported |= dict.fromkeys((alias.name for alias in node.names), name)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported[node.module] = name
                    imported |= {f"{node.module}.{alias.name}": name for alias in node.names}
    spoken = {
        (module, name)
        for module, name in imported.items()
        if any(module == bad or module.startswith(f"{bad}.") for bad in NETWORK)
    }
    assert spoken == set()


def test_its_table_names_every_member(installer: Path) -> None:
    found = members(installer)
    facts = json.loads(found.pop("installer.json"))
    assert facts["sha384"] == {name: hashlib.sha384(data).hexdigest() for name, data in found.items()}
    native = {name for name in found if ".so" in name}
    assert {member for _, member in facts["native"]} == native
    licences = [name for name in found if "LICEN" in name.upper() and not name.startswith("airgap/")]
    assert {name.split("-")[0] for name in licences if "/" in name} == {
        "cffi", "click", "cryptography", "tqdm",
    }  # fmt: skip


def test_the_code_in_it_is_what_its_publishers_released(installer: Path) -> None:
    """Against the sha256 in each wheel's own RECORD, which the pinned sha256 of the wheel covers."""
    import base64
    import csv

    found = members(installer)
    recorded: dict[str, str] = {}
    for name, data in found.items():
        if name.endswith(".dist-info/RECORD"):
            recorded |= {row[0]: row[1] for row in csv.reader(io.StringIO(data.decode()))}
    carried = [name for name in found if name.partition("/")[0] in ("click", "cryptography", "tqdm")]
    assert len(carried) > 100
    for name in carried:
        digest = base64.urlsafe_b64encode(hashlib.sha256(found[name]).digest()).rstrip(b"=").decode()
        assert recorded[name] == f"sha256={digest}"


def test_the_same_inputs_give_the_same_bytes(installer: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    command = [str(ROOT / "scripts" / "make-installer"), "--python", PYTHON, "-o", str(again)]
    command += ["--platform", f"linux/{ARCHITECTURE}"]
    done = subprocess.run(command, capture_output=True, text=True, umask=0o077, check=False)
    assert done.returncode == 0, done.stderr
    assert again.read_bytes() == installer.read_bytes()
    assert f"sha384: {read_aloud(sha384(again.read_bytes()))}\n" in done.stdout
    assert again.stat().st_mode & 0o777 == 0o755


def test_a_python_without_wheels_is_said(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "make-installer"), "--python", "3.9", "-o", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "the installer's wheels for CPython 3.9, linux/amd64, glibc 2.28: " in done.stderr
    assert not (tmp_path / "x").exists()


def test_no_module_that_a_verb_needs_is_missing() -> None:
    carried = own_modules()
    assert {"airgap.cli.verify", "airgap.cli.install", "airgap.cli.trust", "airgap.decode"} <= set(carried)
    assert not {m for m in carried if m.startswith("airgap.connected")}
    assert {"airgap.cli.lock", "airgap.cli.build"}.isdisjoint(carried)


@pytest.mark.parametrize(
    ("names", "glibc"),
    [
        (["a-1-py3-none-any.whl"], "2.17"),
        (["a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"], "2.17"),
        (["a-1-cp311-abi3-manylinux_2_34_x86_64.whl", "b-1-py3-none-any.whl"], "2.34"),
        (["a-1-cp311-abi3-manylinux_2_28_x86_64.manylinux_2_24_x86_64.whl"], "2.24"),
    ],
)
def test_the_glibc_it_needs_is_the_wheels(names: list[str], glibc: str) -> None:
    assert oldest_glibc(names) == glibc


def test_its_wheels_are_for_the_target(tmp_path: Path) -> None:
    """Another Python, another machine, an older glibc than this one's."""
    path = tmp_path / "other.pyz"
    path.write_bytes(make(Recipe("3.14", Platform("linux", "arm64"), "2.17")))
    found = members(path)
    facts = json.loads(found["installer.json"])
    expected = ("3.14", "linux/arm64", "aarch64", "2.17")
    assert (facts["python"], facts["platform"], facts["machine"], facts["glibc"]) == expected
    assert "_cffi_backend.cpython-314-aarch64-linux-gnu.so" in found
    wheel = WheelName.parse("cffi-2.1.1-cp314-cp314-manylinux2014_aarch64.manylinux_2_17_aarch64.whl")
    assert all(f"Tag: {tag}" in found["cffi-2.1.1.dist-info/WHEEL"].decode() for tag in wheel.tags)


# ------------------------------------------------------------------ on a Python without packages


def test_every_verb_of_the_console_works(alone: Console, medium: Medium, tmp_path: Path) -> None:
    site, bundle = tmp_path / "site", medium.directory / "b"
    judged = ("--root", medium.directory / "1.root.json", "--fingerprint", medium.fingerprint)
    assert "every byte is as signed" in alone("verify", bundle, *judged).out
    assert medium.fingerprint in alone("trust", "fingerprint", judged[1]).out
    assert "2 of alice, bob" in alone("trust", "show", judged[1]).out
    alone("trust", "pin", judged[1], "--site", site, "--fingerprint", medium.fingerprint)
    assert "generation 1 is current" in alone("install", bundle, "--site", site).out
    assert (site / "current" / "files" / "notes" / "notes.txt").read_bytes() == b"carried across\n"
    assert json.loads(alone("inspect", bundle, "--site", site, "--json").out)["name"] == "quickstart"
    assert "findings: " in alone("audit", bundle, *judged).out
    policy = tmp_path / "policy.toml"
    policy.write_text('format = 1\n[checks]\nrequired = ["secrets"]\n')  # which nothing in it can look for
    assert "checks.required" in alone("verify", bundle, *judged, "--policy", policy, code=8).out
    assert "= same" in alone("diff", site, bundle, "--html", tmp_path / "page.html").out
    assert "<style>:root" in (tmp_path / "page.html").read_text()  # the style sheet is in the installer, too
    alone("export", "hello", "-o", tmp_path / "hello.tar", "--site", site)
    assert (tmp_path / "hello.tar").stat().st_size > 0
    assert os.listdir(tmp_path / "tmp") == []


def test_much_that_is_packed_is_audited_without_a_process(alone: Console, tmp_path: Path) -> None:
    """A process started afresh would find none of the native modules."""
    many = dict(wheel(f"w{n}", members={"x.bin": os.urandom(34 << 20)}) for n in range(2))
    bundle = bundles.write_bundle(tmp_path / "large", [bundles.wheels("many", many)])
    assert "findings: " in alone("audit", bundle, "--jobs", 4).out


def test_a_flipped_byte_of_a_bundle_is_seen(alone: Console, medium: Medium, tmp_path: Path) -> None:
    shutil.copytree(medium.directory, tmp_path / "m")
    index = tmp_path / "m" / "b" / "index.json"
    index.write_bytes(index.read_bytes().replace(b"2", b"3", 1))
    judged = ("--root", tmp_path / "m" / "1.root.json", "--fingerprint", medium.fingerprint)
    assert "integrity-changed" in alone("verify", tmp_path / "m" / "b", *judged, code=6).out


def test_it_lists_what_it_holds_and_names_what_it_does_not(alone: Console) -> None:
    shown = alone("--help").out
    assert "verify " in shown and "install " in shown
    assert "  lock " not in shown and "  build " not in shown and "Connected side" not in shown
    said = alone("lock", "x.toml", code=9).err
    assert "airgap lock is not part of this installer" in said
    assert "belongs on the connected side" in said
    assert "as an installed package" in alone("push", "x", "y", code=9).err


def test_only_push_is_left_out_of_the_isolated_side() -> None:
    """Which speaks HTTP. A verb that begins to import something else would be left out unseen."""
    carried = {module.removeprefix("airgap.cli.") for module in own_modules()}
    assert {*Verbs.isolated, *Verbs.both} - carried == {"push"} & {*Verbs.isolated}
    assert not carried & {*Verbs.connected}


def test_packages_of_the_host_are_not_used(installer: Path, tmp_path: Path) -> None:
    """Even where a path of the host's environment holds another airgap and another click."""
    for name in ("airgap", "click", "cryptography", "tqdm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    here = console(installer, sys.executable, "-S", PYTHONPATH=str(tmp_path))
    assert here("--version").out.startswith("airgap, version")


def altered(installer: Path, path: Path, **changes: str) -> Path:
    """A copy that claims other facts of itself."""
    found = members(installer)
    facts = json.loads(found["installer.json"]) | changes
    found["installer.json"] = json.dumps(facts).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in found.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("python", "3.99", "is for CPython 3.99 on "),
        ("machine", "s390x", f"found CPython {PYTHON} on linux {os.uname().machine}"),
        ("glibc", "2.99", "with glibc 2.99 or later"),
    ],
)
def test_the_wrong_host_is_said_at_once(
    installer: Path, tmp_path: Path, key: str, value: str, said: str
) -> None:
    wrong = altered(installer, tmp_path / "wrong.pyz", **{key: value})
    told = console(wrong, sys.executable, "-S", "-I")("--version", code=9).err
    assert said in told
    assert "-> start it with python3." in told


def test_an_unaltered_copy_does_start(installer: Path, tmp_path: Path) -> None:
    """So that the test above fails for what it says, not for how the copy was made."""
    console(altered(installer, tmp_path / "same.pyz"), sys.executable, "-S", "-I")("--version")


@pytest.mark.parametrize("member", ["airgap/verify.py", "cryptography/hazmat/bindings/_rust.abi3.so"])
def test_a_damaged_member_is_said_before_it_runs(installer: Path, tmp_path: Path, member: str) -> None:
    data = bytearray(installer.read_bytes())
    with zipfile.ZipFile(installer) as archive:
        info = archive.getinfo(member)
    data[info.header_offset + 30 + len(member) + info.file_size // 2] ^= 1
    (tmp_path / "damaged.pyz").write_bytes(data)
    told = console(tmp_path / "damaged.pyz", sys.executable, "-S", "-I")("--version", code=6).err
    assert "this installer is damaged" in told
    untold = [sys.executable, "-S", "-I", str(tmp_path / "damaged.pyz"), "--version"]
    with open("/dev/full", "wb") as full:
        assert subprocess.run(untold, stderr=full, check=False).returncode == 6


def test_a_copy_that_broke_off_says_so(installer: Path, tmp_path: Path) -> None:
    (tmp_path / "short.pyz").write_bytes(installer.read_bytes()[:-1_000_000])
    told = console(tmp_path / "short.pyz", sys.executable, "-S", "-I")("--version", code=1).err
    assert "this installer is cut short: copy it again" in told


def test_what_runs_first_is_read_by_older_pythons() -> None:
    source = (ROOT / "airgap" / "bootstrap.py").read_text()
    ast.parse(source, feature_version=(3, 6))


# ------------------------------------------------------------------ in a bundle


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Its commands run a copy of airgap: one that is edited meanwhile would make another installer."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "airgap", copy / "airgap", ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(copy))
        yield lock_with_installer(Stage(tmp_path_factory.mktemp("staged")))


def lock_with_installer(stage: Stage) -> Stage:
    stage.holders("alice")
    manifest = stage.manifest('[[files]]\nname = "notes"\npath = "notes.txt"\n')
    text = manifest.read_text().replace('version = "1"\n', 'version = "1"\ninstaller = true\n')
    text = text.replace('"3.11"', f'"{PYTHON}"').replace("amd64", ARCHITECTURE)
    manifest.write_text(text)
    stage.write("notes.txt", b"hello")
    said = stage.run("lock", "demo.toml")
    assert "[installer-made]" in said.err
    return stage


def locked(stage: Stage) -> str:
    [file] = json.loads((stage.directory / "demo.lock.json").read_text())["artifacts"][-1]["files"]
    return str(file["sha256"])


def test_a_bundle_carries_it_signed_and_runs_it_from_its_blob(staged: Stage) -> None:
    built = staged.build()
    blob = staged.bundle / "blobs" / "sha256" / locked(staged)
    assert f"sha384 {read_aloud(sha384(blob.read_bytes()))}" in built.out
    fingerprint = staged.run("trust", "fingerprint", "trust/1.root.json").out.strip()
    judged = ("--root", staged.directory / "trust" / "1.root.json", "--fingerprint", fingerprint)
    here = console(blob, sys.executable, "-S", "-I")
    assert "every byte is as signed" in here("verify", staged.bundle, *judged).out


def test_the_howto_finds_it(staged: Stage) -> None:
    """By the commands of the bundle's own verify/HOWTO.txt: grep and openssl, without airgap."""
    need("openssl")
    if not staged.bundle.exists():
        staged.build()
    _, _, step = (staged.bundle / "verify" / "HOWTO.txt").read_text().partition("\n9. ")
    commands = "".join(line for line in step.splitlines(keepends=True) if line.startswith("    "))
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=staged.bundle, capture_output=True, text=True, check=True
    )
    digest, path = done.stdout.split()
    assert path.removeprefix("*") == f"blobs/sha256/{locked(staged)}"
    assert digest == sha384((staged.bundle / "blobs" / "sha256" / locked(staged)).read_bytes())


def test_a_second_lock_keeps_it_and_a_lost_one_is_made_again(staged: Stage) -> None:
    before = locked(staged)
    again = staged.run("lock", "demo.toml")
    assert "up to date" in again.out and "[installer-made]" not in again.err
    (staged.directory / "cache" / "blobs" / "sha256" / before).unlink()
    staged.build("--replace", "--out", "again")
    assert (staged.directory / "again" / "demo-1" / "blobs" / "sha256" / before).exists()


def test_one_that_another_airgap_locked_is_not_made_up(staged: Stage) -> None:
    path = staged.directory / "demo.lock.json"
    kept = path.read_text()
    document = json.loads(kept)
    document["artifacts"][-1]["request"] = "0" * 64
    path.write_text(json.dumps(document))
    (staged.directory / "cache" / "blobs" / "sha256" / locked(staged)).unlink(missing_ok=True)
    refused = staged.build("--out", "other", code=3)
    path.write_text(kept)
    assert "another airgap than this one locked it" in refused.err
    assert "airgap lock MANIFEST --upgrade airgap-installer" in refused.err


# ------------------------------------------------------------------ with nothing but Python


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root file system of Debian's python3 and what that needs: no pip, no package, no shell history."""
    need("mmdebstrap", "unshare", "chroot")
    allowed = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("only root may make a root file system and enter it without a network")
    root = tmp_path_factory.mktemp("empty") / "root"
    command = ["mmdebstrap", "--quiet", "--variant=extract", "--include=python3", "--format=directory"]
    done = subprocess.run([*command, "bookworm", root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for place in ("root", "tmp", "var/tmp", "srv", "media"):
        (root / place).mkdir(exist_ok=True)
    yield root
    shutil.rmtree(root)


DEBIAN_PYTHON = "3.11"


@pytest.fixture(scope="module")
def media(empty: Path, medium: Medium) -> Path:
    """`/media/disc1` in there: the medium, and the installer for that Python."""
    disc = empty / "media" / "disc1"
    shutil.copytree(medium.directory, disc)
    (disc / "airgap.pyz").write_bytes(make(Recipe(DEBIAN_PYTHON, HERE.platform, "2.28")))
    return disc


def chrooted(root: Path, before: str = "true") -> list[str]:
    """A command prefix: without a network, private mounts, `before` done, then inside `root`."""
    script = f'{before} && exec chroot {root} /usr/bin/python3 "$@"'
    return ["unshare", "--net", "--mount", "sh", "-ec", script, "sh"]


def test_nothing_is_there_to_help(empty: Path) -> None:
    prefix = chrooted(empty)
    for module in ("click", "cryptography", "tqdm", "requests", "pip", "airgap"):
        done = subprocess.run(
            [*prefix, "-c", f"import {module}"], capture_output=True, text=True, check=False
        )
        assert f"No module named '{module}'" in done.stderr
    connect = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
    done = subprocess.run([*prefix, "-c", connect], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr


def test_it_verifies_and_installs_in_an_empty_root(empty: Path, media: Path, medium: Medium) -> None:
    inside = console(Path("/media/disc1/airgap.pyz"), *chrooted(empty))
    site = ("--site", "/srv/airgap")
    inside("trust", "pin", "/media/disc1/1.root.json", *site, "--fingerprint", medium.fingerprint)
    assert "every byte is as signed" in inside("verify", "/media/disc1/b", *site).out
    assert "generation 1 is current" in inside("install", "/media/disc1/b", *site).out
    assert (empty / "srv/airgap/current/files/notes/notes.txt").read_bytes() == b"carried across\n"
    inside("export", "hello", "-o", "/root/hello.tar", *site)
    assert os.listdir(empty / "tmp") == []


def test_it_makes_a_venv_there_with_the_pip_that_came_along(
    empty: Path, media: Path, medium: Medium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's python3 alone has no ensurepip: said before anything is copied, unless the set holds pip."""
    monkeypatch.setattr(bundles, "TARGET", Target(DEBIAN_PYTHON, HERE.platform, "2.28"))
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(tmp_path)]
    subprocess.run([*download, "pip==26.3"], check=True, capture_output=True)
    [pip] = tmp_path.iterdir()
    alpha = bundles.wheel("alpha")
    bundles.write_bundle(media / "without", [bundles.wheels("serving", dict([alpha]))])
    both = {pip.name: pip.read_bytes(), alpha[0]: alpha[1]}
    bundles.write_bundle(media / "with", [bundles.wheels("serving", both)], sequence=2)
    inside = console(Path("/media/disc1/airgap.pyz"), *chrooted(empty))
    site = ("--site", "/srv/venvs")
    inside("trust", "pin", "/media/disc1/1.root.json", *site, "--fingerprint", medium.fingerprint)
    said = inside("install", "/media/disc1/without", *site, "--venv", "/srv/serving", code=9).err
    assert f"install python{DEBIAN_PYTHON}-venv (Debian, Ubuntu)" in said
    assert not (empty / "srv/venvs/current").is_symlink()
    shown = inside("install", "/media/disc1/with", *site, "--venv", "/srv/serving").out
    assert "/srv/serving: 2 packages of serving for /usr/bin/python3, which fit together" in shown
    python = ["unshare", "--net", "chroot", str(empty), "/srv/serving/bin/python"]
    subprocess.run([*python, "-c", "import alpha, pip"], check=True)


def test_tmp_without_execution_is_gone_round_or_said(empty: Path, media: Path) -> None:
    def noexec(*places: str) -> str:
        return " && ".join(f"mount -t tmpfs -o noexec none {empty}{place}" for place in places)

    installer = Path("/media/disc1/airgap.pyz")
    console(installer, *chrooted(empty, noexec("/tmp")), HOME="/tmp")("--version")
    hardened = chrooted(empty, noexec("/tmp", "/var/tmp"))
    said = console(installer, *hardened, HOME="/tmp")("--version", code=9).err
    assert "set TMPDIR to a directory on a file system that is not mounted with noexec" in said
    console(installer, *hardened, HOME="/tmp", TMPDIR="/srv")("--version")
