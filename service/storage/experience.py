"""What won in the studies that are done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from service.storage.ranking import BEST_FIRST_OF_ANY, MAY_WIN
from trimtab.contract.studies import StudyState

MOST_STUDIES = 1000
"""The newest ones: reading documents takes time, and older ones teach the less."""


@dataclass(frozen=True, slots=True)
class DoneStudy:
    """A study that is done, with its winner's hyperparameters and the best known recipe that it tried."""

    name: str
    kind: str
    model: Mapping[str, Any]
    fixed: Mapping[str, Any]
    hyperparameters: Mapping[str, Any]
    proposed_by: str | None
    data: Mapping[str, Any] | None
    accuracy: float | None
    """The winner's value, where trials are compared by the accuracy."""


def done(connection: Connection) -> list[DoneStudy]:
    """Return the studies that are done and have a winner, the newest first."""
    rows = connection.execute(
        text(f"""
            SELECT s.name, s.document #>> '{{task,kind}}', s.document -> 'model', s.document -> 'fixed',
                   winner.hyperparameters, known.proposed_by, s.data,
                   CASE WHEN s.objective = 'accuracy' THEN winner.value END
            FROM trimtab.studies s
            JOIN LATERAL (
                SELECT t.hyperparameters, t.value FROM trimtab.trials t
                WHERE t.study_id = s.study_id AND {MAY_WIN}
                ORDER BY {BEST_FIRST_OF_ANY} LIMIT 1) winner ON true
            LEFT JOIN LATERAL (
                SELECT u.value_json::json #>> '{{}}' AS proposed_by FROM trimtab.trials t
                JOIN public.trial_user_attributes u ON u.trial_id = t.trial_id AND u.key = 'proposed_by'
                WHERE t.study_id = s.study_id AND {MAY_WIN}
                  AND u.value_json LIKE '"known_recipe:%'
                ORDER BY {BEST_FIRST_OF_ANY} LIMIT 1) known ON true
            WHERE s.state = 'done' AND NOT s.external ORDER BY s.study_id DESC LIMIT :most"""),
        {"most": MOST_STUDIES},
    ).all()
    return [DoneStudy(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class EarlierStudy:
    """A study, with what its best trials were and what they were trained on."""

    name: str
    state: StudyState
    kind: str
    model: dict[str, Any]
    fixed: dict[str, Any]
    data: dict[str, Any] | None
    searched: list[str]
    best: list[dict[str, Any]]
    accuracy: float | None
    """The value of its best trial, where trials are compared by the accuracy."""


def earlier(
    connection: Connection,
    *,
    best: int,
    kind: str | None = None,
    names: Sequence[str] | None = None,
) -> list[EarlierStudy]:
    """Return studies with their best completed trials, the newest study first.

    Args:
        connection: The connection.
        best: The number of trials of each.
        kind: The kind of task that those have which are done; None where `names` are given.
        names: The names of the studies, in whatever state; None: all that are done.
    """
    rows = connection.execute(
        text(f"""
            SELECT s.name, s.state, s.document #>> '{{task,kind}}', s.document -> 'model', s.document -> 'fixed', s.data,
                   ARRAY(SELECT json_object_keys(s.document -> 'space')),
                   ARRAY(SELECT t.hyperparameters FROM trimtab.trials t
                         WHERE t.study_id = s.study_id AND {MAY_WIN}
                         ORDER BY {BEST_FIRST_OF_ANY} LIMIT :best),
                   (SELECT max(t.value) FROM trimtab.trials t
                    WHERE t.study_id = s.study_id AND s.objective = 'accuracy' AND {MAY_WIN})
            FROM trimtab.studies s
            WHERE CASE WHEN CAST(:names AS text[]) IS NULL
                  THEN s.state = 'done' AND s.document #>> '{{task,kind}}' = :kind ELSE s.name = ANY(:names) END
            ORDER BY s.study_id DESC LIMIT :most"""),
        {"kind": kind, "names": None if names is None else list(names), "best": best}
        | {"most": MOST_STUDIES},
    ).all()
    return [EarlierStudy(*row) for row in rows]
