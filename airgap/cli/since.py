"""What an audited bundle or site has that an earlier one had not, for `audit --since`."""

from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from airgap.audit.since import SinceFact, since
from airgap.cli.diff import compare_sides
from airgap.cli.sides import OpenSide, open_side
from airgap.layout import ENVELOPE_FILE, read_envelope
from airgap.progress import Progress
from airgap.trust.decide import survey


def changes_since(earlier: Path, subject: Path, progress: Progress) -> SinceFact:
    """Compare the two as `airgap diff` does. Raises InputError, IntegrityError or HostError."""
    with ExitStack() as opened:
        old, new = (opened.enter_context(open_side(path)) for path in (earlier, subject))
        return since(compare_sides(old, new, progress, compare_bytes=False), _made(old))


def _made(side: OpenSide) -> datetime | None:
    """When a bundle was made, as it states; a lock and a site do not say."""
    if side.media is None or len(side.side.bundles) != 1 or not (side.media.root / ENVELOPE_FILE).exists():
        return None
    return survey(read_envelope(side.media)).statement.created_at
