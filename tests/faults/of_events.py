"""Invariants of the order in which things were stored: each trial's events, replayed."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from service.domain.lifecycle import is_over
from tests.faults.facts import Facts, Held, Row
from tests.faults.violation import Violation
from trimtab.contract.trials import TrialState

PAUSED_BY_SEARCH = "paused by the search"
"""Unlike a trial that a person has paused, it may be taken up again at once, and may end there."""
STEPS: Mapping[str, tuple[frozenset[str], str]] = {
    "trial_enqueued": (frozenset({"absent"}), "queued"),
    "trial_started": (frozenset({"absent"}), "running"),
    "trial_resumed": (frozenset({"queued", PAUSED_BY_SEARCH}), "running"),
    "refit_started": (frozenset({"absent", "queued"}), "running"),
    "refit_checkpointed": (frozenset({"running"}), "running"),
    "refit_queued": (frozenset({"absent", "running"}), "queued"),
    "refit_settled": (frozenset({"running", "queued"}), "settled"),
    "final_started": (frozenset({"absent", "queued"}), "running"),
    "final_test_opened": (frozenset({"running"}), "running"),
    "trial_retried": (frozenset({"failed"}), "queued"),
    "probe_passed": (frozenset({"running"}), "running"),
    "reported": (frozenset({"running"}), "running"),
    "checkpointed": (frozenset({"running"}), "running"),
    "trial_completed": (frozenset({"running"}), "completed"),
    "trial_pruned": (frozenset({"running", PAUSED_BY_SEARCH}), "pruned"),
    "trial_failed": (frozenset({"running"}), "failed"),
    "trial_cancelled": (
        frozenset({"absent", "running", "queued", "paused", PAUSED_BY_SEARCH}),
        "cancelled",
    ),
    "trial_queued": (frozenset({"running", "paused"}), "queued"),
    "trial_paused": (frozenset({"running"}), "paused"),
    "final_queued": (frozenset({"absent", "running"}), "queued"),
    "final_settled": (frozenset({"absent", "running", "queued"}), "settled"),
}
"""From which states an event may come, and to which it leads."""
BEGINNINGS = ("trial_started", "trial_resumed", "refit_started", "final_started")
REMARKS = ("crash_refunded", "trial_repaired", "trial_stop_asked")
"""Events that move nothing."""


@dataclass
class Life:
    """A trial as its events tell it."""

    state: str = "absent"
    fence: int = 0
    last_step: int = -1
    """The last step that was reported, of all attempts."""
    kept_to: int = -1
    """The last step that the search has paused it with: no later attempt trains up to there again."""
    seen: list[Row] = field(default_factory=list[Row])

    def take(self, event: Row) -> Iterator[Violation]:
        """Follow one event."""
        kind, fence = event["kind"], event["fence"]
        legal, after = STEPS[kind]
        name = f"trial {event['trial_id']}"
        if (kind, self.state) == ("trial_retried", "failed"):
            pass  # a person has it tried again
        elif self.state in ("completed", "pruned", "failed", "cancelled", "settled"):
            yield Violation(
                "I5", f"{name}: {kind} after it was {self.state}", (event, *self.seen[-2:])
            )
        elif self.state not in legal:
            yield Violation(
                "I4", f"{name}: {kind} while it was {self.state}", (event, *self.seen[-2:])
            )
        if kind in BEGINNINGS:
            if fence != self.fence + 1:
                yield Violation(
                    "I3", f"{name}: fence {fence} after {self.fence}", (event, *self.seen[-2:])
                )
            self.fence = fence
        elif fence != self.fence and self.state != "absent":
            yield Violation(
                "I4",
                f"{name}: {kind} by fence {fence} in the time of {self.fence}",
                (event, *self.seen[-2:]),
            )
        yield from self._trained_twice(event)
        self.state = after
        if kind == "trial_paused" and event["body"].get("reason"):
            self.state, self.kept_to = PAUSED_BY_SEARCH, self.last_step
        self.seen.append(event)

    def _trained_twice(self, event: Row) -> Iterator[Violation]:
        """Note what is reported, and tell of a step that had been trained when the search paused the trial."""
        if event["kind"] != "reported":
            return
        step = event["body"]["step"]
        if step <= self.kept_to:
            yield Violation(
                "I24",
                f"trial {event['trial_id']}: step {step} was trained again after it had been kept",
                (event, *self.seen[-2:]),
            )
        self.last_step = max(self.last_step, step)


def events_follow_the_lifecycle(facts: Facts) -> Iterator[Violation]:
    """I3, I4, I5: fences rise, only the holder's words are stored, and nothing is after the end.

    I24: what was trained when the search paused a trial is not trained again.
    """
    for trial_id, events in facts.events.items():
        lives = defaultdict[Held, Life](Life)
        for event in events:
            if event["kind"] not in REMARKS:
                yield from lives[_led_by(event)].take(event)
        for key, row in facts.trials.items():
            if key[0] != trial_id:
                continue
            kind, life = key[1], lives[key]
            if not _agree(life.state, row["state"]):
                yield Violation(
                    "I5",
                    f"trial {trial_id} ({kind}) is {row['state']}; its events end {life.state}",
                    (row,),
                )


def no_more_at_a_time_than_parallel(facts: Facts) -> Iterator[Violation]:
    """I26: no trial begins while as many run as its study may have at a time.

    An event has its number before its statement is committed, and a claim counts what is committed: so whoever has ended
    by the count of the claim has ended by the numbers of the events too.
    """
    running: dict[int, set[int]] = {study_id: set() for study_id in facts.studies}
    for event in sorted(facts.ours["events"], key=lambda row: row["id"]):
        mine = running.get(event["study_id"])
        if mine is None or event["trial_id"] is None or event["kind"] not in STEPS:
            continue
        if event["kind"] in ("trial_started", "trial_resumed"):
            mine.add(event["trial_id"])
            most = facts.studies[event["study_id"]].get("parallel")
            if most is not None and len(mine) > most:
                yield Violation(
                    "I26", f"{len(mine)} trials run at a time, and {most} may", (event,)
                )
        elif STEPS[event["kind"]][1] != "running" and event["kind"].startswith("trial_"):
            mine.discard(event["trial_id"])


def _led_by(event: Row) -> Held:
    """Whose life an event is of: that of the trial, of one of its refits, or of its final evaluation."""
    kind = event["kind"].partition("_")[0]
    known = kind if kind in ("refit", "final") else "trial"
    return event["trial_id"], known, event["body"].get("seed_index", 0)


def _agree(told: str, stored: TrialState) -> bool:
    if told in ("absent", "settled"):
        return is_over(stored) if told == "settled" else stored == "queued"
    return (told, stored) == (PAUSED_BY_SEARCH, "paused") or told == stored


RULES: Mapping[str, Callable[[Facts], Iterator[Violation]]] = {
    "events_follow_the_lifecycle": events_follow_the_lifecycle,
    "no_more_at_a_time_than_parallel": no_more_at_a_time_than_parallel,
}
