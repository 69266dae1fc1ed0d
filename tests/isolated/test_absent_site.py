"""A site whose disk is not mounted, or whose name is misspelt, is not one that holds nothing by that name."""

from pathlib import Path

import pytest

from airgap.cli import run
from airgap.isolated.site import Site
from tests import bundles

VERBS = {
    "export": ("export", "hello", "-o", "hello.tar"),
    "load": ("load", "hello"),
    "push": ("push", "hello", "registry.example/team/hello:1"),
}
"""Those that need no root, so that nothing else says so before."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "that directory does not exist"), ("empty", "that directory is empty")]
)
def test_the_directory_is_said_to_be_what_it_is(
    verb: str, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run([*VERBS[verb], "--site", str(tmp_path / name)]) == 3
    error = capsys.readouterr().err
    assert f"{tmp_path / name}: nothing is installed" in error
    assert f"{said}: see that its disk is mounted and its name right" in error
    assert f"airgap install BUNDLE --site {tmp_path / name}" in error


@pytest.mark.parametrize("verb", VERBS)
def test_a_site_that_is_pinned_only_is_asked_to_install(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(tmp_path / "site")
    Site(site).prepare()
    assert run([*VERBS[verb], "--site", str(site)]) == 3
    error = capsys.readouterr().err
    assert f"{site}: nothing is installed" in error
    assert "that directory" not in error
