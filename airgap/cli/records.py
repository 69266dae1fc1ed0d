"""Records of smoke runs as verbs show them."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.cli.terminal import printable
from airgap.decode import read_capped
from airgap.errors import InputError
from airgap.layout import digest_of
from airgap.records import Record, read_record
from airgap.trust.envelope import MAX_RECORD
from airgap.trust.instant import render_instant
from airgap.trust.root import Root

if TYPE_CHECKING:
    from airgap.trust.smoke import SmokeRun


def read_given(path: Path, root: Root | None, now: datetime) -> Record:
    """A record that a person named. Raises InputError for a file that is none, whoever signed it."""
    record = read_record(str(path), read_capped(path, max_bytes=MAX_RECORD), root, now)
    if record.run is None:
        raise InputError(f"{path}: {record.problem}", remedy="name what airgap smoke wrote")
    return record


def record_line(record: Record) -> str:
    """Who saw what run where, or why nobody is believed to have. One line, fit for a terminal."""
    if record.run is None:
        return printable(f"record {record.source}: {record.problem}")
    who = f"{', '.join(record.attested.signers)} saw" if record.attested else "a run of"
    why = f"; {record.problem}" if record.problem else ""
    return printable(f"record {digest_of(record.data)[:12]}: {who} {_run_line(record.run)}{why}")


def _run_line(run: "SmokeRun") -> str:
    names = ", ".join(artifact.name for artifact in run.artifacts)
    where = f"on {run.gpu}" if run.host.cards else "without a GPU"
    command = shlex.join(run.command).replace("\n", "\\n")
    command = command if len(command) <= 80 else f"{command[:79]}…"
    return f"{names} {where}, {render_instant(run.started_at)}: exit {run.status} of {command}"


def record_document(record: Record) -> dict[str, object]:
    """For `--json`; what cannot be read is null, and so is `blobs` of what may not be believed."""
    run = record.run
    return {
        "source": record.source,
        "sha256": digest_of(record.data),
        "problem": record.problem or None,
        "signers": list(record.attested.signers) if record.attested else [],
        "command": list(run.command) if run else None,
        "exit_status": run.status if run else None,
        "started_at": render_instant(run.started_at) if run else None,
        "expires_at": render_instant(run.expires_at) if run else None,
        "milliseconds": run.milliseconds if run else None,
        "gpus": [
            {
                "name": card.name,
                "compute_capability": card.compute_capability,
                "memory_mib": card.memory_mib,
                "driver": card.driver,
            }
            for card in run.host.cards
        ]
        if run
        else None,
        "artifacts": [artifact.name for artifact in run.artifacts] if run else None,
        "blobs": len(record.attested.run.blobs) if record.attested else None,
    }
