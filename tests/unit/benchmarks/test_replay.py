"""The simulated cluster of `./run bench replay`, and how its figures are made."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import replay_transfer
from tests.benchmarks.replay import options_of, runs
from tests.benchmarks.replay_figures import (
    TPE,
    TPE_MEDIAN,
    Ratio,
    best_peer,
    figures,
    pairs_won,
    plot,
    quartiles,
    ratio,
    score_at,
    table,
    time_to,
)
from tests.benchmarks.replay_results import Kept, Run, Setting
from tests.benchmarks.replay_simulator import Better, Job, Replayed, Verdict, replay
from tests.benchmarks.replay_tasks import (
    Curve,
    Grid,
    Task,
    diverges_at,
    rising,
    scrambled,
    task_of,
)
from trimtab.contract.search_space import FloatRange


class Scripted:
    """A side whose words are written beforehand; it notes what it is told."""

    def __init__(
        self, jobs: Sequence[int | None], verdicts: dict[tuple[int, int], Verdict] | None = None
    ) -> None:
        self._jobs = list(jobs)
        self._verdicts = verdicts or {}
        self.told: list[tuple[object, ...]] = []

    def claim(self, worker: int) -> Job | None:
        number = self._jobs.pop(0) if self._jobs else None
        self.told.append(("claim", worker, number))
        return None if number is None else Job(number, {"learning_rate": 0.1})

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        self.told.append(("report", number, epoch, value))
        return self._verdicts.get((number, epoch), "continue")

    def complete(self, number: int, value: float) -> None:
        self.told.append(("complete", number, value))

    def stop(self, number: int) -> None:
        self.told.append(("stop", number))

    def pause(self, number: int) -> None:
        self.told.append(("pause", number))

    def fail(self, number: int) -> None:
        self.told.append(("fail", number))


def a_task(
    values: Sequence[float] = (0.1, 0.2, 0.3), cost: float = 1.0, objective: str = "accuracy"
) -> Task:
    space = {"learning_rate": FloatRange(kind="float", low=0.0, high=1.0)}
    curve = Curve(values, [100 * value for value in values], cost)
    return Task("a task", space, len(values), lambda _, __: curve, objective)


def simulated(
    side: Scripted,
    task: Task | None = None,
    *,
    workers: int = 1,
    full_runs: float = 2.0,
    restart: float = 0.0,
) -> Replayed:
    task = task or a_task()
    return replay(side, task, workers=workers, full_runs=full_runs, restart=restart, seed=0)


def a_run(*better: tuple[float, float]) -> Replayed:
    return Replayed(tuple(Better(*one) for one in better), 1, 1, 3, 1.0, 0.1)


class TestSimulation:
    def test_a_trial_reports_every_epoch_and_completes_with_its_best_value(self):
        side = Scripted([0])
        found = simulated(side, a_task((0.1, 0.3, 0.2)))
        assert side.told == [
            ("claim", 0, 0),
            ("report", 0, 1, 0.1),
            ("report", 0, 2, 0.3),
            ("report", 0, 3, 0.2),
            ("complete", 0, 0.3),
            ("claim", 0, None),
        ]
        assert (found.begun, found.completed, found.epochs) == (1, 1, 3)

    def test_time_is_told_in_full_runs(self):
        found = simulated(Scripted([0]))
        assert [one.at for one in found.better] == pytest.approx([1 / 3, 2 / 3, 1.0])
        assert [one.score for one in found.better] == pytest.approx([10.0, 20.0, 30.0])

    def test_an_epoch_takes_what_its_configuration_costs(self):
        found = simulated(Scripted([0]), a_task(cost=1.5))
        assert [one.at for one in found.better] == pytest.approx([0.5, 1.0, 1.5])

    def test_an_epoch_that_would_end_after_the_budget_counts_for_nothing(self):
        assert simulated(Scripted([0, 1, 2]), full_runs=5 / 3).epochs == 5

    def test_another_trial_costs_its_worker_the_restart_and_the_same_one_nothing(self):
        side = Scripted([0, 0, 1], {(0, 1): "pause", (0, 2): "pause"})
        found = simulated(side, a_task((0.1, 0.2, 0.3)), restart=2.0, full_runs=10)
        # The first trial begins at 2, its three epochs follow one another, and the second trial begins at 2 + 2.
        assert [3 * one.at for one in found.better[:2]] == pytest.approx([3.0, 4.0])
        assert side.told[-2:] == [("complete", 1, 0.3), ("claim", 0, None)]
        two = Scripted([0, 1, 0], {(0, 1): "pause", (1, 1): "pause"})
        again = simulated(two, a_task((0.1, 0.2, 0.3)), restart=2.0, full_runs=10)
        assert [3 * one.at for one in again.better] == pytest.approx([3.0, 9.0, 10.0])

    def test_a_paused_trial_goes_on_with_its_next_epoch_on_any_worker(self):
        side = Scripted([0, 1, 1, 0], {(0, 1): "pause", (1, 1): "pause"})
        simulated(side, workers=2)
        epochs = [told[2] for told in side.told if told[:2] == ("report", 0)]
        assert epochs == [1, 2, 3]

    def test_a_stopped_trial_is_told_so_and_its_worker_asks_at_once(self):
        side = Scripted([0, 1], {(0, 2): "stop"})
        found = simulated(side)
        assert side.told[3:6] == [("stop", 0), ("claim", 0, 1), ("report", 1, 1, 0.1)]
        assert (found.begun, found.completed) == (2, 1)

    def test_a_worker_that_got_nothing_asks_again_when_a_trial_is_left(self):
        side = Scripted([0, None, 1, 2])
        simulated(side, workers=2, full_runs=1.5)
        claims = [told[1:] for told in side.told if told[0] == "claim"]
        assert [number for _, number in claims] == [0, None, 1, 2]
        assert {worker for worker, _ in claims[2:]} == {0, 1}

    def test_less_is_better_where_a_loss_is_told(self):
        found = simulated(Scripted([0]), a_task((0.3, 0.4, 0.1), objective="loss"))
        assert [3 * one.at for one in found.better] == pytest.approx([1.0, 3.0])

    def test_a_trial_that_diverges_has_cost_its_epochs_and_is_told_as_failed(self):
        side = Scripted([0])
        found = simulated(side, a_task((0.1, math.nan, 0.3)))
        assert side.told[1:3] == [("report", 0, 1, 0.1), ("fail", 0)]
        assert (found.epochs, found.completed) == (2, 0)
        assert [one.score for one in found.better] == [10.0]


class TestFigures:
    def test_the_value_at_a_time_is_that_of_the_best_model_so_far(self):
        run = a_run((0.5, 60.0), (1.0, 80.0))
        assert score_at(run, 0.4) == -math.inf
        assert score_at(run, 0.5) == 60.0
        assert score_at(run, 7.0) == 80.0

    def test_the_time_to_a_value_is_the_first_and_may_never_come(self):
        run = a_run((0.5, 60.0), (1.0, 80.0))
        assert time_to(run, 61.0) == 1.0
        assert time_to(run, 81.0) == math.inf

    def test_the_ratio_is_of_median_times_to_the_peers_median_end_value(self):
        theirs = {
            0: a_run((1.0, 50.0), (8.0, 70.0)),
            1: a_run((6.0, 80.0)),
            2: a_run((2.0, 60.0)),
        }  # the median end value is 70: reached at 8, 6, never; the median of these is 8
        ours = {0: a_run((2.0, 75.0)), 1: a_run((4.0, 70.0)), 2: a_run((1.0, 10.0))}
        assert ratio(ours, theirs, 10.0) == Ratio(0.5, reached=True)

    def test_a_value_that_is_not_reached_gives_a_lower_bound(self):
        theirs = {0: a_run((4.0, 70.0))}
        found = ratio({0: a_run((1.0, 60.0))}, theirs, 10.0)
        assert found == Ratio(2.5, reached=False)
        assert str(found) == ">2.50"

    def test_pairs_are_of_the_same_seed_and_a_draw_counts_half(self):
        ours = {0: a_run((1.0, 50.0)), 1: a_run((1.0, 60.0)), 2: a_run((1.0, 9.0))}
        theirs = {0: a_run((1.0, 50.0)), 1: a_run((1.0, 50.0)), 5: a_run((1.0, 50.0))}
        assert pairs_won(ours, theirs, 2.0) == 0.75

    def test_the_best_peer_is_none_of_ours(self):
        sides = {
            "ours tpe": {0: a_run((1.0, 99.0))},
            TPE: {0: a_run((1.0, 50.0))},
            TPE_MEDIAN: {0: a_run((1.0, 60.0))},
        }
        assert best_peer(sides, 10.0) == TPE_MEDIAN
        assert best_peer({"ours tpe": {0: a_run((1.0, 9.0))}}, 10.0) is None

    def test_quartiles_of_one_search_are_its_value(self):
        assert quartiles([3.0]) == (3.0, 3.0, 3.0)
        assert quartiles([1.0, 2.0, 3.0]) == (1.5, 2.0, 2.5)

    def test_the_last_line_has_the_ratios_by_workers_and_their_geometric_means(self):
        done = dict[Run, Replayed]()
        for task, at in (("3945", 1.0), ("7593", 4.0), ("7593 noise", 9.0)):
            setting = Setting(task, 4, 10.0)
            done[Run(setting, "ours tpe", 0)] = a_run((at, 80.0))
            done[Run(setting, TPE, 0)] = a_run((4.0, 80.0))
            done[Run(setting, TPE_MEDIAN, 0)] = a_run((8.0, 70.0))
        found = figures(done, "ours tpe")
        of_four = found["epochs_ratio"]["4"]
        assert of_four["to_tpe"] == pytest.approx(0.5)  # of 1/4 and 1; noise is no plain task
        assert of_four["per_task"]["7593"]["to_tpe_median"] == pytest.approx(0.5)
        assert of_four["per_task"]["7593"]["best_peer"] == TPE
        assert found["pairs_won"]["4"]["3945"] == {"1/8": 1.0, "1/4": 1.0, "1/2": 1.0, "1": 1.0}
        assert found["final_value"]["4"]["3945"][TPE_MEDIAN] == (70.0, 70.0, 70.0)
        assert found["decision_ms"][TPE] == {"claim": 1.0, "report": 0.1}
        json.dumps(found)

    def test_the_table_has_a_row_and_a_curve_for_each_side(self):
        sides = {"ours tpe": {0: a_run((1.0, 50.0), (9.0, 80.0))}, TPE: {0: a_run((2.0, 60.0))}}
        lines = table(Setting("7593", 4, 10.0, 2.0), sides)
        assert lines[0] == "7593, restart 2: 4 workers, 10 full runs each, 1 seeds"
        assert sum(line.startswith("  optuna tpe ") for line in lines) == 2
        curve = plot(Setting("7593", 4, 10.0), sides)[1]
        assert curve.startswith("  ours tpe ")
        assert curve.endswith("   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█████")


class TestTasks:
    def test_a_curve_rises_from_a_tenth_to_its_final_value(self):
        found = rising(0.8, 3.6, 20)
        assert found[-1] == pytest.approx(0.8)
        assert found[0] > 0.08
        assert (np.diff(found) > 0).all()

    def test_a_scrambled_curve_ends_where_it_did_and_says_nothing_before(self):
        low, high = (
            scrambled(np.full(52, end), 0.6, np.random.default_rng(3)) for end in (0.2, 0.9)
        )
        assert (low[:41] == high[:41]).all()
        assert (low[48:] == 0.2).all()
        assert (high[48:] == 0.9).all()

    def test_a_grids_values_are_shares_of_its_range_and_its_cells_have_curves(self):
        values = np.random.default_rng(0).random((3, 4, 5))
        found = Grid("hpobench__a", values)
        assert list(found.space) == ["frozen_stages", "unfreeze_every"]
        assert float(found.means.max()) == 1.0
        curve = found({"frozen_stages": 2, "unfreeze_every": 3}, 7)
        assert curve == found({"frozen_stages": 2, "unfreeze_every": 3}, 7)
        assert curve.scores[-1] == pytest.approx(100 * float(found.means[2, 3]))

    def test_a_grids_missing_seed_is_as_good_as_the_others_and_a_missing_cell_worth_nothing(
        self,
    ):
        values = np.linspace(1.0, 2.0, 60).reshape(3, 4, 5)
        values[2, 3, 1:] = math.nan
        values[1, 1] = math.nan
        found = Grid("hpobench__a", values)
        assert found.values[2, 3] == pytest.approx([float(found.values[2, 3, 0])] * 5)
        assert found.means[2, 3] == 1.0
        assert found.means[1, 1] == 0.0

    def test_two_in_five_configurations_take_steps_that_diverge_the_largest_first(self):
        rng = np.random.default_rng(0)
        ends = [
            diverges_at({"learning_rate": 1e-4 * 1e3 ** rng.random(), "momentum": m})
            for m in rng.uniform(0.1, 0.99, 20_000)
        ]
        assert sum(end is not None for end in ends) / len(ends) == pytest.approx(0.4, abs=0.01)
        assert diverges_at({"learning_rate": 0.1, "momentum": 0.9}) == 3
        assert diverges_at({"learning_rate": 0.02, "momentum": 0.1}) == 12

    def test_tasks_that_are_kept_for_judging_are_refused(self):
        with pytest.raises(ValueError, match="'167181' is none of 3945, "):
            task_of(None, "167181")  # pyright: ignore[reportArgumentType] - refused before it is asked


class TestRuns:
    def test_sixteen_workers_have_half_of_the_budget_of_four(self):
        found = runs(options_of(["--workers", "4", "16", "--seeds", "1", "--tasks", "7593"]))
        assert {run.setting.workers: run.setting.full_runs for run in found} == {
            4: 10.0,
            16: 5.05,
        }

    def test_quick_is_one_task_and_three_seeds(self):
        found = list(runs(options_of(["--quick", "--sides", "optuna tpe"])))
        assert [run.seed for run in found] == [0, 1, 2]

    def test_what_is_kept_is_read_again(self, tmp_path: Path):
        run = Run(Setting("7593", 4, 10.0), "optuna tpe", 3)
        Kept(tmp_path / "kept").add(run, a_run((1.0, 2.0)))
        assert Kept(tmp_path / "kept").done == {run: a_run((1.0, 2.0))}


def test_a_gain_by_earlier_studies_is_the_time_to_what_the_search_alone_has() -> None:
    def run(*better: tuple[float, float]) -> Replayed:
        return Replayed(tuple(Better(*one) for one in better), 0, 0, 0, 0.0, 0.0)

    alone = {0: run((0.1, 50.0), (0.5, 60.0), (2.0, 80.0))}
    sooner, never = {0: run((0.25, 70.0))}, {0: run((0.25, 55.0))}
    # What it has at 0.62 is 60, since 0.5.
    assert replay_transfer.ratio_at(sooner, alone, 0.62) == 0.5
    assert replay_transfer.ratio_at(never, alone, 0.62) == 10.0
