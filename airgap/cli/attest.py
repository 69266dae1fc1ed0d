"""`airgap attest`: put records of smoke runs into a bundle."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.options import FILE, json_option
from airgap.cli.passphrase import passphrase_option, passphrases
from airgap.cli.records import read_given, record_document, record_line
from airgap.cli.terminal import emit, printable
from airgap.errors import InputError, PolicyError, TrustError
from airgap.keyfiles import load_secret
from airgap.layout import RECORDS_DIRECTORY, read_envelope, record_name
from airgap.media import Media
from airgap.records import MAX_RECORDS, Record
from airgap.store import host_errors, write_durably
from airgap.trust import envelope
from airgap.trust.decide import survey
from airgap.trust.envelope import MAX_RECORD
from airgap.trust.keys import Signer
from airgap.trust.smoke import PAYLOAD_TYPE
from airgap.trust.statement import Statement


@click.command(
    epilog="""\b
Example
  airgap attest out/gemma4-serving-2026.11 --record smoke.dsse.json
  airgap attest out/gemma4-serving-2026.11 --record smoke.dsse.json --key keys/alice.key
Exit codes: 0 attached, 3 no bundle, no record, or a record of other bytes, 7 nobody signed the record,
  8 the bundle has too many, 9 it cannot be written, 130 not signed
"""
)
@click.argument("bundle", type=FILE)
@click.option(
    "--record", "records", type=FILE, multiple=True, required=True, metavar="FILE", help="May repeat."
)
@click.option("--key", "keys", type=FILE, multiple=True, metavar="F.key", help="Sign them first; may repeat.")
@click.option("--dry-run", is_flag=True, help="Judge the records; write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before signing, even on a terminal.")
@passphrase_option
@json_option
def attest(
    bundle: Path,
    records: tuple[Path, ...],
    keys: tuple[Path, ...],
    *,
    dry_run: bool,
    yes: bool,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Put the records of smoke runs into BUNDLE, where airgap check, verify and install find them.

    They vouch for themselves: the bundle's statement and signatures stay as they are. Whether their signers
    may is judged by whoever trusts a root.
    """
    with Media(bundle) as media:
        stated = survey(read_envelope(media)).statement
        there = media.names(RECORDS_DIRECTORY, at_most=MAX_RECORDS)
    found = [_read(path, stated) for path in records]
    if keys:
        if not as_json:
            for record in found:
                click.echo(record_line(replace(record, problem="")))
        if not (yes or as_json) and sys.stdin.isatty():
            click.confirm("Sign this?", abort=True, err=True)
        source = passphrases(passphrase_fd)
        signers = [load_secret(path, source) for path in keys]
        found = [_signed(record, signers) for record in found]
    for record in found:
        _require_signed(record)
    names = [record_name(record.data) for record in found]
    if len({*there, *names}) > MAX_RECORDS:
        raise PolicyError(
            f"{bundle}: more than {MAX_RECORDS} records",
            remedy=f"remove old ones from its {RECORDS_DIRECTORY}/",
        )
    if not dry_run:
        _write(bundle / RECORDS_DIRECTORY, found)
    if as_json:
        attached = [{"name": record_name(record.data), **record_document(record)} for record in found]
        emit({"bundle": str(bundle), "dry_run": dry_run, "attached": attached})
        return
    for record, name in zip(found, names, strict=True):
        said = "would be attached; nothing was written" if dry_run else "attached"
        click.echo(printable(f"{bundle / RECORDS_DIRECTORY / name}: {said}"))
        if record.run and record.run.status:
            click.echo("  a run that failed: it makes nothing READY")


def _read(path: Path, stated: Statement) -> Record:
    """A record of at least one artifact that the bundle holds, too. Raises InputError."""
    record = read_given(path, None, datetime.now(UTC))
    assert record.run, "read_given looked"
    ours = {artifact.digest for artifact in stated.artifacts}
    if ours.isdisjoint(artifact.digest for artifact in record.run.artifacts):
        ran = ", ".join(artifact.name for artifact in record.run.artifacts)
        raise InputError(
            f"{path}: a run of {ran}, none of which is in {stated.name} {stated.version} with the same bytes",
            remedy="run airgap smoke against a site where this bundle is installed",
        )
    return record


def _signed(record: Record, signers: Sequence[Signer]) -> Record:
    payload = envelope.parse(record.data, record.source, max_bytes=MAX_RECORD).payload
    signatures = [s for signer in signers for s in envelope.sign(payload, PAYLOAD_TYPE, signer)]
    return replace(record, data=envelope.add(record.data, signatures, record.source))


def _require_signed(record: Record) -> None:
    if not envelope.parse(record.data, record.source, max_bytes=MAX_RECORD).signatures:
        raise TrustError(
            f"{record.source}: nobody signed it", remedy="give the --key of a holder who saw it run"
        )


def _write(directory: Path, records: Sequence[Record]) -> None:
    with host_errors(directory):
        directory.mkdir(mode=0o755, exist_ok=True)
    for record in records:
        write_durably(directory / record_name(record.data), record.data)
