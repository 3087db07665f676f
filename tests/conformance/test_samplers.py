"""What every sampler of ours promises, and that TPE is Optuna's to the last bit."""

import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from statistics import fmean, pstdev
from typing import Any, ClassVar

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import TPESampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import TrialState
from sqlalchemy import text

from service.domain.facts import TrialFacts
from service.sampling import Exhausted, Proposal, Sampling
from service.sampling.distributions import distributions
from service.sampling.grid import Cells
from service.sampling.joint import Kernels
from service.sampling.prior import point_at
from service.sampling.study import seed_of
from service.sampling.tpe import JointTPE
from tests.unit.sampling.ledger import (
    SPACE,
    Clock,
    Ledger,
    any_values,
    completed,
    document,
    spaces,
)
from trimtab.contract.search_space import Dimension, contains
from trimtab.contract.starts import Start
from trimtab.contract.studies import StudyDocument
from trimtab.contract.trials import FailureKind

GRID = {
    name: found for name, found in SPACE.items() if name not in ("learning_rate", "momentum")
}
DOCUMENTS = {
    "tpe": document(sampler="tpe"),
    "gp": document(sampler="gp"),
    "random": document(sampler="random"),
    "grid": document(GRID, sampler="grid"),
}
NARROW = {
    "learning_rate": {"kind": "float", "low": 0.01, "high": 0.01, "log": True},
    "momentum": {"kind": "float", "low": 0.5, "high": 0.5},
    "frozen_stages": {"kind": "int", "low": 2, "high": 2},
    "optimizer": {"kind": "choices", "choices": ["adam"]},
}
every_sampler = pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "grid"])
by_chance = pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])


@pytest.fixture(autouse=True, scope="module")
def _quiet_optuna():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def _trials(study: StudyDocument, count: int) -> list[TrialFacts]:
    """Trials of every state, the newest of them still on their way."""
    rng = random.Random(count)
    kinds = ["completed"] * 5 + ["pruned", "pruned", "paused", "failed", "oom", "diverged"]
    return [
        _trial(n, rng.choice(kinds) if n < count - 3 else "running", study, rng)
        for n in range(count)
    ]


def _trial(number: int, kind: str, study: StudyDocument, rng: random.Random) -> TrialFacts:
    values = any_values(study.space, rng)
    curve = tuple((step, rng.random()) for step in range(rng.randint(1, 4)))
    match kind:
        case "completed":
            return TrialFacts(number, "completed", values, curve, rng.random())
        case "oom" | "diverged":
            return TrialFacts(number, "failed", values, curve, error_kind=kind)
        case "failed":
            return TrialFacts(number, "failed", values, curve, error_kind="crashed")
        case "pruned":
            return TrialFacts(number, "pruned", values, (*curve, (9, None)))
        case "paused":
            return TrialFacts(number, "paused", values, curve)
        case _:
            return TrialFacts(number, "running", values, curve)


def _propose(
    study: StudyDocument,
    trials: Iterable[TrialFacts],
    claim_id: str,
    number: int,
    kernels: Kernels = "arrays",
) -> Proposal:
    proposal = _propose_or_end(study, trials, claim_id, number, kernels)
    assert isinstance(proposal, Proposal)
    return proposal


def _propose_or_end(
    study: StudyDocument,
    trials: Iterable[TrialFacts],
    claim_id: str,
    number: int,
    kernels: Kernels = "arrays",
) -> Proposal | Exhausted:
    sampling = Sampling(Ledger(*trials).read, Clock(), kernels=kernels)
    with sampling.proposal(1, study, claim_id=claim_id, next_number=number) as proposal:
        return proposal


def _check(study: StudyDocument, proposal: Proposal) -> None:
    assert set(proposal.values) == set(study.space) == set(proposal.internal)
    for name, value in proposal.values.items():
        assert contains(study.space[name], value), (name, value)
        found = optuna.distributions.json_to_distribution(proposal.internal[name][1])
        assert found.to_external_repr(proposal.internal[name][0]) == value


@every_sampler
@pytest.mark.parametrize("count", [0, 1, 50, 500])
def test_a_proposal_lies_inside_the_space_whatever_the_history(sampler: str, count: int):
    study = DOCUMENTS[sampler]
    _check(study, _propose(study, _trials(study, count), "claim", count))


@every_sampler
@pytest.mark.parametrize("kind", ["failed", "oom", "diverged", "pruned", "paused", "running"])
def test_a_history_without_a_completed_trial_will_do(sampler: str, kind: str):
    study, rng = DOCUMENTS[sampler], random.Random(0)
    trials = [_trial(number, kind, study, rng) for number in range(30)]
    _check(study, _propose(study, trials, "claim", 30))


@every_sampler
def test_dimensions_that_leave_no_choice_get_their_only_value(sampler: str):
    study = document(NARROW, sampler=sampler)
    trials = [
        completed(number, any_values(study.space, random.Random(0)), 0.5)
        for number in range(20)
    ]
    only = {"learning_rate": 0.01, "momentum": 0.5, "frozen_stages": 2, "optimizer": "adam"}
    assert _propose(study, [], "claim", 0).values == only
    if sampler != "grid":
        assert _propose(study, trials, "claim", 20).values == only


@every_sampler
def test_the_same_claim_over_the_same_history_gets_the_same_proposal(sampler: str):
    study = DOCUMENTS[sampler]
    trials = _trials(study, 50)
    assert _propose(study, trials, "claim", 50) == _propose(study, trials, "claim", 50)


@by_chance
@pytest.mark.parametrize("count", [0, 50])
def test_another_claim_or_another_study_seed_gets_another_proposal(sampler: str, count: int):
    study = DOCUMENTS[sampler]
    trials = _trials(study, count)
    other = document(sampler=sampler, seed=1)
    found = [
        _propose(study, trials, "claim", count).values,
        _propose(study, trials, "other", count).values,
        _propose(other, trials, "claim", count).values,
    ]
    assert found[0] != found[1] != found[2] != found[0]


@every_sampler
@pytest.mark.parametrize("count", [0, 50])
def test_proposals_in_flight_differ(sampler: str, count: int):
    study = DOCUMENTS[sampler]
    sampling = Sampling(Ledger(*_trials(study, count)).read, Clock())
    found: set[object] = set()

    def nest(depth: int) -> None:
        with sampling.proposal(
            1, study, claim_id=f"claim-{depth}", next_number=count + depth
        ) as proposal:
            assert isinstance(proposal, Proposal)
            found.add(tuple(proposal.values.items()))
            if depth < 15:
                nest(depth + 1)

    nest(0)
    assert len(found) == 16


@by_chance
@settings(max_examples=40)
@given(space=spaces(), rng=st.randoms(use_true_random=False))
def test_any_space_is_sampled_inside_its_bounds(
    sampler: str, space: dict[str, Dimension], rng: random.Random
):
    study = DOCUMENTS[sampler].model_copy(update={"space": space})
    trials = [
        completed(n, any_values(space, rng), rng.random()) for n in range(rng.choice((0, 30)))
    ]
    proposal = _propose_or_end(study, trials, str(rng.random()), len(trials))
    if isinstance(proposal, Exhausted):
        assert {Cells(space).index(trial.hyperparameters) for trial in trials} == set(
            range(Cells(space).count or 0)
        )
        return
    assert set(proposal.values) == set(space)
    assert all(contains(space[name], value) for name, value in proposal.values.items())


class TestInitialDesign:
    """What a study proposes first: a person's points, the known recipes', the prior's, and then the sampler."""

    OWN: ClassVar = [
        {"learning_rate": 1e-2},
        any_values(DOCUMENTS["tpe"].space, random.Random(3)),
    ]
    RECIPE: ClassVar = Start(
        values=any_values(DOCUMENTS["tpe"].space, random.Random(4)),
        proposed_by="known_recipe:plain",
    )

    def _study(self, sampler: str, **search: Any) -> StudyDocument:
        plain = document(GRID if sampler == "grid" else SPACE, sampler=sampler, **search)
        if sampler == "grid":
            return plain.model_copy(update={"starts": ()})
        return plain.model_copy(update={"first_trials": self.OWN, "starts": (self.RECIPE,)})

    def _all(self, study: StudyDocument, count: int, claim: str = "claim") -> list[Proposal]:
        """What trial after trial is proposed, by a room that has been restarted before each, as each completes."""
        found: list[Proposal] = []
        trials: list[TrialFacts] = []
        for number in range(count):
            found.append(_propose(study, trials, f"{claim}-{number}", number))
            trials.append(completed(number, found[-1].values, number / count))
        return found

    @by_chance
    def test_the_order_is_a_persons_then_the_recipes_then_the_priors_then_the_samplers(
        self, sampler: str
    ):
        study = self._study(sampler, initial_trials=5)
        found = self._all(study, 7)
        assert [one.proposed_by for one in found] == [
            *("first_trials", "first_trials", "known_recipe:plain"),
            *("prior", "prior", sampler, sampler),
        ]
        assert [one.only_as_number for one in found] == [0, 1, 2, 3, 4, None, None]
        assert found[0].values["learning_rate"] == 1e-2
        rest = {name: one for name, one in found[0].values.items() if name != "learning_rate"}
        assert rest.items() <= point_at(study.space, 0, 0).items()
        assert found[1].values == self.OWN[1]
        assert found[2].values == self.RECIPE.values
        assert found[3].values == point_at(study.space, 0, 3)
        for one in found:
            _check(study, one)

    def test_a_grid_ignores_all_of_it(self):
        study = self._study("grid", initial_trials=5)
        plain = document(GRID, sampler="grid")
        for number in range(7):
            ours = _propose(study, [], "claim", number)
            assert ours == _propose(plain, [], "claim", number)

    @by_chance
    def test_it_is_the_trial_numbers_own_whoever_claims(self, sampler: str):
        study = self._study(sampler, initial_trials=5)
        one, other = self._all(study, 5), self._all(study, 5, claim="other")
        assert one == other
        again = self._all(self._study(sampler, initial_trials=5, seed=1), 5)
        assert one[1:3] == again[1:3]
        assert one[3].values != again[3].values

    @by_chance
    def test_a_room_that_has_seen_it_all_proposes_the_same_as_one_that_has_just_begun(
        self, sampler: str
    ):
        study, ledger = self._study(sampler, initial_trials=5), Ledger()
        sampling = Sampling(ledger.read, Clock())
        for number, alone in enumerate(self._all(study, 8)):
            with sampling.proposal(
                1, study, claim_id=f"claim-{number}", next_number=number
            ) as proposal:
                assert proposal == alone
            sampling.touch(1)
            ledger.commit(completed(number, alone.values, number / 8))

    @by_chance
    def test_claims_that_come_at_once_get_different_ones_and_a_late_one_its_numbers_own(
        self, sampler: str
    ):
        study = self._study(sampler, initial_trials=8)
        sampling = Sampling(Ledger().read, Clock())
        with ExitStack() as stack:
            found = [
                stack.enter_context(
                    sampling.proposal(1, study, claim_id=f"c{number}", next_number=number)
                )
                for number in (*range(8), 3)
            ]
        assert found[8] == found[3]
        values = [str(one.values) for one in found if isinstance(one, Proposal)]
        assert len(set(values)) == 8

    @pytest.mark.parametrize("sampler", ["tpe", "gp"])
    def test_a_model_waits_until_as_many_have_taught_something(self, sampler: str):
        study = self._study(sampler, initial_trials=5)
        values = [one.values for one in self._all(study, 5)]
        trials = [completed(number, one, 0.5) for number, one in enumerate(values)]
        crashed = TrialFacts(4, "failed", values[4], error_kind="crashed")
        running = TrialFacts(4, "running", values[4])
        for last in (crashed, running):
            found = _propose(study, [*trials[:4], last], "claim", 5)
            assert (found.proposed_by, found.only_as_number) == ("prior", None)
        assert _propose(study, trials, "claim", 5).proposed_by == sampler

    def test_tpe_learns_once_the_startup_trials_have_ended(self):
        study = self._study("tpe", initial_trials=8, tpe_startup_trials=5)
        values = [one.values for one in self._all(study, 8)]
        running = [TrialFacts(number, "running", one) for number, one in enumerate(values)]
        for ended, by in ((0, "prior"), (4, "prior"), (5, "tpe"), (8, "tpe")):
            done = [completed(number, values[number], 0.1 * number) for number in range(ended)]
            found = _propose(study, [*done, *running[ended:]], "claim", 8)
            assert found.proposed_by == by
        assert _propose(study, [completed(0, values[0], 0.5)], "claim", 1).proposed_by != "tpe"

    def test_startup_trials_without_an_initial_design_are_drawn_from_the_prior(self):
        space = {"learning_rate": SPACE["learning_rate"] | {"prior": 1e-3, "prior_spread": 0.1}}
        bare = document(space, initial_trials=0, tpe_startup_trials=10)
        study = bare.model_copy(update={"starts": ()})
        few, enough = _trials(study, 5), [*_trials(study, 50)]
        rates = [
            math.log10(float(_propose(study, few, str(n), 5).values["learning_rate"] or 0))
            for n in range(50)
        ]
        assert abs(fmean(rates) + 3) < 0.1
        assert _propose(study, few, "claim", 5).proposed_by == "prior"
        assert _propose(study, enough, "claim", 50).proposed_by == "tpe"

    def test_random_draws_from_the_prior_for_ever(self):
        space = SPACE | {
            "learning_rate": SPACE["learning_rate"] | {"prior": 1e-3, "prior_spread": 0.1},
            "optimizer": SPACE["optimizer"] | {"prior": "adam"},
        }
        study = document(space, sampler="random").model_copy(update={"starts": ()})
        found = [_propose(study, [], str(number), 50).values for number in range(200)]
        rates = [math.log10(float(one["learning_rate"] or 0)) for one in found]
        assert abs(fmean(rates) + 3) < 0.05
        assert 0.05 < pstdev(rates) < 0.15
        assert sum(one["optimizer"] == "adam" for one in found) in range(80, 121)

    @pytest.mark.parametrize("sampler", ["tpe", "random"])
    def test_a_stored_study_of_before_proposes_what_it_always_did(self, sampler: str):
        study = document(sampler=sampler)
        assert study.starts is None
        for number in (0, 3, 12):
            ours = _propose(study, _trials(study, number), "claim", number)
            assert (ours.proposed_by, ours.only_as_number) == (None, None)

    def test_without_initial_trials_tpe_draws_its_own_ten(self):
        bare = document(sampler="tpe", initial_trials=0)
        study = bare.model_copy(update={"starts": ()})
        for number in (0, 5, 50):
            trials = _trials(study, number)
            ours = _propose(study, trials, "claim", number)
            assert ours.values == _propose(bare, trials, "claim", number).values
            assert ours.proposed_by == "tpe"


class TestTPE:
    @staticmethod
    def _optuna(study: StudyDocument, trials: list[TrialFacts], claim_id: str) -> optuna.Trial:
        """Ask plain Optuna, in memory, over the same trials."""
        space = distributions(study.space)
        seed = seed_of(study.search.seed, claim_id)
        sampler = TPESampler(multivariate=True, constant_liar=True, seed=seed)
        theirs = optuna.create_study(direction=study.task.direction, sampler=sampler)
        for trial in trials:
            theirs.add_trial(_as_optuna(trial, dict(space)))
        return theirs.ask(dict(space))

    @pytest.mark.parametrize("count", [0, 5, 50, 200])
    @pytest.mark.parametrize("claim_id", ["a", "b", "c"])
    @pytest.mark.parametrize("objective", ["accuracy", "loss"])
    def test_a_proposal_is_plain_optunas_to_the_last_bit(
        self, count: int, claim_id: str, objective: str
    ):
        study = document(sampler="tpe", objective=objective)
        trials = _trials(study, count)
        theirs = self._optuna(study, trials, claim_id)
        ours = _propose(study, trials, claim_id, count, "optuna")
        assert ours.values == theirs.params
        assert ours.attributes == theirs.study.trials[theirs.number].system_attrs
        in_arrays = _propose(study, trials, claim_id, count)
        assert in_arrays.attributes.keys() == ours.attributes.keys()
        for name, value in ours.values.items():
            if isinstance(value, float):
                assert in_arrays.values[name] == pytest.approx(value, rel=1e-6)
            else:
                assert in_arrays.values[name] == value

    def test_the_whole_space_is_sampled_jointly(self):
        study = DOCUMENTS["tpe"]
        proposal = _propose(study, _trials(study, 50), "claim", 50)
        joint = proposal.attributes["tpe:relative_params:0"]
        assert isinstance(joint, str)
        assert all(f'"{name}"' in joint for name in study.space)

    def test_good_configurations_attract_proposals(self):
        low = self._share_of_low_rates(lambda rate: -rate)
        high = self._share_of_low_rates(lambda rate: rate)
        assert low > 0.8 > 0.2 > high
        assert self._share_of_low_rates(lambda rate: rate, "loss") > 0.8

    def _share_of_low_rates(
        self, value: Callable[[float], float], objective: str = "accuracy"
    ) -> float:
        study = document({"momentum": SPACE["momentum"]}, objective=objective)
        rng = random.Random(0)
        rates = [rng.uniform(0, 0.9) for _ in range(40)]
        trials = [completed(n, {"momentum": rate}, value(rate)) for n, rate in enumerate(rates)]
        found = [_propose(study, trials, str(n), 40).values["momentum"] for n in range(40)]
        return sum(float(rate or 0) < 0.45 for rate in found) / len(found)


def _as_optuna(
    trial: TrialFacts, space: dict[str, optuna.distributions.BaseDistribution]
) -> optuna.trial.FrozenTrial:
    states = {
        "completed": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "paused": TrialState.PRUNED,
        "running": TrialState.RUNNING,
    }
    infeasible = trial.error_kind in ("oom", "diverged")
    state = TrialState.PRUNED if infeasible else states.get(trial.state, TrialState.FAIL)
    curve = {step: float("nan") if value is None else value for step, value in trial.curve}
    return optuna.create_trial(
        state=state,
        value=trial.value,
        params=dict(trial.hyperparameters),
        distributions=space,
        intermediate_values={} if infeasible else curve,
        system_attrs={"constraints:trains": 1.0} if infeasible else {},
    )


class TestGaussianProcess:
    def test_the_documents_strength_says_how_much_the_priors_weigh(self):
        space = {"momentum": SPACE["momentum"] | {"prior": 0.7, "prior_spread": 0.02}}

        def share_near(strength: float) -> float:
            study = document(space, sampler="gp", prior_strength=strength)
            even = [{"momentum": number / 10} for number in range(10)]
            trials = [completed(n, one, 0.5 + n % 2 / 10) for n, one in enumerate(even)]
            found = [_propose(study, trials, str(claim), 10).values for claim in range(10)]
            return sum(abs(float(one["momentum"] or 0) - 0.7) < 0.1 for one in found) / 10

        assert share_near(1000.0) == 1.0
        assert share_near(0.0) < 0.7

    def test_its_proposals_are_told_to_be_its_own(self):
        study = DOCUMENTS["gp"].model_copy(update={"starts": ()})
        trials = _trials(study, 50)
        assert _propose(study, trials, "claim", 50).proposed_by == "gp"


class TestOutOfMemory:
    """Whoever reports 0.9 at momentum 0.5 or above is best, but every such trial runs out of memory."""

    def _proposals_in_the_region(
        self, sampler: str, kind: FailureKind, claims: int = 40
    ) -> int:
        study = document(
            {"momentum": SPACE["momentum"], "frozen_stages": SPACE["frozen_stages"]},
            sampler=sampler,
        )
        rng, trials = random.Random(1), list[TrialFacts]()
        for number in range(24):
            values = any_values(study.space, rng)
            momentum = float(values["momentum"] or 0)
            if momentum >= 0.45:
                trials.append(TrialFacts(number, "failed", values, error_kind=kind))
            else:
                trials.append(completed(number, values, momentum))
        found = [_propose(study, trials, str(n), 24).values["momentum"] for n in range(claims)]
        return sum(float(momentum or 0) >= 0.45 for momentum in found)

    @pytest.mark.parametrize("sampler", ["tpe", "gp"])
    def test_proposals_avoid_where_it_happened_and_a_crash_teaches_nothing(self, sampler: str):
        oom, crashed = (
            self._proposals_in_the_region(sampler, "oom"),
            self._proposals_in_the_region(sampler, "crashed"),
        )
        assert oom < crashed / 2


class TestStoredAsOptunaWould:
    def test_parameters_and_attributes_are_the_rows_that_optunas_storage_writes(self):
        storage = optuna.storages.RDBStorage("sqlite:///:memory:")
        study, trials = DOCUMENTS["tpe"], _trials(DOCUMENTS["tpe"], 30)
        sampler = TPESampler(multivariate=True, constant_liar=True, seed=seed_of(0, "claim"))
        theirs = optuna.create_study(direction="maximize", sampler=sampler, storage=storage)
        space = dict(distributions(study.space))
        for trial in trials:
            theirs.add_trial(_as_optuna(trial, space))
        theirs.ask(space)
        newest = "WHERE trial_id = (SELECT max(trial_id) FROM trials)"
        columns = "param_name, param_value, distribution_json"
        with storage.engine.connect() as connection:
            params = connection.execute(
                text(f"SELECT {columns} FROM trial_params {newest}")
            ).all()
            keys = connection.execute(
                text(f'SELECT "key" FROM trial_system_attributes {newest}')
            ).all()
        storage.remove_session()
        storage.engine.dispose()
        ours = _propose(study, trials, "claim", 30, "optuna")
        assert {name: (value, json) for name, value, json in params} == ours.internal
        assert {key for (key,) in keys} == set(ours.attributes)


class TestJointTPEIsAnOptunaSampler(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        return lambda: _immediate(JointTPE({}, seed=1))


def _immediate(sampler: JointTPE) -> JointTPE:
    # Optuna's cases on relative sampling give one trial and expect no random phase.
    sampler._n_startup_trials = 0  # pyright: ignore[reportPrivateUsage]
    return sampler


def test_the_room_needs_no_torch():
    check = "import sys, service.sampling; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
