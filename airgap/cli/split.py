"""`airgap split`: cut a bundle into volumes for media that it does not fit on."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from airgap.cli.options import FILE, byte_count, json_option
from airgap.cli.terminal import emit, printable, progress_for
from airgap.connected.split import Selected, Splitting, finish, open_bundle, write_volume
from airgap.connected.stream import write_stream
from airgap.connected.volume_forms import destination, open_sink
from airgap.decode import read_capped
from airgap.errors import HostError, InputError
from airgap.media import Media
from airgap.progress import Progress
from airgap.store import host_errors
from airgap.units import amount, human_bytes, shortage
from airgap.volumes import FAT32_FILE, LIST_FILE, MARK_FILE, MAX_MARK, MEDIA, NO_LIMIT, Medium, parse_mark
from airgap.wanted import Wanted, parse_only, render_only


def medium_of(value: str | Medium) -> Medium:
    """The name of a medium, or what one takes; for `click.option(type=)`."""
    if isinstance(value, Medium):
        return value
    if value.lower() in MEDIA:
        return MEDIA[value.lower()]
    try:
        return Medium(byte_count(value))
    except click.BadParameter:
        raise click.BadParameter(f"expected one of {', '.join(MEDIA)}, or a size; found {value!r}") from None
    except InputError as error:
        raise click.BadParameter(", ".join(error.problems)) from None


def file_limit_of(value: str | int) -> int:
    """`fat32`, or the most bytes of a file; for `click.option(type=)`."""
    limit = FAT32_FILE if isinstance(value, str) and value.lower() == "fat32" else byte_count(value)
    try:
        return Medium(NO_LIMIT, limit).file_limit
    except InputError as error:
        raise click.BadParameter(", ".join(error.problems)) from None


def wanted_of(value: str | Wanted) -> Wanted:
    """A list of what to burn again; for `click.option(type=)`."""
    if not isinstance(value, str):
        return value
    try:
        return parse_only(value)
    except InputError as error:
        raise click.BadParameter(error.message) from None


STDOUT = Path("-")


def require_stream(form: str, *, one_at_a_time: bool, dry_run: bool, as_json: bool) -> None:
    """Raise a usage error for what cannot go down a pipe."""
    if form != "tar" or one_at_a_time or dry_run or as_json:
        raise click.UsageError("-o - takes --tar, and none of --one-at-a-time, --dry-run, --json")
    if sys.stdout.isatty():
        raise click.UsageError("-o - writes a tar to a pipe or file, not to a terminal")


@dataclass(frozen=True, slots=True)
class Written:
    """A volume that is there; `kept` when an earlier run had written it already."""

    selected: Selected
    place: Path
    kept: bool


@click.command(
    epilog="""\b
Examples
  airgap split out/gemma4-serving-2026.11 --size bd -o discs
  airgap split out/gemma4-serving-2026.11 --size 32GB --file-limit fat32 -o /media/stick --one-at-a-time
  airgap split out/gemma4-serving-2026.11 --size dvd -o discs --iso --only 3:17,5
  airgap split out/gemma4-serving-2026.11 --size 25GB --tar -o - | diode-send
Sizes: cd, dvd, dvd-dl, bd, bd-dl, bd-xl, fat32 (one volume, no file of 4 GiB), stream (one
  volume of everything), or 700MB, 14.9GiB:
  what the empty medium says is free
Exit codes: 0 written, 3 not a bundle, or no such volume or item, 6 the bundle's bytes are not as signed,
  9 no space, no permission, or no xorriso
"""
)
@click.argument("bundle", type=FILE)
@click.option(
    "--size", "medium", type=medium_of, metavar="SIZE", required=True, help="What one medium takes."
)
@click.option("--file-limit", type=file_limit_of, metavar="SIZE", help="Largest file it takes, or fat32.")
@click.option("-o", "--out", type=FILE, metavar="DIR", required=True, help="Write volumes here.")
@click.option("--iso", "form", flag_value="iso", help="Each volume as an ISO 9660 image (needs xorriso).")
@click.option("--tar", "form", flag_value="tar", help="Each volume as one tar, not compressed.")
@click.option(
    "--only", type=wanted_of, metavar="LIST", help="These volumes and items: 5 or 3:17 or 2-4,7:3+9-12."
)
@click.option("--one-at-a-time", is_flag=True, help="After each volume wait for the next medium.")
@click.option("--dry-run", is_flag=True, help="Show the volumes; write nothing.")
@json_option
def split(
    bundle: Path,
    medium: Medium,
    file_limit: int | None,
    out: Path,
    form: str | None,
    only: Wanted | None,
    *,
    one_at_a_time: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Cut BUNDLE into volumes DIR/<name>-<version>.<k>of<n>, each to be judged by itself in any order.

    No new signature is needed, and the same cut gives the same bytes. Every byte is hashed on its way.
    What BUNDLE's file system holds already is linked, not copied. --only takes what airgap verify,
    receive or status on the other side asked for; give the --size and --file-limit of the first time.
    With --tar -o - all volumes go down a pipe, for airgap receive - at its other end; --size stream makes
    one of everything, a smaller size is where a broken stream can go on: --only 3-17.
    """
    form = form or "directory"
    if out == STDOUT:
        require_stream(form, one_at_a_time=one_at_a_time, dry_run=dry_run, as_json=as_json)
    medium = replace(medium, file_limit=file_limit) if file_limit else medium
    with Media(bundle) as media:
        splitting = open_bundle(media, medium)
        selected = splitting.select(only)
        if out == STDOUT:
            write_stream(splitting, selected, sys.stdout.fileno(), progress_for(json=as_json))
            return
        if dry_run:
            written = [
                Written(one, destination(out, splitting.name(one.volume), form), kept=False)
                for one in selected
            ]
        else:
            written = list(
                write_volumes(
                    splitting,
                    selected,
                    out,
                    form,
                    progress=progress_for(json=as_json),
                    one_at_a_time=one_at_a_time,
                    quiet=as_json,
                )
            )
    if as_json:
        emit(_document(splitting, written, dry_run=dry_run))
    else:
        if dry_run:
            for one in written:
                _show(one, splitting)
        _show_end(splitting, dry_run=dry_run)


def write_volumes(
    splitting: Splitting,
    selected: Sequence[Selected],
    out: Path,
    form: str,
    *,
    progress: Progress,
    one_at_a_time: bool,
    quiet: bool,
) -> Iterable[Written]:
    """Write one volume after the other, saying so; what an earlier run left whole is kept."""
    if out.resolve().is_relative_to(splitting.media.root.resolve()):
        raise InputError(
            f"{out} lies in the bundle, which must hold nothing but what is signed",
            remedy="choose another -o",
        )
    is_mount = one_at_a_time and os.path.ismount(out)
    for position, one in enumerate(selected):
        place = destination(out, splitting.name(one.volume), form)
        kept = _is_written(splitting, one, place)
        if not kept:
            _require_space(splitting, one, out, form)
            with open_sink(place, form, splitting.media.root, splitting.statement.created_at) as sink:
                write_volume(splitting, one, sink, progress)
        written = Written(one, place, kept)
        if not quiet:
            _show(written, splitting)
        yield written
        left = selected[position + 1 :]
        if one_at_a_time and left:
            _wait_for_medium(place, out, left, is_mount=is_mount)
    finish(splitting, progress)


def _is_written(splitting: Splitting, one: Selected, place: Path) -> bool:
    """Whether this very volume is there. Raises InputError when something else has its name."""
    if not os.path.lexists(place):
        return False
    whole = place.is_dir() and (place / LIST_FILE).exists()
    if whole and parse_mark(read_capped(place / MARK_FILE, max_bytes=MAX_MARK)) == splitting.mark(one):
        return True
    raise InputError(
        f"{place} exists already",
        remedy="remove it, choose another -o, or name with --only what is still to be written",
    )


def _require_space(splitting: Splitting, one: Selected, out: Path, form: str) -> None:
    """Refuse up front what cannot fit. Raises HostError."""
    with host_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        linked = form == "directory" and os.stat(out).st_dev == os.stat(splitting.media.root).st_dev
        total, _, free = shutil.disk_usage(out)
    needed = sum(map(len, splitting.documents.values()))
    needed += sum(item.size for item in one.items if not (linked and item.whole))
    if total and needed > free:  # some file systems in user space do not say how large they are
        raise HostError(
            f"{out}: for {splitting.name(one.volume)} {shortage(needed, free)}",
            remedy="free space there, choose another -o, or write medium after medium: --one-at-a-time",
        )


def _wait_for_medium(place: Path, out: Path, left: Sequence[Selected], *, is_mount: bool) -> None:
    numbers = render_only({one.volume.number: one.only for one in left})
    click.echo(
        f"Burn or move it away, or change the medium. To end here and go on later: --only {numbers}", err=True
    )
    while True:
        click.prompt("Then press Enter", default="", show_default=False, prompt_suffix=" ", err=True)
        if os.path.lexists(place):
            click.echo(f"{printable(str(place))} is still there.", err=True)
        elif is_mount and not os.path.ismount(out):
            click.echo(f"Nothing is mounted at {printable(str(out))}.", err=True)
        else:
            return


def _show(written: Written, splitting: Splitting) -> None:
    one = written.selected
    total = len(one.volume.items)
    items = amount(total, "item") if one.only is None else f"{len(one.items)} of {total} items"
    endless = splitting.medium.capacity >= MEDIA["fat32"].capacity
    share = (
        "" if one.only or endless else f", {one.volume.size / splitting.medium.capacity:.1%} of the medium"
    )
    kept = "; was there already" if written.kept else ""
    size = human_bytes(sum(item.size for item in one.items))
    click.echo(f"{printable(str(written.place))}: {items}, {size}{share}{kept}")


def _show_end(splitting: Splitting, *, dry_run: bool) -> None:
    ranged = {item.digest for volume in splitting.volumes for item in volume.items if not item.whole}
    cut = f"; {amount(len(ranged), 'blob')} cut" if ranged else ""
    stated = splitting.statement
    size = human_bytes(stated.total_bytes)
    click.echo(f"{stated.name} {stated.version} in {amount(len(splitting.volumes), 'volume')}, {size}{cut}")
    if dry_run:
        click.echo("nothing was written")


def _document(splitting: Splitting, written: Sequence[Written], *, dry_run: bool) -> dict[str, object]:
    medium = splitting.medium
    return {
        "dry_run": dry_run,
        "payload_sha384": splitting.payload,
        "capacity": medium.capacity,
        "file_limit": medium.file_limit,
        "count": len(splitting.volumes),
        "volumes": [
            {
                "number": one.selected.volume.number,
                "path": str(one.place),
                "items": len(one.selected.items),
                "bytes": sum(item.size for item in one.selected.items),
                "kept": one.kept,
            }
            for one in written
        ],
    }
