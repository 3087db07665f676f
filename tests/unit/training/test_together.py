"""Heads trained at a time: on a CPU each has, bit by bit, the curve and the state that it has alone.

Whether several are one computation or take turns is this CPU's matter. What is promised either way is tried both ways.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, plain_backbone, same_tensors
from trimtab.contract.recipe import Recipe
from worker.runner.failures import failure_of
from worker.training.errors import Diverged
from worker.training.loop import grouped_epoch
from worker.training.loop.epochs import EpochResult, next_epochs
from worker.training.loop.fit import TrainingRequest, begin, fit
from worker.training.loop.grouped_epoch import GroupMember
from worker.training.loop.head_stack import HeadStack, keeps_bits
from worker.training.loop.linear_head import LinearHead
from worker.training.loop.training import Training

DATA = tiny_data()
PROBE = Recipe(epochs=3, batch_size=8, learning_rate=1e-2, frozen_stages=1)
UNLIKE = [
    {"optimizer": "sgd", "clip_norm": 0.5},
    {"optimizer": "adam", "weight_decay": 0.1, "batch_size": 5},
    {"optimizer": "adamw", "ema_decay": 0.5, "schedule": "one_cycle"},
    {"optimizer": "muon", "swa_epochs": 2},
    {"optimizer": "adam", "learning_rate": 0.3, "epochs": 2},
]

Curve = list[tuple[float, dict[str, float], dict[str, Tensor]]]


def recipe(**options: Any) -> Recipe:
    return Recipe.model_validate({**PROBE.model_dump(), **options})


def begun(
    own: Recipe,
    beside: Training | None = None,
    each_batch: Callable[[], object] = lambda: None,
    **options: Any,
) -> Training:
    seed = round(1e6 * own.learning_rate)
    return begin(
        TrainingRequest(
            plain_backbone(DATA),
            DATA,
            own,
            seed=seed,
            device=CPU,
            each_batch=each_batch,
            **options,
        ),
        beside=beside,
    )


def in_company(recipes: Sequence[Recipe]) -> list[Training]:
    lead = begun(recipes[0])
    return [lead, *(begun(own, lead) for own in recipes[1:])]


def noted(epoch: EpochResult) -> tuple[float, dict[str, float], dict[str, Tensor]]:
    state = epoch.state()
    return epoch.train_loss, dict(epoch.metrics), {**state.weights, **state.moments}


def alone(own: Recipe) -> Curve:
    seed = round(1e6 * own.learning_rate)
    return [
        noted(epoch)
        for epoch in fit(
            TrainingRequest(plain_backbone(DATA), DATA, own, seed=seed, device=CPU)
        )
    ]


def all_epochs(trainings: Sequence[Training]) -> list[Curve | Exception]:
    """Each one's curve to its end, or what ended it."""
    curves: list[Curve] = [[] for _ in trainings]
    ends: dict[int, Exception] = {}

    def going() -> list[int]:
        return [
            n for n, training in enumerate(trainings) if not training.ended and n not in ends
        ]

    while members := going():
        for n, epoch in zip(members, next_epochs([trainings[n] for n in members]), strict=True):
            if isinstance(epoch, Exception):
                ends[n] = epoch
            else:
                curves[n].append(noted(epoch))
    return [ends.get(n, curve) for n, curve in enumerate(curves)]


def assert_same(found: Curve | Exception, expected: Curve, *, stacked: bool = False) -> None:
    """Bit by bit, unless a stack was forced upon a CPU whose products do not keep the bits."""
    assert not isinstance(found, Exception)
    if stacked and not all_stacks_keep_bits():
        torch.testing.assert_close(found, expected)
        return
    assert [(loss, metrics) for loss, metrics, _ in found] == [
        (loss, metrics) for loss, metrics, _ in expected
    ]
    for (_, _, one), (_, _, other) in zip(found, expected, strict=True):
        assert same_tensors(one, other)


def test_members_keep_the_epochs_and_tell_the_answers_that_they_do_alone() -> None:
    patient = {"early_stopping_patience": 1, "epochs": 6}
    recipes = [recipe(**options) for options in ({}, patient, {"learning_rate": 0.3})]
    together, apart = in_company(recipes), [begun(own) for own in recipes]
    all_epochs(together)
    for training in apart:
        all_epochs([training])
    told = [(one.progress, one.validation_outputs) for one in together]
    assert told == [(one.progress, one.validation_outputs) for one in apart]
    assert all(outputs is not None for _, outputs in told)


def all_stacks_keep_bits() -> bool:
    """Whether those of these tests do on this CPU."""
    width, classes = begun(PROBE).learner.model.head.get_parameter("weight").shape[::-1]
    sizes = {min(8, len(DATA.train)), len(DATA.train) % 8} - {0}
    return all(
        keeps_bits(members, size, width, classes) for members in (2, 3, 4) for size in sizes
    )


@pytest.fixture(params=[True, False], ids=["stacked", "in turn"])
def stacked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether several lanes are one computation, whatever this CPU's products allow."""

    def answer(members: int, *_: int) -> bool:
        return members == 1 or request.param

    monkeypatch.setattr(grouped_epoch, "keeps_bits", answer)
    return request.param


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lanes each stack had."""
    seen: list[int] = []

    class Watched(HeadStack):
        def __init__(self, layers: Sequence[nn.Linear]) -> None:
            seen.append(len(layers))
            super().__init__(layers)

    monkeypatch.setattr(grouped_epoch, "HeadStack", Watched)
    return seen


def test_each_trains_as_it_would_alone(stacked: bool, stacks: list[int]) -> None:
    recipes = [recipe(**options) for options in UNLIKE]
    curves = all_epochs(in_company(recipes))
    # All but the one of another batch size.
    assert max(stacks) == (4 if stacked else 1)
    for found, own in zip(curves, recipes, strict=True):
        assert_same(found, alone(own), stacked=stacked)


def test_products_that_do_not_keep_the_bits_are_computed_apart(
    monkeypatch: pytest.MonkeyPatch, stacks: list[int]
) -> None:
    def never(members: int, *_: int) -> bool:
        return members == 1

    monkeypatch.setattr(grouped_epoch, "keeps_bits", never)
    recipes = [recipe(learning_rate=rate) for rate in (0.1, 0.2)]
    curves = all_epochs(in_company(recipes))
    assert set(stacks) == {1}
    for found, own in zip(curves, recipes, strict=True):
        assert_same(found, alone(own))


def test_the_bits_of_the_last_batch_are_looked_at_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: set[tuple[int, ...]] = set()

    def note(*shape: int) -> bool:
        asked.add(shape)
        return True

    monkeypatch.setattr(grouped_epoch, "keeps_bits", note)
    next_epochs(in_company([recipe(batch_size=7)] * 2))
    assert asked == {(2, 7, 64, 3), (2, len(DATA.train) % 7, 64, 3)}


def test_one_that_diverges_ends_alone(stacked: bool) -> None:
    good, bad = (
        recipe(),
        recipe(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, momentum=0.0),
    )
    trainings = in_company([good, bad, good])
    with torch.no_grad():
        trainings[1].learner.model.head.get_parameter("bias").fill_(float("inf"))
    curves = all_epochs(trainings)
    assert isinstance(curves[1], Diverged)
    assert "training" in str(curves[1])
    for found in (curves[0], curves[2]):
        assert_same(found, alone(good), stacked=stacked)


def test_one_that_is_told_to_end_ends_alone(stacked: bool) -> None:
    class Enough(Exception):
        pass

    words = [Enough()]

    def enough() -> None:
        if words:
            raise words.pop()

    lead = begun(PROBE)
    curves = all_epochs([lead, begun(PROBE, lead, enough)])
    assert isinstance(curves[1], Enough)
    assert_same(curves[0], alone(PROBE), stacked=stacked)


def test_one_carries_on_in_company_from_a_state_of_its_own(stacked: bool) -> None:
    whole = alone(PROBE)
    first = next(
        iter(fit(TrainingRequest(plain_backbone(DATA), DATA, PROBE, seed=10_000, device=CPU)))
    )
    state = first.state()
    lead = begun(recipe(learning_rate=0.5))
    resumed = begun(PROBE, lead, resume=state)
    assert_same(all_epochs([lead, resumed])[1], whole[1:], stacked=stacked)


def test_company_shares_the_features() -> None:
    lead, other = in_company([PROBE, recipe(batch_size=4)])
    assert other.learner.inputs.train is lead.learner.inputs.train
    assert other.learner.inputs.validation is lead.learner.inputs.validation


@pytest.mark.parametrize(
    "options",
    [{"frozen_stages": 0}, {"label_smoothing": 0.1}, {"micro_batch_size": 4}],
    ids=lambda options: next(iter(options)),
)
def test_what_is_more_than_a_head_takes_no_company(options: dict[str, Any]) -> None:
    assert begun(PROBE).may_group
    assert not begun(recipe(**options)).may_group


def test_a_large_head_takes_no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.training.loop.linear_head._UNDIVIDED", 10)
    assert not begun(PROBE).may_group


def out_of_memory(*_: object) -> Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_what_is_too_much_for_several_may_be_tried_again_alone(
    monkeypatch: pytest.MonkeyPatch, stacked: bool
) -> None:
    trainings = in_company([recipe(), recipe(), recipe(batch_size=4)])
    monkeypatch.setattr(HeadStack, "gradients", out_of_memory)
    first, second, single = (
        failure_of(end) for end in next_epochs(trainings) if isinstance(end, Exception)
    )
    # One that takes its turn is alone in its computation, as the one of another batch size always is.
    expected = ("crashed", True) if stacked else ("oom", False)
    assert (first.error, first.retryable) == (second.error, second.retryable) == expected
    assert (single.error, single.retryable) == ("oom", False)


def test_one_whose_step_fails_ends_alone(
    monkeypatch: pytest.MonkeyPatch, stacked: bool
) -> None:
    lead, other = in_company([PROBE, PROBE])
    monkeypatch.setattr(other.learner.optimizer, "step", out_of_memory)
    curves = all_epochs([lead, other])
    assert isinstance(curves[1], RuntimeError)
    assert_same(curves[0], alone(PROBE), stacked=stacked)


def test_what_ended_a_training_first_is_what_it_ends_by() -> None:
    member = GroupMember(begun(PROBE).learner, LinearHead(nn.Linear(2, 2)), 0, 0)
    member.look(float("nan"))
    member.fail(RuntimeError("later"))
    assert isinstance(member.failure, Diverged)


def test_features_of_other_weights_are_not_shared() -> None:
    lead = begun(PROBE)
    other = plain_backbone(DATA)
    with torch.no_grad():
        other.network.get_parameter("conv.weight").add_(1)
    beside = begin(TrainingRequest(other, DATA, PROBE, seed=1, device=CPU), beside=lead)
    assert beside.learner.inputs.train is not lead.learner.inputs.train
    assert lead.frozen_sha256 != beside.frozen_sha256
