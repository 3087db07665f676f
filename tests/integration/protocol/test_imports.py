"""A study of plain Optuna comes in as history, from whatever its storage is, and the storage stays as it is."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import text

from service import optuna_source
from service.optuna_source import Refused, Wanted
from service.use_cases import imports, studies
from tests.integration.protocol.test_transfer import AUTO, SPACE, begun, document, told
from tests.support.optuna_twin import storage_on
from tests.support.protocol import Service
from trimtab.contract.imports import ImportReport, StudyImport
from trimtab.contract.problems import ImportRefused, Invalid, StudyExists, StudyNotFound

VALUES = [0.5, 0.9, 0.7]
RATES = [1e-4, 1e-3, 1e-2]


def filled(storage: Any, name: str = "theirs") -> optuna.Study:
    """A study with three complete trials, and one of each other state."""
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    for value, rate in zip(VALUES, RATES, strict=True):
        study.enqueue_trial({"lr": rate})
        trial = study.ask()
        trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        trial.suggest_categorical("mood", ["good", "bad"])
        trial.report(value / 2, 0)
        study.tell(trial, value)
    for state in (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL):
        study.tell(study.ask(), state=state)
    study.ask()  # nobody will ever end it
    study.enqueue_trial({"lr": 1e-3})
    return study


def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    storage = RDBStorage(sqlite(tmp_path))
    filled(storage)
    storage.engine.dispose()
    return tmp_path / "study.db"


def read(storage: object, study: str = "theirs", **more: Any) -> StudyImport:
    renamed = more.pop("renamed", {"lr": "learning_rate"})
    return optuna_source.read(
        Wanted(storage=str(storage), study=study, renamed=renamed, **more)
    )


def brought_in(service: Service, found: StudyImport, key: str | None = None) -> ImportReport:
    return imports.bring_in(service.context, found, key)


def refusal(*arguments: Any, **more: Any) -> str:
    with pytest.raises(Refused) as caught:
        read(*arguments, **more)
    return str(caught.value)


def test_all_that_has_ended_comes_in_and_the_source_stays_byte_for_byte(
    service: Service, file: Path, database_url: str
) -> None:
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    report = brought_in(service, read(f"sqlite:///{file}"))
    assert report == ImportReport(
        name="theirs",
        source="theirs",
        direction="maximize",
        complete=3,
        pruned=1,
        failed=1,
        zombies=1,
        left_out=1,
        usable=3,
        names=("learning_rate",),
        strange_names=("mood",),
        changed_names=(),
    )
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert [path.name for path in file.parent.glob("study.db*")] == ["study.db"]
    seen = storage_on(database_url)
    study = optuna.load_study(study_name="theirs", storage=seen)
    seen.engine.dispose()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3 + [
        "PRUNED",
        "FAIL",
        "FAIL",
    ]
    assert study.best_params["learning_rate"] == pytest.approx(1e-3)
    assert study.best_trial.intermediate_values == {0: 0.45}
    assert study.trials[5].user_attrs == {"zombie": True}


def test_a_journal_and_a_database_are_read_alike(
    tmp_path: Path, file: Path, database_url: str, service: Service
) -> None:
    journal = tmp_path / "journal.log"
    filled(JournalStorage(JournalFileBackend(str(journal))))
    postgres = storage_on(database_url)
    filled(postgres)
    postgres.engine.dispose()
    url = postgres.url.replace("postgresql+psycopg2", "postgresql")

    def shape(found: StudyImport) -> list[Any]:
        return [(one.number, one.state, one.value, one.curve) for one in found.trials]

    assert shape(read(file)) == shape(read(journal)) == shape(read(url))


def test_a_trial_with_a_heartbeat_is_no_zombie(tmp_path: Path) -> None:
    storage = RDBStorage(sqlite(tmp_path))
    study = filled(storage)
    running = study.trials[5]._trial_id  # pyright: ignore[reportPrivateUsage] - Optuna tells it nowhere else
    with storage.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (:id, CURRENT_TIMESTAMP)"
            ),
            {"id": running},
        )
    storage.engine.dispose()
    found = read(sqlite(tmp_path))
    assert [one.state for one in found.trials].count("zombie") == 0
    assert found.left_out == 2


def test_a_study_begins_with_the_best_of_an_imported_one(service: Service, file: Path) -> None:
    brought_in(service, read(file, name="old"))
    service.study(
        "by-name",
        probed=False,
        space=SPACE,
        budget={"trials": 30},
        search=AUTO | {"transfer": ["old"]},
    )
    begun(service)
    assert told(service, "by-name") == [("old", 2)]
    starts = document(service, "by-name").starts or ()
    assert [one.values["learning_rate"] for one in starts[1:]] == [
        pytest.approx(1e-3),
        pytest.approx(1e-2),
    ]
    sources = document(service, "by-name").transferred or ()
    assert [set(one.parts.values()) for one in sources] == [{None}]
    service.study("of-itself", probed=False, space=SPACE, budget={"trials": 30}, search=AUTO)
    assert document(service, "of-itself").awaits_transfer


def test_what_no_recipe_has_gives_nothing(service: Service, file: Path) -> None:
    brought_in(service, read(file, renamed={}))
    service.study("of-itself", probed=False, space=SPACE, search=AUTO)
    assert document(service, "of-itself").transferred == ()
    with pytest.raises(Invalid) as caught:
        service.study(
            "by-name", probed=False, space=SPACE, search=AUTO | {"transfer": ["theirs"]}
        )
    assert [one.code for one in caught.value.errors] == ["nothing_completed"]


def test_an_imported_study_is_deleted_like_others_and_keeps_its_name_until_then(
    service: Service, file: Path
) -> None:
    found = read(file)
    brought_in(service, found)
    with pytest.raises(StudyExists, match="--as"):
        brought_in(service, found)
    with pytest.raises(StudyExists):
        service.study("theirs")
    studies.delete(service.context, "theirs")
    assert service.value("SELECT count(*) FROM public.trials") == 0
    brought_in(service, found, "a key")
    assert brought_in(service, found, "a key").complete == 3
    with pytest.raises(StudyNotFound):
        studies.read(service.context, "theirs")


def test_storages_that_cannot_be_read_are_told_from_one_another(
    tmp_path: Path, file: Path
) -> None:
    assert "no study named 'thiers'; there is 'theirs'" in refusal(file, "thiers")
    assert "There is no file" in refusal(tmp_path / "none.db")
    assert "nothing was created" in refusal(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()
    assert "cannot be read" in refusal("postgresql://nobody@127.0.0.1:9/none")
    assert "to rename; it has lr, mood" in refusal(file, renamed={"rate": "learning_rate"})
    assert "give another one with --as" in refusal(file, name="Not A Name")
    (tmp_path / "text").write_text("no journal\nat all\n")
    assert "neither SQLite nor a journal" in refusal(tmp_path / "text")


def _edited(tmp_path: Path, *statements: str) -> str:
    storage = RDBStorage(sqlite(tmp_path))
    with storage.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    storage.engine.dispose()
    return sqlite(tmp_path)


def test_an_older_schema_is_to_be_upgraded_by_its_owner(tmp_path: Path, file: Path) -> None:
    url = _edited(tmp_path, "UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    assert "optuna storage upgrade" in refusal(url)


def test_a_database_of_something_else_is_no_storage(tmp_path: Path, file: Path) -> None:
    assert "no studies of Optuna" in refusal(_edited(tmp_path, "DROP TABLE studies"))


def test_a_study_of_several_objectives_is_refused(tmp_path: Path) -> None:
    storage = RDBStorage(sqlite(tmp_path))
    optuna.create_study(storage=storage, study_name="two", directions=["minimize", "maximize"])
    storage.engine.dispose()
    assert "has 2 objectives" in refusal(sqlite(tmp_path), "two", renamed={})


def journal_of(tmp_path: Path, *suggest: Callable[[optuna.Trial], Any]) -> Path:
    path = tmp_path / "dynamic.log"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))), study_name="theirs"
    )
    for number, each in enumerate(suggest):
        trial = study.ask()
        each(trial)
        study.tell(trial, float(number))
    return path


def test_a_range_that_changed_midway_is_told_and_its_values_stay(
    service: Service, tmp_path: Path
) -> None:
    path = journal_of(
        tmp_path,
        lambda trial: trial.suggest_float("momentum", 0.5, 0.6),
        lambda trial: trial.suggest_float("momentum", 0.8, 0.9),
    )
    report = brought_in(service, read(path, renamed={}))
    assert (report.changed_names, report.usable) == (("momentum",), 2)


def test_choices_that_changed_midway_are_refused(service: Service, file: Path) -> None:
    found = read(file)
    place = found.trials[0].params["mood"][0]
    other = found.distributions[place].replace("bad", "worse")
    trial = found.trials[0]
    changed = trial.model_copy(
        update={"params": {**trial.params, "mood": (len(found.distributions), 0.0)}}
    )
    dynamic = found.model_copy(
        update={
            "distributions": (*found.distributions, other),
            "trials": (changed, *found.trials[1:]),
        }
    )
    with pytest.raises(ImportRefused, match="mood changed while it ran"):
        brought_in(service, dynamic)


def test_what_optuna_could_not_read_is_not_stored(service: Service, file: Path) -> None:
    found = read(file)
    strange = found.model_copy(update={"distributions": ("{}",) * len(found.distributions)})
    with pytest.raises(ImportRefused, match="none of Optuna's"):
        brought_in(service, strange)
    twice = found.model_copy(update={"trials": (found.trials[0],) * 2})
    with pytest.raises(ImportRefused, match="two trials have one number"):
        brought_in(service, twice)
    trial = found.trials[0].model_copy(update={"curve": ((0, 0.5), (0, 0.6))})
    with pytest.raises(ImportRefused, match="two values of one step"):
        brought_in(service, found.model_copy(update={"trials": (trial,)}))
