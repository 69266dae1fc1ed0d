"""What most tests of the isolated side begin with; a module that needs another names its own."""

import shutil
from pathlib import Path

import pytest

from tests import bundles


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Pins the test's root, and has nothing installed."""
    return bundles.pin(tmp_path / "site")


@pytest.fixture
def volumes(made: Path, tmp_path: Path) -> list[Path]:
    """A copy to damage of the `volumes` that the module's own `made` cut once."""
    shutil.copytree(made / "volumes", tmp_path / "volumes")
    return sorted((tmp_path / "volumes").iterdir())
