"""Services for tests of the REST routes: one that a whole module shares, and fresh ones."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.support.app import Running, a_service


@pytest.fixture(scope="module")
def shared(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Generator[Running]:
    """A service that the tests of one module share; each makes studies and workers of its own."""
    with a_service(new_database(), tmp_path_factory.mktemp("artifacts")) as running:
        yield running


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Generator[Running]:
    """A service of the test's own."""
    with a_service(database_url, tmp_path / "artifacts") as running:
        yield running
