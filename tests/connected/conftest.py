"""What the tests of the transfer engine start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.store import Store
from tests.servers.faults import FaultServer, fault_server


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
