"""What a lease's holder says: report, heartbeat, checkpoint, release, settle.

At-least-once execution, exactly-once effect: whatever is repeated, delayed or said by a holder that lost its lease,
only the current holder's words are stored, and a repeat is answered as the first was.
"""

import hashlib
import json
from uuid import UUID

from service.domain import constraints, leasing
from service.storage import artifacts, editing, final_scores, leases, set_aside, workers
from service.storage import validation_outputs as outputs
from service.use_cases import ending, quarantine, reports, studies
from service.use_cases.context import Context
from service.use_cases.holding import live, refuse
from trimtab.contract.final_report import FinalScores
from trimtab.contract.leases import (
    Answer,
    CheckpointReport,
    Completed,
    Failed,
    Infeasible,
    Outcome,
    Pruned,
    Release,
    Reports,
    Settled,
)
from trimtab.contract.problems import (
    ArtifactNotFound,
    CheckpointGoesBack,
    Conflict,
    Invalid,
    LeaseLost,
    Problem,
    ResultConflict,
    WorkerQuarantined,
)
from trimtab.contract.studies import StudyDocument
from trimtab.contract.validation_outputs import TrialOutputsPage

MOST_ON_A_PAGE = 64
"""The most trials whose answers are told at once."""
LARGEST_PAGE_BYTES = 4 * 2**20
"""The most that one page of trials' answers takes, unless the first trial's alone take more."""


def report(context: Context, lease_id: UUID, batch: Reports) -> Answer:
    """Store intermediate values, renew the lease, and answer the verdict of the last step.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
        StepConflict: another value is stored for a step of this attempt; nothing of the batch was stored.
    """
    (answer,) = reports.report_all(context, [(lease_id, batch)])
    if isinstance(answer, Problem):
        raise answer
    return answer


def heartbeat(context: Context, lease_id: UUID) -> Answer:
    """Renew the lease and answer whether the study still wants the trial.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
        WorkerQuarantined: its worker is given nothing more, and keeps nothing.
    """
    with context.database.statements() as connection:
        facts = live(leases.read(connection, lease_id))
        renewed = leases.renew(connection, lease_id)
        if renewed is None:
            if workers.is_quarantined(connection, lease_id):
                raise WorkerQuarantined
            raise _lost(context, lease_id)
    verdict = leasing.verdict(facts.held, prune=False)
    return Answer(verdict=verdict, ttl_s=facts.ttl_s, draining=renewed.is_draining)


def checkpoint(context: Context, lease_id: UUID, message: CheckpointReport) -> None:
    """Record uploaded training states: where to carry on, and what to evaluate.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
        ArtifactNotFound: the bytes were never uploaded.
        CheckpointGoesBack: this attempt has recorded a later step.
    """
    named = [message.checkpoint.sha256] + ([message.best.sha256] if message.best else [])
    with context.database.statements() as connection:
        facts = live(leases.read(connection, lease_id))
        if facts.held.kind == "final":
            raise Conflict("A final lease has no checkpoints.")
        if absent := artifacts.missing(connection, named):
            raise ArtifactNotFound(f"Upload these artifacts first: {', '.join(absent)}")
        if leases.checkpoint(connection, lease_id, message.checkpoint, message.best):
            return
        live(leases.read(connection, lease_id))
    raise CheckpointGoesBack


def outputs_page(context: Context, lease_id: UUID, start: int) -> TrialOutputsPage:
    """What completed trials answered to the validation split, from number `start` on; only for a final lease's holder.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
        Conflict: it is not a final lease.
    """
    with context.database.statements() as connection:
        facts = live(leases.read(connection, lease_id))
        if facts.held.kind != "final":
            raise Conflict("Only a final lease is told what trials answered.")
        page = outputs.page(
            connection,
            facts.study_id,
            start=start,
            most=MOST_ON_A_PAGE,
            most_bytes=LARGEST_PAGE_BYTES,
        )
    following = page.trials[-1].trial_number + 1 if page.more else None
    return TrialOutputsPage(trials=page.trials, next=following)


def release(context: Context, lease_id: UUID, message: Release) -> None:
    """Give the trial back unfinished; no crash is counted.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
    """
    with context.database.statements() as connection:
        facts = leases.read(connection, lease_id)
        if facts is not None and facts.outcome == _released(message):
            return
        facts = live(facts)
        departure = leasing.released(facts.held, message.reason)
        if not leases.leave(connection, lease_id, departure, facts.held.kind):
            raise _lost(context, lease_id)
    ending.follow(context, facts.study_name)


def _released(message: Release) -> leasing.AttemptOutcome:
    return "drained" if message.reason == "drain" else "paused"


def settle(context: Context, lease_id: UUID, outcome: Outcome) -> Settled:
    """End the lease with its outcome; a repeat is answered as the first was.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
        ResultConflict: it was settled with another outcome.
        ArtifactNotFound: the outcome names a model that was never uploaded.
        Invalid: the outcome does not fit the lease or its study.
    """
    digest = outcome_sha256(outcome)
    with context.database.transaction() as connection:
        facts = leases.read(connection, lease_id)
        if (first := _first_answer(facts, digest)) is not None:
            return first
        facts = live(facts)
        departure = leasing.settled(facts.held, outcome)
        document = studies.document(context, facts.study_id, connection)
        _refuse_half(facts, outcome, document)
        metric = document.task.metric
        final = _final_scores(facts, outcome, metric)
        if final is not None and artifacts.missing(connection, _models(final)):
            raise ArtifactNotFound("Upload the model first.")
        if not leases.leave(
            connection,
            lease_id,
            departure,
            facts.held.kind,
            outcome_sha256=digest,
            validation_outputs=validation_outputs(outcome),
            measured=measured(outcome),
            reason=_reason(outcome, document),
        ):
            # Someone ended the lease between our reading and our writing.
            return _first_answer(leases.read(connection, lease_id), digest) or refuse(
                leases.read(connection, lease_id)
            )
        if departure.outcome == "set_aside" and isinstance(outcome, Failed):
            set_aside.add(connection, lease_id, outcome.message)
        if final is not None:
            openings = editing.test_openings(connection, facts.study_id)
            final = final.model_copy(update={"test_opened_before": openings})
            final_scores.keep(connection, facts.study_id, final.model_dump(mode="json"))
    if departure.crash:
        quarantine.judge(context, lease_id)
    ending.follow(context, facts.study_name)
    return Settled(state=departure.state)


def _refuse_half(facts: leases.LeaseFacts, outcome: Outcome, document: StudyDocument) -> None:
    """Refuse a completed trial of two objectives without a value of the second."""
    if facts.held.kind != "trial" or not isinstance(outcome, Completed):
        return
    if document.second is not None and document.second.metric not in outcome.measured:
        raise Invalid(
            f"The study has two objectives, and the outcome lacks `measured.{document.second.metric}`: "
            "a worker of this release measures it."
        )


def _reason(outcome: Outcome, document: StudyDocument) -> str | None:
    """Return why a trial was not trained, as it is stored; None of any other outcome.

    Raises:
        Invalid: the trial keeps every constraint, as far as it was measured.
    """
    if not isinstance(outcome, Infeasible):
        return None
    reason = constraints.foretold(document.constraints, outcome.measured)
    if reason is None:
        raise Invalid(
            "What was measured before training violates no constraint of the study: train the trial, and settle it as "
            "completed."
        )
    return reason.model_dump_json()


def outcome_sha256(outcome: Outcome) -> str:
    """By which a repeated outcome is known."""
    return hashlib.sha256(outcome.model_dump_json().encode()).hexdigest()


def validation_outputs(outcome: Outcome) -> str | None:
    """What a completed trial answered to the validation split, as it is stored; None where it is not told."""
    if not isinstance(outcome, Completed) or outcome.validation_outputs is None:
        return None
    return outcome.validation_outputs.model_dump_json()


def measured(outcome: Outcome) -> str | None:
    """What was measured of a trial's model, as it is stored; None where nothing is told."""
    if not isinstance(outcome, Completed | Infeasible) or not outcome.measured:
        return None
    return json.dumps(dict(outcome.measured))


def _models(final: FinalScores) -> list[str]:
    return [sha256 for sha256 in (final.model_sha256, final.validated_sha256) if sha256]


def _first_answer(facts: leases.LeaseFacts | None, digest: str) -> Settled | None:
    if facts is None or facts.outcome_sha256 is None or facts.became is None:
        return None
    if facts.outcome_sha256 != digest:
        raise ResultConflict
    return Settled(state=facts.became)


def _final_scores(
    facts: leases.LeaseFacts, outcome: Outcome, metric: str
) -> FinalScores | None:
    """What a completed final lease measured; None of any other outcome that fits its lease."""
    if facts.held.kind == "trial":
        return None
    if isinstance(outcome, Pruned | Infeasible):
        raise Invalid(f"A {facts.held.kind} lease cannot be pruned.")
    if facts.held.kind == "refit" or not isinstance(outcome, Completed):
        return None
    if outcome.model_sha256 is None:
        raise Invalid("A final lease's outcome needs `model_sha256`.")
    measured = {**outcome.metrics, f"test_{metric}": outcome.value}
    return FinalScores(
        objective=metric,
        test_value=outcome.value,
        test_value_before=measured.get(f"test_{metric}_before"),
        linear_probe_test_value=measured.get(f"linear_probe_test_{metric}"),
        test_accuracy=measured.get("test_accuracy"),
        test_accuracy_before=measured.get("test_accuracy_before"),
        linear_probe_test_accuracy=measured.get("linear_probe_test_accuracy"),
        test_count=int(measured.get("test_count", 0)),
        metrics=measured,
        model_sha256=outcome.model_sha256,
        validated_sha256=outcome.validated_sha256,
        report=outcome.report,
    )


def _lost(context: Context, lease_id: UUID) -> LeaseLost:
    with context.database.statements() as connection:
        facts = leases.read(connection, lease_id)
    return LeaseLost(state=None if facts is None else facts.outcome)
