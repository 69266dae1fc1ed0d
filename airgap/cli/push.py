"""`airgap push`: an installed artifact, or one of a verified bundle, into a registry."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.options import FILE, json_option, root_options
from airgap.cli.terminal import emit, printable, progress_for
from airgap.isolated.identity import load_recipient
from airgap.isolated.memory import Memory, load_memory
from airgap.isolated.push import Pushed, parse_destination, plan_parcel
from airgap.isolated.push import push as push_parcel
from airgap.isolated.push_source import BundleSource, SiteSource, Source
from airgap.isolated.site import Site
from airgap.media import Media
from airgap.pinned import carried_roots, newest, trusted_root
from airgap.units import amount, human_bytes
from airgap.verify import open_signed, read_contents, read_index, refuse


@click.command(
    epilog="""\b
Examples
  airgap push vllm registry.lan:5000/serving/vllm:0.19.1 --site /srv/airgap
  airgap push gemma registry.lan/models/gemma:2026.11 --bundle /media/disc1 --site /srv/airgap
Credentials are those of docker login, podman login or skopeo login; a CA bundle is what
SSL_CERT_FILE or REQUESTS_CA_BUNDLE names.
Exit codes: 0 there and proven, 3 no such artifact or reference, 4 the registry failed or refused,
  6 bytes are not what was signed, 7 the bundle's signatures do not hold, 9 this host cannot
"""
)
@click.argument("name")
@click.argument("destination", metavar="REGISTRY/REPO:TAG")
@root_options
@click.option("--bundle", type=FILE, metavar="DIR", help="Push from this bundle, judged by the root.")
@click.option("--platform", metavar="OS/ARCH", help="Of an index: push this image alone, under its digest.")
@click.option("--plain-http", is_flag=True, help="Without TLS: who is on the way can read and alter all.")
@click.option("--mount-from", metavar="REPO", default="", help="A repository there that may share layers.")
@click.option("--without-signatures", is_flag=True, help="Push no signatures that travelled with an image.")
@json_option
def push(
    name: str,
    destination: str,
    *,
    site: Path | None,
    root: Path | None,
    fingerprint: str | None,
    bundle: Path | None,
    platform: str | None,
    plain_http: bool,
    mount_from: str,
    without_signatures: bool,
    as_json: bool,
) -> None:
    """Push the artifact NAME, container, model, wheels or file, and prove its digest in the registry.

    Signatures that travelled with an image go with it, as they were found. Nobody judges them.
    What the registry holds already is not sent again, so a push that was interrupted goes on when it
    is run again.
    """
    reference = parse_destination(destination)
    if bundle is None and site is None:
        raise click.UsageError("give --site DIR, or --bundle DIR with whom to believe")
    if bundle is None and (root or fingerprint):
        raise click.UsageError("--root and --fingerprint judge a --bundle")
    with _open_source(bundle, site, root, fingerprint) as source:
        done = push_parcel(
            *(source, plan_parcel(source, name, platform, signatures=not without_signatures)),
            *(reference, os.environ),
            progress_for(json=as_json),
            plain_http=plain_http,
            mount_from=mount_from,
        )
    if as_json:
        emit(_document(done))
    else:
        _show(done)


@contextmanager
def _open_source(
    bundle: Path | None, site: Path | None, root: Path | None, fingerprint: str | None
) -> Iterator[Source]:
    if bundle is None:
        assert site is not None  # usage was judged before
        yield SiteSource(Site(site))
        return
    trusted = trusted_root(site, root, fingerprint)
    memory = (load_memory(Site(site)) if site else Memory()).following(trusted)
    recipient = load_recipient(Site(site)) if site else None
    now = memory.clock(datetime.now(UTC).replace(microsecond=0))
    with Media(bundle) as media:
        trusted = newest(trusted, carried_roots(media, trusted))
        signed = open_signed(media, trusted, now, memory.accepted, recipient)
        index, findings = read_index(media, signed)
        refuse(findings, str(bundle))
        assert index is not None  # else `findings` named it
        yield BundleSource(media, signed, read_contents(media, signed, index))


def _show(done: Pushed) -> None:
    click.echo(printable(f"{done.reference}"))
    click.echo(f"  sha256:{done.digest}, as it was signed; the registry was asked")
    mounted = f", {done.mounted} mounted" if done.mounted else ""
    click.echo(
        f"  {amount(done.sent, 'blob')} sent, {human_bytes(done.sent_bytes)};"
        f" there already: {done.present}{mounted}"
    )
    for one in done.signatures:
        where = f"under the tag {one.tag}" if one.tag else "as a referrer of the image"
        said = f"not there: {one.kept_out}" if one.kept_out else f"there too, {where}; not judged"
        click.echo(printable(f"  signature sha256:{one.digest}: {said}"))
    if done.replaced:
        click.echo(f"  the tag named sha256:{done.replaced} before")


def _document(done: Pushed) -> dict[str, object]:
    return {
        "reference": str(done.reference),
        "digest": f"sha256:{done.digest}",
        "sent": {"blobs": done.sent, "bytes": done.sent_bytes},
        "present": done.present,
        "mounted": done.mounted,
        "replaced": f"sha256:{done.replaced}" if done.replaced else None,
        "signatures": [
            {"digest": f"sha256:{one.digest}", "tag": one.tag or None, "kept_out": one.kept_out or None}
            for one in done.signatures
        ],
    }
