"""HOWTO.txt's own commands, run as it prints them on a small bundle, and again after each kind of damage."""

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from airgap.model import Kind, Sha256, Sha384
from airgap.trust import checkable, envelope
from airgap.trust.blobs import StatedBlob
from airgap.trust.keys import Holder, HolderSecret, Message, generate
from airgap.trust.pem import parse_holder, render_holder
from airgap.trust.statement import PAYLOAD_TYPE, StatedArtifact, Subject, render
from tests.services import need

from .statements import example

BLOBS = (b"lock", b"manifest" * 50, b"weights" * 1000)


@pytest.fixture(scope="module")
def alice() -> HolderSecret:
    return generate("alice")


def digests(data: bytes) -> tuple[Sha256, Sha384]:
    return Sha256(hashlib.sha256(data).hexdigest()), Sha384(hashlib.sha384(data).hexdigest())


@pytest.fixture
def bundle(tmp_path: Path, alice: HolderSecret) -> Path:
    """A directory with everything a bundle has, as `build` writes it; and alice.pub beside it."""
    need("openssl", "sha384sum", "awk")
    root = tmp_path / "bundle"
    index, layout = b'{"manifests":[]}', b'{"imageLayoutVersion":"1.0.0"}'
    blobs = {digests(data)[0]: StatedBlob(digests(data)[1], len(data)) for data in BLOBS}
    sums = checkable.render_sums({"index.json": digests(index)[1], "oci-layout": digests(layout)[1]}, blobs)
    lock, manifest, _ = blobs
    statement = example(
        lock=lock,
        artifacts=(StatedArtifact(Kind.FILE, "notes", "text/plain", manifest, blobs[manifest].size),),
        blobs=blobs,
        index=Subject(*digests(index)),
        sums=Subject(*digests(sums)),
    )
    payload = render(statement)
    sealed = envelope.render(payload, PAYLOAD_TYPE, envelope.sign(payload, PAYLOAD_TYPE, alice))
    files = {"oci-layout": layout, "index.json": index, "bundle.dsse.json": sealed}
    files |= {f"blobs/sha256/{digests(data)[0]}": data for data in BLOBS}
    for path, data in (files | checkable.checkable(sealed, sums)).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (tmp_path / "alice.pub").write_bytes(render_holder(alice.holder))
    return root


def steps() -> dict[int, list[str]]:
    """The indented commands of each numbered step, one string for each run of indented lines."""
    found: dict[int, list[str]] = {}
    for number, text in re.findall(r"(?ms)^(\d)\. (.*?)(?=^\d\. |^Not checked)", checkable.HOWTO.decode()):
        found[int(number)] = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return found


def run(bundle: Path, step: int, variant: int = 0) -> tuple[int, str]:
    """Exit code and output of one step. Nothing else of the bundle's environment is touched."""
    environment = {**os.environ, "KEY": str(bundle.parent / "alice.pub"), "TMPDIR": str(bundle.parent)}
    script = steps()[step][variant]
    done = subprocess.run(["sh", "-c", script], cwd=bundle, env=environment, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_every_step_passes_on_an_untouched_bundle(bundle: Path) -> None:
    assert sorted(steps()) == list(range(1, 10))  # tests/test_installer.py runs the last one
    assert run(bundle, 1) == (0, "")
    assert run(bundle, 2) == (0, "Verified OK\n")
    assert run(bundle, 3) == (0, "a statement\n")
    assert run(bundle, 4) == (0, "the signed list\n")
    assert run(bundle, 5) == (0, "")
    assert run(bundle, 5, 1) == (0, "")
    assert run(bundle, 6)[1] == ""
    assert '"createdAt":"2026-11-23T15:04:05Z"' in run(bundle, 7)[1]


def test_1_a_link_is_seen(bundle: Path) -> None:
    (bundle / "oci-layout").unlink()
    (bundle / "oci-layout").symlink_to("index.json")
    assert run(bundle, 1)[1] == "./oci-layout\n"


@pytest.mark.parametrize("name", ["pae.bin", "*.sig"])
def test_2_a_flipped_byte_breaks_the_signature(bundle: Path, alice: HolderSecret, name: str) -> None:
    path = bundle / "verify" / name.replace("*", alice.holder.p384.keyid)
    flip(path)
    code, output = run(bundle, 2)
    assert code != 0
    assert "Verified OK" not in output


def test_2_another_holders_key_does_not_verify(bundle: Path) -> None:
    (bundle.parent / "alice.pub").write_bytes(render_holder(generate("mallory").holder))
    assert run(bundle, 2)[0] != 0


def test_3_a_root_is_no_statement(bundle: Path) -> None:
    (bundle / "verify/pae.bin").write_bytes(envelope.pae(b"{}", "application/vnd.airgap.root.v1+json"))
    assert run(bundle, 3)[0] != 0


def test_4_another_list_is_not_the_signed_one(bundle: Path) -> None:
    flip(bundle / "verify/SHA384SUMS")
    assert run(bundle, 4) == (1, "")


def test_4_a_signed_blob_cannot_pose_as_the_list(bundle: Path) -> None:
    (bundle / "verify/SHA384SUMS").write_bytes(BLOBS[2])
    assert digests(BLOBS[2])[1].encode() in (bundle / "verify/pae.bin").read_bytes()
    assert run(bundle, 4) == (1, "")


LISTED = ["oci-layout", "index.json", "verify/HOWTO.txt", *(f"blobs/sha256/{digests(b)[0]}" for b in BLOBS)]


@pytest.mark.parametrize("path", LISTED)
@pytest.mark.parametrize("variant", [0, 1])
def test_5_a_flipped_byte_in_any_listed_file_is_seen(bundle: Path, path: str, variant: int) -> None:
    flip(bundle / path)
    assert run(bundle, 5, variant)[0] != 0


@pytest.mark.parametrize("variant", [0, 1])
def test_5_a_missing_file_is_seen(bundle: Path, variant: int) -> None:
    (bundle / LISTED[-1]).unlink()
    assert run(bundle, 5, variant)[0] != 0


def test_6_roots_and_records_may_be_there(bundle: Path) -> None:
    (bundle / "roots").mkdir()
    (bundle / "roots" / "2.root.json").write_bytes(b"")
    (bundle / "records").mkdir()
    (bundle / "records" / f"{'0' * 64}.dsse.json").write_bytes(b"")
    assert run(bundle, 6)[1] == ""


@pytest.mark.parametrize(
    "extra",
    ["evil", "blobs/sha256/evil", "verify/evil.sig", "verify/x y", "roots/evil", "roots/2.root.jsonx"],
)
def test_6_an_unlisted_file_is_seen(bundle: Path, extra: str) -> None:
    (bundle / "roots").mkdir()
    (bundle / extra).write_bytes(b"")
    assert run(bundle, 6)[1] == f"./{extra}\n"


def test_8_the_commands_rebuild_key_and_message_of_ml_dsa(bundle: Path, alice: HolderSecret) -> None:
    """openssl before 3.5 has no ML-DSA: then all but the last command run, and cryptography verifies."""
    version = subprocess.run(["openssl", "version"], capture_output=True, check=True, text=True).stdout
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if number >= (3, 5):
        assert "Signature Verified Successfully" in run(bundle, 8)[1]
        flip(bundle / "verify/pae.bin")
        assert run(bundle, 8)[0] != 0
        return
    script = steps()[8][0].split("openssl pkeyutl")[0] + 'printf "%s %s" "$WORK" "$ID"'
    environment = {**os.environ, "KEY": str(bundle.parent / "alice.pub"), "TMPDIR": str(bundle.parent)}
    shell = subprocess.run(
        ["sh", "-euc", script], cwd=bundle, env=environment, capture_output=True, check=True
    )
    work, keyid = shell.stdout.decode().split()
    assert keyid == alice.holder.mldsa87.keyid
    message = Message(b"", (Path(work) / "message.bin").read_bytes())
    signature = (bundle / f"verify/{keyid}.sig").read_bytes()
    assert alice.holder.mldsa87.verifies(signature, message)
    pem = (Path(work) / "mldsa87.pub").read_text()
    assert pem in render_holder(alice.holder).decode()


def test_a_key_id_cannot_choose_a_file_name(alice: HolderSecret) -> None:
    hostile = [envelope.Signature(keyid, b"x") for keyid in ("../../etc/cron.d/x", "", "a" * 63)]
    files = checkable.checkable(envelope.render(b"{}", PAYLOAD_TYPE, hostile), b"")
    assert sorted(files) == ["verify/HOWTO.txt", "verify/SHA384SUMS", "verify/pae.bin"]


def test_the_holder_file_of_the_howto_is_the_one_airgap_writes(bundle: Path, alice: HolderSecret) -> None:
    found: Holder = parse_holder((bundle.parent / "alice.pub").read_bytes(), "alice.pub")
    assert found == alice.holder
