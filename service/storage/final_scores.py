"""The final lease in SQL: queued when the search has ended, and what it measured."""

import json
from typing import Any

from sqlalchemy import Connection, text

from service.storage.trials import BEST_FIRST
from trimtab.contract.metrics import Direction


def queue(connection: Connection, study_id: int, direction: Direction) -> None:
    """Queue the final lease: the best completed trial, to start from its best checkpoint."""
    connection.execute(
        text(f"""
            INSERT INTO trimtab.trials (trial_id, kind, study_id, number, state, hyperparameters, checkpoint)
            SELECT trial_id, 'final', study_id, number, 'queued', hyperparameters,
                   coalesce(best_checkpoint, checkpoint)
            FROM trimtab.trials
            WHERE study_id = :study_id AND kind = 'trial' AND state = 'completed'
            ORDER BY {BEST_FIRST[direction]} LIMIT 1"""),
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
                SELECT study_id, key, value::text FROM study, json_each(CAST(:shown AS json)))
            INSERT INTO trimtab.events (study_id, kind, body)
            SELECT study_id, 'study_done', CAST(:final AS jsonb) FROM study"""),
        {"study_id": study_id, "final": json.dumps(final), "shown": json.dumps(_shown(final))},
    )


def _shown(final: dict[str, Any]) -> dict[str, Any]:
    """What a person sees of it in the Dashboard, as user attributes of the study."""
    test = f"test_{final['objective']}"
    found = {
        test: final["test_value"],
        f"{test}_before": final["test_value_before"],
        f"linear_probe_{test}": final["linear_probe_test_value"],
    }
    return {key: value for key, value in found.items() if value is not None}
