"""`airgap trust`: the root that says which holders a site believes."""

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from airgap.cli.key import keyids
from airgap.cli.options import FILE, json_option, lifetime
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.roots import (
    describe,
    keys_option,
    previous_option,
    read_previous,
    read_root,
    report,
    sign_root,
    write_root,
)
from airgap.cli.rotation import revoke, rotate
from airgap.cli.site import wait_option
from airgap.cli.terminal import emit, printable, progress_for
from airgap.errors import InputError
from airgap.isolated.identity import load_recipient, make_recipient, save_recipient
from airgap.isolated.memory import load_memory, recall, save_memory
from airgap.isolated.site import Site
from airgap.keyfiles import load_holder
from airgap.pinned import extend, newest, trusted_root
from airgap.pinned import pin as pin_root
from airgap.store import write_durably
from airgap.trust.instant import render_instant
from airgap.trust.root import Role, Root, fingerprint, render, survey, verify_first
from airgap.trust.succession import follow


@click.group()
def trust() -> None:
    """Make, succeed and pin the root of trust."""


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
    "--holder", "holders", type=FILE, multiple=True, required=True, metavar="F.pub", help="May repeat."
)
@click.option("--threshold", type=click.IntRange(min=1), required=True, help="How many holders must sign.")
@keys_option
@click.option("--out", type=FILE, required=True, metavar="DIR", help="Where to write 1.root.json.")
@click.option(
    "--expires-in", type=lifetime, default="365d", show_default=True, metavar="DAYS", help="Of the root."
)
@passphrase_option
@json_option
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
    people = tuple(load_holder(holder) for holder in holders)
    role = Role(threshold, tuple(person.name for person in people))
    now = datetime.now(UTC).replace(microsecond=0)
    root = Root(1, now + expires_in, people, role, role)
    path, data = write_root(root, None, keys, out, passphrases(passphrase_fd))
    report(path, data, None, as_json=as_json)


@trust.command(
    epilog="""\b
Example
  airgap trust sign trust/1.root.json --key keys/bob.key
Exit codes: 0 signed (holders may still be missing), 3 a file is bad, 7 the key may not sign,
  9 it cannot be written
"""
)
@click.argument("root", type=FILE)
@keys_option
@previous_option
@passphrase_option
@json_option
def sign(
    root: Path, keys: Sequence[Path], previous: Path | None, *, passphrase_fd: int | None, as_json: bool
) -> None:
    """Add holders' signatures to ROOT: its own holders', and those of the version before it."""
    if not keys:
        raise click.UsageError("Missing option '--key'.")
    data = read_root(root)
    before = read_previous(root, data, previous)
    data = sign_root(data, before, keys, passphrases(passphrase_fd))
    write_durably(root, data)
    report(root, data, before, as_json=as_json)


@trust.command(
    epilog="""\b
Examples
  airgap trust pin 1.root.json --site /srv/airgap --fingerprint "1f0c 9a…"
  airgap trust pin 1.root.json --site /srv/airgap --fingerprint "1f0c 9a…" --site-name plant-7
Exit codes: 0 pinned, 3 not a root or not a name, 7 another fingerprint, missing signatures, or the site
  pins another root, 9 the site cannot be written
"""
)
@click.argument("root", type=FILE)
@click.option("--site", type=FILE, required=True, metavar="DIR", help="Made when it is not there yet.")
@click.option("--fingerprint", "expected", required=True, help="As the holders read it to you.")
@click.option("--site-name", metavar="NAME", help="What bundles for some sites only call this one.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME",
    help="Take bundles of this channel only; may repeat.",
)
@wait_option
@json_option
def pin(
    root: Path,
    site: Path,
    expected: str,
    site_name: str | None,
    channels: tuple[str, ...],
    *,
    wait: float,
    as_json: bool,
) -> None:
    """Make ROOT the root a site trusts, and say which site it is.

    Pinning the same root again changes nothing but the name and the channels, where they are given.
    """
    recipient = make_recipient(site_name or "", channels)
    data = read_root(root)
    verify_first(data, expected, str(root))  # before anything is made at a place that was meant otherwise
    place = Site(site)
    with place.locked(_asked("pin", site), wait=wait, progress=progress_for(json=as_json)):
        pinned = pin_root(site, data, expected, str(root))
        known = load_recipient(place)
        recipient = make_recipient(recipient.name or known.name, recipient.channels or known.channels)
        if recipient != known:
            save_recipient(place, recipient)
    if as_json:
        emit(
            {
                "site": str(site),
                "name": recipient.name or None,
                "channels": list(recipient.channels) or None,
                "version": pinned.version,
                "fingerprint": fingerprint(render(pinned)),
            }
        )
        return
    click.echo(f"{site} trusts root version {pinned.version} until {render_instant(pinned.expires)}")
    if recipient.name:
        click.echo(f"it is the site {recipient.name}")
    if recipient.channels:
        click.echo(f"it takes the channels {', '.join(recipient.channels)}")


@trust.command(
    epilog="""\b
Example
  airgap trust update 2.root.json 3.root.json --site /srv/airgap
Exit codes: 0 trusted, or trusted already, 3 not a root, 7 a version is missing or does not follow,
  9 the site cannot be written
"""
)
@click.argument("roots", metavar="ROOT...", type=FILE, nargs=-1, required=True)
@click.option("--site", type=FILE, required=True, metavar="DIR", help="A site that pins a root.")
@wait_option
@json_option
def update(roots: Sequence[Path], site: Path, *, wait: float, as_json: bool) -> None:
    """Let a site follow to newer roots without a bundle; airgap install does so by those in the bundle."""
    found: dict[int, bytes] = {}
    for path in roots:
        data = read_root(path)
        version = survey(data, str(path))[0].version
        if found.setdefault(version, data) != data:
            raise InputError(f"{path}: another root of version {version} was given too")
    trusted_root(site, None, None)  # before anything is made at a place that was meant otherwise
    place = Site(site)
    with place.locked(_asked("update", site), wait=wait, progress=progress_for(json=as_json)):
        before = trusted_root(site, None, None)
        chain = follow(before, found, found.__getitem__)
        root = newest(before, chain)
        memory = load_memory(place).following(before).following(root)
        extend(place.root, chain)
        save_memory(place, memory)
    if as_json:
        emit({"site": str(site), "before": before.version, "version": root.version})
    else:
        click.echo(f"{site} trusts root version {root.version} until {render_instant(root.expires)}")


@trust.command(
    "recall",
    epilog="""\b
Example
  airgap trust recall --site /srv/airgap
Exit codes: 0 made anew, 3 there is nothing to recall, 7 no root, or a receipt is damaged,
  9 the site cannot be written, 130 not done
""",
)
@click.option("--site", type=FILE, required=True, metavar="DIR", help="A site that pins a root.")
@click.option("--yes", is_flag=True, help="Do not ask, even on a terminal.")
@wait_option
@json_option
def recall_command(site: Path, *, yes: bool, wait: float, as_json: bool) -> None:
    """Make a site's lost memory of accepted bundles anew, from its receipts.

    Only when nobody can restore trust/accepted.json from a backup, and it is known how it was lost.
    What no receipt names any more is forgotten: an older bundle of such a channel would be accepted.
    """
    place = Site(site)
    root = trusted_root(site, None, None)
    if not place.ever_installed():
        raise InputError(f"{site}: nothing was ever installed here", remedy="it needs no memory")
    with place.locked(_asked("recall", site), wait=wait, progress=progress_for(json=as_json)):
        memory = recall(place, root)
        for channel, accepted in sorted(memory.accepted.items()):
            highest = accepted.floor
            click.echo(f"channel {channel}: epoch {highest.epoch}, sequence {highest.sequence}", err=True)
        if not (yes or as_json) and sys.stdin.isatty():
            click.confirm("Is that all this site ever accepted?", abort=True, err=True)
        save_memory(place, memory)
    if as_json:
        emit(
            {
                "site": str(site),
                "channels": {
                    channel: {"epoch": a.floor.epoch, "sequence": a.floor.sequence, "payload": a.payload}
                    for channel, a in sorted(memory.accepted.items())
                },
            }
        )
    else:
        click.echo(f"{site} remembers {len(memory.accepted)} channels")


@trust.command(
    "fingerprint",
    epilog="""\b
Example
  airgap trust fingerprint trust/1.root.json
Exit codes: 0 printed, 3 not a root
""",
)
@click.argument("root", type=FILE)
@json_option
def fingerprint_command(root: Path, *, as_json: bool) -> None:
    """Print what to read aloud when ROOT is pinned."""
    _, found, _ = survey(read_root(root), str(root))
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
@click.argument("root", type=FILE)
@previous_option
@json_option
def show(root: Path, previous: Path | None, *, as_json: bool) -> None:
    """Show what ROOT says and who signed it, without a judgement."""
    data = read_root(root)
    before = read_previous(root, data, previous)
    said, _, _ = survey(data, str(root))
    if as_json:
        emit(describe(root, data, before) | _content(said))
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
    report(root, data, before, as_json=False)


trust.add_command(rotate)
trust.add_command(revoke)


def _content(root: Root) -> dict[str, object]:
    return {
        "holders": {holder.name: keyids(holder) for holder in root.holders},
        "roles": {
            name: {"threshold": role.threshold, "holders": sorted(role.holders)}
            for name, role in (("root", root.root), ("release", root.release))
        },
        "floors": {
            channel: {"epoch": floor.epoch, "sequence": floor.sequence}
            for channel, floor in sorted(root.floors.items())
        },
        "revoked": {"keys": sorted(root.revoked_keys), "bundles": sorted(root.revoked_bundles)},
    }


def _asked(verb: str, site: Path) -> str:
    return f"airgap trust {verb} --site {shlex.quote(printable(str(site)))}"
