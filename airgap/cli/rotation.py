"""`airgap trust rotate` and `airgap trust revoke`: the root after this one."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import click

from airgap.cli.options import FILE, json_option, lifetime
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.roots import keys_option, read_root, report, write_root
from airgap.errors import InputError
from airgap.keyfiles import load_holder
from airgap.layout import read_envelope
from airgap.media import Media
from airgap.model import NAME_PATTERN, Sha384, sha384_hex
from airgap.trust.decide import survey as survey_bundle
from airgap.trust.root import Floor, load_pinned
from airgap.trust.statement import MAX_SEQUENCE
from airgap.trust.succession import Change, succeed

Command = TypeVar("Command", bound=Callable[..., object])


def floor(value: str | tuple[str, Floor]) -> tuple[str, Floor]:
    """`CHANNEL=EPOCH:SEQUENCE`, for `click.option(type=)`."""
    if isinstance(value, tuple):
        return value
    match = re.fullmatch(rf"({NAME_PATTERN})=([0-9]{{1,16}}):([0-9]{{1,16}})", value)
    if not match or max(int(match[2]), int(match[3])) > MAX_SEQUENCE:
        raise click.BadParameter(f"expected CHANNEL=EPOCH:SEQUENCE such as main=0:12, found {value[:80]!r}")
    return match[1], Floor(int(match[2]), int(match[3]))


def change_options(command: Command) -> Command:
    """What both commands can change at the same time, so that one round of signatures is enough."""
    for option in (
        click.option("--add-holder", "add", type=FILE, multiple=True, metavar="F.pub", help="May repeat."),
        click.option("--remove-holder", "remove", multiple=True, metavar="NAME", help="May repeat."),
        click.option("--threshold", type=click.IntRange(min=1), metavar="N", help="Of both roles."),
        click.option(
            "--root-threshold", type=click.IntRange(min=1), metavar="N", help="How many sign roots."
        ),
        click.option(
            "--release-threshold", type=click.IntRange(min=1), metavar="N", help="How many sign bundles."
        ),
        click.option(
            "--floor",
            "floors",
            type=floor,
            multiple=True,
            metavar="CHANNEL=EPOCH:SEQUENCE",
            help="Refuse older bundles; may repeat.",
        ),
        click.option(
            "--expires-in",
            type=lifetime,
            default="365d",
            show_default=True,
            metavar="DAYS",
            help="Of the new root.",
        ),
        keys_option,
        click.option("--out", type=FILE, required=True, metavar="DIR", help="Where to write N.root.json."),
        passphrase_option,
        json_option,
    )[::-1]:
        command = option(command)
    return command


@click.command(
    epilog="""\b
Examples
  airgap trust rotate trust/1.root.json --expires-in 365d --key keys/alice.key --out trust
  airgap trust rotate trust/1.root.json --add-holder carol.pub --remove-holder bob \\
         --key keys/alice.key --key keys/bob.key --key carol.key --out trust
Exit codes: 0 written (holders may still have to sign), 3 a file is bad or exists, or the change is,
  7 ROOT lacks signatures, or a key may not sign, 9 it cannot be written
"""
)
@click.argument("root", type=FILE)
@change_options
def rotate(root: Path, **options: object) -> None:
    """Write the version after ROOT, with the changes given, else as it is with a later expiry.

    It needs the root threshold of ROOT and its own. One that holders still have to sign is written all
    the same, and says who is missing; airgap trust sign adds them.
    """
    _write_next(root, frozenset(), frozenset(), frozenset(), **options)  # type: ignore[arg-type]


@click.command(
    epilog="""\b
Examples
  airgap trust revoke trust/1.root.json --holder-key bob --add-holder carol.pub \\
         --key keys/alice.key --key carol.key --out trust
  airgap trust revoke trust/1.root.json --bundle out/gemma4-serving-2026.11 --key keys/alice.key --out trust
Exit codes: 0 written (holders may still have to sign), 3 a file is bad or exists, or the change is,
  7 ROOT lacks signatures, or a key may not sign, 9 it cannot be written
"""
)
@click.argument("root", type=FILE)
@click.option(
    "--holder-key",
    "revoked",
    multiple=True,
    metavar="NAME|KEYID",
    help="A holder's keys, or a key by its id; its holder is removed. May repeat.",
)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="DIR|SHA384",
    help="A bundle, or its payload_sha384 as verify --json shows it. May repeat.",
)
@change_options
def revoke(root: Path, revoked: Sequence[str], bundles: Sequence[str], **options: object) -> None:
    """Write the version after ROOT, in which keys or bundles are revoked for good.

    A site that has this root accepts no bundle of that payload, and no root that lists such a key.
    """
    if not revoked and not bundles:
        raise click.UsageError("nothing to revoke: give --holder-key or --bundle")
    keyids = frozenset(text for text in revoked if re.fullmatch(r"[0-9a-f]{64}", text))
    names = frozenset(revoked) - keyids
    payloads = frozenset(_payload(text) for text in bundles)
    _write_next(root, names, keyids, payloads, **options)  # type: ignore[arg-type]


def _write_next(
    root: Path,
    names: frozenset[str],
    keyids: frozenset[str],
    payloads: frozenset[Sha384],
    *,
    add: Sequence[Path],
    remove: Sequence[str],
    threshold: int | None,
    root_threshold: int | None,
    release_threshold: int | None,
    floors: Sequence[tuple[str, Floor]],
    expires_in: timedelta,
    keys: Sequence[Path],
    out: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    old = load_pinned(read_root(root), str(root))
    change = Change(
        tuple(load_holder(path) for path in add),
        frozenset(remove),
        root_threshold or threshold,
        release_threshold or threshold,
        dict(floors),
        names,
        keyids,
        payloads,
    )
    new = succeed(old, change, datetime.now(UTC).replace(microsecond=0) + expires_in)
    path, data = write_root(new, old, keys, out, passphrases(passphrase_fd))
    report(path, data, old, as_json=as_json)


def _payload(text: str) -> Sha384:
    """The digest that names a statement: as given, or of the bundle in that directory. Raises InputError."""
    if re.fullmatch(r"[0-9a-f]{96}", text):
        return sha384_hex(text)
    if not Path(text).is_dir():
        raise InputError(
            f"{text[:200]}: expected a bundle's directory or a sha384, found neither",
            remedy="airgap verify --json shows a bundle's payload_sha384; receipts and findings name it too",
        )
    with Media(Path(text)) as media:
        return survey_bundle(read_envelope(media)).payload
