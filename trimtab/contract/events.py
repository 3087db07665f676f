"""Events: what happened to a study, in commit order. Live views follow them, and they are the audit trail."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from trimtab.contract.message import Message

EventKind = Literal[
    "study_created",
    "study_paused",
    "study_resumed",
    "study_edited",
    "study_reopened",
    "study_stopping",
    "study_finalising",
    "study_done",
    "study_cancelled",
    "probe_passed",
    "worker_set_aside",
    "trial_enqueued",
    "trial_stop_asked",
    "trial_retried",
    "trial_started",
    "trial_resumed",
    "reported",
    "checkpointed",
    "trial_completed",
    "trial_pruned",
    "trial_failed",
    "trial_cancelled",
    "trial_queued",
    "trial_paused",
    "crash_refunded",
    "trial_repaired",
    "orphan_failed",
    "refit_started",
    "refit_checkpointed",
    "refit_queued",
    "refit_settled",
    "final_started",
    "final_test_opened",
    "final_queued",
    "final_settled",
]


class Event(Message):
    """One thing that happened. `cursor` is opaque: send it back to read on after this event."""

    cursor: str
    at: datetime
    kind: EventKind
    trial_number: int | None = None
    fence: int | None = None
    body: Mapping[str, JsonValue]
