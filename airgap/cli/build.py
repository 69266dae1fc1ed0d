"""`airgap build`: fetch everything and make the signed bundle."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airgap.cli.base import base_option, chosen_base
from airgap.cli.options import FILE, asked_policy, instant, json_option, lifetime, policy_options
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.signing import load_signers, read_root, roots_beside, show_signatures, signature_state
from airgap.cli.split import STDOUT, medium_of, require_stream, write_volumes
from airgap.cli.stated import base_document, delta_lines
from airgap.cli.terminal import emit, printable, progress_for
from airgap.cli.workspace import LockedManifest, open_context, read_locked
from airgap.connected.base import KnownBase
from airgap.connected.build import Built, Edition, build_bundle
from airgap.connected.installer import carried_installer, read_aloud
from airgap.connected.ledger import Ledger, open_ledger
from airgap.connected.source import Context
from airgap.connected.split import open_bundle
from airgap.connected.stream import write_stream
from airgap.errors import InputError
from airgap.keyfiles import PassphraseSource
from airgap.layout import blob_path
from airgap.lock import Lock
from airgap.media import Media
from airgap.model import LockedFile
from airgap.progress import Progress
from airgap.store import Store, fsync_directory, host_errors
from airgap.trust.decide import Surveyed, survey
from airgap.trust.instant import render_instant
from airgap.trust.keys import Signer
from airgap.trust.root import Floor, Root
from airgap.trust.statement import MAX_SEQUENCE
from airgap.units import amount, human_bytes
from airgap.volumes import MEDIA, Medium, medium_options

if TYPE_CHECKING:
    from airgap.cli.policing import Policed, Policing


@click.command(
    epilog="""\b
Examples
  airgap build gemma4.toml --key keys/alice.key --root trust/1.root.json --out out
  airgap build gemma4.toml --key keys/alice.key --root trust/1.root.json --base acknowledged
Exit codes: 0 built (holders may still have to sign), 3 no current lock or the bundle exists,
  4 a source failed, 6 bytes are not what was locked, 7 a key may not sign, 8 the policy is broken,
  9 no space or permission,  10 nothing at hand has the inventory that --base names
"""
)
@click.argument("manifest", type=FILE)
@click.option("--key", "keys", type=FILE, multiple=True, required=True, metavar="F.key", help="May repeat.")
@click.option("--root", type=FILE, required=True, metavar="FILE", help="The root that names the holders.")
@click.option("--out", type=FILE, default=Path("out"), show_default=True, metavar="DIR", help="Build here.")
@click.option("--sequence", type=click.IntRange(1, MAX_SEQUENCE), help="Default: the channel's next one.")
@click.option(
    "--epoch",
    type=click.IntRange(0, MAX_SEQUENCE),
    metavar="N",
    help="Count sequences anew, above all of earlier epochs. Default: the channel's newest one.",
)
@click.option(
    "--created-at", type=instant, metavar="TIME", help="In UTC. Default: SOURCE_DATE_EPOCH, else now."
)
@click.option(
    "--expires-in",
    type=lifetime,
    metavar="DAYS",
    default="365d",
    show_default=True,
    help="How long it may be installed.",
)
@base_option
@click.option("--patch", is_flag=True, help="Of blobs that --base has not, send what no blob of it holds.")
@click.option(
    "--volume-size", type=medium_of, metavar="SIZE", help="Then split it, as airgap split --size does."
)
@click.option(
    "--tar", type=FILE, metavar="FILE|-", help="Then write it as one stream, as airgap split --tar does."
)
@click.option("--replace", is_flag=True, help="Replace a bundle of this name and version.")
@policy_options
@passphrase_option
@json_option
def build(
    manifest: Path,
    keys: tuple[Path, ...],
    root: Path,
    out: Path,
    sequence: int | None,
    epoch: int | None,
    created_at: datetime | None,
    expires_in: timedelta,
    bases: tuple[str, ...],
    *,
    patch: bool,
    volume_size: Medium | None,
    tar: Path | None,
    replace: bool,
    policy_file: Path | None,
    osv: tuple[str, ...],
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Build the locked MANIFEST into DIR/<name>-<version>, signed with the keys given.

    What the store holds is not fetched again. A bundle that other holders still have to sign is
    built all the same: airgap sign adds them, and until then it verifies with exit code 7. Of the
    versions before --root, those that lie beside it travel along, for sites that have not seen them.
    With --base the bundle is a delta: it carries only what that base lacks, and a site that does not
    hold the rest refuses it. With --patch a blob that shares most of its bytes with blobs of the base,
    a fine-tuned shard or a rebuilt layer, travels as a patch; this reads the base once.
    With --policy what was laid out is looked into before it gets its name.
    """
    policing = asked_policy(policy_file, osv)
    if tar == STDOUT:
        require_stream("tar", one_at_a_time=False, dry_run=False, as_json=as_json)
    given = _read(manifest, root, keys, passphrases(passphrase_fd))
    numbering = _Numbering(epoch, sequence, created_at or _creation_time(), expires_in)
    progress = progress_for(json=as_json)
    context = open_context(given.lock.target, given.locked.directory, progress, given.locked.logins)
    base = _base(bases, patch, context.store, given.lock.audience)
    staged = _Staged(policing, f"{given.lock.name} {given.lock.version}", progress)
    built = _build(given, numbering, context, base, staged, out=out, replace=replace, patch=patch)
    surveyed = survey(built.envelope, given.root)
    if not as_json:
        with redirect_stdout(sys.stderr) if tar == STDOUT else nullcontext():
            _show(built, surveyed, base, patch=patch)
            _show_policy(staged.policed)
            _show_installer(built, carried_installer(given.lock))
    if tar:
        _write_tar(built, surveyed, volume_size or MEDIA["stream"], tar, progress)
    volumes = _split(built, surveyed, volume_size, progress, quiet=as_json) if volume_size and not tar else []
    if as_json:
        emit(_document(built, surveyed, volumes, staged.policed))


@dataclass(frozen=True, slots=True)
class _Given:
    """What is built, and who signs it under which root; `roots` are those that travel along."""

    locked: LockedManifest
    root: Root
    roots: Mapping[int, bytes]
    signers: Sequence[Signer]

    @property
    def lock(self) -> Lock:
        return self.locked.lock


def _read(manifest: Path, root: Path, keys: Sequence[Path], source: PassphraseSource) -> _Given:
    locked = read_locked(manifest)
    trusted = read_root(root)
    roots = roots_beside(root, trusted)
    return _Given(locked, trusted, roots, load_signers(keys, trusted, source))


@dataclass(frozen=True, slots=True)
class _Numbering:
    """What tells the bundle from others of its lock, as it was asked; None for what the ledger decides."""

    epoch: int | None
    sequence: int | None
    created: datetime
    expires_in: timedelta

    def edition(self, ledger: Ledger, channel: str, roots: Mapping[int, bytes]) -> Edition:
        if self.sequence is None and not ledger.issued:
            _note_first(channel)
        epoch = ledger.epoch() if self.epoch is None else self.epoch
        number = Floor(epoch, self.sequence or ledger.next_sequence(epoch))
        return Edition(number, self.created, self.created + self.expires_in, roots)


def _base(names: Sequence[str], patch: bool, store: Store, audience: Sequence[str]) -> KnownBase | None:
    if patch and not names:
        raise click.UsageError("--patch compares with what --base BASE has")
    return chosen_base(names, store, audience)


class _Staged:
    """What the policy says of the bundle that is laid out as `name`; None where none was given."""

    def __init__(self, policing: "Policing | None", name: str, progress: Progress) -> None:
        self._policing = policing
        self._name = name
        self._progress = progress
        self.policed: Policed | None = None

    def accept(self, bundle: Path) -> None:
        """Raises PolicyError where the policy is broken."""
        if self._policing:
            self.policed = self._policing.staged(bundle, self._name, self._progress)


def _build(
    given: _Given,
    numbering: _Numbering,
    context: Context,
    base: KnownBase | None,
    staged: _Staged,
    *,
    out: Path,
    replace: bool,
    patch: bool,
) -> Built:
    """Number the bundle and make it, while nobody else numbers one of its channel."""
    with open_ledger(context.store, given.lock.channel) as ledger:
        return build_bundle(
            given.lock,
            given.locked.data,
            out=out,
            edition=numbering.edition(ledger, given.lock.channel, given.roots),
            ledger=ledger,
            signers=given.signers,
            replace=replace,
            context=context,
            base=base,
            patch=patch,
            accept=staged.accept,
        )


def _split(
    built: Built, surveyed: Surveyed, medium: Medium, progress: Progress, *, quiet: bool
) -> list[Path]:
    if not _all_signed(built, surveyed, f"{medium_options(medium)} -o {built.path.parent}"):
        return []
    with Media(built.path) as media:
        splitting = open_bundle(media, medium)
        written = write_volumes(
            splitting,
            splitting.select(None),
            built.path.parent,
            "directory",
            progress=progress,
            one_at_a_time=False,
            quiet=quiet,
        )
        return [one.place for one in written]


def _write_tar(built: Built, surveyed: Surveyed, medium: Medium, tar: Path, progress: Progress) -> None:
    """Write the bundle as a stream, whole under its name or not there at all where that is a file."""
    if not _all_signed(built, surveyed, f"{medium_options(medium)} --tar -o -"):
        return
    with Media(built.path) as media:
        splitting = open_bundle(media, medium)
        if tar == STDOUT:
            write_stream(splitting, splitting.select(None), sys.stdout.fileno(), progress)
            return
        temporary = tar.with_name(f".{tar.name}.building")
        with host_errors(temporary):
            try:
                with open(temporary, "wb", buffering=0) as out:
                    write_stream(splitting, splitting.select(None), out.fileno(), progress)
                    os.fsync(out.fileno())
                os.rename(temporary, tar)
                fsync_directory(tar.absolute().parent)
            finally:
                temporary.unlink(missing_ok=True)


def _all_signed(built: Built, surveyed: Surveyed, options: str) -> bool:
    """Volumes carry the signatures, so they are made once all have signed; else say how to make them then."""
    assert surveyed.tally is not None
    if surveyed.tally.met(surveyed.threshold):
        return True
    click.echo(f"note: not split yet; when all have signed: airgap split {built.path} {options}", err=True)
    return False


def _note_first(channel: str) -> None:
    """A store that was lost or is another host's would number from 1 again, which a site refuses."""
    click.echo(
        f"note: this store has built nothing for channel {channel} yet, so this is its sequence 1;"
        " if it was built elsewhere, give --sequence",
        err=True,
    )


def _creation_time() -> datetime:
    """SOURCE_DATE_EPOCH (reproducible-builds.org specification), else now; whole seconds of UTC."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        raise InputError(f"SOURCE_DATE_EPOCH: expected seconds since 1970, found {epoch[:40]!r}") from None


def _document(
    built: Built, surveyed: Surveyed, volumes: Sequence[Path], policed: "Policed | None"
) -> dict[str, object]:
    stated = built.statement
    return {
        "bundle": str(built.path),
        "channel": stated.channel,
        "audience": list(stated.audience),
        "epoch": stated.epoch,
        "sequence": stated.sequence,
        "payload_sha384": surveyed.payload,
        "created_at": render_instant(stated.created_at),
        "expires_at": render_instant(stated.expires_at),
        "blobs": len(stated.travelling),
        "bytes": stated.total_bytes,
        "fetched_bytes": built.fetched_bytes,
        "base": base_document(stated),
        **signature_state(surveyed),
        "volumes": [str(volume) for volume in volumes],
        "policy": policed.document if policed else None,
    }


def _show(built: Built, surveyed: Surveyed, base: KnownBase | None, *, patch: bool) -> None:
    stated = built.statement
    click.echo(
        f"{printable(str(built.path))}: {amount(len(stated.artifacts), 'artifact')},"
        f" {amount(len(stated.travelling), 'blob')}, {human_bytes(stated.total_bytes)};"
        f" fetched {human_bytes(built.fetched_bytes)}"
    )
    for line in delta_lines(stated):
        click.echo(line)
    if patch and not (stated.base and stated.base.patches):
        click.echo(
            "  no patches: no large blob shares a fifth of its bytes with what the store has of the base"
        )
    if base:
        of = "which is" if stated.base else "a whole bundle: it shares nothing with"
        click.echo(f"  {of} {printable(base.what)}")
    click.echo(f"{stated.place}, expires {render_instant(stated.expires_at)}")
    show_signatures(surveyed, built.path)


def _show_policy(policed: "Policed | None") -> None:
    for line in policed.lines() if policed else ():
        click.echo(printable(line))


def _show_installer(built: Built, file: LockedFile | None) -> None:
    if file is not None:
        click.echo(f"installer: python3 {printable(str(built.path / blob_path(file.sha256)))}")
        click.echo(f"  sha384 {read_aloud(built.statement.blobs[file.sha256].sha384)}")
