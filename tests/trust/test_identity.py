"""A site's name and channels come back as they were set, and no bytes in their place break the reader."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import InputError, TrustError
from airgap.isolated.identity import load_recipient, make_recipient, save_recipient
from airgap.isolated.site import Site
from airgap.trust.decide import Recipient

from .statements import names


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("identity"))
    made.trust.mkdir()
    return made


@given(st.just("") | names, st.lists(names, max_size=3, unique=True).map(tuple))
@settings(max_examples=30, deadline=None)
def test_round_trip(site: Site, name: str, channels: tuple[str, ...]) -> None:
    recipient = make_recipient(name, channels)
    save_recipient(site, recipient)
    assert load_recipient(site) == recipient


@given(st.binary(max_size=30), st.integers(0), st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_no_bytes_break_the_reader(site: Site, junk: bytes, start: int, length: int) -> None:
    save_recipient(site, Recipient("site-a", ("gpu",)))
    path = site.trust / "site.json"
    data = path.read_bytes()
    start %= len(data)
    path.write_bytes(data[:start] + junk + data[start + length :])
    with suppress(TrustError):
        assert isinstance(load_recipient(site), Recipient)


@pytest.mark.parametrize(
    ("name", "channels"), [("Site A", ()), ("../a", ()), ("a", ("",)), ("a", ("b", "b")), ("\x1b[2J", ())]
)
def test_what_is_no_name_is_refused(name: str, channels: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        make_recipient(name, channels)


def test_a_site_that_was_never_named_has_no_name(tmp_path: Path) -> None:
    assert load_recipient(Site(tmp_path)) == Recipient()
