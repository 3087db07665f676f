"""Claims: a worker asks for work. A queued trial first; else the sampler proposes and one statement stores."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection

from service.domain import serving
from service.domain.facts import epochs_of
from service.sampling import (
    Exhausted,
    Next,
    NotStored,
    Proposal,
    Resumption,
    SamplingFailed,
)
from service.storage import leases, taking_up, trials, turn, workers
from service.storage.engine import Locked
from service.use_cases import deciding, reconciling, studies
from service.use_cases.context import Context, DocumentUnreadable, Holder
from service.use_cases.lease_shape import answer, members
from service.use_cases.races import TRIES, again
from trimtab.contract.external_leases import ExternalLeases
from trimtab.contract.leases import LeaseRequest, Leases
from trimtab.contract.problems import (
    LeaseLost,
    StudyDeleted,
    WorkerBusy,
    WorkerDraining,
    WorkerNotFound,
    WorkerQuarantined,
)
from trimtab.contract.studies import StudyDocument


def claim(context: Context, request: LeaseRequest) -> Leases | ExternalLeases:
    """Give the worker up to `capacity` leases, or as many as there is work for; a repeat gets the same ones.

    Raises:
        WorkerNotFound: the worker never registered here.
        WorkerQuarantined: it fails everything.
        WorkerDraining: it was asked to leave, and this claim has no lease that it would have to give back.
        WorkerBusy: it holds as many leases as it registered for.
        LeaseLost: the claim got its leases, and they are over.
    """
    rows = again(lambda: _claim(context, request))
    with context.database.statements() as connection:
        documents = [
            studies.document(context, row.study_id, connection, space_edits=row.space_edits)
            for row in rows
        ]
        of_models = [
            members(connection, row, document)
            for row, document in zip(rows, documents, strict=True)
        ]
    for row in rows:
        if row.kind == "trial":
            epochs = epochs_of(row.hyperparameters)
            holder = Holder(row.study_id, row.number, epochs=epochs, runs_until=row.runs_until)
            context.holders.note(row.lease_id, holder)
    return answer(rows, documents, of_models)


def _claim(context: Context, request: LeaseRequest) -> list[leases.LeaseRow]:
    with context.database.statements() as connection:
        worker = _known(workers.claimant(connection, request.worker_id))
        ordinal, rows = leases.of_claim(connection, request.worker_id, request.claim_id)
        if worker.is_quiet:
            workers.seen(connection, request.worker_id)
    if worker.is_draining:
        if rows:
            return rows
        raise WorkerDraining
    if ordinal == 0 and worker.running >= worker.capacity:
        raise WorkerBusy
    if ordinal >= request.capacity and not rows:
        raise LeaseLost("What this claim got is over: claim anew.")
    # A claim beside a study is told of the others' trials alone.
    holding = 0 if request.beside else worker.running
    while ordinal < request.capacity:
        with reconciling.strangers_make_way(context):
            row = _claim_one(context, request, ordinal, holding)
        if row is None:
            # Perhaps because the same claim, sent twice, was served at this moment.
            with context.database.statements() as connection:
                return leases.of_claim(connection, request.worker_id, request.claim_id)[1]
        rows.append(row)
        ordinal += 1
        holding += not request.beside
    return rows


def _known(worker: workers.Claimant | None) -> workers.Claimant:
    if worker is None:
        raise WorkerNotFound
    if worker.is_quarantined:
        raise WorkerQuarantined
    return worker


def _claim_one(
    context: Context, request: LeaseRequest, ordinal: int, holding: int
) -> leases.LeaseRow | None:
    candidates = _candidates(context, request)
    locked: Locked | None = None
    for candidate in candidates:
        try:
            row = _claim_of_study(context, candidate, request, ordinal, holding)
        except Locked as error:
            # Whoever holds this study for so long does not hold the others.
            locked = error
        else:
            if row is not None:
                return row
    if locked is not None:
        raise locked
    return None


def _candidates(context: Context, request: LeaseRequest) -> list[turn.Candidate]:
    """The studies that may serve the claim, in their order; beside a study only that one, and only at its turn."""
    beside = request.beside is not None
    with context.database.statements() as connection:
        listed = turn.candidates(
            connection,
            worker_id=request.worker_id,
            beside_worker=request.worker_id if beside else None,
        )
    if not beside:
        return listed
    return [first for first in listed[:1] if first.name == request.beside]


def _claim_of_study(
    context: Context,
    candidate: turn.Candidate,
    request: LeaseRequest,
    ordinal: int,
    holding: int,
) -> leases.LeaseRow | None:
    try:
        with context.database.statements() as connection:
            document = studies.document(
                context, candidate.study_id, connection, space_edits=candidate.space_edits
            )
        return _serve(context, candidate, document, request, ordinal, holding)
    except StudyDeleted:
        return None  # since it was listed
    except (DocumentUnreadable, SamplingFailed) as error:
        studies.set_aside(context, candidate.name, candidate.study_id, str(error))
        return None


def _serve(
    context: Context,
    candidate: turn.Candidate,
    document: StudyDocument,
    request: LeaseRequest,
    ordinal: int,
    holding: int,
) -> leases.LeaseRow | None:
    if candidate.has_queued:
        with (
            _in_turn(context, candidate, document),
            context.database.statements() as connection,
        ):
            row = leases.claim_queued(
                connection,
                candidate.study_id,
                worker_id=request.worker_id,
                claim_id=request.claim_id,
                ordinal=ordinal,
                only_trials=request.beside is not None,
            )
        if row is not None:
            return row
    if document.search.schedules or candidate.one_at_a_time:
        return _search(context, candidate, document, request, ordinal, holding)
    if not candidate.may_propose:
        return None
    return _propose(context, candidate, document, request, ordinal, holding)


@contextmanager
def _in_turn(
    context: Context, candidate: turn.Candidate, document: StudyDocument
) -> Generator[None]:
    """Let nobody else take the last epoch or the last place, where the study counts its epochs or its leases."""
    if candidate.one_at_a_time:
        with deciding.alone(context, candidate.study_id, document):
            yield
    else:
        yield


def _search(
    context: Context,
    candidate: turn.Candidate,
    document: StudyDocument,
    request: LeaseRequest,
    ordinal: int,
    holding: int,
) -> leases.LeaseRow | None:
    """Begin a trial or take one up again, as the search chooses while nobody else decides on its trials."""
    if not (candidate.may_propose or candidate.has_paused):
        return None
    key = proposal_key(request, ordinal, alone=serving.is_alone(candidate.running, holding))
    chosen, row = None, None
    with deciding.alone(context, candidate.study_id, document) as study:
        if not study.is_searched:
            return None  # since it was listed
        # A trial that is to be taken up may have been cancelled since: then the search chooses again.
        for _ in range(TRIES):
            chosen, row = _chosen(context, candidate, document, request, ordinal, study, key)
            if row is not None or not isinstance(chosen, Resumption):
                break
    # Where nothing pauses trials and none may begin, what runs may yet change that.
    if isinstance(chosen, Exhausted) and (study.may_begin or document.search.schedules):
        studies.exhaust(context, document.name, candidate.study_id, study.next_number)
    return row


def _chosen(
    context: Context,
    candidate: turn.Candidate,
    document: StudyDocument,
    request: LeaseRequest,
    ordinal: int,
    study: deciding.Deciding,
    key: str | None,
) -> tuple[Next, leases.LeaseRow | None]:
    """What the search chooses, and the lease that came of it; None where nothing was to be leased, or could be."""
    row = None
    with context.sampling.next(
        candidate.study_id,
        document,
        claim_id=key,
        next_number=study.next_number,
        may_begin=study.may_begin,
    ) as chosen:
        if isinstance(chosen, Resumption):
            row = _take_up(study.connection, candidate, chosen, request, ordinal)
        elif isinstance(chosen, Proposal):
            new = new_trial(chosen, request, ordinal)
            edits = len(document.space_edits)
            row = trials.start(
                study.connection, candidate.study_id, new, in_turn=True, space_edits=edits
            )
            if row is None:
                raise NotStored
    return chosen, row


def _take_up(
    connection: Connection,
    candidate: turn.Candidate,
    chosen: Resumption,
    request: LeaseRequest,
    ordinal: int,
) -> leases.LeaseRow | None:
    return taking_up.take_up(
        connection,
        candidate.study_id,
        chosen.number,
        chosen.runs_until,
        chosen.reason,
        worker_id=request.worker_id,
        claim_id=request.claim_id,
        ordinal=ordinal,
    )


def _propose(
    context: Context,
    candidate: turn.Candidate,
    document: StudyDocument,
    request: LeaseRequest,
    ordinal: int,
    holding: int,
) -> leases.LeaseRow | None:
    row, overtaken = _start(context, candidate, document, request, ordinal, holding)
    while overtaken:
        now = _anew(context, candidate, request)
        if now is None:
            return None
        candidate = now
        row, overtaken = _start(context, candidate, document, request, ordinal, holding)
    return row


def _anew(
    context: Context, candidate: turn.Candidate, request: LeaseRequest
) -> turn.Candidate | None:
    """The study as it is now, if it has moved on and may still propose."""
    for now in _candidates(context, request):
        if now.study_id == candidate.study_id and now.may_propose:
            return now if now.trials_created > candidate.trials_created else None
    return None


def _start(
    context: Context,
    candidate: turn.Candidate,
    document: StudyDocument,
    request: LeaseRequest,
    ordinal: int,
    holding: int,
) -> tuple[leases.LeaseRow | None, bool]:
    """Store what the sampler proposes; true when it may be that another claim has taken the proposal's number."""
    with context.sampling.proposal(
        candidate.study_id,
        document,
        claim_id=proposal_key(
            request, ordinal, alone=serving.is_alone(candidate.running, holding)
        ),
        next_number=candidate.trials_created,
    ) as proposal:
        if not isinstance(proposal, Exhausted):
            with context.database.statements() as connection:
                new = new_trial(proposal, request, ordinal)
                edits = len(document.space_edits)
                row = trials.start(connection, candidate.study_id, new, space_edits=edits)
            if row is None:
                raise NotStored
            return row, False
    if isinstance(proposal, Proposal):
        return None, proposal.only_as_number is not None
    number = candidate.trials_created if proposal.at_number is None else proposal.at_number
    studies.exhaust(context, document.name, candidate.study_id, number)
    return None, False


def proposal_key(request: LeaseRequest, ordinal: int, *, alone: bool) -> str | None:
    """What a proposal is made of: of one worker the trial number, so that it is repeatable; else of the claim."""
    return None if alone else f"{request.claim_id}/{ordinal}"


def new_trial(proposal: Proposal, request: LeaseRequest, ordinal: int) -> trials.NewTrial:
    """The proposal as the trial of the one who asked for it."""
    return trials.NewTrial(
        values=proposal.values,
        internal=proposal.internal,
        attributes=proposal.attributes,
        proposed_by=proposal.proposed_by,
        only_as_number=proposal.only_as_number,
        worker_id=request.worker_id,
        claim_id=request.claim_id,
        ordinal=ordinal,
        runs_until=proposal.runs_until,
        reason=proposal.reason,
    )
