"""What a study's document asks of a model beside its objective, as it is stored."""

import json
from typing import Any

from trimtab.contract.objectives import is_cost
from trimtab.contract.studies import StudyDocument


def asked(document: StudyDocument) -> dict[str, Any]:
    """Return what the statement that stores a study binds: directions and names for Optuna, constraints, second objective."""
    named, second = document.task.metric, document.second
    metrics = [named] if second is None else [named, second.metric]
    direction = document.second_direction
    return {
        # What Optuna Dashboard writes on its axes.
        "metric_names": json.dumps(
            [
                one if document.is_external or is_cost(one) else f"validation_{one}"
                for one in metrics
            ]
        ),
        "directions": [document.task.direction, *([direction] if direction else [])],
        "constraints": _json([one.model_dump() for one in document.constraints] or None),
        "second": _json(second and {"metric": second.metric, "direction": direction}),
    }


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value)
