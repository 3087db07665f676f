"""A service of the test's own, and a folder for an embedded Postgres."""

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from service.embedded_processes import clear_away
from tests.support.app import Running, a_service
from trimtab.client import Client


@pytest.fixture
def state_root() -> Iterator[Path]:
    """A folder that every user can walk to; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="trimtab-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        clear_away(Path(folder, "postgres", "data"))


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Generator[Running]:
    """A real service on a database of its own."""
    with a_service(database_url, tmp_path / "artifacts") as service:
        yield service


@pytest.fixture
def client(service: Running) -> Generator[Client]:
    """Speaks to it."""
    with Client(service.url) as client:
        yield client
