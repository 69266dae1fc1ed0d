"""`airgap sign`: add holders' signatures to a bundle."""

import sys
from pathlib import Path

import click

from airgap.cli.check import judge_bundle
from airgap.cli.options import FILE, json_option
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.stated import delta_lines, read_sums
from airgap.cli.terminal import emit, printable, progress_for
from airgap.connected.build import write_checkable
from airgap.keyfiles import load_secret
from airgap.layout import ENVELOPE_FILE, read_envelope
from airgap.media import Media
from airgap.progress import Progress
from airgap.readiness.judgement import Report
from airgap.readiness.table import brief
from airgap.store import write_durably
from airgap.trust import envelope
from airgap.trust.decide import Judged, Surveyed, survey
from airgap.trust.instant import render_instant
from airgap.trust.statement import PAYLOAD_TYPE, Statement
from airgap.units import amount, human_bytes
from airgap.verify import Signed, examine, refuse


@click.command(
    epilog="""\b
Example
  airgap sign out/gemma4-serving-2026.11 --key keys/bob.key
Exit codes: 0 signed, 3 not a bundle or a bad key file, 6 the bundle is not what it states,
  7 wrong passphrase or key mode, 9 it cannot be written, 130 not signed
"""
)
@click.argument("bundle", type=FILE)
@click.option("--key", "keys", type=FILE, multiple=True, required=True, metavar="F.key", help="May repeat.")
@click.option("--yes", is_flag=True, help="Do not ask, even on a terminal.")
@passphrase_option
@json_option
def sign(
    bundle: Path, keys: tuple[Path, ...], *, yes: bool, passphrase_fd: int | None, as_json: bool
) -> None:
    """Add both signatures of each key's holder to BUNDLE, once every byte of it was hashed again.

    Shows what will be signed, and what airgap check says of it.
    """
    with Media(bundle) as media:
        data, sums = read_envelope(media), read_sums(media)
    surveyed = survey(data)
    write_checkable(bundle, data, sums)  # an earlier sign may have been killed after the envelope
    progress = progress_for(json=as_json)
    _require_sound(bundle, data, surveyed, progress)
    report = judge_bundle(bundle, progress)
    if not as_json:
        _show(surveyed.statement, report)
    if not (yes or as_json) and sys.stdin.isatty():
        click.confirm("Sign this?", abort=True, err=True)
    source = passphrases(passphrase_fd)
    secrets = [load_secret(path, source) for path in keys]
    payload = envelope.parse(data).payload
    for secret in secrets:
        data = envelope.add(data, envelope.sign(payload, PAYLOAD_TYPE, secret))
    write_durably(bundle / ENVELOPE_FILE, data)
    write_checkable(bundle, data, sums)
    names = [secret.holder.name for secret in secrets]
    if as_json:
        check = report.as_json()["verdict"]
        emit({"bundle": str(bundle), "payload_sha384": surveyed.payload, "check": check, "signed_by": names})
    else:
        click.echo(f"{printable(str(bundle))}: signed by {', '.join(names)}")


def _require_sound(bundle: Path, data: bytes, surveyed: Surveyed, progress: Progress) -> None:
    """Nobody signs what is not there: raise IntegrityError unless the bundle is what its statement says."""
    unjudged = Judged(surveyed.statement, surveyed.payload, (), ())
    with Media(bundle) as media:
        _, findings = examine(media, Signed(data, unjudged), progress=progress)
    refuse(findings, str(bundle))


def _show(stated: Statement, report: Report) -> None:
    """What a signature will vouch for."""
    click.echo(f"{stated.name} {stated.version}, {stated.place}")
    for artifact in stated.artifacts:
        click.echo(f"  {artifact.kind:10} {artifact.name}  sha256:{artifact.digest}")
    size = f"{amount(len(stated.travelling), 'blob')}, {human_bytes(stated.total_bytes)}"
    lifetime = f"made {render_instant(stated.created_at)}, expires {render_instant(stated.expires_at)}"
    click.echo(f"{size}; {lifetime}")
    for line in delta_lines(stated):
        click.echo(line)
    for line in brief(report):
        click.echo(printable(f"check: {line}"))
