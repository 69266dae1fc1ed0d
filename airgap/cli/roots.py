"""What the commands of `airgap trust` share: reading a root, signing it, and saying who still has to."""

from collections.abc import Sequence
from pathlib import Path

import click

from airgap.cli.options import FILE
from airgap.cli.terminal import emit, printable
from airgap.decode import read_capped
from airgap.errors import InputError, TrustError
from airgap.keyfiles import PassphraseSource, load_secret
from airgap.layout import root_name
from airgap.store import host_errors, write_durably
from airgap.trust import envelope
from airgap.trust.envelope import Tally
from airgap.trust.instant import render_instant
from airgap.trust.root import MAX_ROOT, PAYLOAD_TYPE, Root, load_pinned, render, survey
from airgap.trust.succession import standing

keys_option = click.option(
    "--key", "keys", type=FILE, multiple=True, metavar="F.key", help="Sign with these keys; may repeat."
)
previous_option = click.option(
    "--previous",
    type=FILE,
    metavar="FILE",
    help="The version before ROOT, whose holders must sign too. Default: the one beside it.",
)


def read_root(path: Path) -> bytes:
    """Raises InputError."""
    return read_capped(path, max_bytes=MAX_ROOT)


def read_previous(path: Path, data: bytes, previous: Path | None) -> Root | None:
    """The root that the one in `path` follows: `previous`, else what lies beside it; None for version 1.

    Also None where it is not there. Raises InputError or TrustError when it is another version, or bad.
    """
    version, _, _ = survey(data, str(path))
    if version.version == 1:
        return None
    beside = previous or path.with_name(root_name(version.version - 1))
    if previous is None and not beside.exists():
        return None
    before = load_pinned(read_root(beside), str(beside))
    if before.version != version.version - 1:
        raise InputError(f"{beside}: expected root version {version.version - 1}, found {before.version}")
    return before


def sign_root(data: bytes, before: Root | None, keys: Sequence[Path], source: PassphraseSource) -> bytes:
    """The envelope with both signatures of each key's holder.

    Raises TrustError for a key of anyone whose signature neither version asks for.
    """
    root, _, _ = survey(data)
    asked = set(root.holders_of(root.root)) | set(before.holders_of(before.root) if before else ())
    payload = envelope.parse(data).payload
    for path in keys:
        secret = load_secret(path, source)
        if secret.holder not in asked:
            names = ", ".join(sorted({holder.name for holder in asked}))
            remedy = f"its holders are {names}"
            if root.version > 1 and before is None:
                remedy += "; a holder of the version before needs --previous FILE"
            raise TrustError(
                f"{path}: {secret.holder.name} is not a holder of this root with these keys", remedy=remedy
            )
        data = envelope.add(data, envelope.sign(payload, PAYLOAD_TYPE, secret))
    return data


def write_root(
    root: Root, before: Root | None, keys: Sequence[Path], out: Path, source: PassphraseSource
) -> tuple[Path, bytes]:
    """Sign a new root and write it as `out`/<version>.root.json. Raises InputError when that exists."""
    path = out / root_name(root.version)
    if path.exists():
        raise InputError(f"{path} exists already", remedy="choose another --out")
    data = sign_root(envelope.render(render(root), PAYLOAD_TYPE, ()), before, keys, source)
    with host_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)
    return path, data


def describe(path: Path, data: bytes, before: Root | None) -> dict[str, object]:
    """For `--json`; `previous` is null where the version before is not known, or there is none."""
    root, found, tally = survey(data, str(path))
    stands = standing(data, before, str(path))
    earlier = None
    if before is not None:
        _, counted, threshold = stands.tallies[0]
        earlier = {"version": before.version, **_tally(counted, threshold)}
    return {
        "root": str(path),
        "version": root.version,
        "expires": render_instant(root.expires),
        "fingerprint": found,
        **_tally(tally, root.root.threshold),
        "previous": earlier,
        "complete": stands.complete,
    }


def report(path: Path, data: bytes, before: Root | None, *, as_json: bool) -> None:
    """Who signed, of which version's threshold, who is missing, and the fingerprint."""
    if as_json:
        emit(describe(path, data, before))
        return
    root, found, _ = survey(data, str(path))
    stands = standing(data, before, str(path))
    shown = printable(str(path))
    for version, tally, threshold in stands.tallies:
        whose = f"by the holders of version {version}: " if root.version > 1 else ""
        click.echo(f"{shown}: {whose}{tally.describe(threshold)}")
    click.echo(f"fingerprint: {found}")
    if root.version > 1 and before is None:
        click.echo(
            f"note: version {root.version - 1} is not beside it, so its threshold was not counted;"
            " give --previous FILE",
            err=True,
        )
    if not stands.complete:
        use = "followed" if root.version > 1 else "pinned"
        click.echo(f"not to be {use} yet: airgap trust sign {shown} --key …", err=True)


def _tally(tally: Tally, threshold: int) -> dict[str, object]:
    return {
        "threshold": threshold,
        "signers": list(tally.signers),
        "missing": [*tally.missing, *tally.partial],
        "complete": tally.met(threshold),
    }
