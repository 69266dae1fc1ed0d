"""`airgap smoke`: run a command against a site, and write a signed record of what ran on which GPU."""

import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from airgap.cli.options import FILE, json_option, lifetime, new_file
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.records import record_document, record_line
from airgap.cli.signing import load_signers
from airgap.cli.terminal import emit, print_error, printable, progress_for
from airgap.errors import BlockedError, PolicyError
from airgap.isolated import smoke as smoking
from airgap.isolated.command import run_command
from airgap.isolated.site import Site
from airgap.pinned import trusted_root
from airgap.probe import probe
from airgap.records import Record
from airgap.store import write_durably
from airgap.trust import envelope
from airgap.trust.envelope import MAX_RECORD
from airgap.trust.keys import Signer
from airgap.trust.smoke import MAX_TAIL, PAYLOAD_TYPE, Attested, SmokeRun, render
from airgap.units import amount, human_bytes


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Example
  airgap smoke --site /srv/airgap --key keys/alice.key -o smoke.dsse.json \\
         -- /opt/serving/bin/python load.py /srv/airgap/current/models/gemma
Exit codes: 0 the command ended with 0, 3 nothing installed or no such artifact,
  5 the command failed (the record says so, and makes nothing READY), 6 the site is not what was installed,
  7 a key that may not sign, 9 the record cannot be written
""",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--site", type=FILE, metavar="DIR", required=True, help="Whose current generation runs.")
@click.option(
    "--artifact", "artifacts", multiple=True, metavar="NAME", help="Vouch for this only; may repeat."
)
@click.option("-o", "--out", type=FILE, metavar="FILE", required=True, help="The record; a new file.")
@click.option("--key", "keys", type=FILE, multiple=True, metavar="F.key", help="Sign with these; may repeat.")
@click.option(
    "--gpu",
    "gpus",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Let it see this GPU only, as nvidia-smi counts; may repeat. Default: all.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Then kill it."
)
@click.option(
    "--tail",
    type=click.IntRange(0, MAX_TAIL // 1024),
    default=0,
    metavar="KIB",
    help="Quote the end of its output in the record; default none of it.",
)
@click.option(
    "--expires", type=lifetime, default="365d", metavar="DAYS", help="How long it counts; default 365d."
)
@passphrase_option
@json_option
def smoke(
    command: tuple[str, ...],
    *,
    site: Path,
    artifacts: tuple[str, ...],
    out: Path,
    keys: tuple[Path, ...],
    gpus: tuple[int, ...],
    timeout: float | None,
    tail: int,
    expires: timedelta,
    passphrase_fd: int | None,
    as_json: bool,
) -> int:
    """Run COMMAND with the environment of a site's current generation, and record which digests ran where.

    All that is vouched for is rehashed before. The record holds the command line, its exit status, the GPU,
    driver, Python and kernel, and no value of the environment. Without --key a holder signs it later, with
    airgap attest.
    """
    root = trusted_root(site, None, None)
    place = Site(site)
    chosen = smoking.choose(place, artifacts)
    new_file(out)
    signers = load_signers(keys, root, passphrases(passphrase_fd))
    host = smoking.ran_on(probe(), command, gpus)
    if not host.cards:
        print_error("no GPU: nvidia-smi names none, so the record makes nothing READY on a target with one")
    before = smoking.rehash(place, chosen, progress_for(json=as_json))
    ran = run_command(
        command,
        smoking.environment_file(place, chosen),
        gpus=gpus,
        seconds=timeout,
        tail=tail * 1024,
        show=_show_output,
    )
    smoking.require_untouched(place, chosen, before)
    run = smoking.run_of(chosen, command, ran, host, expires)
    data = _signed(run, signers)
    write_durably(out, data)
    if timeout and ran.status == 128 + signal.SIGKILL and ran.milliseconds >= 1000 * timeout:
        print_error(f"the command was killed after {timeout:g} s, as --timeout asks")
    _report(Record(str(out), data, run, _attested(run, signers)), as_json=as_json)
    return BlockedError.exit_code if ran.status else 0


def _signed(run: SmokeRun, signers: Sequence[Signer]) -> bytes:
    payload = render(run)
    signatures = [s for signer in signers for s in envelope.sign(payload, PAYLOAD_TYPE, signer)]
    data = envelope.render(payload, PAYLOAD_TYPE, signatures)
    if len(data) > MAX_RECORD:
        raise PolicyError(
            f"a record of {len(run.blobs)} blobs has {len(data)} bytes, more than the {MAX_RECORD} allowed",
            remedy="name what the command needs with --artifact",
        )
    return data


def _attested(run: SmokeRun, signers: Sequence[Signer]) -> Attested | None:
    return Attested(run, tuple(signer.holder.name for signer in signers)) if signers else None


def _show_output(data: bytes) -> None:
    """stdout belongs to the verb's own result."""
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def _report(record: Record, *, as_json: bool) -> None:
    run = record.run
    assert run
    if as_json:
        emit(record_document(record))
        return
    click.echo(record_line(record))
    names = ", ".join(f"{artifact.kind} {artifact.name}" for artifact in run.artifacts)
    click.echo(f"  {names}: {amount(len(run.blobs), 'blob')}, rehashed before and untouched since")
    click.echo(f"  took {run.milliseconds / 1000:.1f} s, printed {human_bytes(run.output.size)}")
    where = printable(record.source)
    if run.status:
        click.echo(f"  FAILED: {where} says so, and makes nothing READY")
    elif not record.attested:
        click.echo(f"  not signed yet: airgap attest BUNDLE --record {where} --key KEY")
    else:
        click.echo(f"  {where} written: airgap attest BUNDLE --record {where}")
