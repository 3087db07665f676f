"""Reports: intermediate values of many holders, decided one by one and stored with one commit.

At-least-once execution, exactly-once effect: a step that is stored already is answered as it was the first time, and
only the current holder's values are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import psycopg2

from service.domain import decisions, leasing
from service.domain.decisions import Decision
from service.sampling import GO_ON, Judgement, SamplingFailed, decides_at
from service.storage import leases, reports
from service.storage.leases import LeaseFacts
from service.storage.reports import NewReports, Stored
from service.use_cases import deciding, studies
from service.use_cases.context import Context, Holder
from service.use_cases.deciding import Deciding
from service.use_cases.holding import live
from service.use_cases.races import TRIES
from trimtab.contract.leases import Answer, LeaseKind, Report, Reports, Verdict
from trimtab.contract.problems import (
    Conflict,
    LeaseLost,
    Problem,
    StepConflict,
    Unavailable,
)
from trimtab.contract.studies import StudyDocument

Said = tuple[UUID, Reports]
"""A lease, and what its holder reports."""
_WITHOUT_REPORTS: Mapping[LeaseKind, str] = {
    "refit": "A refit lease takes no reports: nothing is left to validate it on. Its heartbeats renew it.",
    "final": "A final lease takes no reports: it is settled with its scores.",
}


def report_all(context: Context, said: Sequence[Said]) -> list[Answer | Problem]:
    """Answer many holders; each has its own answer or problem, and one's problem stores nothing of its own only."""
    answers: dict[int, Answer | Problem] = {}
    waiting = dict(enumerate(said))
    while waiting:
        # One lease's reports are stored in the order in which they came: one batch of it at a time.
        first = {lease: number for number, (lease, _) in reversed(waiting.items())}
        answers |= _round(
            context, {number: waiting.pop(number) for number in sorted(first.values())}
        )
    return [answers[number] for number in range(len(said))]


def _round(context: Context, said: Mapping[int, Said]) -> dict[int, Answer | Problem]:
    """Try all together; if that is refused, one by one, so that nobody pays for another's trouble."""
    if len(said) > 1:
        try:
            return _together(context, said, look=False)
        except (psycopg2.IntegrityError, Problem):
            answers: dict[int, Answer | Problem] = {}
            for number, one in said.items():
                answers |= _round(context, {number: one})
            return answers
    try:
        for attempt in range(TRIES):
            try:
                return _together(context, said, look=attempt > 0)
            except psycopg2.IntegrityError:
                continue  # the step is stored already: look, and answer as then
        raise Unavailable("Too many reports of one lease at once.", retry_after_s=1.0)
    except Problem as problem:
        return dict.fromkeys(said, problem)


@dataclass(frozen=True, slots=True)
class _Decided:
    new: NewReports
    then: Holder
    ttl_s: float
    decision: Decision | None = None


def _together(
    context: Context, said: Mapping[int, Said], *, look: bool
) -> dict[int, Answer | Problem]:
    """Read once, decide each, store once. `look` reads what is stored already even where no pruner needs it."""
    with context.database.statements() as connection:
        facts = leases.read_all(connection, [lease for lease, _ in said.values()])
        documents = {
            one.study_id: studies.document(
                context, one.study_id, connection, space_edits=one.space_edits
            )
            for one in facts.values()
        }
        to_read = {
            lease: one
            for lease, one in facts.items()
            if look or documents[one.study_id].search.prunes
        }
        stored = reports.read_all(connection, to_read)
    decided: dict[int, _Decided | Problem] = {}
    due: dict[int, LeaseFacts] = {}
    for number, (lease, batch) in said.items():
        try:
            held = _reporting(facts.get(lease))
            document = documents[held.study_id]
            # Where epochs are counted, each report takes from what the one before it leaves.
            if held.epochs_left is not None or _is_due(document, held, batch.reports[-1]):
                due[number] = held
                continue
            decided[number] = _decide(
                context,
                document,
                held,
                stored.get(lease, Stored({}, ())),
                batch,
                lease,
            )
        except Problem as problem:
            decided[number] = problem
    answers = _store(context, decided)
    for number, held in due.items():
        answers[number] = _search(context, documents[held.study_id], held, *said[number])
    return answers


def _is_due(document: StudyDocument, facts: LeaseFacts, last: Report) -> bool:
    return decisions.is_due(
        last.step,
        last.value,
        facts.runs_until,
        schedules=document.search.schedules,
        decides_here=decides_at(document, last.step + 1),
    )


def _search(
    context: Context, document: StudyDocument, facts: LeaseFacts, lease: UUID, batch: Reports
) -> Answer | Problem:
    """Let the search decide on a trial that has come to the end of what it was given, and store that with the report."""
    try:
        return _search_alone(context, document, facts.study_id, lease, batch)
    except SamplingFailed as error:
        # What was trained is kept, whatever became of the judge.
        studies.set_aside(context, facts.study_name, facts.study_id, str(error))
        return _search_alone(context, document, facts.study_id, lease, batch, ask=False)
    except Problem as problem:
        return problem


def _search_alone(
    context: Context,
    document: StudyDocument,
    study_id: int,
    lease: UUID,
    batch: Reports,
    *,
    ask: bool = True,
) -> Answer | Problem:
    with deciding.alone(context, study_id, document) as study:
        # Read under the lock: what another replica has decided on this trial is stored by now.
        facts = _reporting(leases.read(study.connection, lease))
        stored = reports.read_all(study.connection, {lease: facts})[lease]
        decided = _decide(
            context, document, facts, stored, batch, lease, by=study if ask else None
        )
        kept = reports.store_all(study.connection, [decided.new])
        if kept and decided.decision is not None:
            reports.decide(study.connection, lease, decided.decision)
    return _answer(context, decided, kept)


def _store(
    context: Context, decided: Mapping[int, _Decided | Problem]
) -> dict[int, Answer | Problem]:
    wanted = [one.new for one in decided.values() if isinstance(one, _Decided)]
    kept: set[UUID] = set()
    if wanted:
        with context.database.statements() as connection:
            kept = reports.store_all(connection, wanted)
    return {
        number: one if isinstance(one, Problem) else _answer(context, one, kept)
        for number, one in decided.items()
    }


def _answer(context: Context, decided: _Decided, kept: set[UUID]) -> Answer | Problem:
    if decided.new.lease_id not in kept:
        return LeaseLost()
    context.holders.note(decided.new.lease_id, decided.then)
    return Answer(verdict=decided.new.verdict, ttl_s=decided.ttl_s)


def _decide(
    context: Context,
    document: StudyDocument,
    facts: LeaseFacts,
    stored: Stored,
    batch: Reports,
    lease: UUID,
    *,
    by: Deciding | None = None,
) -> _Decided:
    fresh = _fresh(batch.reports, stored)
    last = batch.reports[-1]
    curve = dict(stored.curve) | {one.step: one.value for one in fresh}
    known = stored.by_step.get(last.step)
    decision, judgement = None, GO_ON
    spent = facts.epochs_left is not None and facts.epochs_left < len(fresh)
    if known:
        verdict = known[1]
    elif by is not None and _is_due(document, facts, last):
        verdict, decision = _decision(context, document, facts, curve, by, spent=spent)
    else:
        judgement = _judge(context, document, facts, curve)
        verdict = leasing.verdict(facts.held, prune=judgement.stop, spent=spent)
    # What another replica stores meanwhile is not in this count: then the next report looks again.
    then = Holder(
        facts.study_id,
        facts.number,
        last.step,
        facts.reported + len(fresh),
        curve,
        facts.epochs,
        facts.runs_until if decision is None else decision.runs_until,
    )
    # A trial that stops for another reason than the pruner's has not been stopped by it.
    why = judgement.reason if judgement.stop == (verdict == "stop") else None
    new = NewReports(lease, fresh, verdict, reason=why)
    return _Decided(new, then, facts.ttl_s, decision)


def _decision(
    context: Context,
    document: StudyDocument,
    facts: LeaseFacts,
    curve: Mapping[int, float | None],
    by: Deciding,
    *,
    spent: bool,
) -> tuple[Verdict, Decision | None]:
    """Ask the search, where nothing outranks it and the trial has come to the end of what it was given."""
    verdict = leasing.verdict(facts.held, prune=False, spent=spent)
    if verdict != "continue":
        return verdict, None
    decision = context.sampling.decide(
        facts.study_id,
        document,
        facts.number,
        tuple(sorted(curve.items())),
        may_begin=by.may_begin,
        next_number=by.next_number,
    )
    if decision.verdict == "pause" and facts.held.study_state == "stopping":
        decision = replace(decision, verdict="stop")  # nobody will take it up again
    return decision.verdict, decision


def _judge(
    context: Context,
    document: StudyDocument,
    facts: LeaseFacts,
    curve: Mapping[int, float | None],
) -> Judgement:
    points = tuple(sorted(curve.items()))
    try:
        return context.sampling.prune(
            facts.study_id, document, facts.number, points, facts.epochs
        )
    except SamplingFailed as error:
        # What was trained is kept, whatever became of the judge.
        studies.set_aside(context, facts.study_name, facts.study_id, str(error))
        return GO_ON


def _fresh(batch: Sequence[Report], stored: Stored) -> tuple[Report, ...]:
    """The reports that are not stored yet; a step that is, or comes twice, must have the same value."""
    fresh: dict[int, Report] = {}
    for one in batch:
        known = stored.by_step.get(one.step)
        if known is not None and known[0] != one.value:
            raise StepConflict(
                f"Another value is already stored for step {one.step} of this attempt."
            )
        if known is None and fresh.setdefault(one.step, one).value != one.value:
            raise StepConflict(f"The batch has two values for step {one.step}.")
    return tuple(fresh.values())


def _reporting(facts: LeaseFacts | None) -> LeaseFacts:
    held = live(facts)
    if held.held.kind != "trial":
        raise Conflict(_WITHOUT_REPORTS[held.held.kind])
    return held
