"""What `build` and `sign` have in common: whose key may sign, and who is still missing."""

from collections.abc import Sequence
from pathlib import Path

import click

from airgap.cli.terminal import printable
from airgap.decode import read_capped
from airgap.errors import TrustError
from airgap.keyfiles import PassphraseSource, load_secret
from airgap.trust.decide import Surveyed
from airgap.trust.keys import Signer
from airgap.trust.root import MAX_ROOT, Root, load_pinned


def read_root(path: Path) -> Root:
    """A root file on the connected side; it must carry its own threshold. Raises InputError, TrustError."""
    return load_pinned(read_capped(path, max_bytes=MAX_ROOT), str(path))


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
