"""The schema: migrations, and the clock that tests move."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

import migrations
from service.storage import engine, memory, schema
from service.storage.engine import Database
from service.use_cases import studies
from tests.support.contexts import a_context
from tests.support.protocol import Service
from trimtab.contract.memory import MemoryFinding


def test_the_schema_can_be_taken_down_and_put_up_again(database: Database) -> None:
    with database.transaction() as connection:
        config = schema_config(connection)
        command.downgrade(config, "base")
    with database.statements() as connection:
        left = connection.execute(
            text(
                "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'trimtab'"
            )
        ).scalar_one()
        guards = connection.execute(
            text("SELECT count(*) FROM pg_class WHERE relname LIKE 'trimtab_trial%'")
        ).scalar_one()
    assert (left, guards) == (0, 0)
    schema.migrate(database)
    schema.migrate(database)
    with database.statements() as connection:
        assert (
            connection.execute(text("SELECT count(*) FROM trimtab.studies")).scalar_one() == 0
        )


def test_findings_about_memory_outlive_the_upgrade_of_a_database_of_the_first_schema(
    database: Database,
) -> None:
    with database.transaction() as connection:
        command.downgrade(schema_config(connection), "0001")
        connection.execute(
            text(
                "INSERT INTO trimtab.memory_findings"
                " (device, backbone, image_size, precision, frozen_stages, batch_size, micro_batch_size)"
                " VALUES ('cpu', 'resnet18', 224, 'float32', 2, 32, 8)"
            )
        )
    schema.migrate(database)
    expected = MemoryFinding(
        device="cpu",
        backbone="resnet18",
        input_size=224,
        precision="float32",
        frozen_stages=2,
        batch_size=32,
        micro_batch_size=8,
    )
    smaller = expected.model_copy(update={"micro_batch_size": 4})
    with database.transaction() as connection:
        assert memory.of_backbone(connection, "resnet18") == [expected]
        memory.remember(connection, smaller)
        assert memory.of_backbone(connection, "resnet18") == [smaller]


def test_processes_that_migrate_an_empty_database_at_once_all_succeed(
    postgres: str, empty_database: str
) -> None:
    command_line = [sys.executable, "-c", MIGRATE, empty_database]
    processes = [subprocess.Popen(command_line) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_database_that_a_newer_version_migrated_is_refused(database: Database) -> None:
    with database.statements() as connection:
        connection.execute(text("UPDATE public.trimtab_version SET version_num = '9999'"))
    with pytest.raises(schema.SchemaTooNew, match="9999"):
        schema.migrate(database)


def test_the_clock_of_the_database_can_be_moved_for_one_pool(database_url: str) -> None:
    ahead = engine.connect(database_url, skew="1 hour")
    with ahead.statements() as connection:
        hours = connection.execute(
            text("SELECT extract(epoch FROM trimtab.now() - clock_timestamp()) / 3600")
        ).scalar_one()
    ahead.dispose()
    assert round(hours) == 1


MIGRATE = """
import sys
from service.storage import engine, schema
schema.migrate(engine.connect(sys.argv[1]))
"""


def schema_config(connection: Connection) -> Config:
    """Alembic's configuration as the service makes it."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    return config


def test_a_study_at_its_refits_is_evaluated_without_them_by_a_release_that_knows_none(
    service: Service,
) -> None:
    service.study(budget={"trials": 2}, finish={"refit": True})
    service.complete(service.lease(), 0.5)
    service.checkpoint(service.lease(), 3)
    database = service.context.database
    with database.transaction() as connection:
        command.downgrade(schema_config(connection), "0005")
        kinds = connection.execute(text("SELECT kind FROM trimtab.trials")).scalars().all()
    assert kinds == ["trial"]
    schema.migrate(database)
    service.sweep()
    final = service.lease()
    assert (final.kind, final.trial_number) == ("final", 0)


def test_a_study_of_a_release_whose_search_paused_nobody_goes_on_as_it_was(
    service: Service, database: Database, tmp_path: Path
) -> None:
    service.study(search={"sampler": "random", "pruner": "median"}, budget={"trials": 2})
    running = service.lease()
    service.report(running, 0.5)
    with database.transaction() as connection:
        command.downgrade(schema_config(connection), "0006")
    schema.migrate(database)
    later = Service(a_context(database, tmp_path), service.clock)
    assert later.report(running, 0.6, step=1) == "continue"
    assert later.complete(running, 0.6) == "completed"
    assert later.complete(later.lease(), 0.5) == "completed"
    study = studies.read(later.context, "digits")
    assert (study.state, study.ended_by) == ("finalising", "trials")
