"""Points in time in signed documents: UTC, whole seconds, one spelling (RFC 3339, `2026-11-23T15:04:05Z`)."""

import re
from datetime import UTC, datetime, timedelta

from airgap.errors import InputError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_instant(text: str) -> datetime:
    """Raises InputError unless `text` is `YYYY-MM-DDThh:mm:ssZ` and such a second exists."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    raise InputError(f"expected a time such as 2026-11-23T15:04:05Z, found {text[:40]!r}")


def render_instant(when: datetime) -> str:
    """The inverse of `parse_instant`, for a time that `instant_problem` accepts."""
    return when.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def instant_problem(when: datetime) -> str:
    """Why `when` cannot be written in a signed document; '' when it can."""
    if when.utcoffset() != timedelta(0):
        return "expected a time in UTC"
    return "expected whole seconds" if when.microsecond else ""
