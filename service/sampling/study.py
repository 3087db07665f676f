"""What a process remembers of one active study."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from threading import Lock

from optuna.distributions import distribution_to_json

from service.domain.decisions import Decision
from service.domain.facts import Changes, Cursor, Curve
from service.sampling.arms import Arms
from service.sampling.canonical import Canonical
from service.sampling.decisions import Decisions
from service.sampling.distributions import distributions, internal
from service.sampling.gaussian import GaussianSampler
from service.sampling.grid import Cells
from service.sampling.history import History
from service.sampling.initial import InitialDesign
from service.sampling.inside import Inside
from service.sampling.joint import Kernels, attributes, joint_tpe
from service.sampling.judging import GO_ON, Judge, Judgement, judged, unless_audited
from service.sampling.models import gaussian_of
from service.sampling.pareto import ParetoSampler
from service.sampling.proposals import Exhausted, Next, Proposal, Resumption, Waiting
from service.sampling.scheduling.choosing import scheduler_for
from service.sampling.scheduling.scheduler import Asked, Begin, Choice, GoOn, Wait
from service.sampling.seeds import seed_of
from service.sampling.untried import Untried
from trimtab.contract.metrics import Direction
from trimtab.contract.search import Search
from trimtab.contract.search_space import Scalar
from trimtab.contract.starts import PRIOR, Start
from trimtab.contract.studies import StudyDocument

REREAD_AFTER_S = 1.0
"""How old a history may be for pruning, and how long a stored proposal may take to appear in it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a proposal is made from.

    Attributes:
        in_flight: the values of proposals that the history does not show yet.
        tried: the cells that were tried, or are about to be, where the space has finitely many.
        finished: the number of trials that have taught what they can.
        has_only_infeasible: whether some have ended, and every one of those was infeasible.
        number: the number of the next trial, if all that is in flight is stored.
    """

    in_flight: Sequence[Mapping[str, Scalar]]
    tried: Set[int]
    finished: int
    has_only_infeasible: bool
    number: int


@dataclass(eq=False, slots=True)
class Pending:
    """A proposal that the history does not show yet; its point is whole, as models see it."""

    lowest_number: int
    values: Mapping[str, Scalar]
    left_at: float | None = None
    """When the caller had stored it; None while it is at it."""


class ActiveStudy:
    """The history, the proposals in flight and the two locks of one study.

    `_proposing` is held over the sampler's mathematics, so that each proposal knows the one before.
    `_reading` is held while the history is read or looked up, never during mathematics: a report does
    not wait for a proposal.
    """

    def __init__(
        self,
        document: StudyDocument,
        read: Callable[[Cursor | None], Changes],
        monotonic: Callable[[], float],
        *,
        largest_shown: int | None,
        kernels: Kernels = "arrays",
    ) -> None:
        self.made_of = (document.starts, document.space_edits)
        """The parts of the document that it was made of and that may change."""
        self._inside = Inside(document)
        self._canonical = Canonical(document.space)
        self._cells = Cells(document.space)
        self._direction: Direction = document.task.direction
        self._distributions = distributions(document.space)
        self._jsons = {
            name: distribution_to_json(found) for name, found in self._distributions.items()
        }
        self._initial = InitialDesign(document, self._distributions)
        self._read = read
        self._monotonic = monotonic
        self._proposing = Lock()
        self._reading = Lock()
        self._history = History(self._direction)
        self._judge = Judge(self._history, self._direction, document.usual_epochs)
        self._read_at: float | None = None
        self._changed = True
        self._untried = Untried(document.space)
        self._arms = Arms(document.space, document.search_budget.trials)
        self.is_immediate = document.search.sampler == "random" and not self._untried.is_counted
        """Whether proposals take no reading of the history and no mathematics."""
        self._tpe = joint_tpe(
            kernels, self._distributions, self._direction, largest_shown, self._canonical
        )
        self._gaussian = gaussian_of(document)
        # Only single appends and removals, which Python makes atomic: whoever leaves must not wait for a lock.
        self._pending: list[Pending] = []
        self.deciding = Lock()
        """Held by the caller from a decision of the scheduler until that is stored."""
        scheduler = scheduler_for(document)
        self._decisions = Decisions(scheduler, self._history.get) if scheduler else None

    def touch(self) -> None:
        """Note that the history is out of date."""
        self._changed = True

    def propose(
        self,
        search: Search,
        claim_id: str | None,
        next_number: int,
        *,
        asked_at: float | None = None,
    ) -> tuple[Proposal | Exhausted, Pending | None]:
        """Return a proposal, and the note of it that `settle` or `drop` must be handed in the end."""
        if search.sampler == "grid":
            return self._cell(next_number), None
        start = self._initial.at(next_number) if next_number < self._initial.length else None
        if start is not None:
            return self._first(next_number, start)
        proposal, pending = self._by_chance(search, claim_id, next_number, asked_at)
        if claim_id is None and isinstance(proposal, Proposal):
            proposal = replace(proposal, only_as_number=next_number)
        return proposal, pending

    def next(
        self, search: Search, claim_id: str | None, next_number: int, *, may_begin: bool
    ) -> tuple[Next, Pending | None]:
        """Return what a free worker is to do; the rest is as in `propose`."""
        if self._decisions is None:
            if not may_begin:
                return Exhausted(), None
            return self.propose(search, claim_id, next_number)
        seed = seed_of(search.seed, f"next {next_number if claim_id is None else claim_id}")
        match self._choose(self._decisions, Asked(None, may_begin, next_number, (), seed)):
            case Begin() as begin:
                return self._begun(search, claim_id, next_number, begin)
            case GoOn(number=number, runs_until=runs_until, reason=reason):
                return Resumption(number, runs_until, reason), None
            case Wait():
                return Waiting(), None
            case _:
                return Exhausted(), None

    def decide(
        self, search: Search, number: int, curve: Curve, *, may_begin: bool, next_number: int
    ) -> Decision:
        """Return what becomes of a trial that has come to the end of what it was given, with this curve.

        Raises:
            LookupError: the study has no scheduler, or its history no such trial.
        """
        if self._decisions is None:
            raise LookupError("nothing pauses the trials of this study")
        seed = seed_of(search.seed, f"report {number} {curve[-1][0]}")
        with self._proposing:
            asked = self._as_known(Asked(number, may_begin, next_number, (), seed))
            decision = self._decisions.decide(asked, number, curve)
        return unless_audited(decision, search, number, curve)

    def _choose(self, decisions: Decisions, asked: Asked) -> Choice:
        with self._proposing:
            return decisions.choose(self._as_known(asked))

    def _as_known(self, asked: Asked) -> Asked:
        """Read the history anew, and return the question with what it does not show yet."""
        in_flight = self._pending.copy()
        with self._reading:
            self._refresh(0.0)
            unseen = [pending.values for pending in in_flight if self._unseen(pending)]
        return replace(asked, in_flight=unseen)

    def _begun(
        self, search: Search, claim_id: str | None, next_number: int, begin: Begin
    ) -> tuple[Next, Pending | None]:
        """The new trial; what is to be done without one, where the space has no point left."""
        given = None if next_number < self._initial.length else begin.values
        if given is None:
            proposal, pending = self.propose(search, claim_id, next_number)
        else:
            proposal = self._proposal(given, proposed_by=begin.proposed_by)
            pending = self._noted(next_number, proposal)
        if isinstance(proposal, Exhausted):
            return self.next(search, claim_id, next_number, may_begin=False)
        told = replace(proposal, runs_until=begin.runs_until, reason=begin.reason)
        return told, pending

    def settle(self, pending: Pending) -> None:
        """Note that the proposal was stored; it counts as running until the history shows it."""
        pending.left_at = self._monotonic()

    def drop(self, pending: Pending) -> None:
        """Forget a proposal that was not stored."""
        self._pending.remove(pending)

    def prune(self, search: Search, number: int, curve: Curve, epochs: int | None) -> Judgement:
        """Judge the running trial of this number and curve, which is to have `epochs`, by the study's pruner."""
        rule = self._judge.rule(search.pruner, epochs)
        if rule is None or not curve:
            return GO_ON
        with self._reading:
            self._refresh(REREAD_AFTER_S)
            return judged(rule(curve), search, number)

    def prune_at_once(
        self, search: Search, number: int, curve: Curve, epochs: int | None
    ) -> Judgement | None:
        """Do the same without waiting for anything; None when the history must be read first, or is being read."""
        rule = self._judge.rule(search.pruner, epochs)
        if rule is None or not curve:
            return GO_ON
        if not self._reading.acquire(blocking=False):
            return None
        try:
            if not self._is_fresh(REREAD_AFTER_S):
                return None
            return judged(rule(curve), search, number)
        finally:
            self._reading.release()

    def _by_chance(
        self,
        search: Search,
        claim_id: str | None,
        next_number: int,
        asked_at: float | None,
    ) -> tuple[Proposal | Exhausted, Pending | None]:
        seed = seed_of(search.seed, f"trial {next_number}" if claim_id is None else claim_id)
        if self.is_immediate:
            return self._drawn(seed, "random"), None
        with self._proposing:
            known = self._look(search, next_number, asked_at)
            proposal = self._sampled(search, seed, known)
            if isinstance(proposal, Exhausted):
                return proposal, None
            return proposal, self._noted(next_number, proposal)

    def _sampled(self, search: Search, seed: int, known: Known) -> Proposal | Exhausted:
        if search.sampler == "random":
            return self._untried_of(known, [self._initial.draw(seed)], seed, "random")
        if known.finished < self._initial.before_model or known.has_only_infeasible:
            return self._untried_of(known, [self._initial.draw(seed)], seed, PRIOR)
        if self._gaussian is not None:
            return self._by_gaussian(self._gaussian, known, seed)
        if known.finished < self._initial.left_to_tpe:
            drawn = self._initial.draws.draw(seed)
            return self._untried_of(known, [drawn], seed, "tpe")
        found = self._untried_of(known, self._tpe.candidates(seed), seed, "tpe")
        if isinstance(found, Exhausted):
            return found
        return replace(found, attributes=attributes(self._distributions, found.values))

    def _by_gaussian(
        self, sampler: GaussianSampler | ParetoSampler, known: Known, seed: int
    ) -> Proposal | Exhausted:
        arm = self._arms.untried(known.in_flight)
        values = None if arm else sampler.propose(known.in_flight, seed)
        if values is None:
            drawn = {**self._initial.draw(seed), **(arm or {})}
            return self._untried_of(known, [drawn], seed, PRIOR)
        return self._untried_of(known, [values], seed, "gp")

    def _untried_of(
        self, known: Known, candidates: Iterable[Mapping[str, Scalar]], seed: int, by: str
    ) -> Proposal | Exhausted:
        values = self._untried.first(candidates, known.tried, seed)
        if values is None:
            return Exhausted(known.number)
        return self._proposal(values, proposed_by=by if self._initial.known else None)

    def _first(self, number: int, start: Start) -> tuple[Proposal, Pending | None]:
        """The proposal of a trial that is made by its number; models must know of it before it is in the history."""
        proposal = self._proposal(
            start.values, proposed_by=start.proposed_by, only_as_number=number
        )
        if self.is_immediate:
            return proposal, None
        return proposal, self._noted(number, proposal)

    def _drawn(self, seed: int, by: str) -> Proposal:
        return self._proposal(
            self._initial.draw(seed), proposed_by=by if self._initial.known else None
        )

    def _cell(self, number: int) -> Proposal | Exhausted:
        values = self._cells.cell(number)
        if values is None:
            return Exhausted()
        return self._proposal(values, only_as_number=number)

    def _proposal(
        self,
        values: Mapping[str, Scalar],
        *,
        proposed_by: str | None = None,
        only_as_number: int | None = None,
    ) -> Proposal:
        active = self._canonical.active(values)
        stored = internal(self._distributions, active, self._jsons)
        return Proposal(active, stored, {}, proposed_by, only_as_number)

    def _noted(self, number: int, proposal: Proposal) -> Pending:
        """Let models know of a proposal before it is in the history."""
        pending = Pending(number, self._canonical.whole(proposal.values))
        self._pending.append(pending)
        return pending

    def _look(self, search: Search, next_number: int, asked_at: float | None) -> Known:
        """Read the history, and note what a sampler is to know of it.

        Of infeasible trials alone one would pass for a good one: TPE would stay where nothing can be trained. While others
        train or have crashed, so that too few have taught anything, the prior knows more than a model.
        """
        # Taken before the history is read: what is committed in between is then known twice, not missed.
        in_flight = self._pending.copy()
        with self._reading:
            # Claims that waited for this one's turn need no reading each: one that began after they came will do.
            if asked_at is None or self._read_at is None or self._read_at <= asked_at:
                self._refresh(0.0)
            history = self._history
            unseen = [pending.values for pending in in_flight if self._unseen(pending)]
            if search.sampler == "tpe":
                self._tpe.look(history, unseen, next_number)
            return Known(
                unseen,
                self._untried.tried(unseen),
                history.finished,
                history.has_only_infeasible,
                max(history.next_number, next_number) + len(unseen),
            )

    def _unseen(self, pending: Pending) -> bool:
        """Tell whether the history lacks the proposal but may yet show it."""
        seen = any(
            (trial := self._history.get(number)) and trial.hyperparameters == pending.values
            for number in range(pending.lowest_number, self._history.next_number)
        )
        if pending.left_at is None:
            return not seen
        late = self._monotonic() - pending.left_at >= REREAD_AFTER_S
        if seen or late:
            self._pending.remove(pending)
        return not (seen or late)

    def _is_fresh(self, largest_age: float) -> bool:
        return (
            not self._changed
            and self._read_at is not None
            and self._monotonic() - self._read_at < largest_age
        )

    def _refresh(self, largest_age: float) -> None:
        if self._is_fresh(largest_age):
            return
        now = self._monotonic()
        self._changed = False
        try:
            read = self._read(self._history.cursor)
            changed = self._history.apply(self._canonical.shown(self._inside.shown(read)))
            self._untried.learn(changed)
            self._arms.learn(changed)
            if self._gaussian is not None:
                self._gaussian.measured_on(read.validation_rows)
                self._gaussian.hear(changed)
            if self._decisions is not None:
                self._decisions.hear(changed)
        except BaseException:
            self._changed = True
            raise
        self._read_at = now
