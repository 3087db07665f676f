"""What a process remembers of one active study."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import assert_never

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

from service.domain import pruning
from service.domain.decisions import Decision
from service.domain.facts import Changes, Cursor, Curve
from service.sampling import grid
from service.sampling.asking import ask
from service.sampling.decisions import Decisions
from service.sampling.distributions import distributions, internal
from service.sampling.gaussian import GaussianSampler
from service.sampling.history import History
from service.sampling.initial import InitialDesign
from service.sampling.proposals import Exhausted, Next, Proposal, Resumption, Waiting
from service.sampling.scheduling.choosing import scheduler_for
from service.sampling.scheduling.scheduler import Asked, Begin, Choice, GoOn, Wait
from service.sampling.tpe import JointTPE, Shown
from trimtab.contract.auto_search import AutoPruner
from trimtab.contract.metrics import Direction
from trimtab.contract.pruners import MedianPruner, NoPruner, Pruner
from trimtab.contract.schedulers import AshaScheduler, FreezeThawScheduler, HyperbandScheduler
from trimtab.contract.search_space import Scalar
from trimtab.contract.starts import PRIOR
from trimtab.contract.studies import Search, StudyDocument

REREAD_AFTER_S = 1.0
"""How old a history may be for pruning, and how long a stored proposal may take to appear in it."""


@dataclass(eq=False, slots=True)
class Pending:
    """A proposal that the history does not show yet."""

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
    ) -> None:
        self._space = document.space
        self._direction: Direction = document.task.direction
        self._distributions = distributions(document.space)
        self._jsons = {
            name: distribution_to_json(found) for name, found in self._distributions.items()
        }
        self._initial = InitialDesign(document, self._distributions)
        self._epochs = document.recipe({}).epochs
        self._read = read
        self._monotonic = monotonic
        self._largest_shown = largest_shown
        self._proposing = Lock()
        self._reading = Lock()
        self._history = History(self._direction)
        self._read_at: float | None = None
        self._changed = True
        self._shown = Shown(self._distributions)
        self._gaussian = _gaussian(document)
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
        self, search: Search, claim_id: str | None, next_number: int
    ) -> tuple[Proposal | Exhausted, Pending | None]:
        """Return a proposal, and the note of it that `settle` or `drop` must be handed in the end."""
        if search.sampler == "grid":
            return self._cell(next_number), None
        if next_number < self._initial.length:
            return self._first(search, next_number)
        proposal, pending = self._by_chance(search, claim_id, next_number)
        if claim_id is None:
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

    def judge(
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
            return self._decisions.judge(asked, number, curve)

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
            pending = Pending(next_number, proposal.values)
            self._pending.append(pending)
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

    def should_prune(self, search: Search, curve: Curve, epochs: int | None) -> bool:
        """Tell whether the study's pruner gives up on a running trial with this curve, which is to have `epochs`."""
        judge = self._judge(search.pruner, epochs)
        if judge is None or not curve:
            return False
        with self._reading:
            self._refresh(REREAD_AFTER_S)
            return judge(curve)

    def should_prune_at_once(
        self, search: Search, curve: Curve, epochs: int | None
    ) -> bool | None:
        """Tell the same without waiting for anything; None when the history must be read first, or is being read."""
        judge = self._judge(search.pruner, epochs)
        if judge is None or not curve:
            return False
        if not self._reading.acquire(blocking=False):
            return None
        try:
            return judge(curve) if self._is_fresh(REREAD_AFTER_S) else None
        finally:
            self._reading.release()

    def _judge(self, pruner: Pruner, epochs: int | None) -> Callable[[Curve], bool] | None:
        """Return the rule over the history as it stands; None where nothing is judged, and no history read."""
        match pruner:
            case AshaScheduler() | HyperbandScheduler() | FreezeThawScheduler():
                return None  # these judge at their own epochs alone, by `judge`
            case NoPruner() | AutoPruner():
                return None
            case MedianPruner():
                return partial(self._by_median, pruner, epochs)
            case _:  # a kind without a case must not pass for another one
                assert_never(pruner)

    def _by_median(self, pruner: MedianPruner, epochs: int | None, curve: Curve) -> bool:
        peers = self._history.values_at(curve[-1][0], epochs)
        half = (self._epochs if epochs is None else epochs) // 2
        return pruning.median(
            curve,
            peers,
            # Few long trials must not judge all others in the epochs that only they have come to.
            self._history.completed if epochs is None else len(peers),
            direction=self._direction,
            startup_trials=pruner.startup_trials,
            warmup_epochs=half if pruner.warmup_epochs is None else pruner.warmup_epochs,
            min_trials=pruner.min_trials,
        )

    def _by_chance(
        self, search: Search, claim_id: str | None, next_number: int
    ) -> tuple[Proposal, Pending | None]:
        seed = seed_of(search.seed, f"trial {next_number}" if claim_id is None else claim_id)
        if search.sampler == "random":
            return self._drawn(seed, "random"), None
        with self._proposing:
            if self._gaussian is not None:
                return self._ask_gaussian(self._gaussian, seed, next_number)
            return self._ask_tpe(seed, next_number)

    def _first(self, search: Search, number: int) -> tuple[Proposal, Pending | None]:
        """The proposal of a trial that is made by its number; TPE must know of it before it is in the history."""
        start = self._initial.at(number)
        proposal = self._proposal(
            start.values, proposed_by=start.proposed_by, only_as_number=number
        )
        if search.sampler == "random":
            return proposal, None
        pending = Pending(number, proposal.values)
        self._pending.append(pending)
        return proposal, pending

    def _drawn(self, seed: int, by: str) -> Proposal:
        return self._proposal(
            self._initial.draw(seed), proposed_by=by if self._initial.known else None
        )

    def _cell(self, number: int) -> Proposal | Exhausted:
        values = grid.cell(self._space, number)
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
        stored = internal(self._distributions, values, self._jsons)
        return Proposal(values, stored, {}, proposed_by, only_as_number)

    def _ask_tpe(self, seed: int, next_number: int) -> tuple[Proposal, Pending]:
        trials, number, too_little_is_known = self._look(next_number)
        if too_little_is_known:
            proposal = self._drawn(seed, PRIOR)
        else:
            proposal = self._asked(seed, trials, number)
        pending = Pending(next_number, proposal.values)
        self._pending.append(pending)
        return proposal, pending

    def _ask_gaussian(
        self, sampler: GaussianSampler, seed: int, next_number: int
    ) -> tuple[Proposal, Pending]:
        in_flight = self._pending.copy()
        with self._reading:
            self._refresh(0.0)
            unseen = [pending.values for pending in in_flight if self._unseen(pending)]
            too_few = self._history.finished < self._initial.length
        values = None if too_few else sampler.propose(unseen, seed)
        if values is None:
            proposal = self._drawn(seed, PRIOR)
        else:
            proposal = self._proposal(values, proposed_by="gp")
        pending = Pending(next_number, proposal.values)
        self._pending.append(pending)
        return proposal, pending

    def _asked(self, seed: int, trials: list[FrozenTrial], number: int) -> Proposal:
        sampler = JointTPE(
            self._distributions, seed=seed, startup_trials=self._initial.left_to_tpe
        )
        proposal = ask(sampler, self._distributions, trials, number, self._direction)
        return replace(proposal, proposed_by="tpe" if self._initial.known else None)

    def _look(self, next_number: int) -> tuple[list[FrozenTrial], int, bool]:
        """Return all that TPE is to know, a number that no trial in it has, and whether that is too little for TPE.

        Of infeasible trials alone one would pass for a good one: TPE would stay where nothing can be trained. While others
        train or have crashed, so that fewer than the initial design have taught anything, the prior knows more than TPE.
        """
        # Taken before the history is read: what is committed in between is then known twice, not missed.
        in_flight = self._pending.copy()
        with self._reading:
            self._refresh(0.0)
            unseen = [pending for pending in in_flight if self._unseen(pending)]
            history = self._history.capped(self._largest_shown)
            number = max(self._history.next_number, next_number)
            few = self._history.finished < self._initial.length
            too_little = few or self._history.has_only_infeasible
        trials = self._shown.show(history)
        for pending in unseen:
            trials.append(self._shown.running(number, pending.values))
            number += 1
        return trials, number, too_little

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
            changed = self._history.apply(self._read(self._history.cursor))
            for one in (self._gaussian, self._decisions):
                if one is not None:
                    one.hear(changed)
        except BaseException:
            self._changed = True
            raise
        self._read_at = now


def _gaussian(document: StudyDocument) -> GaussianSampler | None:
    """The model of a study that is searched by one."""
    if document.search.sampler != "gp":
        return None
    strength = document.search.prior_strength
    return GaussianSampler(document.space, document.task.direction, strength)


def seed_of(study_seed: int | None, of: str) -> int:
    """Return 32 bits that depend on both alone: one seed for all proposals would make them twins."""
    digest = hashlib.blake2s(f"{study_seed}:{of}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
