"""`airgap receive`: take volumes in, one by one, until their bundle is whole."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.site import asked, dry_run_option, site_option, wait_option
from airgap.cli.terminal import emit, print_error, print_findings, printable, progress_for
from airgap.cli.volumes import describe_volume, show_wanted
from airgap.errors import InputError, IntegrityError, MissingPartError, TrustError
from airgap.isolated.arrival import Progressed
from airgap.isolated.receive import Received, Reception, forget, plan_reception
from airgap.isolated.receive import receive as receive_volumes
from airgap.isolated.site import Site
from airgap.isolated.stream import receive_stream
from airgap.layout import ENVELOPE_FILE
from airgap.media import Media, is_volume, not_a_bundle, shown
from airgap.model import Finding
from airgap.pinned import trusted_root
from airgap.units import amount, human_bytes
from airgap.wanted import render_only

_PATH = click.Path(path_type=Path, readable=False)
STDIN = Path("-")


@click.command(
    epilog="""\b
Examples
  airgap receive /media/disc1 --site /srv/airgap
  diode-receive | airgap receive - --site /srv/airgap
  airgap receive --forget gemma4-serving --site /srv/airgap
Exit codes: 0 the bundle is whole: airgap install --site, 3 not a volume, 6 bytes differ, 7 signatures or
  sequence do not hold, 9 no space, or the media cannot be read, 10 taken, and other volumes lack
After any of them what was good is kept; bring the rest in any order.
"""
)
@click.argument("volumes", metavar="VOLUME...", type=_PATH, nargs=-1)
@site_option
@click.option("--forget", "forgotten", metavar="NAME", multiple=True, help="Remove what arrived of a bundle.")
@dry_run_option
@wait_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def receive(
    volumes: Sequence[Path],
    *,
    site: Path,
    forgotten: Sequence[str],
    dry_run: bool,
    wait: float,
    as_json: bool,
) -> int:
    """Judge each VOLUME and copy what is good of it to the site, where it waits for the others.

    Each byte is read once. What has arrived survives weeks, reboots and kills, and is not touched by gc.
    VOLUME - is a stream of volumes on stdin, as airgap split --tar -o - or airgap build --tar - writes it.
    NAME is the bundle's name or the begin of its digest, as airgap status shows both.
    """
    if bool(volumes) == bool(forgotten):
        raise click.UsageError("give either VOLUME... or --forget NAME")
    trusted_root(site, None, None)  # before anything is made at a place that was meant otherwise
    target = Site(site)
    progress = progress_for(json=as_json)
    if forgotten:
        return _forget(target, forgotten, wait=wait, dry_run=dry_run, as_json=as_json)
    now = datetime.now(UTC).replace(microsecond=0)
    words = asked("receive", *volumes)
    if STDIN in volumes:
        if len(volumes) > 1 or dry_run:
            raise click.UsageError("- is read alone, and without --dry-run: what went by is gone")
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
            reception = receive_stream(stream, target, now, asked=words, progress=progress, wait=wait)
        return _say(reception, site, dry_run=False, as_json=as_json)
    with ExitStack() as opened:
        media = [opened.enter_context(Media(volume)) for volume in volumes]
        require_volumes(media)
        if dry_run:
            reception = plan_reception(media, target, now)
        else:
            reception = receive_volumes(media, target, now, asked=words, progress=progress, wait=wait)
    return _say(reception, site, dry_run=dry_run, as_json=as_json)


def _say(reception: Reception, site: Path, *, dry_run: bool, as_json: bool) -> int:
    if as_json:
        root = shown(str(Site(site).root))
        emit({"site": root, "dry_run": dry_run, **reception_document(reception)})
    else:
        show_reception(reception, set(), dry_run=dry_run)
        _show_next(reception, site, dry_run=dry_run)
    return reception_code(reception)


def require_volumes(media: Sequence[Media]) -> None:
    """Raise InputError for a whole bundle, and for what is none."""
    for one in media:
        if is_volume(one):
            continue
        if ENVELOPE_FILE not in (entry.path for entry in one.entries(())):
            raise not_a_bundle(one)
        raise InputError(
            f"{one.root}: expected a volume, found a whole bundle",
            remedy=f"it is installed as it is: airgap install {shown(str(one.root))} --site DIR",
        )


def reception_code(reception: Reception) -> int:
    """The gravest first: trust, then bytes that differ, then what is not here yet."""
    if any(isinstance(received.refused, TrustError) for received in reception.volumes):
        return TrustError.exit_code
    if not all(received.sound for received in reception.volumes):
        return IntegrityError.exit_code
    return 0 if all(far.complete for far in reception.progressed) else MissingPartError.exit_code


def show_reception(reception: Reception, told: set[Finding], *, dry_run: bool) -> None:
    """A line on each volume after its findings that were not `told`, then what each bundle still lacks."""
    for received in reception.volumes:
        where = printable(shown(str(received.where)))
        print_findings(received.findings, told=told)
        if received.refused:
            print_error(f"{shown(str(received.where))}: {received.refused.message}", received.refused.remedy)
        elif received.reading:
            click.echo(f"{where}: {describe_volume(received.reading)}: {_taken(received, dry_run=dry_run)}")
    for far in reception.progressed:
        show_progressed(far, "would have arrived" if dry_run else "has arrived")


def _taken(received: Received, *, dry_run: bool) -> str:
    """Of one volume, in words: a volume that comes twice is no reason to worry."""
    if received.sound and not received.items:
        return "nothing to take: what is on it is here already"
    verb = "to take" if dry_run else "taken"
    verdict = (
        "" if received.sound else f"; {amount(len(received.findings), 'finding')}, none of that was taken"
    )
    return f"{verb}: {amount(received.items, 'file')}, {human_bytes(received.bytes)}{verdict}"


def show_progressed(far: Progressed, verb: str = "has arrived") -> None:
    """How far a bundle is."""
    stated = far.statement
    size = f"{amount(len(stated.travelling), 'blob')}, {human_bytes(stated.total_bytes)}"
    click.echo(f"{stated.name} {stated.version}, {stated.place}")
    if far.complete:
        click.echo(f"  {size}: all of it {verb}")
    else:
        click.echo(f"  {size}; missing: {human_bytes(far.missing_bytes)}")
        show_wanted(far.wanted, far.medium)


def _show_next(reception: Reception, site: Path, *, dry_run: bool) -> None:
    if dry_run:
        click.echo("nothing was written")
    elif any(far.complete for far in reception.progressed):
        click.echo(f"  -> airgap install --site {printable(shown(str(site)))}")


def reception_document(reception: Reception) -> dict[str, object]:
    """For `--json`."""
    return {
        "volumes": [_received_document(received) for received in reception.volumes],
        "arrivals": [progressed_document(far) for far in reception.progressed],
    }


def _received_document(received: Received) -> dict[str, object]:
    mark = received.reading.mark if received.reading else None
    return {
        "volume": shown(str(received.where)),
        "number": mark.number if mark else None,
        "count": mark.count if mark else None,
        "sound": received.sound,
        "taken": {"files": received.items, "bytes": received.bytes},
        "refused": received.refused.message if received.refused else None,
        "findings": [finding.as_json() for finding in received.findings],
    }


def progressed_document(far: Progressed) -> dict[str, object]:
    """For `--json`; `only` is null when nothing lacks, or nothing says what."""
    stated = far.statement
    return {
        "name": stated.name,
        "version": stated.version,
        "channel": stated.channel,
        "sequence": stated.sequence,
        "payload_sha384": far.arrival.payload,
        "complete": far.complete,
        "bytes": stated.total_bytes,
        "missing_bytes": far.missing_bytes,
        "only": render_only(far.wanted) if far.wanted else None,
    }


def _forget(site: Site, words: Sequence[str], *, wait: float, dry_run: bool, as_json: bool) -> int:
    done = forget(site, words, asked=asked("receive", "--forget", *words), wait=wait, dry_run=dry_run)
    if as_json:
        emit({"site": shown(str(site.root)), "dry_run": dry_run, "forgotten": [one.payload for one in done]})
    else:
        for one in done:
            click.echo(f"{'to forget' if dry_run else 'forgotten'}: {one.payload}")
    return 0
