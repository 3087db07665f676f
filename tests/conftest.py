"""Fixtures that need real parts: one embedded Postgres per test process, one migrated database per test."""

import hashlib
import itertools
import os
from collections.abc import Callable, Generator
from pathlib import Path

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import text

from service import embedded
from service.storage import engine, schema
from tests.support.kept_postgres import NO_SYNC

KEPT_POSTGRES_GONE = 91
"""The exit status of pytest when the server that it was to use does not answer."""
_MIGRATES = ("schema", "foreign", "engine", "gate")
settings.register_profile(
    "default",
    deadline=None,
    # There, a red run is to be about the change, and a mutant is to meet the examples that its test passed with.
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# Nobody reads the example that a mutant fails with: it need not be the smallest one.
settings.register_profile(
    "mutants", settings.get_profile("default"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutants" if "TRIMTAB_TEST_PATIENCE_S" in os.environ else "default")

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of an embedded Postgres: of this process alone, or of one test process after the other."""
    kept = os.environ.get("TRIMTAB_TEST_POSTGRES")
    if kept is not None:
        _forget_others(kept)
        yield kept
        return
    root: Path = tmp_path_factory.mktemp("pg")
    with embedded.running(root, settings=NO_SYNC) as server:
        yield server.url


def _forget_others(url: str) -> None:
    """Drop what the test processes before this one have left on a kept server, where no other runs now."""
    try:
        connection = psycopg2.connect(url.replace("+psycopg2", ""))
    except psycopg2.OperationalError as error:
        # Never mistaken for a test that failed.
        pytest.exit(f"the kept Postgres is gone: {error}", returncode=KEPT_POSTGRES_GONE)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            r"SELECT datname FROM pg_database WHERE datname ~ '^(test|empty)_|_new$'"
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    connection.close()


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """The name of a migrated database that others are copied from."""
    name = f"template_{_schema_digest()}"
    admin = engine.connect(postgres)
    with admin.statements() as connection:
        known = text("SELECT count(*) FROM pg_database WHERE datname = :name")
        if not connection.execute(known, {"name": name}).scalar_one():
            connection.execute(text(f"CREATE DATABASE {name}_new"))
            migrated = engine.connect(_with_database(postgres, f"{name}_new"))
            schema.migrate(migrated)
            migrated.dispose()
            connection.execute(text(f"ALTER DATABASE {name}_new RENAME TO {name}"))
    admin.dispose()
    return name


def _schema_digest() -> str:
    """Tell a schema by all that makes it: a template that is kept must be this code's own."""
    root = Path(schema.__file__).parents[2]
    files = [*root.glob("migrations/**/*.py"), *root.glob("migrations/**/*.sql")]
    files += [root / "service" / "storage" / f"{name}.py" for name in _MIGRATES]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


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
