"""Claims of one new trial each, by workers that are free to run it; of one worker, as many as it has free slots."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg2

from service.domain.serving import Claim, Work, distribute, is_alone, storable_at_once
from service.grouping import Grouping
from service.sampling import Exhausted, Proposal, SamplingFailed
from service.storage.engine import Locked
from service.storage.lane import Lane
from service.storage.leases import LeaseRow
from service.storage.looking import LOOK, SEEN, Asking, seen, to_look
from service.storage.statements import array
from service.storage.trials import START, NewTrial, started, to_start
from service.use_cases.claims import new_trial, proposal_key, shape
from service.use_cases.context import Context, Holder
from trimtab.contract.leases import LeaseRequest, Leases
from trimtab.contract.studies import StudyDocument

NOTHING = Leases(leases=())


@dataclass(frozen=True, slots=True)
class Chosen:
    """The study that is to serve a claim; None: no study has work, or none that the claim may have."""

    study: Work | None
    is_quiet: bool
    is_alone: bool = False
    """Whether no worker but this one seems to have trials of the study."""


@dataclass(frozen=True, slots=True)
class Starting:
    """A proposal on its way to the database."""

    study_id: int
    trial: NewTrial
    is_quiet: bool


class Claiming:
    """Two lanes, one to look and one to store; between them the sampler proposes, outside of both.

    Args:
        context: the rooms below.
        look: a connection.
        store: another.
        aside: runs a function in a thread.
    """

    def __init__(
        self,
        context: Context,
        look: Lane,
        store: Lane,
        aside: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._context = context
        self._aside = aside
        self._look_lane, self._store_lane = look, store
        self._looking = Grouping(self._look)
        self._storing = Grouping(self._store)
        self._proposing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._next_number: dict[int, int] = {}

    async def claim(self, request: LeaseRequest) -> Leases | None:
        """Do as `claims.claim`; None when it must go the whole way."""
        if request.capacity != 1:
            return None
        chosen = await self._looking.submit(request)
        if chosen is None or chosen.study is None:
            return None if chosen is None or chosen.is_quiet else NOTHING
        document = self._context.documents.known(chosen.study.study_id)
        if document is None or document.search.sampler == "grid" or chosen.study.has_queued:
            return None
        try:
            row = await self._start(request, chosen, chosen.study, document)
        except SamplingFailed:
            return None  # the whole way sets the study aside, and serves the next
        if row is None:
            return None
        self._context.holders.note(row.lease_id, Holder(row.study_id))
        return Leases(leases=(shape(row, document),))

    async def _look(self, requests: Sequence[LeaseRequest]) -> list[Chosen | None]:
        rows = await self._look_lane.rows(
            LOOK,
            **to_look([one.worker_id for one in requests], [one.claim_id for one in requests]),
        )
        asking, studies = seen(rows)
        free = _free(requests, asking)
        served = distribute(studies, list(free.values()))
        taken: Counter[UUID | None] = Counter()
        chosen: dict[int, Chosen] = {}
        for (place, claim), study in zip(free.items(), served, strict=True):
            holding = claim.holding + taken[claim.worker]
            alone = study is not None and is_alone(study.running, holding)
            chosen[place] = Chosen(study, asking[place].is_quiet, alone)
            taken[claim.worker] += study is not None
        return [chosen.get(place) for place in range(len(requests))]

    async def _start(
        self, request: LeaseRequest, chosen: Chosen, study: Work, document: StudyDocument
    ) -> LeaseRow | None:
        key = proposal_key(request, 0, alone=chosen.is_alone)
        async with self._proposal(key, study, document) as proposal:
            if isinstance(proposal, Exhausted):
                return None
            trial = new_trial(proposal, request, ordinal=0)
            starting = Starting(study.study_id, trial, chosen.is_quiet)
            row = await self._storing.submit(starting)
            if row is None:
                self._next_number.pop(study.study_id, None)
            return row

    @asynccontextmanager
    async def _proposal(
        self, key: str | None, study: Work, document: StudyDocument
    ) -> AsyncGenerator[Proposal | Exhausted]:
        """As `Sampling.proposal`; mathematics and reading in a thread, of which each study occupies one."""
        proposing = self._context.sampling.proposal(
            study.study_id,
            document,
            claim_id=key,
            next_number=study.trials_created if key else self._own_number(study),
        )
        if document.search.sampler == "random":
            proposal = proposing.__enter__()
        else:
            async with self._proposing[study.study_id]:
                proposal = await self._aside(proposing.__enter__)
        try:
            yield proposal
        except BaseException as error:
            proposing.__exit__(type(error), error, error.__traceback__)
            raise
        proposing.__exit__(None, None, None)

    def _own_number(self, study: Work) -> int:
        """The number of the next trial, if those on their way to the database arrive."""
        number = max(study.trials_created, self._next_number.get(study.study_id, 0))
        self._next_number[study.study_id] = number + 1
        return number

    async def _store(self, starting: Sequence[Starting]) -> list[LeaseRow | None]:
        """Store the proposals of each study with one statement; None for each that was not stored."""
        stored: dict[int, LeaseRow] = {}
        for study_id in dict.fromkeys(one.study_id for one in starting):
            of_study = [n for n, one in enumerate(starting) if one.study_id == study_id]
            for places in storable_at_once(
                [starting[n].trial.only_as_number for n in of_study]
            ):
                some = [of_study[place] for place in places]
                rows = await self._store_some(study_id, [starting[place] for place in some])
                stored |= {some[place]: row for place, row in rows}
        return [stored.get(place) for place in range(len(starting))]

    async def _store_some(
        self, study_id: int, starting: Sequence[Starting]
    ) -> list[tuple[int, LeaseRow]]:
        quiet = [one.trial.worker_id for one in starting if one.is_quiet]
        statements = (SEEN, START) if quiet else (START,)
        try:
            rows = await self._store_lane.rows(
                *statements,
                quiet_ids=array(quiet),
                **to_start(study_id, [one.trial for one in starting]),
            )
        except (psycopg2.IntegrityError, Locked):
            return []
        return [started(row) for row in rows]


def _free(requests: Sequence[LeaseRequest], asking: Mapping[int, Asking]) -> dict[int, Claim]:
    """The claims, by place, that may be given a lease as a matter of course, each for a slot of its own."""
    taking: Counter[UUID] = Counter()
    claims: set[UUID] = set()
    free: dict[int, Claim] = {}
    for place, one in enumerate(requests):
        worker = asking.get(place)
        if worker and one.claim_id not in claims and worker.may_take(taking[one.worker_id]):
            free[place] = Claim(one.beside, worker.running, one.worker_id)
            taking[one.worker_id] += 1
            claims.add(one.claim_id)
    return free
