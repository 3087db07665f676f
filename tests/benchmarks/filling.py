"""Fill a study with finished trials, as both Optuna and trimtab would have stored them, in a few statements."""

import json
import math

from sqlalchemy import text

from service.sampling import stored
from service.storage.engine import Database
from tests.benchmarks.loads import REPORTS
from trimtab.contract.studies import StudyDocument

_TRIALS = """
INSERT INTO public.trials (number, study_id, state, datetime_start, datetime_complete)
SELECT n, :study_id, 'COMPLETE', now(), now() FROM generate_series(0, :finished - 1) n"""

_VALUES = """
INSERT INTO public.trial_values (trial_id, objective, value, value_type)
SELECT trial_id, 0, 0.5 + 0.4 * sin(number), 'FINITE' FROM public.trials WHERE study_id = :study_id"""

_CURVES = """
INSERT INTO public.trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
SELECT trial_id, step, (0.5 + 0.4 * sin(number)) * (step + 1) / :reports, 'FINITE'
FROM public.trials CROSS JOIN generate_series(0, :reports - 1) step WHERE study_id = :study_id"""

_PARAMETERS = """
INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
SELECT trial_id, :name, exp(ln(CAST(:low AS float8)) + (ln(CAST(:high AS float8)) - ln(CAST(:low AS float8)))
                            * (0.5 + 0.5 * sin(number * CAST(:turn AS float8)))), :distribution
FROM public.trials WHERE study_id = :study_id"""

_OURS = """
INSERT INTO trimtab.trials (trial_id, kind, study_id, number, state, hyperparameters, fence, value, curve,
                            started_at, ended_at)
SELECT t.trial_id, 'trial', t.study_id, t.number, 'completed',
       (SELECT jsonb_object_agg(param_name, param_value) FROM public.trial_params p WHERE p.trial_id = t.trial_id),
       1, 0.5 + 0.4 * sin(t.number),
       (SELECT jsonb_agg(jsonb_build_array(step, intermediate_value) ORDER BY step)
        FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id), now(), now()
FROM public.trials t WHERE t.study_id = :study_id"""


def fill(database: Database, name: str, document: StudyDocument, finished: int) -> None:
    """Give the study so many completed trials of `REPORTS` epochs; its space holds log ranges of floats only."""
    with database.engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        study_id = connection.execute(
            text("SELECT study_id FROM public.studies WHERE study_name = :name"), {"name": name}
        ).scalar_one()
        ids = {"study_id": study_id, "finished": finished, "reports": REPORTS}
        for statement in (_TRIALS, _VALUES, _CURVES):
            connection.execute(text(statement), ids)
        lows = {key: getattr(dimension, "low") for key, dimension in document.space.items()}  # noqa: B009
        internal = stored(document.space, lows)
        for turn, (key, dimension) in enumerate(document.space.items()):
            bounds = json.loads(dimension.model_dump_json())
            connection.execute(
                text(_PARAMETERS),
                ids
                | {"name": key, "low": bounds["low"], "high": bounds["high"]}
                | {"turn": math.sqrt(2 + turn), "distribution": internal[key][1]},
            )
        connection.execute(text(_OURS), ids)
        connection.execute(
            text(
                "UPDATE trimtab.studies SET trials_created = :finished WHERE study_id = :study_id"
            ),
            ids,
        )
    with database.statements() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("ANALYZE"))
