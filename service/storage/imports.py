"""Studies of plain Optuna that were imported: rows of Optuna's tables, and of none of ours."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution, json_to_distribution
from sqlalchemy import Connection, text

from trimtab.contract.imports import IMPORTED, ImportedTrial, ImportReport, StudyImport
from trimtab.contract.search_space import Scalar

STATES: Mapping[str, str] = {
    "complete": "COMPLETE",
    "pruned": "PRUNED",
    "failed": "FAIL",
    "zombie": "FAIL",
}


class Unreadable(Exception):
    """A distribution is none that Optuna knows, or a value is none of its distribution's."""


@dataclass(frozen=True, slots=True)
class ImportedStudy:
    """An imported study with the hyperparameters of its best trials, the best first."""

    name: str
    best: list[dict[str, Scalar]]


def values_of(found: StudyImport) -> list[dict[str, Scalar]]:
    """Return the hyperparameters of each trial, as they were proposed.

    Raises:
        Unreadable: Optuna cannot read them.
    """
    distributions = [_read(one) for one in found.distributions]
    return [_values(one, distributions) for one in found.trials]


def families(found: StudyImport) -> list[str]:
    """Return for each distribution what may not change while a study runs: its kind, and the choices if it has some."""
    distributions = [_read(one) for one in found.distributions]
    return [
        json.dumps([type(one).__name__, list(one.choices)], default=str)
        if isinstance(one, CategoricalDistribution)
        else "numbers"
        for one in distributions
    ]


def _read(distribution: str) -> Any:
    try:
        return json_to_distribution(distribution)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"a distribution is none of Optuna's: {error}") from error


def _values(trial: ImportedTrial, distributions: Sequence[Any]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, (place, value) in trial.params.items():
        if place >= len(distributions) or not distributions[place]._contains(value):
            raise Unreadable(f"{name} of trial {trial.number} lies outside its distribution")
        found[name] = distributions[place].to_external_repr(value)
    return found


def insert(connection: Connection, found: StudyImport, report: ImportReport) -> None:
    """Store an imported study in Optuna's tables.

    Raises:
        IntegrityError: a study of this name exists.
    """
    study_id = connection.execute(
        text("""
            WITH study AS (INSERT INTO public.studies (study_name) VALUES (:name) RETURNING study_id),
            direction AS (
                INSERT INTO public.study_directions (direction, study_id, objective)
                SELECT CAST(upper(:direction) AS public.studydirection), study_id, 0 FROM study),
            shown AS (
                INSERT INTO public.study_user_attributes (study_id, key, value_json)
                SELECT study_id, 'imported_from', :source FROM study),
            mark AS (
                INSERT INTO public.study_system_attributes (study_id, key, value_json)
                SELECT study_id, :mark, :report FROM study)
            SELECT study_id FROM study"""),
        {"name": found.name, "direction": found.direction, "source": json.dumps(found.source)}
        | {"mark": IMPORTED, "report": report.model_dump_json()},
    ).scalar_one()
    connection.execute(
        text(_TRIALS),
        {
            "study_id": study_id,
            "trials": json.dumps([_row(one, found.distributions) for one in found.trials]),
        },
    )


_TRIALS = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(CAST(:trials AS jsonb)) AS g (
        number int, state text, began timestamp, ended timestamp, value float8, zombie boolean, params jsonb, curve jsonb)),
trial AS (
    INSERT INTO public.trials (study_id, number, state, datetime_start, datetime_complete)
    SELECT :study_id, number, CAST(state AS public.trialstate), began, ended FROM given ORDER BY number
    RETURNING trial_id, number),
value AS (
    INSERT INTO public.trial_values (trial_id, objective, value, value_type)
    SELECT trial_id, 0, value, 'FINITE' FROM given JOIN trial USING (number) WHERE value IS NOT NULL),
param AS (
    INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT trial_id, p ->> 0, CAST(p ->> 1 AS float8), p ->> 2
    FROM given JOIN trial USING (number), jsonb_array_elements(params) p),
zombie AS (
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT trial_id, 'zombie', 'true' FROM given JOIN trial USING (number) WHERE zombie)
INSERT INTO public.trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
SELECT trial_id, CAST(p ->> 0 AS int), CAST(p ->> 1 AS float8),
       CAST(CASE WHEN p ->> 1 IS NULL THEN 'NAN' ELSE 'FINITE' END AS public.trialintermediatevaluetype)
FROM given JOIN trial USING (number), jsonb_array_elements(curve) p"""


def _row(one: ImportedTrial, distributions: Sequence[str]) -> dict[str, Any]:
    return {
        **one.model_dump(mode="json", include={"number", "began", "ended", "value", "curve"}),
        "state": STATES[one.state],
        "zombie": one.state == "zombie",
        "params": [
            (name, value, distributions[place]) for name, (place, value) in one.params.items()
        ],
    }


def study_id(connection: Connection, name: str) -> int | None:
    """Return the id of an imported study; None where no study of this name was imported."""
    return connection.execute(
        text("""
            SELECT s.study_id FROM public.studies s JOIN public.study_system_attributes a USING (study_id)
            WHERE s.study_name = :name AND a.key = :mark"""),
        {"name": name, "mark": IMPORTED},
    ).scalar_one_or_none()


def best(
    connection: Connection, *, most: int, names: Sequence[str] | None = None
) -> list[ImportedStudy]:
    """Return the imported studies of these names, or all, with their best trials; the newest study first."""
    rows = connection.execute(
        text("""
            SELECT s.study_name, b.params
            FROM public.studies s
            JOIN public.study_system_attributes a ON a.study_id = s.study_id AND a.key = :mark
            JOIN public.study_directions d ON d.study_id = s.study_id
            LEFT JOIN LATERAL (
                SELECT array_agg(one.params ORDER BY one.place) AS params FROM (
                    SELECT row_number() OVER () AS place,
                           (SELECT jsonb_object_agg(p.param_name, jsonb_build_array(p.param_value, p.distribution_json))
                            FROM public.trial_params p WHERE p.trial_id = t.trial_id) AS params
                    FROM public.trials t JOIN public.trial_values v ON v.trial_id = t.trial_id
                    WHERE t.study_id = s.study_id AND t.state = 'COMPLETE'
                    ORDER BY CASE d.direction WHEN 'MAXIMIZE' THEN -v.value ELSE v.value END, t.number
                    LIMIT :most) one) b ON true
            WHERE CAST(:names AS text[]) IS NULL OR s.study_name = ANY(:names)
            ORDER BY s.study_id DESC LIMIT 1000"""),
        {"mark": IMPORTED, "most": most, "names": None if names is None else list(names)},
    ).all()
    return [ImportedStudy(name, [_external(one) for one in rows or ()]) for name, rows in rows]


def _external(params: Mapping[str, Sequence[Any]] | None) -> dict[str, Scalar]:
    return {
        name: json_to_distribution(distribution).to_external_repr(value)
        for name, (value, distribution) in (params or {}).items()
    }
