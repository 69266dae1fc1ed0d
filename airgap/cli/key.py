"""`airgap key`: holders' key pairs."""

from pathlib import Path

import click

from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.terminal import emit
from airgap.keyfiles import write_holder
from airgap.trust.keys import Holder, generate


@click.group()
def key() -> None:
    """Make holders' key pairs."""


@key.command(
    "generate",
    epilog="""\b
Example
  airgap key generate alice --out keys
Exit codes: 0 written, 3 a file exists or the name is none, 7 no passphrase, 9 it cannot be written
""",
)
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where to write.")
@click.option("--no-passphrase", is_flag=True, help="Write the private keys in clear, for rehearsals.")
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def generate_command(
    name: str, out: Path, *, no_passphrase: bool, passphrase_fd: int | None, as_json: bool
) -> None:
    """Make the keys of holder NAME: DIR/NAME.key, which stays with the holder, and DIR/NAME.pub."""
    secret = generate(name)
    passphrase = None
    if not no_passphrase:
        passphrase = passphrases(passphrase_fd, confirm=True).next(f"passphrase for {name}.key")
    key_path, pub_path = write_holder(secret, out, passphrase)
    if as_json:
        emit({"holder": name, "key": str(key_path), "pub": str(pub_path), "keyids": keyids(secret.holder)})
        return
    click.echo(f"{key_path} written: keep it, nobody else needs it")
    click.echo(f"{pub_path} written: give it to whoever makes the root")


def keyids(holder: Holder) -> dict[str, str]:
    """A holder's key ids by algorithm, for `--json`."""
    return {holder_key.algorithm.value: holder_key.keyid for holder_key in (holder.p384, holder.mldsa87)}
