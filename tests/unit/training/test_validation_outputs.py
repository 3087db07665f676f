"""What a training answered to each validation row: packed, carried through a resume, told with the outcome."""

import base64
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pictures import TARGETS, tiny_columns, tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.metrics import TaskKind
from trimtab.contract.recipe import Recipe
from trimtab.contract.validation_outputs import MOST_CHARACTERS, ValidationOutputs
from worker.data import TaskData, with_validation
from worker.training.loop.epochs import next_epochs
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.state import FitState
from worker.training.loop.training import Training
from worker.training.objective import objectives
from worker.training.objective.evaluate import Scores
from worker.training.objective.objectives import Classification
from worker.training.objective.validation_outputs import answers_of, pack, unpack

DATA = tiny_data()
SHORT = Recipe(epochs=5, batch_size=8, learning_rate=1e-2)
ACCURACY = Classification("accuracy", "maximize")


@given(st.integers(1, 3), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_hits_come_back_as_they_were(epochs: int, rows: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).random((epochs, rows, 1)) < 0.7
    packed = pack([torch.from_numpy(each) for each in drawn])
    assert packed is not None
    assert (packed.form, packed.epochs, packed.rows, packed.columns) == (
        "hits",
        epochs,
        rows,
        1,
    )
    assert np.array_equal(unpack(packed), drawn)


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_outputs_come_back_as_they_were(
    epochs: int, rows: int, columns: int, seed: int
) -> None:
    normal = np.random.default_rng(seed).normal(0, 50, (epochs, rows, columns))
    drawn = normal.astype(np.float16)
    packed = pack([torch.from_numpy(each) for each in drawn])
    assert packed is not None
    assert packed.form == "outputs"
    assert np.array_equal(unpack(packed), drawn)


def test_a_hit_takes_one_bit() -> None:
    packed = pack([torch.rand(8000, 1) < 0.5])
    assert packed is not None
    # 1000 random bytes, which zlib cannot shorten, in base64.
    assert 4 / 3 * 1000 < len(packed.body) < 4 / 3 * 1050


def _scores(outputs: torch.Tensor, labels: torch.Tensor) -> Scores:
    return Scores({"loss": 0.0}, len(labels), outputs, labels)


def test_accuracy_is_kept_as_hits_and_every_other_objective_as_outputs() -> None:
    outputs = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    scores = _scores(outputs, torch.tensor([1, 1]))
    assert torch.equal(answers_of(scores, ACCURACY), torch.tensor([[True], [False]]))  # pyright: ignore[reportArgumentType] - not None, or torch complains
    for metric in ("loss", "f1_macro"):
        kept = answers_of(scores, Classification(metric, "maximize"))
        assert kept is not None
        assert kept.dtype == torch.float16
        assert torch.equal(kept.float(), outputs)


def test_outputs_beyond_float16_stay_finite() -> None:
    kept = answers_of(
        _scores(torch.tensor([[1e9, -1e9]]), torch.tensor([0])),
        Classification("loss", "minimize"),
    )
    assert kept is not None
    assert kept.tolist() == [[65504.0, -65504.0]]


def test_what_is_longer_than_a_message_may_be_is_not_told() -> None:
    loss = Classification("loss", "minimize")
    columns = MOST_CHARACTERS // 2
    for width, is_kept in ((columns, True), (columns + 1, False)):
        scores = _scores(torch.zeros(1, width), torch.tensor([0]))
        assert (answers_of(scores, loss) is not None) == is_kept
    # Zeros become short; random digits do not.
    assert pack([torch.zeros(1, columns).half()]) is not None
    assert pack([torch.randn(1, columns).half()]) is None


@pytest.mark.parametrize(
    "body",
    ["", "AAAA", base64.b64encode(zlib.compress(b"12345")).decode()],
    ids=["empty", "not zlib's", "too long"],
)
def test_a_body_that_is_not_what_is_announced_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="validation outputs"):
        unpack(ValidationOutputs(form="outputs", epochs=1, rows=2, columns=1, body=body))


def _begin(data: TaskData, recipe: Recipe, resume: FitState | None = None) -> Training:
    return begin(
        TrainingRequest(tiny_backbone(data), data, recipe, seed=0, device=CPU, resume=resume)
    )


def _value(training: Training, data: TaskData, answers: torch.Tensor) -> float:
    """The objective of what was answered in one epoch."""
    labels = torch.from_numpy(data.validation.labels)
    objective = objectives.of(data, training.learner.recipe)
    return objective.metrics(answers.float(), labels)[objective.metric]


@pytest.mark.parametrize("patience", [0, 2])
def test_the_hits_are_those_of_the_epochs_whose_mean_is_the_value(patience: int) -> None:
    training = _begin(DATA, SHORT.model_copy(update={"early_stopping_patience": patience}))
    while not training.ended:
        next_epochs([training])
        packed = training.validation_outputs
        assert packed is not None
        by_epoch = unpack(packed).mean(axis=(1, 2))
        assert by_epoch.tolist() == pytest.approx(list(training.progress.kept_values))


@pytest.mark.parametrize("kind", TARGETS)
def test_the_outputs_of_other_tasks_give_their_objective(kind: TaskKind) -> None:
    data = tiny_columns(kind)
    training = _begin(data, SHORT)
    while not training.ended:
        next_epochs([training])
    packed = training.validation_outputs
    assert packed is not None
    assert (packed.form, packed.rows, packed.columns) == ("outputs", 9, len(data.outputs))
    found = [_value(training, data, torch.tensor(each)) for each in unpack(packed)]
    assert found == pytest.approx(list(training.progress.kept_values), rel=1e-2)


@pytest.mark.parametrize(
    "option", [{}, {"early_stopping_patience": 2}, {"adaptation_grid": 2}], ids=str
)
def test_a_resumed_training_tells_what_the_uninterrupted_one_tells(
    tmp_path: Path, option: dict[str, object]
) -> None:
    recipe = SHORT.model_copy(update=option)
    whole = _begin(DATA, recipe)
    while not whole.ended:
        next_epochs([whole])
    training = _begin(DATA, recipe)
    while not training.ended:
        next_epochs([training])
        training.state().save(tmp_path / "state")
        assert training.answers.keys() == training.progress.valued
        training = _begin(DATA, recipe, FitState.load(tmp_path / "state"))
    assert training.validation_outputs == whole.validation_outputs


def test_answers_that_a_state_lacks_are_not_told_in_part() -> None:
    training = _begin(DATA, SHORT)
    next_epochs([training])
    resumed = _begin(DATA, SHORT, replace(training.state(), answers={}))
    assert resumed.validation_outputs is None
    next_epochs([resumed])
    assert resumed.validation_outputs is None


def test_a_training_without_a_validation_split_answers_nothing() -> None:
    training = _begin(with_validation(DATA), SHORT)
    assert training.validation_outputs is None
    next_epochs([training])
    assert training.validation_outputs is None
