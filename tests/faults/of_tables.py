"""Invariants of what is stored at the end."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from service.domain.lifecycle import is_over, optuna_state
from tests.faults.facts import Facts, Row, grouped
from tests.faults.violation import Violation

CALLED_OFF = ("study_stopping", "study_cancelled")


def budget_is_exact(facts: Facts) -> Iterator[Violation]:
    """I1: never more trials than the budget; in a study that ran to its end, exactly so many."""
    events = grouped(facts.ours["events"], lambda row: row["study_id"])
    for study_id, study in facts.studies.items():
        limit = study["document"]["budget"]["trials"] - _refits(study)
        mine = [
            row
            for row in facts.ours["trials"]
            if row["study_id"] == study_id and row["kind"] == "trial"
        ]
        optunas = [row for row in facts.optunas["trials"] if row["study_id"] == study_id]
        kinds = Counter(row["kind"] for row in events.get(study_id, []))
        counts = {
            "limit": limit,
            "created": study["trials_created"],
            "trials": len(mine),
            "optuna": len(optunas),
            "started": kinds["trial_started"],
        }
        if max(counts.values()) > limit:
            yield Violation("I1", f"{study['name']}: more trials than its budget", (counts,))
        elif len({counts[name] for name in ("created", "trials", "optuna", "started")}) > 1:
            yield Violation("I1", f"{study['name']}: the counts of trials differ", (counts,))
        ran_out = (
            study["state"] == "done" and not study["exhausted"] and study["wall_time_s"] is None
        )
        if ran_out and not any(kinds[kind] for kind in CALLED_OFF) and len(mine) < limit:
            yield Violation(
                "I1", f"{study['name']}: done before its budget was reached", (counts,)
            )


def _refits(study: Row) -> int:
    """How many of its trials the study's finish trains anew; its budget pays them."""
    finish = study["document"].get("finish") or {"refit": False}
    return finish["ensemble"] * finish.get("seeds", 1) if finish["refit"] else 0


def _refitted(study: Row, ranked: Sequence[int]) -> set[tuple[int, int]]:
    """The refits that the finish takes: of which trial, with which of its seeds."""
    finish = study["document"].get("finish") or {"refit": False}
    if not finish["refit"]:
        return set()
    return set(product(ranked[: finish["ensemble"]], range(finish.get("seeds", 1))))


def one_live_lease_per_trial(facts: Facts) -> Iterator[Violation]:
    """I2: no attempt begins before the one before it has ended. I3: fences count the attempts."""
    for key, attempts in facts.attempts.items():
        trial_id, kind, _ = key
        for before, after in pairwise(attempts):
            if _outlasts(before, after):
                yield Violation(
                    "I2", f"trial {trial_id} ({kind}) had two holders", (before, after)
                )
        fences = [row["fence"] for row in attempts]
        trial = facts.trials[key]
        if fences != list(range(1, len(fences) + 1)) or trial["fence"] != len(fences):
            yield Violation(
                "I3",
                f"trial {trial_id} ({kind}): its fences do not count its attempts",
                (trial, *attempts),
            )


def optuna_shows_the_newest_attempt(facts: Facts) -> Iterator[Violation]:
    """I7: the intermediate value of a step is that of the highest fence which reported it; so is the curve."""
    newest: dict[tuple[int, int], Row] = {}
    for row in sorted(facts.ours["reports"], key=lambda row: row["fence"]):
        newest[row["trial_id"], row["step"]] = row
    shown = {
        (row["trial_id"], row["step"]): row
        for row in facts.optunas["trial_intermediate_values"]
        if (row["trial_id"], "trial", 0) in facts.trials
    }
    for key in sorted(newest.keys() | shown.keys()):
        ours, optunas = newest.get(key), shown.get(key)
        if ours is None or optunas is None or ours["value"] != _value(optunas):
            yield Violation(
                "I7",
                f"trial {key[0]}, step {key[1]}: Optuna shows another value",
                (ours, optunas),
            )
    for trial in facts.ours["trials"]:
        told = [
            [step, row["value"]]
            for (trial_id, step), row in sorted(newest.items())
            if trial_id == trial["trial_id"]
        ]
        if trial["kind"] == "trial" and trial["curve"] is not None and trial["curve"] != told:
            yield Violation(
                "I7",
                f"trial {trial['trial_id']}: its curve is not what was reported",
                (trial["curve"], told),
            )


def _value(row: Row) -> float | None:
    return None if row["intermediate_value_type"] == "NAN" else row["intermediate_value"]


def a_completed_trial_has_one_value(facts: Facts) -> Iterator[Violation]:
    """I8: the completed event, our row and Optuna's row say the same number."""
    values = grouped(facts.optunas["trial_values"], lambda row: row["trial_id"])
    for (trial_id, kind, _), trial in facts.trials.items():
        if kind != "trial" or trial["state"] != "completed":
            continue
        told = [
            row["body"].get("value")
            for row in facts.events.get(trial_id, [])
            if row["kind"] == "trial_completed"
        ]
        optunas = [row["value"] for row in values.get(trial_id, [])]
        if told != [trial["value"]] or optunas != [trial["value"]]:
            yield Violation(
                "I8",
                f"trial {trial_id}: its value is told in several ways",
                (trial, told, optunas),
            )


def optuna_states_are_the_mapping(facts: Facts) -> Iterator[Violation]:
    """I9: no ghosts, no orphans; numbers are dense."""
    optunas = {row["trial_id"]: row for row in facts.optunas["trials"]}
    names = {row["study_id"] for row in facts.ours["studies"]}
    attributes = {
        (row["trial_id"], row["key"]): row["value_json"]
        for row in facts.optunas["trial_system_attributes"]
    }
    for (trial_id, kind, _), trial in facts.trials.items():
        if kind != "trial":
            continue
        shown = optunas.pop(trial_id, None)
        wanted = optuna_state(trial["state"], trial["error_kind"])
        if shown is None or shown["state"] != wanted or shown["number"] != trial["number"]:
            yield Violation(
                "I9", f"trial {trial_id} should be {wanted} in Optuna", (trial, shown)
            )
        noted = attributes.get((trial_id, "trimtab:state"))
        if noted is not None and noted != f'"{trial["state"]}"':
            yield Violation(
                "I9", f"trial {trial_id} has the attribute trimtab:state {noted}", (trial,)
            )
    for row in optunas.values():
        if row["study_id"] in names:
            yield Violation("I9", f"Optuna's trial {row['trial_id']} is none of ours", (row,))
    by_study = grouped(facts.optunas["trials"], lambda row: row["study_id"])
    for study_id, rows in by_study.items():
        if study_id in names and sorted(row["number"] for row in rows) != list(
            range(len(rows))
        ):
            yield Violation(
                "I9",
                f"the numbers of study {study_id} have gaps",
                tuple(row["number"] for row in rows),
            )


def crashes_are_counted(facts: Facts) -> Iterator[Violation]:
    """I10: crashes are those of the attempts, at most `max_crashes`; every attempt that ended says how. I14: releases count none."""
    refunds = Counter(
        (row["trial_id"], row["body"]["lease_kind"], row["body"].get("seed_index", 0))
        for row in facts.ours["events"]
        if row["kind"] == "crash_refunded"
    )
    for key, trial in facts.trials.items():
        trial_id, kind, _ = key
        attempts = facts.attempts.get(key, [])
        crashed = sum(map(_crashed, attempts)) - refunds[key]
        if trial["crashes"] != crashed:
            yield Violation(
                "I10",
                f"trial {trial_id} ({kind}) counts {trial['crashes']} crashes, not {crashed}",
                (trial, *attempts),
            )
        if trial["crashes"] > facts.studies[trial["study_id"]]["max_crashes"]:
            yield Violation("I10", f"trial {trial_id} ({kind}) was tried too often", (trial,))
        open_ended = [row for row in attempts if row["outcome"] is None]
        if len(open_ended) != (trial["state"] == "running"):
            yield Violation(
                "I10", f"trial {trial_id} ({kind}) is {trial['state']}", tuple(open_ended)
            )


def _crashed(attempt: Row) -> bool:
    if attempt["outcome"] == "expired":
        return True
    counted = (
        attempt["became"] in ("queued", "cancelled", "paused")
        or attempt["error_kind"] == "poison"
    )
    return attempt["outcome"] == "failed" and counted


def one_lease_per_slot(facts: Facts) -> Iterator[Violation]:
    """I13: a worker holds no more leases at a time than it registered for."""
    capacity = {row["worker_id"]: row["capacity"] for row in facts.ours["workers"]}
    ordered = sorted(facts.ours["attempts"], key=lambda row: row["started_at"])
    for worker_id, rows in grouped(ordered, lambda row: row["worker_id"]).items():
        held: list[Row] = []
        for attempt in rows:
            held = [attempt] + [row for row in held if _outlasts(row, attempt)]
            if len(held) > capacity[worker_id]:
                yield Violation(
                    "I13", f"worker {worker_id} held {len(held)} leases", tuple(held)
                )


def _outlasts(before: Row, after: Row) -> bool:
    """Whether an attempt was still going on when a later one began."""
    return before["ended_at"] is None or after["started_at"] < before["ended_at"]


def hyperparameters_stay(facts: Facts) -> Iterator[Violation]:
    """I15: inside the space, and equal in Optuna's parameters. What began before the space was changed is of an earlier one."""
    names = grouped(facts.optunas["trial_params"], lambda row: row["trial_id"])
    for (trial_id, kind, _), trial in facts.trials.items():
        document = facts.studies[trial["study_id"]]["document"]
        space, edits = document["space"], document.get("space_edits") or ()
        values = trial["hyperparameters"]
        is_of_this_space = not edits or trial["number"] >= edits[-1]["trials"]
        if set(values) != set(space) or not all(
            _inside(values[name], space[name]) or not is_of_this_space for name in values
        ):
            yield Violation(
                "I15", f"trial {trial_id} lies outside its study's space", (values, space)
            )
        if kind == "trial" and {row["param_name"] for row in names.get(trial_id, [])} != set(
            values
        ):
            yield Violation(
                "I15",
                f"trial {trial_id}: Optuna has other parameters",
                (values, names.get(trial_id)),
            )


def _inside(value: Any, dimension: Mapping[str, Any]) -> bool:
    if dimension["kind"] == "choices":
        return value in dimension["choices"]
    return dimension["low"] <= value <= dimension["high"] and math.isfinite(value)


def best_first(facts: Facts, study_id: int) -> list[Row]:
    """The completed trials: by value, then by the mean of the later half of the curve, then by lot."""
    completed = [
        row
        for row in facts.ours["trials"]
        if (row["study_id"], row["kind"], row["state"]) == (study_id, "trial", "completed")
    ]
    return sorted(completed, key=_rank)


def _rank(row: Row) -> tuple[float, float, str]:
    curve = row["curve"]
    late = [value for _, value in curve[len(curve) // 2 :] if value is not None]
    lot = hashlib.md5(f"{row['study_id']}/{row['number']}".encode()).hexdigest()
    return -row["value"], -math.fsum(late) / len(late) if late else math.inf, lot


def the_winner_is_the_best(facts: Facts) -> Iterator[Violation]:
    """I18: the final evaluation is of the best completed trial. I23: refits are of the best, and end before it begins."""
    for study_id, study in facts.studies.items():
        ranked = [row["trial_id"] for row in best_first(facts, study_id)]
        mine = [row for row in facts.ours["trials"] if row["study_id"] == study_id]
        finals = [row for row in mine if row["kind"] == "final"]
        refits = [row for row in mine if row["kind"] == "refit"]
        if any(row["trial_id"] != ranked[0] for row in finals):
            yield Violation(
                "I18",
                f"{study['name']}: its final evaluation is of another trial",
                (*finals, ranked),
            )
        wanted = _refitted(study, ranked) if refits or finals else set[tuple[int, int]]()
        if {(row["trial_id"], row["seed_index"]) for row in refits} != wanted:
            yield Violation(
                "I23",
                f"{study['name']}: its refits are not of its best trials",
                (*refits, ranked),
            )
        if finals and any(
            row["ended_at"] is None or row["ended_at"] > finals[0]["created_at"]
            for row in refits
        ):
            yield Violation(
                "I23",
                f"{study['name']}: its final evaluation did not wait for a refit",
                (*finals, *refits),
            )


def nothing_of_deleted_studies(facts: Facts) -> Iterator[Violation]:
    """I19: no row refers to a study or trial that is no more."""
    trials = {row["trial_id"] for row in facts.optunas["trials"]}
    studies = {row["study_id"] for row in facts.optunas["studies"]}
    for table, rows in facts.optunas.items():
        lost = [
            row
            for row in rows
            if row.get("trial_id", None) is not None and row["trial_id"] not in trials
        ]
        lost += [
            row
            for row in rows
            if row.get("study_id", None) is not None and row["study_id"] not in studies
        ]
        if lost:
            yield Violation(
                "I19", f"rows of {table} refer to what was deleted", tuple(lost[:5])
            )


def what_is_needed_is_kept(facts: Facts) -> Iterator[Violation]:
    """The states of each study's best trial, and its model, are in the folder and whole; every row has its file."""
    if facts.artifacts is None:
        return
    files = {path.name for path in facts.artifacts.glob("??/*")}
    for row in facts.ours["artifacts"]:
        if row["sha256"] not in files:
            yield Violation("I16", "an artifact has a row and no file", (row,))
    for study_id, study in facts.studies.items():
        best = next(iter(best_first(facts, study_id)), None)
        states = (
            [best[name] for name in ("checkpoint", "best_checkpoint") if best[name]]
            if best
            else []
        )
        models = (
            [study["final"][f"{which}_sha256"] for which in ("model", "validated")]
            if study["final"]
            else []
        )
        named = [state["sha256"] for state in states] + [model for model in models if model]
        if gone := set(named) - files:
            yield Violation(
                "I16", f"study {study['name']}: what it needs was collected", (gone, best)
            )


def who_is_decided_on_goes_no_further(facts: Facts) -> Iterator[Violation]:
    """I25: no trial completes beyond the epoch at which the search was to decide on it, unless it was decided too late.

    A worker whose service is away trains on, and reports all at once: the answer to the last of these is the decision.
    """
    steps = grouped(facts.ours["reports"], lambda row: row["trial_id"])
    for (trial_id, kind, _), trial in facts.trials.items():
        bound = trial["runs_until"]
        if kind != "trial" or trial["state"] != "completed" or bound is None:
            continue
        last = max(
            steps.get(trial_id, []), key=lambda row: (row["step"], row["fence"]), default=None
        )
        epochs = 0 if last is None else last["step"] + 1
        if last is not None and epochs > bound and last["verdict"] == "continue":
            yield Violation(
                "I25",
                f"trial {trial_id} completed with {epochs} epochs; the search was to decide at {bound}",
                (trial,),
            )


def everything_has_ended(facts: Facts) -> Iterator[Violation]:
    """I6: once the faults had stopped, every trial and every study came to its end."""
    for trial in facts.ours["trials"]:
        if not is_over(trial["state"]):
            yield Violation(
                "I6",
                f"trial {trial['trial_id']} ({trial['kind']}) is {trial['state']} for ever",
                (trial,),
            )
    for study in facts.ours["studies"]:
        if study["state"] not in ("done", "cancelled"):
            yield Violation(
                "I6", f"study {study['name']} is {study['state']} for ever", (study,)
            )


RULES: Mapping[str, Callable[[Facts], Iterator[Violation]]] = {
    rule.__name__: rule
    for rule in (
        budget_is_exact,
        one_live_lease_per_trial,
        optuna_shows_the_newest_attempt,
        a_completed_trial_has_one_value,
        optuna_states_are_the_mapping,
        crashes_are_counted,
        one_lease_per_slot,
        hyperparameters_stay,
        the_winner_is_the_best,
        nothing_of_deleted_studies,
        what_is_needed_is_kept,
        who_is_decided_on_goes_no_further,
        everything_has_ended,
    )
}
