"""`airgap trust`: the root that says which holders a site believes."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from airgap.cli.key import keyids
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.terminal import emit, printable
from airgap.decode import read_capped
from airgap.errors import InputError, TrustError
from airgap.keyfiles import PassphraseSource, load_holder, load_secret
from airgap.pinned import pin as pin_root
from airgap.store import host_errors, write_durably
from airgap.trust import envelope
from airgap.trust.instant import render_instant
from airgap.trust.root import MAX_ROOT, PAYLOAD_TYPE, Role, Root, fingerprint, render, survey

_FILE = click.Path(path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_keys = click.option(
    "--key", "keys", type=_FILE, multiple=True, metavar="F.key", help="Sign with these keys; may repeat."
)


def _days(text: str) -> timedelta:
    """A number of days, written `365d`."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})d", text)
    if not match:
        raise click.BadParameter(f"expected a number of days such as 365d, found {text[:40]!r}")
    return timedelta(days=int(match[1]))


@click.group()
def trust() -> None:
    """Make and pin the root of trust."""


@trust.command(
    epilog="""\b
Example
  airgap trust init --holder keys/alice.pub --holder keys/bob.pub --threshold 2 \\
         --key keys/alice.key --key keys/bob.key --out trust
Exit codes: 0 written (holders may still have to sign), 3 a file is bad or exists,
  7 a key may not sign, 9 it cannot be written
"""
)
@click.option(
    "--holder", "holders", type=_FILE, multiple=True, required=True, metavar="F.pub", help="May repeat."
)
@click.option("--threshold", type=click.IntRange(min=1), required=True, help="How many holders must sign.")
@_keys
@click.option("--out", type=_FILE, required=True, metavar="DIR", help="Where to write 1.root.json.")
@click.option(
    "--expires-in", type=_days, default="365d", show_default=True, metavar="DAYS", help="Of the root."
)
@passphrase_option
@_json
def init(
    holders: Sequence[Path],
    threshold: int,
    keys: Sequence[Path],
    out: Path,
    expires_in: timedelta,
    *,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Write the first root, signed with the keys given, and print its fingerprint.

    A root that other holders still have to sign is written all the same; `airgap trust sign` adds them.
    """
    path = out / "1.root.json"
    if path.exists():
        raise InputError(f"{path} exists already", remedy="choose another --out")
    people = tuple(load_holder(holder) for holder in holders)
    role = Role(threshold, tuple(person.name for person in people))
    now = datetime.now(UTC).replace(microsecond=0)
    payload = render(Root(1, now + expires_in, people, role, role))
    data = _sign(envelope.render(payload, PAYLOAD_TYPE, ()), keys, passphrases(passphrase_fd))
    with host_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)
    _report(path, data, as_json=as_json)


@trust.command(
    epilog="""\b
Example
  airgap trust sign trust/1.root.json --key keys/bob.key
Exit codes: 0 signed (holders may still be missing), 3 a file is bad, 7 the key may not sign,
  9 it cannot be written
"""
)
@click.argument("root", type=_FILE)
@_keys
@passphrase_option
@_json
def sign(root: Path, keys: Sequence[Path], *, passphrase_fd: int | None, as_json: bool) -> None:
    """Add holders' signatures to ROOT."""
    if not keys:
        raise click.UsageError("Missing option '--key'.")
    data = _sign(read_capped(root, max_bytes=MAX_ROOT), keys, passphrases(passphrase_fd))
    write_durably(root, data)
    _report(root, data, as_json=as_json)


@trust.command(
    epilog="""\b
Example
  airgap trust pin 1.root.json --site /srv/airgap --fingerprint "1f0c 9a…"
Exit codes: 0 pinned, 3 not a root, 7 another fingerprint, missing signatures, or the site pins
  another root, 9 the site cannot be written
"""
)
@click.argument("root", type=_FILE)
@click.option("--site", type=_FILE, required=True, metavar="DIR", help="Made when it is not there yet.")
@click.option("--fingerprint", "expected", required=True, help="As the holders read it to you.")
@_json
def pin(root: Path, site: Path, expected: str, *, as_json: bool) -> None:
    """Make ROOT the root a site trusts."""
    data = read_capped(root, max_bytes=MAX_ROOT)
    pinned = pin_root(site, data, expected, str(root))
    if as_json:
        emit({"site": str(site), "version": pinned.version, "fingerprint": fingerprint(render(pinned))})
    else:
        click.echo(f"{site} trusts root version {pinned.version} until {render_instant(pinned.expires)}")


@trust.command(
    "fingerprint",
    epilog="""\b
Example
  airgap trust fingerprint trust/1.root.json
Exit codes: 0 printed, 3 not a root
""",
)
@click.argument("root", type=_FILE)
@_json
def fingerprint_command(root: Path, *, as_json: bool) -> None:
    """Print what to read aloud when ROOT is pinned."""
    _, found, _ = survey(read_capped(root, max_bytes=MAX_ROOT), str(root))
    if as_json:
        emit({"root": str(root), "fingerprint": found})
    else:
        click.echo(found)


@trust.command(
    epilog="""\b
Example
  airgap trust show trust/1.root.json
Exit codes: 0 shown, 3 not a root
"""
)
@click.argument("root", type=_FILE)
@_json
def show(root: Path, *, as_json: bool) -> None:
    """Show what ROOT says and who signed it, without a judgement."""
    data = read_capped(root, max_bytes=MAX_ROOT)
    said, _, _ = survey(data, str(root))
    if as_json:
        emit(_document(root, data) | {"holders": {holder.name: keyids(holder) for holder in said.holders}})
        return
    click.echo(f"root version {said.version}, expires {render_instant(said.expires)}")
    for name, role in (("root", said.root), ("release", said.release)):
        click.echo(f"{name}: {role.threshold} of {', '.join(sorted(role.holders))}")
    for holder in said.holders:
        click.echo(f"{holder.name}")
        for key in (holder.p384, holder.mldsa87):
            click.echo(f"  {key.algorithm.label:<12} {key.keyid}")
    for channel, floor in sorted(said.floors.items()):
        click.echo(f"floor of {channel}: epoch {floor.epoch}, sequence {floor.sequence}")
    for revoked in (*sorted(said.revoked_keys), *sorted(said.revoked_bundles)):
        click.echo(f"revoked: {revoked}")
    _report(root, data, as_json=False)


def _sign(data: bytes, keys: Sequence[Path], source: PassphraseSource) -> bytes:
    """The envelope with both signatures of each key's holder. Raises TrustError for anyone else's key."""
    root, _, _ = survey(data)
    payload = envelope.parse(data).payload
    for path in keys:
        secret = load_secret(path, source)
        if secret.holder not in root.holders_of(root.root):
            raise TrustError(
                f"{path}: {secret.holder.name} is not a holder of this root with these keys",
                remedy=f"its holders are {', '.join(sorted(root.root.holders))}",
            )
        data = envelope.add(data, envelope.sign(payload, PAYLOAD_TYPE, secret))
    return data


def _document(path: Path, data: bytes) -> dict[str, object]:
    root, found, tally = survey(data, str(path))
    return {
        "root": str(path),
        "version": root.version,
        "expires": render_instant(root.expires),
        "fingerprint": found,
        "threshold": root.root.threshold,
        "signers": list(tally.signers),
        "missing": [*tally.missing, *tally.partial],
        "complete": tally.met(root.root.threshold),
    }


def _report(path: Path, data: bytes, *, as_json: bool) -> None:
    if as_json:
        emit(_document(path, data))
        return
    root, found, tally = survey(data, str(path))
    click.echo(f"{printable(str(path))}: {tally.describe(root.root.threshold)}")
    click.echo(f"fingerprint: {found}")
    if not tally.met(root.root.threshold):
        click.echo(f"not to be pinned yet: airgap trust sign {printable(str(path))} --key …", err=True)
