"""A web server, and a store of what is fetched from it."""

from collections.abc import Callable, Generator
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.support.data_server import DataServer, serving
from worker.fetching import origins
from worker.fetching.allowed import Allowed
from worker.fetching.store import Store


@pytest.fixture
def web() -> Generator[DataServer]:
    """Has no data yet."""
    with serving() as web:
        yield web


@pytest.fixture
def a_store(web: DataServer, tmp_path: Path) -> Callable[..., Store]:
    """Make a store, which a new process would; all have the same folder."""

    def make(*prefixes: str, limit_bytes: int | None = None) -> Store:
        allowed = Allowed(prefixes or (web.url,))
        return Store(tmp_path / "cache", limit_bytes, allowed, origins.of(allowed, Mock()))

    return make
