"""Optuna's own verbs on a database of their own, and Optuna's tables made comparable."""

import json
import math
import warnings
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import optuna
from optuna.storages._rdb.models import BaseModel
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Table, select, text

from service.sampling.distributions import distributions
from service.storage.engine import Database
from trimtab.contract.search_space import Scalar
from trimtab.contract.studies import StudyDocument

Rows = Mapping[str, "Counter[tuple[tuple[str, object], ...]]"]


def optuna_tables() -> list[Table]:
    """Every table that Optuna has, none left out."""
    return list(BaseModel.metadata.tables.values())


class Twin:
    """One study as Optuna alone would keep it: our events, told in the verbs of `RDBStorage` and `Study`."""

    def __init__(
        self, storage: optuna.storages.RDBStorage, name: str, document: StudyDocument
    ) -> None:
        self._storage = storage
        self._space = document.space
        direction = StudyDirection[document.task.direction.upper()]
        self._study_id = storage.create_new_study([direction], name)
        # What `Study.set_metric_names` stores, without its warning that it is experimental.
        storage.set_study_system_attr(
            self._study_id, "study:metric_names", [f"validation_{document.task.metric}"]
        )
        storage.set_study_user_attr(self._study_id, "fixed", dict(document.fixed))
        self._study = optuna.load_study(study_name=name, storage=storage)

    def tell(self, kind: str, number: int, body: Mapping[str, Any]) -> None:
        """Do what Optuna's user would do on this event of a trial."""
        match kind:
            case "trial_started":
                self._start(number, body["hyperparameters"], body.get("proposed_by"))
            case "trial_resumed":
                self._resume(number)
            case "reported":
                value = math.nan if body["value"] is None else body["value"]
                self._storage.set_trial_intermediate_value(
                    self._id(number), body["step"], value
                )
            case "trial_queued" | "trial_paused":
                self._wait(number, kind.removeprefix("trial_"), body.get("error_kind"))
            case "trial_completed" | "trial_pruned" | "trial_failed" | "trial_cancelled":
                self._end(number, kind.removeprefix("trial_"), body)
            case (
                "checkpointed"
                | "final_started"
                | "final_queued"
                | "final_settled"
                | "final_test_opened"
            ):
                pass  # Optuna has no word for it
            case _:
                raise AssertionError(f"an event of no known kind: {kind}")

    def show_final(self, body: Mapping[str, Any]) -> None:
        """Say in the Dashboard what the winner scored, if anything was measured."""
        if "test_value" not in body:
            return
        test = f"test_{body['objective']}"
        shown = {
            test: body["test_value"],
            f"{test}_before": body.get("test_value_before"),
            f"linear_probe_{test}": body.get("linear_probe_test_value"),
        }
        for name, value in shown.items():
            if value is not None:
                self._storage.set_study_user_attr(self._study_id, name, value)

    def delete(self) -> None:
        """Delete the study with all that belongs to it."""
        self._storage.delete_study(self._study_id)

    def _start(
        self, number: int, values: Mapping[str, Scalar], proposed_by: str | None
    ) -> None:
        trial_id = self._storage.create_new_trial(self._study_id)
        assert self._storage.get_trial(trial_id).number == number
        for name, distribution in distributions(self._space).items():
            internal = distribution.to_internal_repr(values[name])
            self._storage.set_trial_param(trial_id, name, internal, distribution)
        if proposed_by is not None:
            self._storage.set_trial_user_attr(trial_id, "proposed_by", proposed_by)

    def _resume(self, number: int) -> None:
        self._tag(number, "trimtab:state", "running")
        assert self._storage.set_trial_state_values(self._id(number), TrialState.RUNNING)

    def _wait(self, number: int, state: str, error_kind: str | None) -> None:
        if self._trial(number).state == TrialState.RUNNING:
            self._tag(number, "fixed_params", self._trial(number).params)
            self._tag_error(number, error_kind)
            assert self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)
        self._tag(number, "trimtab:state", state)

    def _end(self, number: int, state: str, body: Mapping[str, Any]) -> None:
        if "trimtab:state" in self._trial(number).system_attrs:
            self._tag(number, "trimtab:state", state)
        error_kind = "cancelled" if state == "cancelled" else body.get("error_kind")
        self._tag_error(number, error_kind)
        if self._trial(number).state == TrialState.WAITING:  # which `Study.tell` refuses to end
            assert self._storage.set_trial_state_values(self._id(number), TrialState.FAIL)
        elif error_kind in (
            "oom",
            "diverged",
            "recipe_unfit",
        ):  # pruned, but its last intermediate value is no value of it
            self._show(number, error_kind, body)
            assert self._storage.set_trial_state_values(self._id(number), TrialState.PRUNED)
        else:
            self._show(number, error_kind, body)
            told = {"completed": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
            value = body["value"] if state == "completed" else None
            self._study.tell(number, value, told.get(state, TrialState.FAIL))

    def _show(self, number: int, error_kind: str | None, body: Mapping[str, Any]) -> None:
        """Say in the Dashboard why a trial failed."""
        if error_kind is not None:
            kind = (
                None if error_kind == "poison" else error_kind
            )  # its message names the kind of the last time
            told = ": ".join(filter(None, (kind, body.get("error_message"))))
            self._storage.set_trial_user_attr(self._id(number), "failure", told)

    def _tag_error(self, number: int, error_kind: str | None) -> None:
        # Optuna cannot delete an attribute: what no longer holds becomes null.
        if error_kind is not None or "trimtab:error_kind" in self._trial(number).system_attrs:
            self._tag(number, "trimtab:error_kind", error_kind)

    def _tag(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _trial(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))


def storage_on(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage, as anyone would open it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.storages.RDBStorage(url)


def comparable(database: Database) -> Rows:
    """All rows of all of Optuna's tables: without surrogate ids, of times only whether they are given, JSON parsed."""
    with database.statements() as connection:
        names = {
            "study_id": {row[0]: row[1] for row in connection.execute(text(_STUDIES))},
            "trial_id": {row[0]: row[1] for row in connection.execute(text(_TRIALS))},
        }
        return {
            table.name: Counter(
                _comparable(table, row, names)
                for row in connection.execute(select(table)).mappings()
            )
            for table in optuna_tables()
        }


_STUDIES = "SELECT study_id, study_name FROM studies"
_TRIALS = """
    SELECT trial_id, study_name || '/' || number FROM trials JOIN studies USING (study_id)"""


def _comparable(
    table: Table, row: Mapping[Any, Any], names: Mapping[str, Mapping[int, str]]
) -> tuple[tuple[str, object], ...]:
    surrogates = {column.name for column in table.primary_key if not column.foreign_keys}
    return tuple(
        (column, _plain(column, names[column][value] if column in names else value))
        for column, value in row.items()
        if column not in surrogates
    )


def _plain(column: str, value: object) -> object:
    if isinstance(value, datetime):
        return "a time"
    return _hashable(json.loads(str(value))) if column == "value_json" else value


def _hashable(value: Any) -> object:
    if isinstance(value, dict):
        return frozenset(
            (key, _hashable(one)) for key, one in cast("dict[str, Any]", value).items()
        )
    if isinstance(value, list):
        return tuple(_hashable(one) for one in cast("list[Any]", value))
    return value
