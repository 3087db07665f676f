"""`python -P -m service.optuna_source`: read one study of plain Optuna, and print it as JSON; the source stays as it is.

One JSON object comes in by standard input, a `Wanted`. What goes out is a `StudyImport`, or {"refused": why}. It runs where
the person is who has the storage at hand: the service need not reach it. Optuna's own code reads the storage, behind
connections that may only read.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.distributions import distribution_to_json
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from trimtab.contract.imports import MOST_TRIALS, ImportedTrial, StudyImport, TrialEnd
from trimtab.contract.message import Message, Name

SILENT = timedelta(minutes=10)
"""A trial that runs and has given no sign of life for so long is a zombie."""
PLAIN_ERRORS = (ImportError, ValueError, RuntimeError, AssertionError)
"""What Optuna raises about drivers, addresses, and tables of other versions."""
SQLITE_HEADER = b"SQLite format 3\x00"
ENDS: Mapping[TrialState, TrialEnd] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "zombie",
}


class Wanted(Message):
    """Which study is to be read, and what it is to be called."""

    storage: str
    study: str
    name: str | None = None
    """The name that it gets; null: its own."""
    renamed: Mapping[str, str] = {}
    """New names of hyperparameters, by their old ones."""


class Refused(Exception):
    """The study cannot be read, or is none that could be imported; the text says why and what to do."""


def read(wanted: Wanted) -> StudyImport:
    """Read a study.

    Raises:
        Refused: The storage cannot be reached or read, has no such study, or the study has several objectives.
    """
    storage = _opened(wanted.storage)
    study_id = _found(storage, wanted.study)
    directions = storage.get_study_directions(study_id)
    if len(directions) != 1:
        raise Refused(
            f"{wanted.study!r} has {len(directions)} objectives, and only a study of one can be imported."
        )
    trials = storage.get_all_trials(study_id, deepcopy=False)
    if len(trials) > MOST_TRIALS:
        raise Refused(
            f"{wanted.study!r} has {len(trials)} trials, and at most {MOST_TRIALS} can be imported: copy the best of them "
            "into a study of their own with Optuna's `Study.add_trials`, and import that."
        )
    alive = _alive(storage, [one for one in trials if one.state == TrialState.RUNNING])
    ended = [one for one in trials if one.state in ENDS and one.number not in alive]
    distributions, renamed = _distributions(ended), _renaming(wanted, ended)
    return StudyImport(
        name=_name(wanted),
        source=wanted.study,
        direction="maximize" if directions[0] == StudyDirection.MAXIMIZE else "minimize",
        distributions=tuple(distributions),
        trials=tuple(_trial(one, distributions, renamed) for one in ended),
        left_out=len(trials) - len(ended),
    )


def _opened(storage: str) -> BaseStorage:
    if "://" not in storage:
        path = Path(storage)
        if not path.is_file():
            raise Refused(
                f"There is no file {storage}. A storage is a file, or a URL such as sqlite:///study.db."
            )
        with path.open("rb") as file:
            is_sqlite = file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
        return _database(f"sqlite:///{storage}") if is_sqlite else _journal(path)
    return _database(storage)


def _journal(path: Path) -> BaseStorage:
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"{path} is neither SQLite nor a journal of Optuna: {_line(error)}"
        ) from error


def _database(url: str) -> BaseStorage:
    try:
        parsed = make_url(url)
        if parsed.drivername.startswith("sqlite"):
            path = Path(parsed.database or "")
            if not path.is_file():
                raise Refused(f"There is no file {path}: nothing was created.")
            # A database that is not there would be created, and an older one changed, if it were not opened to read.
            url = f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&uri=true"
        elif parsed.drivername in ("postgres", "postgresql"):
            # The driver that comes with us; SQLAlchemy's default is another one.
            url = parsed.set(drivername="postgresql+psycopg2").render_as_string(False)
        storage = RDBStorage(
            url,
            engine_kwargs={"connect_args": _read_only(parsed.drivername)},
            skip_compatibility_check=True,
            skip_table_creation=True,
        )
        _refuse_other_tables(storage)
        storage._version_manager.check_table_schema_compatibility()  # pyright: ignore[reportPrivateUsage] - at its creation it would write first
    except (SQLAlchemyError, OptunaError, *PLAIN_ERRORS) as error:
        raise Refused(f"The storage cannot be read: {_line(error)}") from error
    return storage


def _read_only(driver: str) -> dict[str, Any]:
    if driver.startswith("postgresql"):
        return {"options": "-c default_transaction_read_only=on", "connect_timeout": 10}
    return {}


def _refuse_other_tables(storage: RDBStorage) -> None:
    tables = set(inspect(storage.engine).get_table_names())
    if missing := {"studies", "trials", "version_info"} - tables:
        raise Refused(
            f"The database holds no studies of Optuna: it has no table {min(missing)}."
        )


def _found(storage: BaseStorage, name: str) -> int:
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        names = [one.study_name for one in storage.get_all_studies()]
    near = get_close_matches(name, names, n=3) or sorted(names)[:3]
    hint = f"; there is {', '.join(map(repr, near))}" if near else "; it has none at all"
    raise Refused(f"The storage has no study named {name!r}{hint}.")


def _name(wanted: Wanted) -> str:
    name = wanted.name or wanted.study
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        why = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise Refused(
            f"{name!r} cannot be a name here ({why}): give another one with --as."
        ) from error


def _alive(storage: BaseStorage, running: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of trials that gave a sign of life lately; storages without heartbeats know of none."""
    if not running or not isinstance(storage, RDBStorage):
        return set()
    with storage.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT trial_id, heartbeat, CURRENT_TIMESTAMP FROM trial_heartbeats")
        ).all()
    beats = {row[0]: _utc(row[2]) - _utc(row[1]) for row in rows}
    return {
        one.number
        for one in running
        if beats.get(one._trial_id, SILENT) < SILENT  # pyright: ignore[reportPrivateUsage] - Optuna tells it nowhere else
    }


def _utc(at: datetime | str) -> datetime:
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _distributions(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Return each distribution once, with its place."""
    found: dict[str, int] = {}
    for one in trials:
        for distribution in one.distributions.values():
            found.setdefault(distribution_to_json(distribution), len(found))
    return found


def _renaming(wanted: Wanted, trials: Sequence[FrozenTrial]) -> Mapping[str, str]:
    names = {name for one in trials for name in one.distributions}
    if strange := wanted.renamed.keys() - names:
        told = ", ".join(sorted(names))
        raise Refused(
            f"The study has no hyperparameter {min(strange)!r} to rename; it has {told}."
        )
    new = [wanted.renamed.get(name, name) for name in names]
    if twice := {name for name in new if new.count(name) > 1}:
        raise Refused(f"Two hyperparameters would be named {min(twice)!r}.")
    return wanted.renamed


def _trial(
    one: FrozenTrial, places: Mapping[str, int], renamed: Mapping[str, str]
) -> ImportedTrial:
    value = one.values[0] if one.values else None
    state = ENDS[one.state]
    if state == "complete" and (value is None or not math.isfinite(value)):
        state = "failed"
    return ImportedTrial(
        number=one.number,
        state=state,
        value=value if state == "complete" else None,
        params={
            renamed.get(name, name): (
                places[distribution_to_json(found)],
                found.to_internal_repr(one.params[name]),
            )
            for name, found in one.distributions.items()
        },
        curve=tuple(
            (step, told if math.isfinite(told) else None)
            for step, told in sorted(one.intermediate_values.items())
        ),
        began=one.datetime_start,
        ended=one.datetime_complete,
    )


def _line(error: BaseException) -> str:
    if isinstance(error, OptunaError) and error.__cause__ is not None:
        error = error.__cause__
    first = next(iter(str(getattr(error, "orig", None) or error).strip().splitlines()), "")
    return first or type(error).__name__


def main() -> None:
    """Do what the module says."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        found = read(Wanted.model_validate_json(sys.stdin.buffer.read())).model_dump_json()
    except Refused as refused:
        found = json.dumps({"refused": str(refused)})
    print(found)  # noqa: T201 - it is the answer


if __name__ == "__main__":
    main()
