"""A training keeps the numbers of threads that it was given, and trying them changes nothing in it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, plain_backbone, same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training.device.threads import Attempt, Threads, Work
from worker.training.features.feature_cache import FeatureCache
from worker.training.loop import trying
from worker.training.loop.epochs import EpochResult, epochs_of
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.state import FitState
from worker.training.loop.training import Training

DATA = tiny_data()
SHORT = Recipe(epochs=3, batch_size=8, learning_rate=1e-2)


class Choice:
    """Tries one and two threads three times each, and then takes what it was told to take."""

    def __init__(self, *, features: int = 1, steps: int = 1, most: int = 2) -> None:
        self.most = most
        self.counts: dict[Work, int] = {"features": features, "steps": steps}
        self.tried: list[Work] = []

    def known(self, _work: Work, /) -> None:
        return None

    def choose(self, work: Work, attempt: Attempt, /) -> int:
        self.tried.append(work)
        assert all(attempt(count) > 0 for count in (1, 2) * 3)
        return self.counts[work]


def _begin(recipe: Recipe = SHORT, *, data: TaskData = DATA, **options: Any) -> Training:
    return begin(
        TrainingRequest(tiny_backbone(data), data, recipe, seed=3, device=CPU, **options)
    )


def _end(training: Training) -> tuple[list[float], FitState]:
    *epochs, last = epochs_of(training)
    return [epoch.train_loss for epoch in (*epochs, last)], last.state()


def _watched(epochs: Iterator[EpochResult]) -> None:
    for _ in epochs:
        pass


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "sgd", "momentum": 0.9, "ema_decay": 0.5, "swa_epochs": 2},
        {"lora_rank": 2, "l2_sp": 0.1, "optimizer": "muon"},
        {"unfreeze_every": 1, "adaptation_grid": 2},
        {"frozen_stages": 1, "clip_norm": 0.5, "micro_batch_size": 4},
        {"batch_size": 64},
    ],
    ids=str,
)
def test_a_training_whose_threads_were_tried_has_the_bits_of_one_whose_were_not(
    options: dict[str, Any],
) -> None:
    recipe = Recipe.model_validate({**SHORT.model_dump(), **options})
    untouched, tried = _begin(recipe), _begin(recipe, threads=Choice())
    losses, state = _end(untouched)
    epochs = epochs_of(tried)
    seen = [next(epochs).train_loss]
    trying.choose_threads(
        tried, Choice()
    )  # Between two epochs too, when averages lie in the model.
    others, other = _end(tried)
    assert [*seen, *others] == losses
    assert same_tensors(dict(state.weights), dict(other.weights))
    assert same_tensors(dict(state.moments), dict(other.moments))
    assert same_tensors(dict(state.averages), dict(other.averages))


def test_steps_and_validation_are_computed_on_the_number_that_was_chosen() -> None:
    seen: set[int] = set()

    def look() -> None:
        seen.add(torch.get_num_threads())

    before = torch.get_num_threads()
    training = _begin(threads=Choice(steps=2), each_batch=look)
    seen.clear()
    _watched(epochs_of(training))
    assert seen == {2}
    assert torch.get_num_threads() == before


def test_features_are_computed_on_the_number_that_was_chosen_for_them(tmp_path: Path) -> None:
    data = replace(DATA, key="known")
    seen: set[int] = set()
    training = begin(
        TrainingRequest(
            plain_backbone(data),
            data,
            SHORT.model_copy(update={"frozen_stages": 1}),
            seed=3,
            device=CPU,
            features_cache=FeatureCache(tmp_path),
            threads=(choice := Choice(features=2)),
            each_batch=lambda: seen.add(torch.get_num_threads()),
        )
    )
    assert seen == {2}
    assert choice.tried == ["features"]
    assert training.threads == Threads(2, 2)


def test_nothing_is_tried_for_features_where_all_stages_are_trained() -> None:
    choice = Choice(steps=1)
    assert _begin(threads=choice).threads.steps == 1
    assert choice.tried == ["steps"]


def test_a_resumed_training_keeps_its_numbers_and_tries_none(tmp_path: Path) -> None:
    first = _begin(threads=Choice(features=2, steps=1))
    next(epochs_of(first)).state().save(tmp_path / "a")
    state = FitState.load(tmp_path / "a")
    assert state.threads.steps == 1
    choice = Choice(steps=2)
    assert _begin(resume=state, threads=choice).threads == state.threads
    assert choice.tried == []


def test_a_resumed_training_is_given_no_more_threads_than_there_are() -> None:
    state = next(epochs_of(_begin(threads=Choice(steps=2)))).state()
    few = Choice(most=1)
    assert _begin(resume=state, threads=few).threads == Threads(1, 1)


def test_a_number_that_is_chosen_between_two_epochs_stands_in_the_state() -> None:
    training = _begin(threads=Choice(steps=1))
    epoch = next(epochs_of(training))
    trying.choose_threads(training, Choice(steps=2))
    assert epoch.state().threads.steps == 2


def test_a_training_that_joins_has_features_of_its_own_number_of_threads() -> None:
    recipe = SHORT.model_copy(update={"frozen_stages": 1})

    def head(
        features: int, *, resume: FitState | None = None, beside: Training | None = None
    ) -> Training:
        request = TrainingRequest(
            plain_backbone(DATA),
            DATA,
            recipe,
            seed=3,
            device=CPU,
            resume=resume,
            threads=Choice(features=features),
        )
        return begin(request, beside=beside)

    lead, state = head(1), next(epochs_of(head(2))).state()
    assert head(2, beside=lead).learner.inputs.train is lead.learner.inputs.train
    joined = head(2, resume=state, beside=lead)
    assert joined.learner.inputs.train is not lead.learner.inputs.train
    assert joined.threads == Threads(2, 2)
