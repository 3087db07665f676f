"""A service, or two replicas of it, on a real database whose clock stands still."""

from collections.abc import Generator
from pathlib import Path

import pytest

from service.storage import engine
from service.storage.engine import Database
from tests.support.contexts import a_context
from tests.support.fast_path import FastService, on_fast_path
from tests.support.protocol import Service
from tests.support.races import Replicas


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Service:
    """The use cases, without HTTP."""
    return Service.on(database, tmp_path)


@pytest.fixture
def replicas(service: Service, database_url: str, tmp_path: Path) -> Generator[Replicas]:
    second = engine.connect(database_url)
    yield Replicas(service, Service(a_context(second, tmp_path), service.clock))
    second.dispose()


@pytest.fixture
def fast(service: Service) -> Generator[FastService]:
    """The same service on the fast path."""
    with on_fast_path(service) as made:
        yield made


@pytest.fixture(params=["full path", "fast path"])
def either(service: Service, request: pytest.FixtureRequest) -> Generator[Service]:
    """The service by one of its paths."""
    if request.param == "full path":
        yield service
    else:
        with on_fast_path(service) as made:
            yield made
