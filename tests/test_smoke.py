"""`smoke` and `attest`, and what `check`, `verify`, `inspect` and `install` make of records.

No GPU is here: a program on the PATH answers as nvidia-smi does on the host that it plays.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.isolated.site import Site
from airgap.keyfiles import PassphraseSource, load_secret
from airgap.layout import record_name
from airgap.model import Sha256
from airgap.trust import envelope, smoke
from tests.isolated.sites import problems
from tests.readiness.test_check_cli import manifest, transformers, vllm
from tests.servers.index import Index

L4 = "NVIDIA L4, 8.9, 23034, 570.86.15"
TARGET = 'gpu = { name = "NVIDIA L4", compute_capability = "8.9", memory_gib = 24 }\ndriver = "570.86"'

Read = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Stage:
    """A bundle of a served model, installed at a staging host whose root is pinned; alice and bob release."""

    directory: Path

    @property
    def bundle(self) -> Path:
        return self.directory / "out" / "tiny-1"

    @property
    def site(self) -> Path:
        return self.directory / "site"

    @property
    def record(self) -> Path:
        return self.directory / "smoke.dsse.json"

    def key(self, name: str) -> str:
        return str(self.directory / "keys" / f"{name}.key")

    @property
    def trust(self) -> list[str]:
        return ["--site", str(self.site)]

    def smoke(self, *command: str, key: str = "alice", options: tuple[str, ...] = ()) -> int:
        keys = ["--key", self.key(key)] if key else []
        return run(["smoke", *self.trust, *keys, "-o", str(self.record), *options, "--", *command])

    def attest(self, *options: str) -> int:
        return run(["attest", str(self.bundle), "--record", str(self.record), *options])


def answer_as_nvidia_smi(directory: Path, *cards: str) -> None:
    program = directory / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncat <<END\n" + "\n".join(cards) + "\nEND\n" if cards else "#!/bin/sh\nexit 9\n"
    )
    program.chmod(0o755)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch, Index() as index:
        patch.setenv("AIRGAP_CACHE", str(directory / "cache"))
        index.add(*vllm("1.1", ">=5"))
        index.add(*transformers("5.0"))
        path = manifest(directory, index, "vllm==1.1", "transformers==5.0", target=TARGET)
        keys, trust = directory / "keys", directory / "trust"
        for name in ("alice", "bob", "mallory"):
            assert run(["key", "generate", name, "--out", str(keys), "--no-passphrase"]) == 0
        holders = ["--holder", f"{keys}/alice.pub", "--holder", f"{keys}/bob.pub", "--threshold", "2"]
        signed = ["--key", f"{keys}/alice.key", "--key", f"{keys}/bob.key"]
        assert run(["trust", "init", *holders, *signed, "--out", str(trust)]) == 0
        root = str(trust / "1.root.json")
        assert run(["lock", str(path)]) == 0
        assert run(["build", str(path), *signed, "--root", root, "--out", str(directory / "out")]) == 0
    return directory


@pytest.fixture
def stage(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read) -> Iterator[Stage]:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "nothing"))
    stage = Stage(tmp_path)
    capsys.readouterr()
    root = str(tmp_path / "trust" / "1.root.json")
    assert run(["trust", "fingerprint", root]) == 0
    fingerprint = capsys.readouterr().out.strip()
    assert run(["trust", "pin", root, *stage.trust, "--fingerprint", fingerprint]) == 0
    assert run(["install", str(stage.bundle), *stage.trust]) == 0
    programs = tmp_path / "programs"
    programs.mkdir()
    answer_as_nvidia_smi(programs, L4)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    capsys.readouterr()
    yield stage


def checked(stage: Stage, capsys: Read, *options: str) -> dict[str, Any]:
    capsys.readouterr()
    run(["check", str(stage.bundle), "--json", *options])
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def reasons(document: dict[str, Any]) -> list[str]:
    return [record["reason"] for record in document["records"]]


def test_what_ran_here_is_ready_there(stage: Stage, capsys: Read) -> None:
    assert checked(stage, capsys, *stage.trust)["verdict"] == "unknown"
    assert stage.smoke("sh", "-c", 'ls "$AIRGAP_GENERATION/models/tiny-model"; echo $HF_HUB_OFFLINE') == 0
    said = capsys.readouterr()
    assert said.err.endswith("config.json\n1\n")
    assert "alice saw serving, tiny-model on NVIDIA L4, driver 570.86.15" in said.out

    assert stage.attest() == 0
    capsys.readouterr()
    assert run(["check", str(stage.bundle), *stage.trust, "--strict"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("READY") == 3
    assert "alice saw serving, tiny-model on NVIDIA L4, driver 570.86.15" in shown
    (record,) = checked(stage, capsys, *stage.trust)["records"]
    assert (record["counted"], record["reason"], record["signers"]) == (True, None, ["alice"])


def test_a_lock_is_ready_by_a_record_from_a_file(
    stage: Stage, capsys: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRGAP_CACHE", str(stage.directory / "cache"))
    assert stage.smoke("true") == 0
    capsys.readouterr()
    lock = str(stage.directory / "tiny.lock.json")
    assert run(["check", lock, "--record", str(stage.record), *stage.trust, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "ready"


def test_without_a_root_it_is_not_ready_and_says_why(stage: Stage, capsys: Read) -> None:
    assert stage.smoke("true") == 0
    assert stage.attest() == 0
    document = checked(stage, capsys)
    assert document["verdict"] == "unknown"
    assert reasons(document) == ["not judged: give --site DIR, or --root FILE and --fingerprint"]
    assert any("not judged: give --site DIR" in note for note in document["notes"])


def test_the_record_says_what_ran_and_holds_no_environment(
    stage: Stage, capsys: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert stage.smoke("sh", "-c", "echo $HF_TOKEN", "podman", options=("--json",)) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_status"] == 0
    assert "hf_secret" in said.err, "the command has the user's environment"
    assert b"hf_secret" not in envelope.parse(stage.record.read_bytes()).payload
    ran, _ = smoke.survey(stage.record.read_bytes())
    site = Site(stage.site)
    lock = json.loads((stage.directory / "tiny.lock.json").read_bytes())
    files = {file["sha256"] for artifact in lock["artifacts"] for file in artifact["files"]}
    assert files < set(ran.blobs), "the manifests and the pylock besides"
    assert all(site.store.path(digest).is_file() for digest in ran.blobs)
    assert [artifact.name for artifact in ran.artifacts] == ["serving", "tiny-model"]
    assert [(bundle.name, bundle.version) for bundle in ran.bundles] == [("tiny", "1")]
    (card,) = ran.host.cards
    assert (card.name, card.compute_capability, card.memory_mib) == ("NVIDIA L4", "8.9", 23034)
    assert ran.host.kernel.startswith("Linux ")
    assert ran.host.engine and ran.host.engine[0] == "podman"
    assert (ran.output.size, ran.output.tail) == (10, "")
    assert ran.milliseconds < 60_000


def test_the_end_of_the_output_is_quoted_on_request(stage: Stage) -> None:
    printing = "import sys; sys.stdout.buffer.write(('x' * 5000 + 'é' + 'y' * 1023).encode())"
    assert stage.smoke(sys.executable, "-c", printing, options=("--tail", "1")) == 0
    ran, _ = smoke.survey(stage.record.read_bytes())
    assert ran.output.tail == "\ufffd" + "y" * 1023
    assert ran.output.size == 6025
    assert ran.host.python == sys.version.split()[0]


@pytest.mark.parametrize(
    ("command", "status"), [(("false",), 1), (("no-such-command",), 127), (("sh", "-c", "kill -9 $$"), 137)]
)
def test_a_command_that_fails_is_recorded_and_makes_nothing_ready(
    stage: Stage, capsys: Read, command: tuple[str, ...], status: int
) -> None:
    assert stage.smoke(*command) == 5
    assert "FAILED" in capsys.readouterr().out
    assert smoke.survey(stage.record.read_bytes())[0].status == status
    assert stage.attest() == 0
    document = checked(stage, capsys, *stage.trust)
    assert document["verdict"] == "unknown"
    assert reasons(document) == [f"the command failed, with exit status {status}"]


def test_a_command_that_hangs_is_killed_with_its_children(stage: Stage, capsys: Read) -> None:
    began = time.monotonic()
    assert stage.smoke("sh", "-c", "sleep 300 & echo $!; sleep 300", options=("--timeout", "0.5")) == 5
    assert smoke.survey(stage.record.read_bytes())[0].status == 137
    said = capsys.readouterr().err
    assert "killed after 0.5 s, as --timeout asks" in said
    assert stage.smoke("true") == 3, "no record is overwritten"
    stage.record.unlink()
    assert stage.smoke("sh", "-c", "sleep 300 & echo $!") == 0
    stage.record.unlink()
    assert stage.smoke("sh", "-c", "(while :; do echo; sleep 0.01; done) & echo $!") == 0
    assert time.monotonic() - began < 60
    said += capsys.readouterr().err
    stage.record.unlink()
    assert stage.smoke("sh", "-c", "kill -9 $$", options=("--timeout", "300")) == 5
    said += capsys.readouterr().err
    children = [line for line in said.splitlines() if line.isdigit()]
    assert said.count("as --timeout asks") == 1
    assert len(children) == 3
    assert [child for child in children if _runs(child)] == []


def _runs(pid: str) -> bool:
    """A zombie that nobody reaps does not."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_bytes_that_are_not_the_installed_ones_are_never_run(stage: Stage, capsys: Read) -> None:
    model = stage.site / "current" / "models" / "tiny-model" / "config.json"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes().replace(b"tiny", b"fake"))
    assert stage.smoke("touch", str(stage.directory / "ran")) == 6
    assert "is not what was signed" in capsys.readouterr().err
    assert not stage.record.exists()
    assert not (stage.directory / "ran").exists()


def test_bytes_that_change_while_it_runs_are_not_recorded(stage: Stage, capsys: Read) -> None:
    model = stage.site / "current" / "models" / "tiny-model" / "config.json"
    assert stage.smoke("sh", "-c", f"chmod u+w {model}; echo >> {model}") == 6
    assert "changed while the command ran" in capsys.readouterr().err
    assert not stage.record.exists()


def test_another_generation_that_becomes_current_while_it_runs_is_not_recorded(
    stage: Stage, capsys: Read
) -> None:
    at = stage.site / "generations"
    assert stage.smoke("sh", "-c", f"cp -al {at}/1 {at}/2; ln -sfn generations/2 {stage.site}/current") == 6
    assert "current: changed while the command ran" in capsys.readouterr().err
    assert not stage.record.exists()


def test_words_that_are_not_utf8_are_recorded_as_their_bytes(stage: Stage) -> None:
    assert stage.smoke("true", os.fsdecode(b"a\xff")) == 0
    assert smoke.survey(stage.record.read_bytes())[0].command == ("true", "a\\xff")


def test_another_gpu_and_too_many_of_them_are_not_this_target(stage: Stage, capsys: Read) -> None:
    programs = stage.directory / "programs"
    for cards, options, reason in (
        (("NVIDIA H200, 9.0, 143771, 570.86.15",), (), "it ran on NVIDIA H200; the target has NVIDIA L4"),
        (("NVIDIA L4, 8.6, 23034, 570.86.15",), (), "has compute capability 8.6, that of the target 8.9"),
        ((L4, L4), (), "it ran with 2 GPUs, the target has 1: repeat it with --gpu N"),
        ((L4, "NVIDIA H200, 9.0, 143771, 570.86.15"), (), "NVIDIA H200 and NVIDIA L4, and which of them ran"),
        ((), (), "it ran without a GPU; the target has NVIDIA L4"),
        ((L4, "NVIDIA H200, 9.0, 143771, 570.86.15"), ("--gpu", "0"), ""),
    ):
        answer_as_nvidia_smi(programs, *cards)
        stage.record.unlink(missing_ok=True)
        assert stage.smoke("sh", "-c", 'echo "sees ${CUDA_VISIBLE_DEVICES:-all}"', options=options) == 0
        said = capsys.readouterr().err
        assert "sees 0" in said if options else "sees all" in said
        assert ("no GPU" in said) == (not cards)
        document = checked(stage, capsys, "--record", str(stage.record), *stage.trust)
        assert document["verdict"] == ("unknown" if reason else "ready")
        assert reason in str(reasons(document)[0])
    assert stage.smoke("true", options=("--gpu", "2")) == 3


def test_one_artifact_alone_is_not_the_composition(stage: Stage, capsys: Read) -> None:
    assert stage.smoke("true", options=("--artifact", "tiny-model")) == 0
    document = checked(stage, capsys, "--record", str(stage.record), *stage.trust)
    assert document["verdict"] == "unknown"
    assert reasons(document)[0].startswith("not among what ran: 2 of 2 digests of serving, 2 of 3 digests of")
    stage.record.unlink()
    assert stage.smoke("true", options=("--artifact", "serving")) == 0
    document = checked(stage, capsys, "--record", str(stage.record), *stage.trust)
    assert [c["verdict"] for c in document["components"]] == ["ready", "no_blocker"]
    assert stage.smoke("true", options=("--artifact", "nothing")) == 3


def test_only_holders_who_release_are_believed(stage: Stage, capsys: Read) -> None:
    assert stage.smoke("true", key="mallory") == 7, "who may not sign is told before anything runs"
    assert stage.smoke("true", key="") == 0
    assert "not signed yet" in capsys.readouterr().out
    assert stage.attest() == 7
    assert stage.attest("--key", stage.key("mallory")) == 0
    document = checked(stage, capsys, *stage.trust)
    assert document["verdict"] == "unknown"
    assert "0 of 1 required signed: nobody; missing: alice, bob" in reasons(document)[0]
    assert stage.attest("--key", stage.key("bob"), "--dry-run") == 0
    assert len(list((stage.bundle / "records").iterdir())) == 1
    assert stage.attest("--key", stage.key("bob")) == 0
    document = checked(stage, capsys, *stage.trust)
    assert document["verdict"] == "ready"
    assert sorted(record["signers"] for record in document["records"]) == [[], ["bob"]]


def test_a_revoked_key_an_expired_and_an_altered_record_are_not_believed(stage: Stage, capsys: Read) -> None:
    assert stage.smoke("true", options=("--expires", "1d")) == 0
    data = stage.record.read_bytes()
    old = stage.directory / "old.dsse.json"
    ran, _ = smoke.survey(data)
    earlier = datetime.now(UTC).replace(microsecond=0) - timedelta(days=9)
    old.write_bytes(_signed_again(stage, ran, started_at=earlier, expires_at=earlier + timedelta(days=1)))
    later = earlier + timedelta(days=12)
    new = stage.directory / "new.dsse.json"
    new.write_bytes(_signed_again(stage, ran, started_at=later, expires_at=later + timedelta(days=1)))
    altered = stage.directory / "altered.dsse.json"
    sealed = envelope.parse(data)
    other = sealed.payload.replace(b'"exitStatus":0', b'"exitStatus":1')
    altered.write_bytes(envelope.render(other, sealed.payload_type, sealed.signatures))
    for file, reason in (
        (old, "the record expired at"),
        (new, "a day or more after"),
        (altered, "0 of 1 req"),
    ):
        document = checked(stage, capsys, "--record", str(file), *stage.trust)
        assert document["verdict"] == "unknown"
        assert reason in reasons(document)[0]

    root = str(stage.directory / "trust" / "1.root.json")
    keys = ["--key", stage.key("alice"), "--key", stage.key("bob")]
    revoking = ["trust", "revoke", root, "--holder-key", "alice", "--release-threshold", "1"]
    revoking += ["--root-threshold", "1", *keys[2:], "--out", str(stage.directory / "trust")]
    assert run(revoking) == 0
    two = stage.directory / "trust" / "2.root.json"
    assert run(["trust", "sign", str(two), "--key", stage.key("alice")]) == 0
    assert checked(stage, capsys, "--record", str(stage.record), *stage.trust)["verdict"] == "ready"
    (stage.bundle / "roots").mkdir()
    shutil.copy(two, stage.bundle / "roots" / "2.root.json")
    document = checked(stage, capsys, "--record", str(stage.record), *stage.trust)
    assert document["verdict"] == "unknown"
    assert "signed with a key that root version 2 revokes" in reasons(document)[0]


def _signed_again(stage: Stage, ran: smoke.SmokeRun, **changes: Any) -> bytes:
    signer = load_secret(Path(stage.key("alice")), PassphraseSource(lambda question: ""))
    payload = smoke.render(replace(ran, **changes))
    return envelope.render(payload, smoke.PAYLOAD_TYPE, envelope.sign(payload, smoke.PAYLOAD_TYPE, signer))


def test_a_bundle_keeps_its_signatures_and_a_site_its_records(stage: Stage, capsys: Read) -> None:
    assert stage.smoke("true") == 0
    assert stage.attest() == 0
    (record,) = (stage.bundle / "records").iterdir()
    capsys.readouterr()
    assert run(["verify", str(stage.bundle), *stage.trust]) == 0
    assert "alice saw serving, tiny-model on NVIDIA L4" in capsys.readouterr().out
    assert run(["inspect", str(stage.bundle), *stage.trust]) == 0
    assert "alice saw serving, tiny-model on NVIDIA L4" in capsys.readouterr().out
    assert run(["inspect", str(stage.bundle)]) == 0
    assert "not judged" in capsys.readouterr().out

    assert run(["install", str(stage.bundle), *stage.trust]) == 0
    assert (stage.site / "records" / record.name).read_bytes() == record.read_bytes()
    assert stat.S_IMODE((stage.site / "records" / record.name).stat().st_mode) == 0o644
    capsys.readouterr()
    assert run(["status", *stage.trust]) == 0
    assert "alice saw serving, tiny-model on NVIDIA L4" in capsys.readouterr().out
    half = stage.site / "records" / f".{record.name}.4242"
    half.write_bytes(b"killed while it was written")
    assert run(["install", str(stage.bundle), *stage.trust]) == 0
    assert problems(stage.site) == []


@pytest.mark.parametrize("streamed", [False, True])
def test_records_come_along_in_volumes_and_streams(stage: Stage, streamed: bool) -> None:
    assert stage.smoke("true") == 0
    assert stage.attest() == 0
    (record,) = (stage.bundle / "records").iterdir()
    out = stage.directory / "volumes"
    command = [sys.executable, "-m", "airgap"]
    if streamed:
        send = [*command, "split", str(stage.bundle), "--size", "stream", "--tar", "-o", "-"]
        sent = subprocess.run(send, capture_output=True, check=True)
        take = [*command, "receive", "-", *stage.trust]
        subprocess.run(take, input=sent.stdout, capture_output=True, check=True)
    else:
        assert run(["split", str(stage.bundle), "--size", "500kB", "-o", str(out)]) == 0
        assert run(["receive", *map(str, out.iterdir()), *stage.trust]) == 0
    assert not (stage.site / "records").exists()
    assert run(["install", *stage.trust]) == 0
    assert (stage.site / "records" / record.name).read_bytes() == record.read_bytes()


def test_a_record_that_may_not_be_believed_is_a_warning_and_is_not_kept(stage: Stage, capsys: Read) -> None:
    assert stage.smoke("true", key="") == 0
    assert stage.attest("--key", stage.key("mallory")) == 0
    (foreign,) = (stage.bundle / "records").iterdir()
    misnamed = foreign.with_name(f"{'0' * 64}.dsse.json")
    misnamed.write_bytes(foreign.read_bytes())
    junk = b"{}"
    (foreign.parent / record_name(junk)).write_bytes(junk)
    capsys.readouterr()
    assert run(["verify", str(stage.bundle), *stage.trust, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["bundles"]
    assert found["sound"]
    assert len({f["subject"] for f in found["findings"] if f["code"] == "smoke-record"}) == 3
    assert run(["install", str(stage.bundle), *stage.trust]) == 0
    assert "its bytes are not those that its name says" in capsys.readouterr().out
    assert not (stage.site / "records").exists()


def test_other_names_in_records_are_refused(stage: Stage, capsys: Read) -> None:
    records = stage.bundle / "records"
    records.mkdir()
    assert run(["verify", str(stage.bundle), *stage.trust]) == 0
    for make in (
        lambda: (records / "notes.txt").write_text("hello"),
        lambda: (records / record_name(b"")).symlink_to("/etc/passwd"),
        lambda: os.mkfifo(records / record_name(b"")),
        (records / record_name(b"")).mkdir,
        lambda: (records / record_name(b"")).write_bytes(b"x" * (envelope.MAX_RECORD + 1)),
    ):
        make()
        assert run(["verify", str(stage.bundle), *stage.trust]) == 6
        assert run(["install", str(stage.bundle), *stage.trust]) == 6
        (one,) = records.iterdir()
        one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()
    for number in range(33):
        data = str(number).encode()
        (records / record_name(data)).write_bytes(data)
    assert run(["verify", str(stage.bundle), *stage.trust]) == 6
    assert "more than 32 names" in capsys.readouterr().err


@pytest.mark.parametrize("trusting", [True, False])
def test_a_file_that_is_no_record_is_refused_where_a_person_named_it(
    stage: Stage, capsys: Read, *, trusting: bool
) -> None:
    junk = stage.directory / "junk.json"
    for content in (b"", b"{}", (stage.bundle / "bundle.dsse.json").read_bytes()):
        junk.write_bytes(content)
        argv = ["check", str(stage.bundle), "--record", str(junk), *(stage.trust if trusting else ())]
        assert run(argv) == 3, "checked as if it had not been given"
        said = capsys.readouterr().err
        assert str(junk) in said and "airgap smoke" in said


def test_attest_takes_records_of_this_bundle_only(stage: Stage, capsys: Read) -> None:
    stage.record.write_bytes((stage.bundle / "bundle.dsse.json").read_bytes())
    assert stage.attest() == 3
    assert "no record of a smoke run" in capsys.readouterr().err
    stage.record.unlink()
    assert stage.smoke("true") == 0
    ran, _ = smoke.survey(stage.record.read_bytes())
    artifacts = tuple(replace(a, digest=Sha256("0" * 64)) for a in ran.artifacts)
    stage.record.write_bytes(_signed_again(stage, ran, artifacts=artifacts))
    assert stage.attest() == 3
    assert "none of which is in tiny 1 with the same bytes" in capsys.readouterr().err


def test_a_site_where_nothing_is_installed(stage: Stage, tmp_path: Path, capsys: Read) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(stage.site / "trust", empty / "trust")
    assert run(["smoke", "--site", str(empty), "-o", str(stage.record), "--", "true"]) == 3
    assert "nothing is installed" in capsys.readouterr().err
