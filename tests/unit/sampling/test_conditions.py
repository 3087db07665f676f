"""Conditional spaces: points in one form for models, grids and counts, and searches that learn arm by arm."""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from service.domain.facts import Changes, TrialFacts
from service.sampling import Exhausted, Proposal, Sampling
from service.sampling.arms import Arms
from service.sampling.canonical import Canonical
from service.sampling.distributions import distributions
from service.sampling.gaussian import GaussianSampler
from service.sampling.grid import Cells
from service.sampling.history import History
from service.sampling.initial import InitialDesign
from service.sampling.joint import ArrayTPE, joint_tpe
from service.sampling.model.cube import Cube
from service.sampling.model.prior_weights import PriorWeights
from service.sampling.pareto import ParetoSampler
from tests.unit.sampling.ledger import Clock, Ledger, any_values, completed, document
from trimtab.contract.search_space import Scalar
from trimtab.contract.starts import Start

ARMS: dict[str, Any] = {
    "optimizer": {"kind": "choices", "choices": ["sgd", "adamw"]},
    "learning_rate": {"kind": "float", "low": 1e-4, "high": 1.0, "log": True},
    "momentum": {"kind": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": "sgd"}},
    "weight_decay": {
        "kind": "float",
        "low": 1e-5,
        "high": 1.0,
        "log": True,
        "prior": 1e-3,
        "when": {"optimizer": "adamw"},
    },
}
FINITE: dict[str, Any] = {
    "optimizer": {"kind": "choices", "choices": ["sgd", "adamw"]},
    "momentum": {"kind": "choices", "choices": [0.5, 0.9, 0.99], "when": {"optimizer": "sgd"}},
    "head": {"kind": "choices", "choices": ["linear", "mlp"]},
    "head_width": {"kind": "int", "low": 8, "high": 10, "when": {"head": "mlp"}},
}
HALF: dict[str, Any] = {
    "optimizer": {"kind": "choices", "choices": ["sgd", "adamw"]},
    "momentum": {"kind": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": "sgd"}},
}
"""One arm is a single point, the other has real numbers."""
Values = Mapping[str, Scalar]


def space(given: Mapping[str, Any]) -> Any:
    return document(given).space


def worth(values: Values) -> float:
    """Two arms with parameters of their own; sgd's best is the better one, and harder to find."""
    rate = math.log10(float(values["learning_rate"] or 0))
    if values["optimizer"] == "sgd":
        momentum = float(values["momentum"] or 0)
        return 1.0 - 0.3 * (rate + 1) ** 2 - 4 * (momentum - 0.9) ** 2
    decay = math.log10(float(values["weight_decay"] or 0))
    return 0.8 - 0.3 * (rate + 3) ** 2 - 0.05 * (decay + 2) ** 2


def searched(
    sampler: str,
    seed: int,
    count: int,
    given: Mapping[str, Any] = ARMS,
    initial_trials: int = 0,
) -> list[Any]:
    """The points that a study of its own tries one by one."""
    study = document(given, sampler=sampler, seed=seed, initial_trials=initial_trials)
    study = study.model_copy(update={"starts": ()})
    ledger, found = Ledger(), list[Any]()
    sampling = Sampling(ledger.read, Clock())
    for number in range(count):
        with sampling.proposal(1, study, claim_id=str(number), next_number=number) as proposal:
            if isinstance(proposal, Exhausted):
                break
        found.append(proposal.values)
        value = worth(proposal.values) if given is ARMS else 0.5
        ledger.commit(completed(number, proposal.values, value))
    return found


def test_what_is_inactive_has_one_value_before_models_and_none_in_trials() -> None:
    canonical = Canonical(space(ARMS))
    sgd = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.6}
    whole = {**sgd, "weight_decay": 1e-3}
    assert canonical.whole(sgd) == whole
    assert canonical.whole({**sgd, "weight_decay": 0.5}) == whole
    assert canonical.active(whole) == sgd
    adamw = {"optimizer": "adamw", "learning_rate": 0.1, "weight_decay": 0.1}
    assert canonical.whole(adamw)["momentum"] == pytest.approx(0.745)


@pytest.mark.parametrize("seed", range(20))
def test_points_of_the_cube_are_moved_to_where_trials_lie(seed: int) -> None:
    found, canonical = space(ARMS | FINITE), Canonical(space(ARMS | FINITE))
    cube, values = Cube(found), any_values(found, random.Random(seed))
    moved = cube.snapped(cube.at(values)[None])[0]
    assert moved == pytest.approx(cube.at(canonical.whole(values)), abs=1e-12)


def test_a_small_space_is_looked_at_point_by_point_each_once() -> None:
    cube, canonical = Cube(space(FINITE)), Canonical(space(FINITE))
    found = [canonical.active(cube.values(point)) for point in cube.every_point()]
    cells = Cells(space(FINITE))
    assert sorted(cells.index(values) or 0 for values in found) == list(range(16))


def test_a_grid_has_each_active_point_once() -> None:
    cells = Cells(space(FINITE))
    found = [cells.cell(number) for number in range(17)]
    assert cells.count == 16
    assert found[0] == {"head": "linear", "optimizer": "sgd", "momentum": 0.5}
    assert found[3] == {"head": "linear", "optimizer": "adamw"}
    assert found[13:] == [
        {"head": "mlp", "optimizer": "adamw", "head_width": width} for width in (8, 9, 10)
    ] + [None]
    assert [cells.index(values) for values in found[:-1] if values] == list(range(16))
    assert len({str(sorted((values or {}).items())) for values in found}) == 17


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "grid"])
def test_a_space_of_finitely_many_points_ends_with_the_last_active_one(sampler: str) -> None:
    found = searched(sampler, 3, 30, FINITE)
    cells = Cells(space(FINITE))
    assert sorted(cells.index(values) or 0 for values in found) == list(range(16))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_an_arm_of_one_point_is_tried_once(sampler: str) -> None:
    found = searched(sampler, 1, 20, HALF)
    assert len(found) == 20
    assert sum(values == {"optimizer": "adamw"} for values in found) == 1


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_trials_have_what_is_active_and_in_optunas_tables_too(sampler: str) -> None:
    study = document(ARMS, sampler=sampler, initial_trials=4).model_copy(
        update={"starts": (Start(values={"optimizer": "sgd"}, proposed_by="mine"),)}
    )
    ledger = Ledger()
    sampling = Sampling(ledger.read, Clock())
    arms = {"sgd": "momentum", "adamw": "weight_decay"}
    for number in range(16):
        with sampling.proposal(1, study, claim_id=None, next_number=number) as proposal:
            assert isinstance(proposal, Proposal)
        own = arms[str(proposal.values["optimizer"])]
        assert set(proposal.values) == {"optimizer", "learning_rate", own}
        assert set(proposal.internal) == set(proposal.values)
        assert "momentum" not in str(proposal.attributes) or own == "momentum"
        ledger.commit(completed(number, proposal.values, worth(proposal.values)))


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_model_beats_chance_where_arms_have_parameters_of_their_own(sampler: str) -> None:
    def regret(who: str) -> float:
        found = (searched(who, seed, 30, initial_trials=10) for seed in range(10))
        return fmean(1.0 - max(map(worth, points)) for points in found)

    assert regret(sampler) < 0.5 * regret("random")


def test_gp_decides_between_arms_of_which_each_had_some_trials() -> None:
    optimizers = {"kind": "choices", "choices": ["sgd", "adam", "adamw"]}
    given = ARMS | {"optimizer": optimizers}
    for seed in range(10):
        points = searched("gp", seed, 12, given)
        own = [{"momentum", "weight_decay"} & set(one) for one in points]
        arms = ({"momentum"}, {"weight_decay"}, set[str]())
        assert min(own.count(each) for each in arms) >= 3


def test_an_arm_that_a_machine_failed_is_still_to_be_tried() -> None:
    arms = Arms(space(ARMS), 6)
    sgd = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9}
    arms.learn([TrialFacts(0, "running", sgd)])
    assert arms.untried(()) == {"optimizer": "adamw"}
    assert arms.untried([{"optimizer": "adamw", "weight_decay": 0.1}]) is None
    arms.learn([TrialFacts(0, "failed", sgd, error_kind="infrastructure")])
    assert arms.untried(()) == {"optimizer": "sgd"}
    assert Arms(space(ARMS), 5).untried(()) is None
    assert Arms(space({"learning_rate": ARMS["learning_rate"]}), 100).untried(()) is None


def test_tpe_scores_points_where_trials_lie() -> None:
    found, canonical = space(ARMS), Canonical(space(ARMS))
    tpe = joint_tpe("optuna", distributions(found), "maximize", None, canonical)
    assert isinstance(tpe, ArrayTPE)  # Optuna's kernels score points as they are drawn
    history, rng = History("maximize"), random.Random(0)
    trials = [
        TrialFacts(n, "completed", canonical.whole(any_values(found, rng)), (), rng.random())
        for n in range(20)
    ]
    history.apply(Changes(tuple(trials), (1, 1)))
    tpe.look(history, (), 20)
    drawn = list(tpe.candidates(0))
    assert len(drawn) == 24
    assert all(values == canonical.whole(values) for values in drawn)


def test_a_prior_speaks_for_no_point_where_it_is_inactive() -> None:
    cube = Cube(space(ARMS))
    weights = PriorWeights(cube)
    sgd = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.6, "weight_decay": 1e-3}
    adamw = {**sgd, "optimizer": "adamw"}
    without, within = weights.log_density(np.stack([cube.at(sgd), cube.at(adamw)]))
    assert without == 0.0
    assert within > 0.5


def test_points_to_begin_with_keep_to_what_is_given() -> None:
    study = document(ARMS).model_copy(
        update={"starts": (Start(values={"optimizer": "adamw"}, proposed_by="mine"),)}
    )
    initial = InitialDesign(study, distributions(study.space))
    start = initial.at(0)
    assert start is not None
    assert set(start.values) == {"optimizer", "learning_rate", "weight_decay"}
    assert start.values["optimizer"] == "adamw"


def test_the_model_of_a_gaussian_sampler_sees_the_arms_own_trials() -> None:
    sampler, canonical = GaussianSampler(space(ARMS), "maximize", 0.0), Canonical(space(ARMS))
    rng = random.Random(1)
    points = [canonical.whole(any_values(space(ARMS), rng)) for _ in range(30)]
    sampler.hear([completed(n, one, worth(one)) for n, one in enumerate(points)])
    found = sampler.propose((), 0)
    assert found is not None
    assert found == pytest.approx(canonical.whole(found))


def test_the_gaussian_sampler_scores_no_point_that_was_tried() -> None:
    found, canonical = space(HALF), Canonical(space(HALF))
    sampler = GaussianSampler(found, "maximize", 0.0)
    poor = ({"optimizer": "sgd", "momentum": 0.5 + n / 20} for n in range(8))
    tried = [*(canonical.whole(one) for one in poor), canonical.whole({"optimizer": "adamw"})]
    values = [0.1] * 8 + [0.9]
    sampler.hear([completed(n, *one) for n, one in enumerate(zip(tried, values, strict=True))])
    proposed = sampler.propose((), 0)
    assert proposed is not None
    assert proposed["optimizer"] == "sgd"


def test_two_objectives_are_searched_over_points_where_trials_lie() -> None:
    sampler = ParetoSampler(space(ARMS), ("maximize", "minimize"), 0.0)
    canonical, rng = Canonical(space(ARMS)), random.Random(2)
    points = [canonical.whole(any_values(space(ARMS), rng)) for _ in range(12)]
    sampler.hear(
        [
            replace(completed(n, one, worth(one)), second_value=rng.random())
            for n, one in enumerate(points)
        ]
    )
    found = sampler.propose((), 0)
    assert found is not None
    assert found == pytest.approx(canonical.whole(found))
