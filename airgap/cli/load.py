"""`airgap load`: an installed container into a local engine."""

from pathlib import Path

import click

from airgap.cli.options import json_option
from airgap.cli.terminal import emit, printable, progress_for
from airgap.isolated.engines import ENGINES, NAMESPACED, choose_engine, make_engine
from airgap.isolated.engines import load as load_image
from airgap.isolated.export import find_image
from airgap.isolated.site import Site

_PATH = click.Path(path_type=Path, readable=False)


@click.command(
    epilog="""\b
Examples
  airgap load vllm --site /srv/airgap
  airgap load vllm --site /srv/airgap --engine ctr --namespace k8s.io
  airgap load vllm --site /srv/airgap --engine skopeo --to oci:/srv/images:vllm
Exit codes: 0 loaded and proven, 3 no such container, 6 the site's blobs are damaged, or the engine
  holds another image, 9 no engine, several, or it refuses
"""
)
@click.argument("name")
@click.option("--site", type=_PATH, metavar="DIR", required=True, help="Where the container is installed.")
@click.option("--engine", type=click.Choice(ENGINES), help="Which engine; needed where there are several.")
@click.option("--as", "called", metavar="NAME:TAG", default="", help="Another name than its own.")
@click.option("--platform", metavar="OS/ARCH", help="Of an image with several: what docker and skopeo take.")
@click.option("--namespace", default="", help=f"containerd's, for {' and '.join(NAMESPACED)}.")
@click.option("--to", default="", metavar="WHERE", help="For skopeo: its destination, transport included.")
@json_option
def load(
    name: str,
    *,
    site: Path,
    engine: str | None,
    called: str,
    platform: str | None,
    namespace: str,
    to: str,
    as_json: bool,
) -> None:
    """Load the installed container NAME into docker, podman, containerd or what skopeo writes.

    It is streamed from the site, with no second copy on disk. Afterwards the engine is asked what it
    holds, and that must be the image that was signed.
    """
    source = Site(site)
    image = find_image(source, name, platform, called)
    chosen = make_engine(choose_engine(engine), image, namespace=namespace, to=to)
    done = load_image(source, image, chosen, progress_for(json=as_json))
    if as_json:
        emit(
            {
                "engine": done.engine,
                "image": done.where,
                "digest": f"sha256:{image.root}",
                "id": f"sha256:{done.id}",
                "digest_kept": done.kept,
            }
        )
        return
    click.echo(printable(f"{done.engine} holds {done.where}"))
    if done.kept:
        click.echo(f"  sha256:{image.root}, as it was signed")
    else:
        click.echo(f"  image ID sha256:{done.id}, of the signed sha256:{image.root}")
