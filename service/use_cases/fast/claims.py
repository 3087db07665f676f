"""Claims of one new trial each, by workers that have a free slot for it."""

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg2

from service.batching import Batcher
from service.domain.facts import epochs_of
from service.domain.serving import Claim, Work, distribute, is_alone, storable_at_once
from service.sampling import Exhausted, NotStored, Proposal, SamplingFailed
from service.storage.async_connection import AsyncConnection
from service.storage.claim_lookup import CLAIM_FACTS, MARK_SEEN, Asking, bind, seen
from service.storage.engine import Locked
from service.storage.leases import LeaseRow
from service.storage.statements import array
from service.storage.trials import START, NewTrial, started, to_start
from service.storage.turn import MOST_STUDIES
from service.use_cases.claims import new_trial, proposal_key
from service.use_cases.context import Context, Holder
from service.use_cases.lease_shape import shape
from trimtab.contract.leases import LeaseRequest, Leases
from trimtab.contract.studies import StudyDocument

PROPOSED_AT_ONCE = 16
"""The most proposals that one turn of a study's thread makes; the first of them waits for the last."""

Proposing = AbstractContextManager[Proposal | Exhausted]
"""A proposal that is made when it is entered, and settled or forgotten when it is left."""


@dataclass(frozen=True, slots=True)
class Served:
    """The claim has got what it asked for."""

    leases: Leases


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """No study has work that the claim may have: the full path would find none either."""


@dataclass(frozen=True, slots=True)
class TakeFullPath:
    """Something about the claim is unusual, or has changed since it was looked at: the full path knows what to say."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The study that is to serve a claim; `is_quiet`: the worker's time of being seen is to be noted anew."""

    study: Work
    is_quiet: bool
    is_alone: bool = False
    """Whether no worker but this one seems to have trials of the study."""


@dataclass(frozen=True, slots=True)
class Starting:
    """A proposal on its way to the database."""

    study_id: int
    trial: NewTrial
    is_quiet: bool
    space_edits: int = 0
    """How often the study's space had been changed when it was proposed."""


class FastClaims:
    """Serves many claims with two statements, one that looks and one that stores.

    Between them the sampler proposes, while the connections serve other claims.

    Args:
        context: the rooms below.
        look: the connection that the facts are read on.
        store: the connection that new trials are stored on.
        aside: runs a function in a thread.
    """

    def __init__(
        self,
        context: Context,
        look: AsyncConnection,
        store: AsyncConnection,
        aside: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._context = context
        self._aside = aside
        self._look_connection, self._store_connection = look, store
        self._looking = Batcher(self._look)
        self._storing = Batcher(self._store)
        # A thread waits for its turn beside the event loop longer than a proposal takes: one turn makes several.
        self._proposing: defaultdict[int, Batcher[Proposing, Proposal | Exhausted]] = (
            defaultdict(lambda: Batcher(self._propose, largest=PROPOSED_AT_ONCE))
        )
        self._next_number: dict[int, int] = {}

    async def claim(self, request: LeaseRequest) -> Served | NothingToDo | TakeFullPath:
        """Do as `claims.claim` for a claim of one new trial, and as little as possible for a claim that finds no work."""
        if request.capacity != 1:
            return TakeFullPath()
        chosen = await self._looking.submit(request)
        if not isinstance(chosen, Chosen):
            return chosen
        document = self._context.documents.known(chosen.study.study_id)
        # Points of a grid are numbered: claims that look at once would all be given the same one.
        if document is None or document.search.sampler == "grid" or chosen.study.has_queued:
            return TakeFullPath()
        if document.search.schedules:
            return TakeFullPath()  # which alone takes up what the search has paused
        # Of its row, since a document that is known may be older than an edit.
        if document.budget.limits or chosen.study.one_at_a_time:
            return TakeFullPath()
        try:
            row = await self._start(request, chosen, chosen.study, document)
        except SamplingFailed:
            return TakeFullPath()  # which sets the study aside, and serves the next
        if row is None:
            return TakeFullPath()
        epochs = epochs_of(row.hyperparameters)
        self._context.holders.note(
            row.lease_id, Holder(row.study_id, row.number, epochs=epochs)
        )
        return Served(Leases(leases=(shape(row, document),)))

    async def _look(
        self, requests: Sequence[LeaseRequest]
    ) -> list[Chosen | NothingToDo | TakeFullPath]:
        rows = await self._look_connection.rows(
            CLAIM_FACTS,
            **bind([one.worker_id for one in requests], [one.claim_id for one in requests]),
        )
        asking, studies = seen(rows)
        free = _free(requests, asking)
        found = _found(asking, free, studies, distribute(studies, list(free.values())))
        await self._mark_seen(
            [
                requests[place].worker_id
                for place, one in found.items()
                if isinstance(one, NothingToDo) and asking[place].is_quiet
            ]
        )
        return [found.get(place, TakeFullPath()) for place in range(len(requests))]

    async def _mark_seen(self, worker_ids: Sequence[UUID]) -> None:
        """Note that workers spoke for which nothing else will be stored."""
        if worker_ids:
            # Who holds a worker's row longer is another verb of that worker, which notes the same.
            with suppress(Locked):
                await self._look_connection.rows(MARK_SEEN, quiet_ids=array(worker_ids))

    async def _start(
        self, request: LeaseRequest, chosen: Chosen, study: Work, document: StudyDocument
    ) -> LeaseRow | None:
        key = proposal_key(request, 0, alone=chosen.is_alone)
        row = None
        async with self._proposal(key, study, document) as proposal:
            if isinstance(proposal, Exhausted):
                return None
            trial = new_trial(proposal, request, ordinal=0)
            edits = len(document.space_edits)
            starting = Starting(study.study_id, trial, chosen.is_quiet, edits)
            row = await self._storing.submit(starting)
            if row is None:
                self._next_number.pop(study.study_id, None)
                raise NotStored
        return row

    @asynccontextmanager
    async def _proposal(
        self, key: str | None, study: Work, document: StudyDocument
    ) -> AsyncGenerator[Proposal | Exhausted]:
        """Do as `Sampling.proposal`, in a thread where it reads or computes; each study occupies one thread at most.

        Claims that come meanwhile are the thread's next turn, with one reading of the history for all of them.
        """
        is_by_claim = key is not None and study.trials_created >= document.numbered_trials
        proposing = self._context.sampling.proposal(
            study.study_id,
            document,
            claim_id=key,
            next_number=study.trials_created if is_by_claim else self._own_number(study),
        )
        if self._context.sampling.is_immediate(study.study_id, document):
            proposal = proposing.__enter__()
        else:
            proposal = await self._proposing[study.study_id].submit(proposing)
        try:
            yield proposal
        except BaseException as error:
            if not proposing.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            proposing.__exit__(None, None, None)

    async def _propose(self, proposing: Sequence[Proposing]) -> Sequence[Proposal | Exhausted]:
        return await self._aside(lambda: entered(proposing))

    def _own_number(self, study: Work) -> int:
        """The number of the next trial, if those on their way to the database arrive."""
        number = max(study.trials_created, self._next_number.get(study.study_id, 0))
        self._next_number[study.study_id] = number + 1
        return number

    async def _store(self, starting: Sequence[Starting]) -> list[LeaseRow | None]:
        """Store the proposals of each study with one statement; None for each that was not stored."""
        stored: dict[int, LeaseRow] = {}
        for alike in dict.fromkeys((one.study_id, one.space_edits) for one in starting):
            of_study = [
                n for n, one in enumerate(starting) if (one.study_id, one.space_edits) == alike
            ]
            for places in storable_at_once(
                [starting[n].trial.only_as_number for n in of_study]
            ):
                some = [of_study[place] for place in places]
                rows = await self._store_some(*alike, [starting[place] for place in some])
                stored |= {some[place]: row for place, row in rows}
        return [stored.get(place) for place in range(len(starting))]

    async def _store_some(
        self, study_id: int, space_edits: int, starting: Sequence[Starting]
    ) -> list[tuple[int, LeaseRow]]:
        quiet = [one.trial.worker_id for one in starting if one.is_quiet]
        statements = (MARK_SEEN, START) if quiet else (START,)
        try:
            rows = await self._store_connection.rows(
                *statements,
                quiet_ids=array(quiet),
                **to_start(study_id, [one.trial for one in starting], space_edits=space_edits),
            )
        except (psycopg2.IntegrityError, Locked):
            return []
        return [started(row) for row in rows]


def entered(proposing: Sequence[Proposing]) -> list[Proposal | Exhausted]:
    """Make the proposals, each knowing those before it; where one fails, those before it are forgotten again."""
    with ExitStack() as made:
        proposals = [made.enter_context(one) for one in proposing]
        made.pop_all()
    return proposals


def _free(requests: Sequence[LeaseRequest], asking: Mapping[int, Asking]) -> dict[int, Claim]:
    """The claims by place that may each be given a free slot; what is unusual about the others the full path says."""
    taking: Counter[UUID] = Counter()
    claims: set[UUID] = set()
    free: dict[int, Claim] = {}
    for place, one in enumerate(requests):
        worker = asking.get(place)
        if worker and one.claim_id not in claims and worker.may_take(taking[one.worker_id]):
            free[place] = Claim(
                one.beside,
                worker.running,
                one.worker_id,
                frozenset(worker.set_aside),
                worker.gpu_memory_gb,
                worker.devices,
            )
            taking[one.worker_id] += 1
            claims.add(one.claim_id)
    return free


def _found(
    asking: Mapping[int, Asking],
    free: Mapping[int, Claim],
    read: Sequence[Work],
    served: Sequence[Work | None],
) -> dict[int, Chosen | NothingToDo | TakeFullPath]:
    """What each free claim has found, by place; a worker's claims that look at once count for each other."""
    taken: Counter[UUID | None] = Counter()
    found: dict[int, Chosen | NothingToDo | TakeFullPath] = {}
    for (place, claim), study in zip(free.items(), served, strict=True):
        if study is None:
            # Only some studies were read: there may be one that the worker can serve behind those that it cannot.
            is_cut_short = len(read) >= MOST_STUDIES
            may_be_more = claim.set_aside or (
                is_cut_short and not all(map(claim.may_have, read))
            )
            found[place] = TakeFullPath() if may_be_more else NothingToDo()
            continue
        alone = is_alone(study.running, claim.holding + taken[claim.worker])
        found[place] = Chosen(study, asking[place].is_quiet, alone)
        taken[claim.worker] += 1
    return found
