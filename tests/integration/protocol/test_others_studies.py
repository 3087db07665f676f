"""A database that others use too: their studies stay Optuna's own matter, and tables that are not Optuna's are refused."""

import math
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import optuna
import psycopg2.errors
import pytest
from optuna.storages import RDBStorage
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from service.storage import engine, schema
from service.storage.engine import Database
from service.storage.foreign import DatabaseRefused
from service.use_cases import studies
from tests.support.documents import a_document
from tests.support.optuna_twin import storage_on
from tests.support.protocol import Service
from tests.support.until import until
from trimtab.contract.problems import StudyExists
from trimtab.contract.studies import StudyDocument

WAITING_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
)
VALUES = [math.inf, -math.inf, 0.5]


@pytest.fixture
def storage(database_url: str) -> Generator[RDBStorage]:
    """Optuna's storage on a database that is ours too."""
    opened = storage_on(database_url)
    yield opened
    opened.engine.dispose()


def others_study(storage: RDBStorage) -> optuna.Study:
    """A study of others, whose trials have the values `VALUES`."""
    study = optuna.create_study(storage=storage, study_name="theirs")
    for value in VALUES:
        study.tell(study.ask(), value)
    return study


def id_of(study: optuna.Study) -> int:
    return study._study_id  # pyright: ignore[reportPrivateUsage]  # Optuna tells it nowhere else


def values(study: optuna.Study) -> list[float | None]:
    return [trial.value for trial in study.get_trials()]


def insert(connection: Connection, study_id: int, number: int) -> None:
    connection.execute(
        text(
            "INSERT INTO public.trials (study_id, number, state) VALUES (:id, :number, 'WAITING')"
        ),
        {"id": study_id, "number": number},
    )


def test_a_study_of_others_keeps_values_that_are_not_finite(storage: RDBStorage) -> None:
    assert values(others_study(storage)) == VALUES


@pytest.mark.parametrize("value", VALUES[:2])
def test_a_trial_of_ours_has_no_value_that_is_not_finite(
    service: Service, storage: RDBStorage, value: float
) -> None:
    service.study()
    service.lease()
    study = optuna.load_study(study_name="digits", storage=storage)
    study.tell(0, value)
    assert service.rows("SELECT 1 AS one FROM public.trial_values") == []
    with pytest.raises(IntegrityError) as refused, service.context.database.statements() as on:
        on.execute(
            text("""INSERT INTO public.trial_values (trial_id, objective, value, value_type)
                    SELECT trial_id, 0, 'NaN', 'FINITE' FROM trimtab.trials""")
        )
    assert isinstance(refused.value.orig, psycopg2.errors.CheckViolation)


def test_two_trials_of_one_number_are_refused_in_our_studies_alone(
    service: Service, storage: RDBStorage, database: Database
) -> None:
    service.study()
    ours = service.value("SELECT study_id FROM trimtab.studies")
    theirs = id_of(others_study(storage))
    with database.statements() as connection:
        insert(connection, theirs, 1)
        insert(connection, ours, 1)
        with pytest.raises(IntegrityError) as refused:
            insert(connection, ours, 1)
        with pytest.raises(IntegrityError):
            connection.execute(
                text("UPDATE public.trials SET study_id = :ours WHERE study_id = :theirs"),
                {"ours": ours, "theirs": theirs},
            )
    assert isinstance(refused.value.orig, psycopg2.errors.UniqueViolation)
    assert refused.value.orig.diag.constraint_name == "trimtab_trial_number"
    numbers = "SELECT number FROM public.trials WHERE study_id = %s ORDER BY number"
    assert [row.number for row in service.rows(numbers % theirs)] == [0, 1, 1, 2]
    assert [row.number for row in service.rows(numbers % ours)] == [1]


def test_of_two_that_number_a_trial_of_ours_at_once_the_second_is_refused(
    service: Service, database: Database
) -> None:
    service.study()
    ours = service.value("SELECT study_id FROM trimtab.studies")

    def second() -> None:
        with database.statements() as connection:
            insert(connection, ours, 0)

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as connection:
            insert(connection, ours, 0)
            waiting = pool.submit(second)
            until(lambda: waiting.done() or service.value(WAITING_FOR_A_LOCK) > 0)
        error = waiting.exception(30)
    assert isinstance(error, IntegrityError)


def test_who_has_no_right_to_our_tables_keeps_studies_of_their_own(
    storage: RDBStorage, database: Database
) -> None:
    with database.transaction() as connection:
        connection.execute(
            text("""
                CREATE ROLE guest; GRANT ALL ON ALL TABLES IN SCHEMA public TO guest;
                GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO guest;
                SET LOCAL ROLE guest;
                INSERT INTO public.studies (study_name) VALUES ('theirs');
                INSERT INTO public.trials (study_id, number, state) SELECT study_id, 0, 'COMPLETE' FROM public.studies;
                INSERT INTO public.trial_values (trial_id, objective, value_type)
                SELECT trial_id, 0, 'INF_POS' FROM public.trials""")
        )
        connection.rollback()


def test_a_database_with_studies_of_others_becomes_ours_too_and_they_keep_all_they_hold(
    empty_database: str,
) -> None:
    theirs = storage_on(empty_database)
    study = others_study(theirs)
    database = engine.connect(empty_database)
    with database.transaction() as connection:
        insert(connection, id_of(study), 2)
        before = everything(connection)
    schema.migrate(database)
    with database.transaction() as connection:
        assert everything(connection) == before
    study.tell(study.ask(), math.inf)
    assert values(study).count(math.inf) == 2
    theirs.engine.dispose()
    database.dispose()


def everything(connection: Connection) -> list[list[tuple[object, ...]]]:
    """The rows of trials and their values, in an order of their own."""
    return [
        [
            tuple(row)
            for row in connection.execute(text(f"SELECT * FROM public.{table} ORDER BY 1"))
        ]
        for table in ("trials", "trial_values")
    ]


@pytest.mark.parametrize(
    ("made_by", "told"),
    [
        (
            "CREATE TABLE public.alembic_version (version_num text); INSERT INTO public.alembic_version VALUES ('3f2a')",
            r"public\.alembic_version \(at 3f2a\) that is another tool's",
        ),
        ("CREATE TABLE public.studies (id int)", r"public\.studies that is another tool's"),
        ("CREATE SCHEMA trimtab", "schema named trimtab that is another tool's"),
    ],
)
def test_a_database_of_another_tool_is_refused_before_anything_is_created(
    empty_database: str, made_by: str, told: str
) -> None:
    database = engine.connect(empty_database)
    tables = text("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    with database.statements() as connection:
        connection.execute(text(made_by))
        before = connection.execute(tables).scalar_one()
    with pytest.raises(DatabaseRefused, match=told):
        schema.migrate(database)
    with database.statements() as connection:
        assert connection.execute(tables).scalar_one() == before
    database.dispose()


@pytest.mark.parametrize(
    ("revision", "told"), [("v3.0.0.d", "older Optuna .at v3.0.0.d."), ("v9.0.0.a", "newer")]
)
def test_a_database_of_another_optuna_is_refused_by_its_revision(
    database: Database, revision: str, told: str
) -> None:
    with database.statements() as connection:
        connection.execute(
            text("UPDATE public.alembic_version SET version_num = :at"), {"at": revision}
        )
    with pytest.raises(DatabaseRefused, match=told):
        schema.migrate(database)


def test_a_name_that_a_study_of_others_has_is_told_as_theirs(
    service: Service, storage: RDBStorage
) -> None:
    others_study(storage)
    document = StudyDocument.model_validate(a_document(name="theirs"))
    with pytest.raises(StudyExists, match="taken by a study that trimtab did not make"):
        studies.create(service.context, document, None)
