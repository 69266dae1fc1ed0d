"""Who a site is: `trust/site.json`, its name and the channels it takes, as its operator set them.

A bundle that names an audience is accepted by a site of one of those names; a site that names channels
accepts bundles of those.
"""

import re

from airgap.decode import Fields, canonical_json, read_document
from airgap.errors import InputError, TrustError
from airgap.isolated.site import Site
from airgap.model import NAME_PATTERN
from airgap.pinned import read_trust
from airgap.store import write_durably
from airgap.trust.decide import Recipient

FILE = "site.json"
FORMAT = 1
MAX_IDENTITY = 64 * 1024
"""Bytes."""


def make_recipient(name: str, channels: tuple[str, ...]) -> Recipient:
    """Raises InputError for a name that is none, or a channel named twice."""
    for text in (*((name,) if name else ()), *channels):
        if not re.fullmatch(NAME_PATTERN, text):
            raise InputError(f"expected a name such as site-a, found {text[:80]!r}")
    if len(set(channels)) != len(channels):
        raise InputError("a channel is named twice")
    return Recipient(name, channels)


def load_recipient(site: Site) -> Recipient:
    """Nameless, for all channels, where nothing was set. Raises TrustError when it is damaged or a link."""
    data = read_trust(site.root, FILE, max_bytes=MAX_IDENTITY)
    if data is None:
        return Recipient()
    try:
        return read_document(data, str(site.trust / FILE), _recipient)
    except InputError as error:
        raise TrustError(
            error.message, remedy="delete it and name the site again: airgap trust pin … --site-name NAME"
        ) from None


def save_recipient(site: Site, recipient: Recipient) -> None:
    """Raises HostError."""
    document = {"format": FORMAT, "name": recipient.name, "channels": list(recipient.channels)}
    write_durably(site.trust / FILE, canonical_json(document))


def _recipient(fields: Fields) -> Recipient:
    if fields.integer("format") != FORMAT:
        fields.problem("format", f"this airgap reads site format {FORMAT}")
    name, channels = fields.text("name"), fields.texts("channels", default=None)
    try:
        return make_recipient(name, channels)
    except InputError as error:
        fields.problem("", error.message)
        return Recipient()
