"""What `build` and `sign` have in common: whose key may sign, and who is still missing."""

from collections.abc import Sequence
from pathlib import Path

import click

from airgap.cli.terminal import printable
from airgap.decode import read_capped
from airgap.errors import InputError, TrustError
from airgap.keyfiles import PassphraseSource, load_secret
from airgap.layout import root_name
from airgap.trust.decide import Surveyed
from airgap.trust.keys import Signer
from airgap.trust.root import MAX_ROOT, Root, load_pinned, verify_next


def read_root(path: Path) -> Root:
    """A root file on the connected side; it must carry its own threshold. Raises InputError, TrustError."""
    return load_pinned(read_capped(path, max_bytes=MAX_ROOT), str(path))


def roots_beside(path: Path, root: Root) -> dict[int, bytes]:
    """What a bundle carries of roots: version 2 up to `root`, as far back as they lie beside its file.

    Version 1 is what sites pin, so it need not travel. Raises InputError or TrustError for one that does
    not lead to the next.
    """
    carried = {root.version: read_capped(path, max_bytes=MAX_ROOT)} if root.version > 1 else {}
    following = root
    for version in range(root.version - 1, 0, -1):
        beside = path.with_name(root_name(version))
        if not beside.exists():
            break
        data = read_capped(beside, max_bytes=MAX_ROOT)
        before = load_pinned(data, str(beside))
        if before.version != version:
            raise InputError(f"{beside}: expected root version {version}, found {before.version}")
        verify_next(before, carried[following.version], str(path.with_name(root_name(following.version))))
        following = before
        if version > 1:
            carried[version] = data
    return dict(sorted(carried.items()))


def load_signers(paths: Sequence[Path], root: Root, source: PassphraseSource) -> list[Signer]:
    """The keys' secrets. Raises TrustError for a key whose holder may not sign bundles under this root."""
    return [_release_signer(path, root, source) for path in paths]


def _release_signer(path: Path, root: Root, source: PassphraseSource) -> Signer:
    secret = load_secret(path, source)
    if secret.holder not in root.holders_of(root.release):
        raise TrustError(
            f"{path}: {secret.holder.name}, with these keys, may not sign bundles under this root",
            remedy=f"its holders are {', '.join(sorted(root.release.holders))}",
        )
    return secret


def signature_state(surveyed: Surveyed) -> dict[str, object]:
    """Who signed and who is missing, for `--json`; `surveyed` was made with a root."""
    assert surveyed.tally is not None
    return {
        "signers": list(surveyed.tally.signers),
        "missing": sorted((*surveyed.tally.missing, *surveyed.tally.partial)),
        "threshold": surveyed.threshold,
        "complete": surveyed.tally.met(surveyed.threshold),
    }


def show_signatures(surveyed: Surveyed, bundle: Path) -> None:
    """Who signed; and when that is not enough, what to do."""
    assert surveyed.tally is not None
    click.echo(surveyed.tally.describe(surveyed.threshold))
    if not surveyed.tally.met(surveyed.threshold):
        click.echo(f"  -> airgap sign {printable(str(bundle))} --key KEY, by each who is missing")
