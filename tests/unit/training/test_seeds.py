"""What is handed over of trials that were refitted with several seeds."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.pictures import folder_task, write_classes
from tests.support.tiny import CPU
from tests.unit.training.test_handover import LARGE, MODEL, RECIPE, SEAL, told, trained
from trimtab.contract.final_report import CandidateKind
from trimtab.contract.recipe import Recipe
from worker.data import with_validation
from worker.training.errors import CheckpointMissing
from worker.training.final import handover
from worker.training.final.candidates import Finalist
from worker.training.final.choice import Choice, Measured
from worker.training.final.evaluator import Evaluator
from worker.training.final.handover import Files, hand_over
from worker.training.loop.state import FitState
from worker.training.model.export import load_exported
from worker.training.model.predictor import Prediction


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    folder = tmp_path_factory.mktemp("study")
    write_classes(folder / "letters", {"a": 20, "b": 20, "c": 20}, mode="L")
    return Evaluator(folder_task(folder / "letters"), MODEL, folder / "cache", CPU)


@pytest.fixture(scope="module")
def finalists(evaluator: Evaluator) -> tuple[Finalist, Finalist]:
    """Two trials, each refitted with its own seed and a further one; the second one saw larger pictures."""
    return refitted(evaluator, 4, RECIPE), refitted(evaluator, 2, LARGE)


def refitted(evaluator: Evaluator, number: int, recipe: Recipe) -> Finalist:
    seen = evaluator.load(recipe)
    whole = with_validation(seen)
    validated = trained(seen, recipe, number)
    refits = [trained(whole, recipe, seed) for seed in (number, 10 + number)]
    reads = [partial(_same, state) for state in refits]
    return Finalist(number, recipe, lambda: validated, reads)


def _same(state: FitState) -> FitState:
    return state


def probabilities(path: Path, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
    found = load_exported(path).predict(pictures)
    told = [one.probabilities for one in found if isinstance(one, Prediction)]
    return np.array([[one[name] for name in "abc"] for one in told])


def choose(monkeypatch: pytest.MonkeyPatch, kind: CandidateKind) -> None:
    def chosen(*_: object, **__: object) -> Choice:
        return Choice(Measured(kind, 0.5), "It was told to.")

    monkeypatch.setattr(handover, "choose", chosen)


def test_every_network_is_in_the_file_which_predicts_their_mean(
    evaluator: Evaluator,
    finalists: tuple[Finalist, Finalist],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose(monkeypatch, "ensemble")
    made = hand_over(evaluator, finalists, seal=SEAL, files=Files(tmp_path / "model"))
    report = told(made)
    why = (
        "Trained anew on train and validation: the recipes of trials 4 (2 seeds), 2 (2 seeds)."
    )
    assert why in report.why
    tests = {each.kind: each.test for each in report.candidates}
    assert report.test == tests["ensemble"]
    predictor = load_exported(tmp_path / "model")
    assert [one.card.seed for one in predictor.members] == [4, 14, 2, 12]
    split = evaluator.open_test(RECIPE, SEAL)
    pictures = [Image.fromarray(stored[..., 0]) for stored in split.inputs]
    found = probabilities(tmp_path / "model", pictures)
    alone: list[NDArray[np.float64]] = []
    monkeypatch.undo()
    for finalist in finalists:
        for refit in finalist.refits:
            one = replace(finalist, validated=refit, refits=())
            hand_over(
                evaluator, [one], seal=SEAL, files=Files(tmp_path / "one"), may_choose=False
            )
            alone.append(probabilities(tmp_path / "one", pictures))
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-6)
    right = (found.argmax(1) == split.labels).mean()
    assert report.test.value == pytest.approx(right)


def test_the_seeds_of_one_trial_are_an_ensemble_of_its_value(
    evaluator: Evaluator,
    finalists: tuple[Finalist, Finalist],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose(monkeypatch, "winner")
    files = Files(tmp_path / "model", tmp_path / "validated")
    made = hand_over(evaluator, finalists[:1], seal=SEAL, files=files)
    report = told(made)
    assert made.kind == "ensemble"
    assert "trained anew on train and validation with 2 seeds" in report.why
    values = {each.kind: each.validation_value for each in report.candidates}
    assert values["ensemble"] == values["refit"] == values["winner"]
    assert [one.card.seed for one in load_exported(files.handed_over).members] == [4, 14]
    assert files.validated is not None
    assert [one.card.seed for one in load_exported(files.validated).members] == [4]


def test_the_best_trial_before_an_ensemble_is_handed_over_with_its_own_seed(
    evaluator: Evaluator,
    finalists: tuple[Finalist, Finalist],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose(monkeypatch, "winner")
    made = hand_over(evaluator, finalists, seal=SEAL, files=Files(tmp_path / "model"))
    assert made.kind == "refit"
    assert [one.card.seed for one in load_exported(tmp_path / "model").members] == [4]


def test_a_seed_whose_checkpoint_is_lost_is_left_out_and_told(
    evaluator: Evaluator, finalists: tuple[Finalist, Finalist]
) -> None:
    def lost() -> FitState:
        raise CheckpointMissing

    first = finalists[0]
    one = replace(first, refits=(lost, first.refits[1]))
    report = told(hand_over(evaluator, [one], seal=SEAL))
    assert "A refit of trial 4 is left out" in report.why
    assert "ensemble" not in [each.kind for each in report.candidates]
