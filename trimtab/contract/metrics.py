"""What a task can be measured by, and whether more or less of it is better."""

from collections.abc import Mapping
from typing import Literal

TaskKind = Literal["classification"]
Direction = Literal["maximize", "minimize"]

METRICS: Mapping[TaskKind, Mapping[str, Direction]] = {
    "classification": {"accuracy": "maximize", "loss": "minimize"},
}
"""By kind of task; the first is what a study optimises where its document does not say."""
