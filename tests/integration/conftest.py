"""A folder for an embedded Postgres of the test's own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.embedded_processes import clear_away


@pytest.fixture
def state_root() -> Iterator[Path]:
    """A folder that every user can walk to; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="trimtab-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        clear_away(Path(folder, "postgres", "data"))
