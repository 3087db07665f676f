import numpy as np
import pytest

from service.domain.facts import TrialFacts
from service.sampling.model.cube import Cube
from service.sampling.model.observations import (
    COMPLETED,
    INFEASIBLE,
    PRUNED,
    RUNNING,
    Observations,
)
from trimtab.contract.search_space import Dimension, FloatRange, IntRange

REAL: dict[str, Dimension] = {"x": FloatRange(kind="float", low=0.0, high=2.0)}
CELLS: dict[str, Dimension] = {"n": IntRange(kind="int", low=1, high=9, log=True)}


def _observed(*trials: TrialFacts) -> Observations:
    observations = Observations(Cube(REAL), -1.0)
    observations.learn(trials)
    return observations


def test_trials_are_told_by_their_roles():
    found = _observed(
        TrialFacts(0, "completed", {"x": 1.0}, (), 0.25),
        TrialFacts(1, "pruned", {"x": 0.0}, ((0, 0.5),)),
        TrialFacts(2, "paused", {"x": 0.0}, ((0, 0.5),)),
        TrialFacts(3, "running", {"x": 2.0}),
        TrialFacts(4, "queued", {"x": 2.0}),
        TrialFacts(5, "failed", {"x": 2.0}, error_kind="oom"),
        TrialFacts(6, "failed", {"x": 2.0}, error_kind="crashed"),
        TrialFacts(200, "cancelled", {"x": 2.0}),
    )
    assert found.of(COMPLETED).tolist() == [0]
    assert found.of(PRUNED).tolist() == [1, 2]
    assert found.of(RUNNING).tolist() == [3, 4]
    assert found.of(INFEASIBLE).tolist() == [5]
    assert found.of(COMPLETED, INFEASIBLE).tolist() == [0, 5]
    assert found.values[0] == -0.25
    assert found.points[3] == pytest.approx([1.0])
    assert found.features[0] == pytest.approx([0.5])


def test_a_trial_that_changes_is_known_as_it_is_now():
    found = _observed(TrialFacts(0, "running", {"x": 0.5}))
    found.learn([TrialFacts(0, "completed", {"x": 0.5}, (), 3.0)])
    assert found.of(RUNNING).tolist() == []
    assert found.of(COMPLETED).tolist() == [0]
    assert found.values[0] == -3.0
    found.learn([TrialFacts(0, "cancelled", {"x": 0.5})])
    assert found.of(COMPLETED, PRUNED, RUNNING, INFEASIBLE).tolist() == []


def test_a_space_of_cells_tells_which_were_tried():
    cube = Cube(CELLS)
    observations = Observations(cube, 1.0)
    observations.learn([TrialFacts(0, "running", {"n": 3})])
    beside = cube.at({"n": 5})[None]
    points = cube.snapped(np.stack([cube.at({"n": n}) for n in range(1, 10)]))
    tried = observations.was_tried(points, beside)
    assert (np.flatnonzero(tried) + 1).tolist() == [3, 5]
