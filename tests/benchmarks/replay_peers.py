"""The peers of the replay: plain Optuna, as a person's script drives it, and Syne Tune's asynchronous schedulers."""

from collections.abc import Callable, Mapping

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

from service.sampling.distributions import distributions
from tests.benchmarks.replay_simulator import Job, Verdict
from tests.benchmarks.replay_tasks import Task
from tests.benchmarks.replay_venv import Desk


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(multivariate=True, constant_liar=True, seed=seed)


def _random(seed: int) -> BaseSampler:
    return RandomSampler(seed)


def _median(_epochs: int) -> BasePruner:
    return MedianPruner()


def _hyperband(epochs: int) -> BasePruner:
    return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)


def _none(_epochs: int) -> BasePruner:
    return NopPruner()


OPTUNAS: Mapping[str, tuple[Callable[[int], BaseSampler], Callable[[int], BasePruner]]] = {
    "optuna random": (_random, _none),
    "optuna tpe": (_tpe, _none),
    "optuna tpe+median": (_tpe, _median),
    "optuna tpe+hyperband": (_tpe, _hyperband),
}
SYNE_TUNES: Mapping[str, str] = {"syne-tune asha": "ASHA", "syne-tune bohb": "BOHB"}
"""The names of the sides, and those of the schedulers. BOHB is ASHA with kernel densities, in Syne Tune's words."""


class OfOptuna:
    """A study of plain Optuna in memory; a stopped trial is told as pruned, whatever its last value."""

    def __init__(self, task: Task, name: str, *, seed: int) -> None:
        sampler, pruner = OPTUNAS[name]
        self._study = optuna.create_study(
            study_name=f"replay {seed}",  # Hyperband draws its brackets by the name
            direction="maximize" if task.maximizes else "minimize",
            sampler=sampler(seed),
            pruner=pruner(task.epochs),
        )
        self._space = dict(distributions(task.space))
        self._trials: dict[int, Trial] = {}

    def claim(self, worker: int) -> Job:
        trial = self._study.ask(self._space)
        self._trials[trial.number] = trial
        return Job(trial.number, trial.params)

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        trial = self._trials[number]
        trial.report(value, epoch)
        return "stop" if trial.should_prune() else "continue"

    def complete(self, number: int, value: float) -> None:
        self._study.tell(number, value)

    def stop(self, number: int) -> None:
        self._study.tell(number, state=TrialState.PRUNED)

    def pause(self, number: int) -> None:
        raise NotImplementedError("Optuna pauses nothing")

    def fail(self, number: int) -> None:
        self._study.tell(number, state=TrialState.FAIL)


class OfSyneTune:
    """One of Syne Tune's schedulers in the process that knows it."""

    def __init__(self, desk: Desk, task: Task, name: str, *, seed: int) -> None:
        self._desk = desk
        desk.ask(
            "open",
            name=SYNE_TUNES[name],
            space={key: side.model_dump(mode="json") for key, side in task.space.items()},
            epochs=task.epochs,
            seed=seed,
            maximize=task.maximizes,
        )

    def claim(self, worker: int) -> Job:
        found = self._desk.ask("claim")
        return Job(found["number"], found["values"])

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        return self._desk.ask("report", number=number, epoch=epoch, value=value)["verdict"]

    def complete(self, number: int, value: float) -> None:
        """Nothing: it knows from the last report."""

    def stop(self, number: int) -> None:
        """Nothing: it said so itself."""

    def pause(self, number: int) -> None:
        raise NotImplementedError("none of those here pauses")

    def fail(self, number: int) -> None:
        self._desk.ask("fail", number=number)
