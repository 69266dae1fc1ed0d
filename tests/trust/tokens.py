"""SoftHSM2 tokens in a temporary directory: the real module, asked by real processes."""

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services import need

PIN = "1234"

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so")

_PRELUDE = """\
import pkcs11, sys
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
P384 = bytes.fromhex("06052b81040022")
def pair(session, label, identity, **private):
    curve = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: P384}, local=True)
    more = {Attribute[name]: value for name, value in private.items()}
    signs = MechanismFlag.SIGN | MechanismFlag.VERIFY
    return curve.generate_keypair(
        id=identity, label=label, store=True, capabilities=signs, private_template=more
    )
token = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
session = token.open(rw=True, user_pin=sys.argv[3])
"""


@dataclass(frozen=True)
class SoftHsm:
    """A host with SoftHSM2 tokens. A module is configured once a process, so none is loaded here."""

    directory: Path

    @property
    def module(self) -> str:
        found = [module for module in MODULES if Path(module).is_file()]
        if not found:
            pytest.skip("softhsm2-util is installed, its module is not where it is looked for")
        return found[0]

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.directory / "softhsm2.conf")}

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens"

    def insert(self, label: str) -> "SoftHsm":
        """A new token, empty."""
        self._util("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "5678")
        return self

    def load(self, label: str, key: Path, name: str, identity: str) -> None:
        """Import a PKCS#8 key pair, as somebody does who had a key before they had a token."""
        self._util(*("--import", str(key), "--token", label, "--label", name, "--id", identity, "--pin", PIN))

    def script(self, label: str, code: str) -> str:
        """What python-pkcs11 `code` prints, logged in to `token` as `session`."""
        return subprocess.run(
            [sys.executable, "-c", _PRELUDE + textwrap.dedent(code), self.module, label, PIN],
            env=os.environ | self.environment,
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()

    def _util(self, *arguments: str) -> None:
        subprocess.run(
            ["softhsm2-util", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            check=True,
        )


def softhsm(directory: Path) -> SoftHsm:
    """A host that has no token yet."""
    need("softhsm2-util")
    hsm = SoftHsm(directory)
    shutil.rmtree(hsm.tokens, ignore_errors=True)
    hsm.tokens.mkdir(parents=True)
    (directory / "softhsm2.conf").write_text(
        f"directories.tokendir = {hsm.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    return hsm
