"""A holder with a token, through the command line, against SoftHSM2.

Every command is a process of its own, so each sees the token as it is then, and nobody is logged in still.
"""

import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)

from airgap.keyfiles import load_holder
from tests.services import need
from tests.stage import Run, Stage

from .tokens import PIN, SoftHsm, softhsm

URI = "pkcs11:token=vault;object=alice"


@dataclass(frozen=True)
class Desk:
    """A holder's machine: a working directory, and a host with tokens."""

    stage: Stage
    hsm: SoftHsm

    @property
    def key(self) -> Path:
        return self.stage.directory / "keys" / "alice.key"

    @property
    def pub(self) -> Path:
        return self.stage.directory / "keys" / "alice.pub"

    def run(self, *arguments: str, lines: str = PIN, code: int = 0, **environment: str) -> Run:
        """Run `airgap ARGUMENTS` with a passphrase file that holds `lines`."""
        secrets = str(self.stage.write("secrets", lines))
        given = self.hsm.environment | {"AIRGAP_PASSPHRASE_FILE": secrets} | environment
        return self.stage.run(*arguments, code=code, **given)

    def generate(self, *options: str, uri: str = URI, name: str = "alice", **run: object) -> Run:
        token = ("--token", uri, "--module", self.hsm.module)
        command = ("key", "generate", name, "--out", "keys", "--no-passphrase", *token, *options)
        return self.run(*command, **run)  # type: ignore[arg-type]

    def sign_root(self, **run: object) -> Run:
        """Sign with alice's key; the root is made anew."""
        shutil.rmtree(self.stage.directory / "trust", ignore_errors=True)
        signed = ("--holder", "keys/alice.pub", "--threshold", "1", "--key", "keys/alice.key")
        return self.run("trust", "init", *signed, "--out", "trust", **run)  # type: ignore[arg-type]

    def objects(self) -> int:
        return int(self.hsm.script("vault", "print(len(list(session.get_objects({}))))"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """With an empty token `vault`."""
    return Desk(Stage(tmp_path), softhsm(tmp_path / "hsm").insert("vault"))


@pytest.fixture
def alice(desk: Desk) -> Desk:
    """The same with alice's key in the token, and her files in keys/."""
    desk.generate()
    return desk


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_holder_with_a_token_signs_a_root_and_a_bundle(desk: Desk) -> None:
    need("openssl")
    stage, both = desk.stage, f"correct horse\n{PIN}\n"
    token = ("--token", URI, "--module", desk.hsm.module)
    made = desk.run("key", "generate", "alice", "--out", "keys", *token, "--json", lines=both).document
    assert made["token"].startswith("pkcs11:token=vault;object=alice;id=")
    assert stat.S_IMODE(desk.key.stat().st_mode) == 0o600
    assert "1 of 1 required signed: alice" in desk.sign_root(lines=both).out
    stage.write("notes.txt", "carried\n")
    stage.manifest('[[files]]\nname = "notes"\npath = "notes.txt"\n')
    stage.run("lock", "demo.toml")
    build = ("build", "demo.toml", "--key", "keys/alice.key", "--root", "trust/1.root.json", "--out", "out")
    desk.run(*build, lines=both)
    stage.pin()
    shutil.rmtree(desk.hsm.tokens)  # whoever verifies has no token
    assert "alice" in stage.run("verify", stage.bundle, "--site", "site").out

    public = load_holder(desk.pub).p384
    signature, signed = stage.bundle / "verify" / f"{public.keyid}.sig", stage.bundle / "verify/pae.bin"
    key = load_der_public_key(public.spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature.read_bytes(), signed.read_bytes(), ec.ECDSA(hashes.SHA384()))
    command = ["openssl", "dgst", "-sha384", "-verify", str(desk.pub), "-signature", str(signature)]
    assert subprocess.run([*command, str(signed)], capture_output=True, check=True).stdout == b"Verified OK\n"


def test_a_bundle_is_cosigned_with_a_token(alice: Desk) -> None:
    stage = alice.stage
    stage.run("key", "generate", "bob", "--out", "keys", "--no-passphrase")
    holders = ("--holder", "keys/alice.pub", "--holder", "keys/bob.pub", "--threshold", "2")
    stage.run("trust", "init", *holders, "--key", "keys/bob.key", "--out", "trust")
    alice.run("trust", "sign", "trust/1.root.json", "--key", "keys/alice.key")
    stage.write("notes.txt", "carried\n")
    stage.manifest('[[files]]\nname = "notes"\npath = "notes.txt"\n')
    stage.run("lock", "demo.toml")
    stage.run("build", "demo.toml", "--key", "keys/bob.key", "--root", "trust/1.root.json", "--out", "out")
    stage.pin()
    stage.run("verify", "out/demo-1", "--site", "site", code=7)
    alice.run("sign", "out/demo-1", "--key", "keys/alice.key")
    stage.run("verify", "out/demo-1", "--site", "site")


def test_two_holders_in_one_token_need_a_line_each(alice: Desk) -> None:
    alice.generate(uri="pkcs11:token=vault;object=anna", name="anna")
    holders = ("--holder", "keys/alice.pub", "--holder", "keys/anna.pub", "--threshold", "2")
    init = ("trust", "init", *holders, "--key", "keys/alice.key", "--key", "keys/anna.key", "--out", "trust")
    assert "PIN of the token 'vault' for keys/anna.key: expected a line of its own" in (
        alice.run(*init, code=7).err
    )
    assert "2 of 2 required signed" in alice.run(*init, lines=f"{PIN}\n{PIN}\n").out


def test_the_key_cannot_leave_the_token(alice: Desk) -> None:
    shown = alice.hsm.script(
        "vault",
        """
        key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label="alice")
        names = ("EXTRACTABLE", "NEVER_EXTRACTABLE", "SENSITIVE", "PRIVATE", "SIGN", "DERIVE", "DECRYPT")
        print([key[Attribute[name]] for name in names])
        """,
    )
    assert shown == "[False, True, True, True, True, False, False]"
    assert PIN not in alice.key.read_text().partition("-----")[0]


def test_a_key_that_is_in_the_token_already_is_adopted(desk: Desk, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "key.pem").write_bytes(pem(key))
    desk.hsm.load("vault", tmp_path / "key.pem", "alice", "a1")
    desk.generate("--adopt")
    assert load_der_public_key(load_holder(desk.pub).p384.spki) == key.public_key()
    assert desk.objects() == 2
    desk.sign_root()


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "EC secp256r1"),
        (ec.generate_private_key(ec.SECP521R1()), "EC secp521r1"),
        (rsa.generate_private_key(65537, 2048), "RSA"),
    ],
    ids=["P-256", "P-521", "RSA"],
)
def test_a_key_of_another_kind_is_named_and_refused(
    desk: Desk, tmp_path: Path, key: PrivateKeyTypes, shown: str
) -> None:
    (tmp_path / "key.pem").write_bytes(pem(key))
    desk.hsm.load("vault", tmp_path / "key.pem", "alice", "a1")
    said = desk.generate("--adopt", code=3).err
    assert f"expected an ECDSA P-384 key, found {shown}" in said
    assert not desk.key.exists()


def test_a_wrong_pin_says_that_tokens_lock(alice: Desk) -> None:
    said = alice.sign_root(lines="9999", code=7).err
    assert "the token 'vault': the PIN is wrong" in said
    assert "a token locks after a few wrong PINs" in said
    assert "9999" not in said
    assert (
        "(the last one was wrong; it locks after a few): none was given"
        in alice.sign_root(lines="\n", code=7).err
    )
    alice.sign_root()


def test_a_passphrase_is_never_tried_as_a_pin(desk: Desk) -> None:
    """The one line for all keys would reach the token, which sets a flag when a PIN is wrong."""
    generate = ("key", "generate", "alice", "--out", "keys", "--token", URI, "--module", desk.hsm.module)
    said = desk.run(*generate, lines="correct horse\n", code=7).err
    assert "one line for each passphrase and each PIN" in said
    assert desk.hsm.script("vault", "print(token.flags & pkcs11.TokenFlag.USER_PIN_COUNT_LOW)") == "0"
    assert not desk.key.exists()
    assert desk.objects() == 0


def test_a_token_that_is_not_there_is_named(alice: Desk) -> None:
    shutil.rmtree(alice.hsm.tokens)
    alice.hsm.tokens.mkdir()
    alice.hsm.insert("spare")
    said = alice.sign_root(code=9).err
    assert "expected the token 'vault', found no such token; present: 'spare'" in said
    assert "insert it" in said


def test_a_token_pulled_before_it_signs(alice: Desk) -> None:
    """Loaded, then gone: as after a build that fetched for an hour."""
    code = f"""
import shutil
from airgap.errors import HostError
from airgap.keyfiles import PassphraseSource, load_secret
from airgap.trust.keys import Algorithm, Message
from pathlib import Path
signer = load_secret(Path({str(alice.key)!r}), PassphraseSource(lambda question: {PIN!r}))
assert len(signer.sign(Algorithm.P384, Message.of(b"x"))) > 90
assert repr(signer) == "TokenSigner('alice')"
shutil.rmtree({str(alice.hsm.tokens)!r})
try:
    signer.sign(Algorithm.P384, Message.of(b"x"))
except HostError as error:
    print(error.message, error.remedy)
"""
    environment = os.environ | alice.hsm.environment
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert b"the token 'vault'" in done.stdout


def test_a_module_that_is_missing_or_none(alice: Desk, tmp_path: Path) -> None:
    text = alice.key.read_text()
    for module, complaint in (
        ("/nowhere/p11.so", "expected the PKCS#11 module /nowhere/p11.so, found no such file"),
        (__file__, "cannot be used as a PKCS#11 module"),
    ):
        alice.key.write_text(text.replace(alice.hsm.module, module))
        assert complaint in alice.sign_root(code=9).err
    alice.key.write_text(text)
    said = alice.sign_root(code=9, SOFTHSM2_CONF=str(tmp_path / "none.conf")).err
    assert "cannot be used as a PKCS#11 module: GeneralError" in said


def test_without_python_pkcs11_the_extra_is_named(alice: Desk) -> None:
    """An entry of None in sys.modules is how Python itself marks a module that cannot be imported."""
    code = (
        "import sys; sys.modules['pkcs11'] = None; from airgap.cli import run;"
        "sys.exit(run(['trust', 'sign', 'trust/1.root.json', '--key', 'keys/alice.key']))"
    )
    alice.sign_root()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=alice.stage.directory, capture_output=True, text=True, check=False)
    assert done.returncode == 9
    assert "pip install 'airgap[hsm]'" in done.stderr


def test_another_key_in_the_token_is_another_holder(alice: Desk) -> None:
    """The token was cleared, and a new key made under the old name and id."""
    alice.hsm.script(
        "vault",
        """
        old = list(session.get_objects({}))
        identity = old[0].id
        for each in old:
            each.destroy()
        pair(session, "alice", identity)
        """,
    )
    said = alice.sign_root(code=7).err
    assert f"expected the key {load_holder(alice.pub).p384.keyid} in the token 'vault', found " in said


def test_halves_that_do_not_belong_together_are_not_adopted(desk: Desk) -> None:
    desk.hsm.script(
        "vault",
        """
        pair(session, "alice", b"1")[0].destroy()
        pair(session, "other", b"2")[1].destroy()
        [stray] = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
        stray[Attribute.ID] = b"1"
        """,
    )
    assert "do not belong together" in desk.generate("--adopt", code=7).err
    assert not desk.key.exists()


def test_a_token_that_shows_no_public_key(alice: Desk, tmp_path: Path) -> None:
    """It signs for who is known by their file already; nobody new is known by it."""
    remove = "session.get_key(object_class=ObjectClass.PUBLIC_KEY, label='alice').destroy()"
    alice.hsm.script("vault", remove)
    alice.sign_root()
    assert "shows no public key" in alice.generate("--adopt", name="anna", code=3).err


def test_a_key_that_wants_its_pin_each_time(desk: Desk) -> None:
    desk.hsm.script("vault", "pair(session, 'alice', b'1', ALWAYS_AUTHENTICATE=True)")
    desk.generate("--adopt")
    desk.sign_root()


def test_a_key_that_may_not_sign(desk: Desk) -> None:
    desk.hsm.script("vault", "pair(session, 'alice', b'1', SIGN=False)")
    assert "may not sign" in desk.generate("--adopt", code=3).err


def test_a_key_that_is_not_in_the_token(desk: Desk) -> None:
    assert "expected one private key" in desk.generate("--adopt", code=3).err


def test_nothing_in_a_token_is_replaced(alice: Desk) -> None:
    assert "choose another object=, or --adopt it" in alice.generate(name="anna", code=3).err
    assert alice.objects() == 2


def test_a_file_that_is_there_is_seen_before_a_key_is_made(alice: Desk) -> None:
    alice.generate(uri="pkcs11:token=vault;object=second", code=3)
    alice.generate(uri="pkcs11:token=vault;object=second", name="Not A Name", code=3)
    assert alice.objects() == 2


def test_two_tokens_of_one_label_are_told_apart_by_serial(desk: Desk) -> None:
    serial = desk.hsm.script("vault", "print(token.serial.decode())")
    desk.hsm.insert("vault")
    assert "found 2 that fit" in desk.generate(code=9).err
    desk.generate(uri=f"pkcs11:serial={serial};object=alice")
    desk.sign_root()


@pytest.mark.parametrize(
    "options", [("--token", URI), ("--module", "/x.so"), ("--adopt",)], ids=["token", "module", "adopt"]
)
def test_token_and_module_belong_together(tmp_path: Path, options: tuple[str, ...]) -> None:
    Stage(tmp_path).run("key", "generate", "alice", "--out", "keys", *options, code=2)


def test_the_public_file_is_written_again_without_the_token(alice: Desk) -> None:
    before = alice.pub.read_bytes()
    shutil.rmtree(alice.hsm.tokens)
    alice.pub.unlink()
    shown = alice.run("key", "export-public", "keys/alice.key", "--json").document
    assert shown["pub"] == "keys/alice.pub"
    assert alice.pub.read_bytes() == before
    alice.run("key", "export-public", "keys/alice.key")
    alice.run("key", "export-public", "keys/alice.key", "--out", "copy.pub")
    assert (alice.stage.directory / "copy.pub").read_bytes() == before


def test_a_public_file_is_exported_from_a_key_in_files(tmp_path: Path) -> None:
    desk = Desk(Stage(tmp_path), SoftHsm(tmp_path))
    desk.run("key", "generate", "bob", "--out", "keys", lines="correct horse")
    export = ("key", "export-public", "keys/bob.key", "--out")
    desk.run(*export, "bob.pub", lines="correct horse")
    assert (tmp_path / "bob.pub").read_bytes() == (tmp_path / "keys/bob.pub").read_bytes()
    desk.run(*export, "other.pub", lines="battery staple", code=7)
    assert not (tmp_path / "other.pub").exists()


def test_export_replaces_no_other_file(alice: Desk) -> None:
    alice.pub.write_text("mine")
    assert "with other content" in alice.run("key", "export-public", "keys/alice.key", code=3).err
    assert alice.pub.read_text() == "mine"


def test_the_prompt_hides_the_pin_and_asks_it_once(desk: Desk) -> None:
    command = desk.stage.command(
        *("key", "generate", "alice", "--out", "keys", "--token", URI, "--module", desk.hsm.module)
    )
    environment = os.environ | desk.hsm.environment
    environment.pop("AIRGAP_PASSPHRASE_FILE", None)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(desk.stage.directory)
        os.execve(command[0], command, environment)
    shown = b""
    for expected, answer in (
        (b"passphrase for alice.key: ", b"hunter2\n"),
        (b"Repeat for confirmation: ", b"hunter2\n"),
        (b"PIN of the token 'vault' for alice.key: ", b"1234\n"),
        (b"alice.pub written", b""),
    ):
        while expected not in shown:
            if not select.select([terminal], [], [], 30)[0]:
                os.kill(child, signal.SIGKILL)
                pytest.fail(f"waited for {expected!r}, saw {shown!r}")
            shown += os.read(terminal, 1000)
        time.sleep(0.1)  # getpass flushes what was typed before it turned the echo off
        os.write(terminal, answer)
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)
    assert b"hunter2" not in shown
    assert PIN.encode() not in shown
    assert desk.key.exists()
