"""`airgap key` and `airgap trust` as a person runs them, down to the files and exit codes."""

import io
import json
import os
import pty
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.errors import HostError, InputError, TrustError
from airgap.isolated.site import Site
from airgap.keyfiles import PassphraseSource, load_holder, load_secret
from airgap.pinned import pin, trusted_root
from airgap.trust import pbes2
from airgap.trust.root import fingerprint, render
from tests.services import need

from .trust.people import root_of, sealed_root


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """alice and bob, in clear."""
    directory = tmp_path / "keys"
    for name in ("alice", "bob"):
        assert run(["key", "generate", name, "--out", str(directory), "--no-passphrase"]) == 0
    return directory


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that matter to an attacker only cost time here; test_keys checks the real number."""
    monkeypatch.setattr(pbes2, "ROUNDS", 65_536)


def init(keys: Path, out: Path, *signers: str, threshold: int = 2) -> int:
    holders = [f"--holder={keys / name}.pub" for name in ("alice", "bob")]
    signing = [f"--key={keys / name}.key" for name in signers]
    return run(["trust", "init", *holders, f"--threshold={threshold}", *signing, f"--out={out}"])


def document(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_whole_session(keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, site = tmp_path / "trust/1.root.json", tmp_path / "srv/site"
    assert init(keys, tmp_path / "trust", "alice", "bob") == 0
    assert "2 of 2 required signed: alice, bob" in capsys.readouterr().out
    assert run(["trust", "fingerprint", str(root)]) == 0
    spoken = capsys.readouterr().out.strip()
    assert run(["trust", "pin", str(root), "--site", str(site), "--fingerprint", spoken]) == 0
    assert stat.S_IMODE((site / "trust/root.json").stat().st_mode) == 0o644
    pinned = trusted_root(site, None, None)
    assert fingerprint(render(pinned)) == spoken
    assert trusted_root(None, root, spoken) == trusted_root(site, root, spoken) == pinned


def test_coreutils_compute_the_fingerprint_as_the_page_shows(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("sed", "base64", "sha384sum")
    page = (Path(__file__).parents[1] / "docs/trust.md").read_text()
    [command] = [line for line in page.splitlines() if line.startswith("sed ")]
    init(keys, tmp_path, "alice")
    shown = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True, text=True)
    found = document(capsys, "trust", "fingerprint", tmp_path / "1.root.json")["fingerprint"]
    assert shown.stdout.strip() == found.replace(" ", "")


def test_every_test_that_the_page_names_exists() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs/trust.md").read_text()
    source = "".join(path.read_text() for path in (root / "tests/trust").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 5
    assert [name for name in named if f"def {name}(" not in source] == []
    assert all((root / path).is_file() for path in re.findall(r"`(tests/\S+\.py)`", page))


def test_a_root_that_lacks_holders_is_written_and_signed_later(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "trust/1.root.json"
    assert init(keys, tmp_path / "trust", "alice") == 0
    shown = capsys.readouterr()
    assert "1 of 2 required signed: alice; missing: bob" in shown.out
    assert "not to be pinned yet" in shown.err
    before = document(capsys, "trust", "show", root)
    assert (before["complete"], before["missing"]) == (False, ["bob"])
    pin_it = ["trust", "pin", str(root), "--site", str(tmp_path / "site"), "--fingerprint"]
    assert run([*pin_it, before["fingerprint"]]) == TrustError.exit_code
    after = document(capsys, "trust", "sign", root, f"--key={keys}/bob.key")
    assert (after["complete"], after["fingerprint"]) == (True, before["fingerprint"])
    assert run([*pin_it, before["fingerprint"]]) == 0


def test_a_wrong_fingerprint_shows_both(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(keys, tmp_path, "alice", "bob")
    root, wrong = tmp_path / "1.root.json", "0123 " * 12
    found = document(capsys, "trust", "fingerprint", root)["fingerprint"]
    site = tmp_path / "site"
    assert run(["trust", "pin", str(root), "--site", str(site), "--fingerprint", wrong]) == 7
    message = capsys.readouterr().err
    assert wrong.strip() in message
    assert found in message
    assert not site.exists()


def test_a_stranger_cannot_sign_a_root(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(keys, tmp_path, "alice")
    before = (tmp_path / "1.root.json").read_bytes()
    assert run(["key", "generate", "bob", "--out", str(tmp_path / "other"), "--no-passphrase"]) == 0
    command = ["trust", "sign", str(tmp_path / "1.root.json"), f"--key={tmp_path}/other/bob.key"]
    assert run(command) == TrustError.exit_code
    assert "bob is not a holder of this root with these keys" in capsys.readouterr().err
    assert (tmp_path / "1.root.json").read_bytes() == before


def test_nothing_is_overwritten(keys: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in keys.iterdir()}
    assert run(["key", "generate", "alice", "--out", str(keys), "--no-passphrase"]) == InputError.exit_code
    (keys / "alice.key").unlink()
    assert run(["key", "generate", "alice", "--out", str(keys), "--no-passphrase"]) == InputError.exit_code
    assert {path: path.read_bytes() for path in keys.iterdir()}.items() < before.items()
    assert init(keys, tmp_path) == 0
    assert init(keys, tmp_path) == InputError.exit_code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["key", "generate", "Alice", "--out", "x", "--no-passphrase"], 3),
        (["trust", "fingerprint", "/nonexistent"], 3),
        (["trust", "fingerprint", __file__], 3),
        (["trust", "sign", __file__], 2),
        (["trust", "init", "--holder", __file__, "--threshold", "1", "--out", "x"], 3),
        (["trust", "init", "--holder", __file__, "--threshold", "0", "--out", "x"], 2),
        (["trust", "init", "--holder", __file__, "--threshold", "1", "--out", "x", "--expires-in", "1y"], 2),
    ],
)
def test_what_is_refused(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_nobody_can_meet_is_refused(keys: Path, tmp_path: Path) -> None:
    assert init(keys, tmp_path, threshold=3) == InputError.exit_code


def test_keys_are_written_for_their_owner_alone(keys: Path) -> None:
    assert stat.S_IMODE((keys / "alice.key").stat().st_mode) == 0o600
    assert load_secret(keys / "alice.key", nobody()).holder == load_holder(keys / "alice.pub")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_reach_is_refused(keys: Path, mode: int) -> None:
    (keys / "alice.key").chmod(mode)
    with pytest.raises(TrustError, match=f"found mode {mode:04o}") as caught:
        load_secret(keys / "alice.key", nobody())
    assert "chmod 600" in caught.value.remedy


def test_a_fifo_is_no_key_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alice.key", 0o600)
    with pytest.raises(InputError, match="no regular file"):
        load_secret(tmp_path / "alice.key", nobody())


def nobody() -> PassphraseSource:
    def ask(question: str) -> str:
        raise AssertionError(f"nobody should be asked: {question}")

    return PassphraseSource(ask)


def test_passphrases_come_from_the_file_the_descriptor_or_the_terminal(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").write_text("first\n")
    monkeypatch.setenv("AIRGAP_PASSPHRASE_FILE", str(tmp_path / "one"))
    assert run(["key", "generate", "alice", "--out", str(tmp_path)]) == 0
    (tmp_path / "two").write_bytes(b"second\r\n")
    descriptor = os.open(tmp_path / "two", os.O_RDONLY)
    assert run(["key", "generate", "bob", "--out", str(tmp_path), f"--passphrase-fd={descriptor}"]) == 0
    os.close(descriptor)
    assert init(tmp_path, tmp_path / "half", "alice", "bob") == TrustError.exit_code
    assert "bob.key: the passphrase does not open it" in capsys.readouterr().err
    (tmp_path / "both").write_text("first\nsecond\n")
    monkeypatch.setenv("AIRGAP_PASSPHRASE_FILE", str(tmp_path / "both"))
    assert init(tmp_path, tmp_path / "whole", "alice", "bob") == 0
    for path in tmp_path.rglob("*"):
        if path.suffix in (".key", ".pub", ".json"):
            assert b"first" not in path.read_bytes()


def test_a_prompt_hides_and_asks_twice(tmp_path: Path) -> None:
    command = ["key", "generate", "pat", "--out", str(tmp_path)]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "airgap", *command])
    shown = b""
    for expected in (b"passphrase for pat.key: ", b"Repeat for confirmation: "):
        while expected not in shown:
            shown += os.read(terminal, 1000)
        time.sleep(0.1)  # getpass flushes what was typed before it turned the echo off
        os.write(terminal, b"hunter2\n")
    try:
        while data := os.read(terminal, 1000):
            shown += data
    except OSError:
        pass  # the terminal of a finished child
    finally:
        os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0
    assert b"hunter2" not in shown
    source = PassphraseSource(lambda question: "hunter2")
    assert load_secret(tmp_path / "pat.key", source).holder.name == "pat"


def test_without_a_terminal_or_a_file_there_is_no_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRGAP_PASSPHRASE_FILE", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(["key", "generate", "alice", "--out", str(tmp_path)]) == TrustError.exit_code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lines", [b"", b"\n", b"one\ntwo\n"])
def test_a_file_that_runs_out_of_passphrases_is_an_error(tmp_path: Path, lines: bytes) -> None:
    (tmp_path / "pass").write_bytes(lines)
    source = PassphraseSource(
        lambda question: "never", environ={"AIRGAP_PASSPHRASE_FILE": str(tmp_path / "pass")}
    )
    with pytest.raises(TrustError, match="none was given"):
        for _ in range(3):
            source.next("passphrase")


def pinned_site(site: Path) -> Path:
    root = root_of("alice")
    pin(site, sealed_root(root, "alice"), fingerprint(render(root)), "1.root.json")
    return site / "trust/root.json"


def test_a_site_keeps_its_root(tmp_path: Path) -> None:
    path = pinned_site(tmp_path / "site")
    before = path.read_bytes()
    pinned_site(tmp_path / "site")
    other = root_of("mallory")
    with pytest.raises(TrustError, match="already pins version 1 of another root"):
        pin(tmp_path / "site", sealed_root(other, "mallory"), fingerprint(render(other)), "x")
    assert path.read_bytes() == before


def test_no_root_is_an_error_and_never_a_skipped_check(tmp_path: Path) -> None:
    for site, said in (
        (tmp_path, "is empty: see that its disk is mounted"),
        (tmp_path / "no", "does not exist"),
    ):
        with pytest.raises(TrustError, match="pins no root") as found:
            trusted_root(site, None, None)
        assert said in found.value.remedy and f"airgap trust pin ROOT --site {site}" in found.value.remedy
    (tmp_path / "lock").touch()
    with pytest.raises(TrustError, match="pins no root") as found:
        trusted_root(tmp_path, None, None)
    assert found.value.remedy.startswith(f"airgap trust pin ROOT --site {tmp_path}")
    assert "--root" not in found.value.remedy  # install, status and others have no such option
    with pytest.raises(TrustError, match="no root was given") as found:
        trusted_root(None, None, None)
    assert "--root FILE" in found.value.remedy
    with pytest.raises(TrustError, match="belong together"):
        trusted_root(None, tmp_path / "1.root.json", None)
    with pytest.raises(TrustError, match="belong together"):
        trusted_root(tmp_path, None, "0123 " * 12)


def test_a_root_beside_the_sites_own_must_be_the_same(tmp_path: Path) -> None:
    pinned_site(tmp_path / "site")
    other = root_of("mallory")
    (tmp_path / "other.json").write_bytes(sealed_root(other, "mallory"))
    with pytest.raises(TrustError, match="found another"):
        trusted_root(tmp_path / "site", tmp_path / "other.json", fingerprint(render(other)))


def test_a_pinned_root_that_was_linked_replaced_or_damaged_is_an_error(tmp_path: Path) -> None:
    path = pinned_site(tmp_path / "site")
    data = path.read_bytes()
    path.write_bytes(data[:-2])
    with pytest.raises(TrustError, match="not JSON"):
        trusted_root(tmp_path / "site", None, None)
    path.unlink()
    (tmp_path / "elsewhere.json").write_bytes(data)
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(TrustError, match="trust memory"):
        trusted_root(tmp_path / "site", None, None)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TrustError, match="no regular file"):
        trusted_root(tmp_path / "site", None, None)
    path.unlink()
    path.parent.rename(tmp_path / "trust")
    (tmp_path / "site/trust").symlink_to(tmp_path / "trust")
    with pytest.raises(TrustError, match="trust memory"):
        trusted_root(tmp_path / "site", None, None)


def test_pinning_takes_the_sites_lock(keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, site = tmp_path / "trust/1.root.json", tmp_path / "site"
    init(keys, tmp_path / "trust", "alice", "bob")
    spoken = document(capsys, "trust", "fingerprint", root)["fingerprint"]
    pin_it = ["trust", "pin", str(root), "--site", str(site), "--fingerprint", spoken]
    with Site(site).locked("airgap install /media/disc1"):
        assert run(pin_it) == HostError.exit_code
    said = capsys.readouterr().err
    assert "airgap install /media/disc1" in said
    assert "--wait SECONDS" in said
    assert not (site / "trust").exists()
    assert run([*pin_it, "--wait", "1"]) == 0


def test_a_wrong_fingerprint_makes_no_site(keys: Path, tmp_path: Path) -> None:
    init(keys, tmp_path / "trust", "alice", "bob")
    pin_it = ["trust", "pin", str(tmp_path / "trust/1.root.json"), "--fingerprint", "0000 " * 12]
    assert run([*pin_it, "--site", str(tmp_path / "site")]) == TrustError.exit_code
    assert not (tmp_path / "site").exists()


def test_a_site_that_cannot_be_written_is_the_hosts_fault(tmp_path: Path) -> None:
    (tmp_path / "site").write_bytes(b"a file")
    root = root_of("alice")
    with pytest.raises((HostError, TrustError)):
        pin(tmp_path / "site", sealed_root(root, "alice"), fingerprint(render(root)), "1.root.json")


@pytest.mark.parametrize("verb", ["generate"])
def test_every_command_of_key_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    _shows_help(["key", verb], capsys)


@pytest.mark.parametrize("verb", ["init", "sign", "pin", "fingerprint", "show"])
def test_every_command_of_trust_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    _shows_help(["trust", verb], capsys)


def _shows_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"  airgap {' '.join(command)} " in shown
    assert "Exit codes: 0 " in shown
