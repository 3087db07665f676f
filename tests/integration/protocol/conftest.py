"""A service on a real database whose clock stands still."""

from pathlib import Path

import pytest

from service.storage.engine import Database
from tests.support.protocol import Service


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Service:
    """The use cases, without HTTP."""
    return Service.on(database, tmp_path)
