"""`airgap key`: holders' key pairs, in files or with a token."""

from pathlib import Path

import click

from airgap.cli.options import FILE, json_option
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.terminal import emit, printable
from airgap.keyfiles import PassphraseSource, new_key_paths, read_secret, write_holder, write_public
from airgap.trust.keys import Holder, generate, require_name
from airgap.trust.token import TokenReference, TokenSecret, generate_beside, parse_uri


@click.group()
def key() -> None:
    """Make holders' key pairs."""


@key.command(
    "generate",
    epilog="""\b
Examples
  airgap key generate alice --out keys
  airgap key generate alice --out keys --token "pkcs11:token=airgap;object=alice" \\
         --module /usr/lib/softhsm/libsofthsm2.so
From a descriptor or file, the passphrase of the .key file is the first line, the PIN the second.
Exit codes: 0 written, 3 a file exists, the name is none, or the token holds no such key,
  7 no passphrase or a wrong PIN, 9 it cannot be written, or there is no such token
""",
)
@click.argument("name")
@click.option("--out", type=FILE, required=True, metavar="DIR", help="Where to write.")
@click.option("--no-passphrase", is_flag=True, help="Write the private keys in clear, for rehearsals.")
@click.option("--token", metavar="URI", help="Make the P-384 key in this token (RFC 7512) instead.")
@click.option("--module", metavar="FILE", help="The token's PKCS#11 module, a shared library.")
@click.option("--adopt", is_flag=True, help="Use the P-384 key that the token holds under that URI.")
@passphrase_option
@json_option
def generate_command(
    name: str,
    out: Path,
    *,
    no_passphrase: bool,
    token: str | None,
    module: str | None,
    adopt: bool,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Make the keys of holder NAME: DIR/NAME.key, which stays with the holder, and DIR/NAME.pub.

    With --token the P-384 key is made in a PKCS#11 token and never leaves it. NAME.key then holds
    the ML-DSA-87 key, and says where the other is; all that takes a --key takes that file.
    """
    reference = _reference(token, module, adopt=adopt)
    require_name(name)
    new_key_paths(name, out)  # before anyone types, and before a token keeps a key that no file names
    source = passphrases(passphrase_fd, confirm=True)
    passphrase = None if no_passphrase else source.next(f"passphrase for {name}.key")
    secret = _with_token(name, reference, source, adopt=adopt) if reference else generate(name)
    key_path, pub_path = write_holder(secret, out, passphrase)
    if as_json:
        emit(
            {"holder": name, "key": str(key_path), "pub": str(pub_path), "keyids": keyids(secret.holder)}
            | ({"token": str(secret.reference.uri)} if isinstance(secret, TokenSecret) else {})
        )
        return
    kept = "keep it, nobody else needs it"
    if isinstance(secret, TokenSecret):
        kept += f"; its P-384 key is in the token, as {secret.reference.uri}"
    click.echo(printable(f"{key_path} written: {kept}"))
    click.echo(printable(f"{pub_path} written: give it to whoever makes the root"))


@key.command(
    "export-public",
    epilog="""\b
Example
  airgap key export-public keys/alice.key --out alice.pub
Exit codes: 0 written, 3 not a key file or another file is there, 7 wrong passphrase or key mode,
  9 it cannot be written
""",
)
@click.argument("key_file", metavar="F.key", type=FILE)
@click.option("--out", type=FILE, metavar="F.pub", help="Default: F.pub beside it.")
@passphrase_option
@json_option
def export_public(key_file: Path, out: Path | None, *, passphrase_fd: int | None, as_json: bool) -> None:
    """Write the public keys of F.key again. A token that it names is not needed."""
    holder = read_secret(key_file, passphrases(passphrase_fd)).holder
    path = out or key_file.with_suffix(".pub")
    write_public(holder, path)
    if as_json:
        emit({"holder": holder.name, "pub": str(path), "keyids": keyids(holder)})
    else:
        click.echo(printable(f"{path} holds the public keys of {holder.name}"))


def _reference(token: str | None, module: str | None, *, adopt: bool) -> TokenReference | None:
    """Where the P-384 key shall be, if in a token."""
    if token and module:
        return TokenReference(parse_uri(token), module)
    if token or module or adopt:
        raise click.UsageError("a key in a token needs both --token URI and --module FILE")
    return None


def _with_token(
    name: str, reference: TokenReference, source: PassphraseSource, *, adopt: bool
) -> TokenSecret:
    from airgap.pkcs11 import adopt_key, generate_key  # noqa: PLC0415 - needs a package only tokens need

    if adopt:
        return generate_beside(name, reference, adopt_key(reference, source.next_pin, f"{name}.key"))
    made, p384 = generate_key(reference, source.next_pin, f"{name}.key")
    return generate_beside(name, made, p384)


def keyids(holder: Holder) -> dict[str, str]:
    """A holder's key ids by algorithm, for `--json`."""
    return {holder_key.algorithm.value: holder_key.keyid for holder_key in (holder.p384, holder.mldsa87)}
