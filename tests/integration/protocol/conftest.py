"""A service, or two replicas of it, on a real database whose clock stands still."""

from collections.abc import Generator
from pathlib import Path

import pytest

from service.storage import engine
from service.storage.engine import Database
from tests.support.contexts import a_context
from tests.support.lanes import Shortly, shortly
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
def short(service: Service) -> Generator[Shortly]:
    """The same service by its short ways."""
    with shortly(service) as made:
        yield made


@pytest.fixture(params=["whole way", "short way"])
def either(service: Service, request: pytest.FixtureRequest) -> Generator[Service]:
    """The service by one of its ways."""
    if request.param == "whole way":
        yield service
    else:
        with shortly(service) as made:
            yield made
