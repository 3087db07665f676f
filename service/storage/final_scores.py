"""The final lease in SQL: queued when the search has ended, and what it measured."""

import json
from typing import Any

from sqlalchemy import Connection, text

from service.storage.ranking import BEST_FIRST, MAY_WIN
from service.storage.refits import ON_CONFLICT_ANEW
from trimtab.contract.final_report import FinalReport
from trimtab.contract.metrics import Direction


def queue(connection: Connection, study_id: int, direction: Direction) -> None:
    """Queue the final lease: the best completed trial, to start from its best checkpoint."""
    connection.execute(
        text(f"""
            WITH final AS (
                INSERT INTO trimtab.trials (trial_id, kind, study_id, number, state, hyperparameters, checkpoint)
                SELECT t.trial_id, 'final', t.study_id, t.number, 'queued', t.hyperparameters,
                       coalesce(t.best_checkpoint, t.checkpoint)
                FROM trimtab.trials t
                WHERE t.study_id = :study_id AND {MAY_WIN}
                ORDER BY {BEST_FIRST[direction]} LIMIT 1
                {ON_CONFLICT_ANEW}
                RETURNING study_id, trial_id, number, fence)
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind)
            SELECT study_id, trial_id, number, fence, 'final_queued' FROM final"""),
        {"study_id": study_id},
    )


def keep(connection: Connection, study_id: int, final: dict[str, Any]) -> None:
    """Keep what the final lease measured, and end the study."""
    connection.execute(
        text("""
            WITH study AS (
                UPDATE trimtab.studies SET final = CAST(:final AS jsonb), state = 'done'
                WHERE study_id = :study_id AND state = 'finalising' RETURNING study_id),
            shown AS (
                INSERT INTO public.study_user_attributes (study_id, key, value_json)
                SELECT study_id, key, value::text FROM study, json_each(CAST(:shown AS json))
                ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json)
            INSERT INTO trimtab.events (study_id, kind, body)
            SELECT study_id, 'study_done', CAST(:final AS jsonb) - 'report' FROM study"""),
        {"study_id": study_id, "final": json.dumps(final), "shown": json.dumps(_shown(final))},
    )


def _shown(final: dict[str, Any]) -> dict[str, Any]:
    """What a person sees of it in the Dashboard, as user attributes of the study."""
    test = f"test_{final['objective']}"
    found: dict[str, Any] = {
        test: final["test_value"],
        f"{test}_before": final["test_value_before"],
        f"linear_probe_{test}": final["linear_probe_test_value"],
    }
    if final["report"] is not None:
        report = FinalReport.model_validate(final["report"], strict=False)
        corrected = report.corrected
        found |= {
            "handed_over": report.handed_over,
            "test_low": report.test.low,
            "test_high": report.test.high,
            "validation_corrected": None if corrected is None else corrected.value.value,
        }
    return {key: value for key, value in found.items() if value is not None}
