"""A study's pruner: which rule judges a running trial, and by what of the history."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, assert_never

from service.domain import pruning
from service.domain.decisions import Decision
from service.domain.facts import Curve
from service.sampling.history import History
from service.sampling.seeds import seed_of
from trimtab.contract.auto_search import AutoPruner
from trimtab.contract.metrics import Direction
from trimtab.contract.pruners import (
    MedianPruner,
    NoPruner,
    PercentilePruner,
    PlateauPruner,
    Pruner,
    ThresholdPruner,
)
from trimtab.contract.reasons import AUDIT, LONGEST, Reason
from trimtab.contract.schedulers import AshaScheduler, FreezeThawScheduler, HyperbandScheduler
from trimtab.contract.search import Search

Rule = Callable[[Curve], Reason | None]
"""Returns why a running trial with this curve is to stop; None: it goes on."""


class _AgainstPeers(Protocol):
    """A rule that holds a trial against the completed ones."""

    def __call__(
        self,
        curve: Curve,
        peers: Sequence[float],
        completed: int,
        *,
        direction: Direction,
        startup_trials: int,
        warmup_epochs: int,
        min_trials: int,
    ) -> Reason | None: ...


@dataclass(frozen=True, slots=True)
class Judge:
    """Finds the rule of a study's pruner over its history as it stands.

    Attributes:
        history: the study's trials.
        direction: whether more or less is better.
        epochs: the number of epochs of trials whose epochs are not searched.
    """

    history: History
    direction: Direction
    epochs: int

    def rule(self, pruner: Pruner, epochs: int | None) -> Rule | None:
        """Return the rule for a trial; None where nothing is judged, and no history read.

        Args:
            pruner: the study's pruner.
            epochs: the number of epochs that the trial is to have; None where all have the same.
        """
        match pruner:
            case NoPruner() | AutoPruner():
                return None
            case AshaScheduler() | HyperbandScheduler() | FreezeThawScheduler():
                return None  # a scheduler decides by all trials, and at its own epochs alone
            case MedianPruner():
                return partial(self._by_peers, pruning.median, pruner, epochs)
            case PercentilePruner():
                best = partial(pruning.percentile, kept=pruner.percentile)
                return partial(self._by_peers, best, pruner, epochs)
            case ThresholdPruner():
                return partial(
                    pruning.threshold,
                    lower=pruner.lower,
                    upper=pruner.upper,
                    warmup_epochs=pruner.warmup_epochs,
                )
            case PlateauPruner():
                return partial(
                    pruning.plateau,
                    patience=pruner.patience,
                    min_delta=pruner.min_delta,
                    warmup_epochs=pruner.warmup_epochs,
                    direction=self.direction,
                )
            case _:  # a kind without a case must not pass for another one
                assert_never(pruner)

    def _by_peers(
        self,
        rule: _AgainstPeers,
        pruner: MedianPruner | PercentilePruner,
        epochs: int | None,
        curve: Curve,
    ) -> Reason | None:
        peers = self.history.values_at(curve[-1][0], epochs)
        half = (self.epochs if epochs is None else epochs) // 2
        return rule(
            curve,
            peers,
            # Few long trials must not judge all others in the epochs that only they have come to.
            self.history.completed if epochs is None else len(peers),
            direction=self.direction,
            startup_trials=pruner.startup_trials,
            warmup_epochs=half if pruner.warmup_epochs is None else pruner.warmup_epochs,
            min_trials=pruner.min_trials,
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the pruner says to a running trial's report.

    Attributes:
        stop: whether it is to stop.
        reason: why it is to stop, or would be were it not audited; None: it is worth its next epoch.
    """

    stop: bool
    reason: Reason | None


GO_ON = Judgement(stop=False, reason=None)


def judged(found: Reason | None, search: Search, number: int) -> Judgement:
    """Return what becomes of a trial that a rule has found something against, or nothing.

    Args:
        found: why the rule would stop the trial; None: it would not.
        search: the document's share of audited trials, and its seed.
        number: the trial's number.
    """
    if found is None:
        return GO_ON
    if found.rule == pruning.NOT_FINITE or not audited(search, number):
        return Judgement(stop=True, reason=found)
    return Judgement(stop=False, reason=_of_audit(found, "stopped"))


def unless_audited(decision: Decision, search: Search, number: int, curve: Curve) -> Decision:
    """Return what was decided on a trial, or that it runs to its end where it is audited.

    Args:
        decision: the decision of the scheduler.
        search: the document's share of audited trials, and its seed.
        number: the trial's number.
        curve: the trial's values; no further epoch mends a last one that is not finite.
    """
    worse = {"stop": "stopped", "pause": "been paused"}.get(decision.verdict)
    why = decision.reason
    if worse is None or why is None or curve[-1][1] is None or not audited(search, number):
        return decision
    return Decision("continue", None, _of_audit(why, worse))


def _of_audit(why: Reason, otherwise: str) -> Reason:
    told = f"It runs on for the audit, where it would have {otherwise}. {why.text}"
    return Reason(rule=AUDIT, text=told[:LONGEST], epoch=why.epoch, expected=why.expected)


def audited(search: Search, number: int) -> bool:
    """Whether the trial of this number is among those that run to their end whatever the rules say.

    It depends on the seed and the number alone, so that every process and every attempt decides alike.
    """
    return seed_of(search.seed, f"audit {number}") < search.audit * 2**32
