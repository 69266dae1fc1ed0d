"""`airgap export`: an installed container as one tar."""

import sys
from pathlib import Path

import click

from airgap.cli.options import new_file
from airgap.cli.terminal import emit, progress_for
from airgap.isolated.export import export as export_image
from airgap.isolated.export import export_to, find_image
from airgap.isolated.site import Site
from airgap.units import human_bytes

_PATH = click.Path(path_type=Path, readable=False)


@click.command(
    epilog="""\b
Examples
  airgap export vllm -o vllm.tar --site /srv/airgap
  airgap export vllm -o - --site /srv/airgap | podman load
Exit codes: 0 written, 3 no such container, or FILE exists, 6 the site's blobs are damaged,
  9 it cannot be written
"""
)
@click.argument("name")
@click.option(
    "-o", "--output", metavar="FILE", required=True, help="The tar to write, a new file; - for stdout."
)
@click.option("--site", type=_PATH, metavar="DIR", required=True, help="Where the container is installed.")
@click.option("--platform", metavar="OS/ARCH", help="Of an image with several: what docker's side names.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def export(name: str, *, output: str, site: Path, platform: str | None, as_json: bool) -> None:
    """Write the installed container NAME as one tar that docker, podman, ctr and skopeo load.

    The same container gives the same bytes each time, and its digest does not change.
    """
    if output == "-" and as_json:
        raise click.UsageError("--json and -o - both want stdout")
    written = None if output == "-" else new_file(Path(output))
    source = Site(site)
    image = find_image(source, name, platform)
    progress = progress_for(json=as_json)
    if written is None:
        export_to(source, image, sys.stdout.buffer, progress)
        return
    done = export_image(source, image, written, progress)
    if as_json:
        emit({"image": image.name, "digest": f"sha256:{image.root}", "file": output, "bytes": done.size})
    else:
        click.echo(f"{output}: {image.name or name}, sha256:{image.root}, {human_bytes(done.size)}")
