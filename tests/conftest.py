"""Fixtures that need real parts: one embedded Postgres per test process, one migrated database per test."""

import itertools
import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import text

from service import embedded
from service.storage import engine, schema

settings.register_profile(
    "default",
    deadline=None,
    # There, a red run is to be about the change, and a mutant is to meet the examples that its test passed with.
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("default")

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of an embedded Postgres, without fsync: what tests lose in a power cut is only their time."""
    root: Path = tmp_path_factory.mktemp("pg")
    with embedded.running(root, settings={"fsync": "off", "full_page_writes": "off"}) as server:
        yield server.url


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """The name of a migrated database that others are copied from."""
    admin = engine.connect(postgres)
    with admin.statements() as connection:
        connection.execute(text("CREATE DATABASE template_trimtab"))
    migrated = engine.connect(_with_database(postgres, "template_trimtab"))
    schema.migrate(migrated)
    migrated.dispose()
    admin.dispose()
    return "template_trimtab"


@pytest.fixture(scope="session")
def new_database(postgres: str, template: str) -> Callable[[], str]:
    """Make a fresh migrated database and return its URL."""

    def make() -> str:
        name = f"test_{next(_numbers)}"
        admin = engine.connect(postgres)
        with admin.statements() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        admin.dispose()
        return _with_database(postgres, name)

    return make


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """A migrated database of the test's own."""
    return new_database()


@pytest.fixture
def database(database_url: str) -> Generator[engine.Database]:
    """A pool on a migrated database of the test's own."""
    opened = engine.connect(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def empty_database(postgres: str) -> str:
    """The URL of a database that nobody has migrated."""
    name = f"empty_{next(_numbers)}"
    admin = engine.connect(postgres)
    with admin.statements() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return _with_database(postgres, name)


def _with_database(url: str, name: str) -> str:
    return engine.normalised(url).set(database=name).render_as_string(hide_password=False)
