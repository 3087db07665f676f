"""Invariants of what the clients were told."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.faults.facts import Facts, Held, Row, grouped, held
from tests.faults.log import Op
from tests.faults.violation import Violation

AFTERMATH_S = 10.0
NOT_FOUND = 404
CONFLICT = 409
NO_ANSWER = 503
CHECKPOINTED = {"checkpointed": "trial", "refit_checkpointed": "refit"}
OUTAGES = frozenset({"stop_postgres", "restart_postgres", "kill_every_replica"})
HARMLESS = frozenset(
    {"replay_late", "pause_study", "stop_study", "cancel_study", "delete_study"}
)


def no_acknowledged_word_is_lost(facts: Facts) -> Iterator[Violation]:
    """I11: what was answered with 2xx is stored."""
    stored = {
        (row["trial_id"], row["fence"], row["step"]): row for row in facts.ours["reports"]
    }
    for op in facts.accepted("reports"):
        attempt = facts.attempt_of.get(op.lease or "")
        for told in op.body["reports"]:
            row = attempt and stored.get((attempt["trial_id"], attempt["fence"], told["step"]))
            if row is None or row["value"] != told["value"]:
                yield Violation(
                    "I11", "an acknowledged report is not stored", (op, attempt, row)
                )
    for op in facts.accepted("outcome"):
        attempt = facts.attempt_of.get(op.lease or "")
        if (
            attempt is None
            or attempt["became"] != op.answer["state"]
            or attempt["outcome_sha256"] is None
        ):
            yield Violation("I11", "an acknowledged outcome is not stored", (op, attempt))
    for op in facts.accepted("release"):
        attempt = facts.attempt_of.get(op.lease or "")
        if attempt is None or attempt["outcome"] not in ("drained", "paused"):
            yield Violation("I11", "an acknowledged release is not stored", (op, attempt))
    yield from _checkpoints(facts)
    for op, lease in facts.leases_told:
        if (
            lease["lease_id"] not in facts.attempt_of
            and lease["lease_id"] not in facts.deleted_leases
        ):
            yield Violation("I11", "a lease that a claim got is not stored", (op,))


def _checkpoints(facts: Facts) -> Iterator[Violation]:
    stored = {
        (
            *(row["trial_id"], CHECKPOINTED[row["kind"]], row["body"].get("seed_index", 0)),
            *(row["fence"], row["body"]["step"]),
        )
        for row in facts.ours["events"]
        if row["kind"] in CHECKPOINTED
    }
    for op in facts.accepted("checkpoints"):
        attempt = facts.attempt_of.get(op.lease or "")
        step = op.body["checkpoint"]["step"]
        saved = attempt and (*held(attempt), attempt["fence"], step)
        if saved not in stored:
            yield Violation("I11", "an acknowledged checkpoint is not stored", (op, attempt))


def one_trial_has_one_result(facts: Facts) -> Iterator[Violation]:
    """I12: no two acknowledgements for one trial. I8: the value that was acknowledged is the trial's."""
    completed: dict[Held, Op] = {}
    for op in facts.accepted("outcome"):
        attempt = facts.attempt_of.get(op.lease or "")
        if attempt is None or op.body["kind"] != "completed":
            continue
        key = held(attempt)
        first = completed.setdefault(key, op)
        if (first.lease, first.body) != (op.lease, op.body):
            yield Violation("I12", f"trial {key}: two results were acknowledged", (first, op))
        if facts.trials[key]["value"] != op.body["value"]:
            yield Violation(
                "I8", f"trial {key}: another value was acknowledged", (op, facts.trials[key])
            )


def repeats_are_answered_alike(facts: Facts) -> Iterator[Violation]:
    """I17, I21: the same request on the same lease or claim gets the same answer, as long as it gets one."""
    for verb in ("outcome", "reports"):
        groups = grouped(facts.accepted(verb), lambda op: (op.lease, repr(op.body)))
        for ops in groups.values():
            if len({repr(_lasting(op.answer)) for op in ops}) > 1:
                invariant = "I17" if verb == "reports" else "I21"
                yield Violation(
                    invariant, f"{verb}: a repeat was answered otherwise", tuple(ops)
                )
    claims = [op for op in facts.ops if op.verb == "claim" and op.ending == "ok" and op.answer]
    for ops in grouped(claims, lambda op: (op.body["worker_id"], op.body["claim_id"])).values():
        answers = {
            repr([_lasting(lease) for lease in op.answer["leases"]])
            for op in ops
            if op.answer["leases"] and not _of_deleted(facts, op)
        }
        if len(answers) > 1:
            yield Violation("I21", "a repeated claim got another lease", tuple(ops))
    yield from _busy_with_their_own_lease(facts)


def _of_deleted(facts: Facts, claim: Op) -> bool:
    """Whether a deleted study has taken the memory of this claim along."""
    return any(lease["lease_id"] in facts.deleted_leases for lease in claim.answer["leases"])


def _busy_with_their_own_lease(facts: Facts) -> Iterator[Violation]:
    served = {
        (op.body["worker_id"], op.body["claim_id"]): op
        for op, _ in facts.leases_told
        if not _of_deleted(facts, op)
    }
    for op in facts.ops:
        refused = (
            op.verb == "claim"
            and op.status == CONFLICT
            and op.answer["type"].endswith("/worker-busy")
        )
        first = served.get((op.body["worker_id"], op.body["claim_id"])) if refused else None
        if first is not None and (first.ended or first.began) < op.began:
            yield Violation(
                "I21", "a repeated claim was refused for the lease that it had got", (first, op)
            )


def _lasting(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Without what may move on while the lease lives: the checkpoint to carry on from, and the one before it."""
    moving = ("resume", "previous")
    return {name: value for name, value in answer.items() if name not in moving}


def leases_tell_the_same_trial(facts: Facts) -> Iterator[Violation]:
    """I15: every attempt at a trial was given the same hyperparameters, and the same seed but for further refits."""
    groups = grouped(
        (
            (op, lease)
            for op, lease in facts.leases_told
            if lease["lease_id"] not in facts.deleted_leases
        ),
        lambda told: (told[1]["study"], told[1]["trial_number"], told[1]["seed_index"]),
    )
    for trial, told in groups.items():
        if len({repr((lease["hyperparameters"], lease["seed"])) for _, lease in told}) > 1:
            yield Violation(
                "I15",
                f"{trial}: its attempts were given different hyperparameters",
                tuple(told),
            )


def a_resumed_trial_has_its_checkpoint(facts: Facts) -> Iterator[Violation]:
    """I16: where to carry on was recorded by an earlier attempt at the same trial, and its bytes are whole."""
    known: dict[str, list[Row]] = {}
    for op in (
        op
        for op in facts.ops
        if op.verb == "checkpoints" and op.status in (None, 204, NO_ANSWER)
    ):
        attempt = facts.attempt_of.get(op.lease or "")
        for checkpoint in (op.body["checkpoint"], op.body["best"]) if attempt else ():
            if checkpoint is not None and attempt is not None:
                known.setdefault(checkpoint["sha256"], []).append(attempt)
    whole: dict[str, bool] = {}
    yield from _downloads(facts)
    for op, lease in facts.leases_told:
        mine = facts.attempt_of.get(lease["lease_id"])
        if lease["resume"] is None or mine is None:
            continue
        sha256 = lease["resume"]["sha256"]
        maker = "refit" if lease["kind"] == "refit" else "trial"
        makers = [
            row
            for row in known.get(sha256, [])
            if (row["trial_id"], row["kind"]) == (mine["trial_id"], maker)
            and row["seed_index"] == mine["seed_index"]
        ]
        # A repeated claim may be told of a checkpoint that this very attempt has recorded meanwhile.
        if not any(lease["kind"] == "final" or row["fence"] <= mine["fence"] for row in makers):
            yield Violation(
                "I16", "a lease resumes from what no earlier attempt recorded", (op, mine)
            )
        if not whole.setdefault(sha256, _is_whole_or_gone(facts.artifacts, sha256)):
            yield Violation(
                "I16", "the bytes of a checkpoint are not those of its name", (lease["resume"],)
            )


def _downloads(facts: Facts) -> Iterator[Violation]:
    """What a lease tells its holder to resume from is there, as long as the lease lives."""
    told = {
        (op.client, lease["resume"]["sha256"]): lease
        for op, lease in facts.leases_told
        if lease["resume"]
    }
    for op in facts.ops:
        sha256 = op.path.removeprefix("/v1/artifacts/")
        lease = (
            told.get((op.client, sha256))
            if op.method == "GET" and op.status == NOT_FOUND
            else None
        )
        attempt = facts.attempt_of.get(lease["lease_id"]) if lease else None
        if attempt and (
            attempt["ended_at"] is None
            or attempt["ended_at"].timestamp() > (op.ended or op.began)
        ):
            yield Violation("I16", "the state to resume from is gone", (op, lease, attempt))


def _is_whole_or_gone(artifacts: Path | None, sha256: str) -> bool:
    # What nothing needs any more is collected.
    path = None if artifacts is None else artifacts / sha256[:2] / sha256
    if path is None or not path.is_file():
        return True
    return hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def every_5xx_has_its_fault(facts: Facts) -> Iterator[Violation]:
    """I20: the only one is 503, and never without a fault during the request or the 10 s before it."""
    for op in facts.ops:
        if op.status is None or op.status < 500:
            continue
        ended = op.ended or op.began
        near = any(
            w.began <= ended and op.began <= w.ended + AFTERMATH_S for w in facts.windows
        )
        if op.status != NO_ANSWER or not near:
            yield Violation("I20", f"{op.status} without a reason", (op,))


def an_outage_costs_no_lease(facts: Facts) -> Iterator[Violation]:
    """Row 22 of the fault matrix: a lease whose holder kept asking was not revoked because nobody could answer."""
    asked = grouped((op for op in facts.ops if op.lease is not None), lambda op: op.lease)
    for attempt in facts.ours["attempts"]:
        began, ended = (
            attempt[name].timestamp() if attempt[name] else 0.0
            for name in ("started_at", "ended_at")
        )
        meanwhile = [w.kind for w in facts.windows if w.began <= ended and began <= w.ended]
        if (
            attempt["outcome"] != "expired"
            or not set(meanwhile) & OUTAGES
            or set(meanwhile) - OUTAGES - HARMLESS
        ):
            continue
        study = facts.studies[facts.trials[held(attempt)]["study_id"]]
        last = [
            op
            for op in asked.get(str(attempt["lease_id"]), [])
            if op.client.startswith("worker")
            and ended - study["lease_ttl"].total_seconds() <= op.began <= ended
        ]
        if last and all(op.ending == "unknown" for op in last):
            yield Violation(
                "outage",
                "a lease was revoked though its holder kept asking",
                (attempt, meanwhile, *last),
            )


def no_log_shows_a_secret(facts: Facts) -> Iterator[Violation]:
    """I22: neither the token nor the database's password is in any log."""
    for name, text in facts.logs.items():
        if any(secret in text for secret in facts.secrets):
            yield Violation("I22", f"{name} shows a secret")
        if "Traceback" in text and name.startswith("service"):
            at = text.index("Traceback")
            yield Violation(
                "I20", f"{name} has a traceback", (text[max(0, at - 500) : at + 3000],)
            )


RULES: Mapping[str, Callable[[Facts], Iterator[Violation]]] = {
    rule.__name__: rule
    for rule in (
        no_acknowledged_word_is_lost,
        one_trial_has_one_result,
        repeats_are_answered_alike,
        leases_tell_the_same_trial,
        a_resumed_trial_has_its_checkpoint,
        every_5xx_has_its_fault,
        an_outage_costs_no_lease,
        no_log_shows_a_secret,
    )
}
