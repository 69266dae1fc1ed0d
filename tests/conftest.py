"""Options of the suite. `--slow` adds tests that download or import large packages (minutes)."""

import pytest
from hypothesis import settings

# Machines that are shared are slow at times: what must be quick is measured by tests of its own.
settings.register_profile("airgap", deadline=None)
settings.load_profile("airgap")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs with --slow only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: run scripts/test --slow"))
