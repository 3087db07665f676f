"""What a study hands over is chosen before the test split is opened, measured on it, and written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.pictures import folder_task, write_classes
from tests.support.tiny import CPU, memory_for
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.final_report import CandidateKind, FinalReport
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data
from worker.data import Seal, Split, TaskData, with_validation
from worker.training.errors import CheckpointIncompatible, CheckpointMissing
from worker.training.final import evaluator, handover
from worker.training.final.candidates import Finalist
from worker.training.final.choice import Choice, Measured
from worker.training.final.evaluator import Evaluator
from worker.training.final.handover import Files, HandedOver, hand_over
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.state import FitState
from worker.training.model import backbones, heads
from worker.training.model.export import load_exported
from worker.training.model.predictor import Prediction, Predictor

MODEL = Model(backbone="glyphnet")
RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=3e-3)
LARGE = RECIPE.model_copy(update={"image_size": 16})
SEAL = Seal("final")


@dataclass(frozen=True)
class Study:
    """A task of letters, and two of its trials with their refits: the second one saw larger pictures."""

    evaluator: Evaluator
    finalists: tuple[Finalist, Finalist]


def told(made: HandedOver) -> FinalReport:
    assert made.report is not None
    return made.report


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    # Letters that the pretrained head knows, so that the model before any training is a candidate too.
    write_classes(folder / "letters", {"a": 20, "b": 20, "c": 20}, mode="L")
    task = folder_task(folder / "letters")
    evaluator = Evaluator(task, MODEL, folder / "cache", CPU)
    first, second = (
        finalist(evaluator, number, recipe) for number, recipe in ((4, RECIPE), (2, LARGE))
    )
    return Study(evaluator, (first, second))


def handed_over(evaluator: Evaluator, *finalists: Finalist, **options: Any) -> HandedOver:
    return hand_over(evaluator, finalists, seal=SEAL, **options)


def finalist(evaluator: Evaluator, number: int, recipe: Recipe) -> Finalist:
    seen = evaluator.load(recipe)
    states = [trained(each, recipe, number) for each in (seen, with_validation(seen))]
    return Finalist(number, recipe, lambda: states[0], (lambda: states[1],))


def trained(seen: TaskData, recipe: Recipe, seed: int) -> FitState:
    network = backbones.build(MODEL, classes=seen.classes, seed=seed)
    *_, last = fit(TrainingRequest(network, seen, recipe, seed=seed, device=CPU))
    return last.state()


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[CandidateKind], None]:
    """Makes the rule choose what a test is about."""

    def of(kind: CandidateKind) -> None:
        def chosen(*_: object, **__: object) -> Choice:
            return Choice(Measured(kind, 0.5), "It was told to.")

        monkeypatch.setattr(handover, "choose", chosen)

    return of


def sealed(study: Study) -> Split:
    """The test split, once more."""
    return study.evaluator.open_test(RECIPE, SEAL)


def accuracy(path: Path, split: Split, classes: Sequence[str]) -> float:
    pictures = [Image.fromarray(stored[..., 0]) for stored in split.inputs]
    found = load_exported(path).predict(pictures)
    right = [
        isinstance(one, Prediction) and one.class_name == classes[int(label)]
        for one, label in zip(found, split.labels, strict=True)
    ]
    return sum(right) / len(right)


@pytest.mark.parametrize(
    ("kind", "handed", "seeds"),
    [
        ("winner", "refit", [4]),
        ("ensemble", "ensemble", [4, 2]),
        ("linear_probe", "linear_probe", [4]),
        ("before", "before", [4]),
    ],
)
def test_what_was_chosen_is_measured_and_written(
    study: Study,
    tmp_path: Path,
    choose: Callable[[CandidateKind], None],
    kind: CandidateKind,
    handed: CandidateKind,
    seeds: list[int],
) -> None:
    choose(kind)
    files = Files(tmp_path / "model", tmp_path / "validated")
    made = handed_over(study.evaluator, *study.finalists, files=files)
    report = told(made)
    assert report.handed_over == handed
    tests = {each.kind: each.test for each in report.candidates}
    assert report.test == tests[handed]
    assert made.scores.value == report.test.value
    predictor = load_exported(files.handed_over)
    assert [member.card.seed for member in predictor.members] == seeds
    assert predictor.card.scores.test_accuracy == made.scores.value
    # What is written is what was measured. The pictures of the second trial are resized by its own rule.
    if handed == "refit":
        held = predictor.members[0].model.network.state_dict()
        refit = study.finalists[0].refits[0]()
        assert all(torch.equal(held[name], value) for name, value in refit.weights.items())
    if kind != "ensemble":
        assert accuracy(files.handed_over, sealed(study), "abc") == report.test.value
    assert files.validated is not None
    winner = load_exported(files.validated)
    assert (len(winner.members), winner.card.seed) == (1, 4)
    assert tests["winner"] is not None
    assert winner.card.scores.test_accuracy == tests["winner"].value
    assert accuracy(files.validated, sealed(study), "abc") == tests["winner"].value


def test_the_ensemble_is_of_the_refits_each_in_its_own_form(
    study: Study, tmp_path: Path, choose: Callable[[CandidateKind], None]
) -> None:
    choose("ensemble")
    handed_over(study.evaluator, *study.finalists, files=Files(tmp_path / "model"))
    members = load_exported(tmp_path / "model").members
    assert [member.card.shape for member in members] == [(12, 12, 1), (16, 16, 1)]
    for member, one in zip(members, study.finalists, strict=True):
        held = member.model.network.state_dict()
        assert all(
            torch.equal(held[name], value) for name, value in one.refits[0]().weights.items()
        )


def test_the_winner_itself_is_handed_over_where_nothing_was_refitted(
    study: Study, tmp_path: Path, choose: Callable[[CandidateKind], None]
) -> None:
    choose("winner")
    one = study.finalists[0]
    files = Files(tmp_path / "model", tmp_path / "validated")
    made = handed_over(study.evaluator, Finalist(4, RECIPE, one.validated), files=files)
    assert made.kind == "winner"
    assert [each.kind for each in told(made).candidates] == [
        "winner",
        "linear_probe",
        "before",
    ]
    assert not (tmp_path / "validated").exists()


def test_the_choice_is_made_before_the_test_split_is_opened(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    opened, chosen = data.open_test, handover.choose

    def open_test(*arguments: Any, **options: Any) -> Split:
        happened.append("opened")
        return opened(*arguments, **options)

    def choose(*arguments: Any, **options: Any) -> Choice:
        happened.append("chosen")
        return chosen(*arguments, **options)

    monkeypatch.setattr(data, "open_test", open_test)
    monkeypatch.setattr(handover, "choose", choose)
    fresh = Evaluator(study.evaluator.task, MODEL, study.evaluator.cache_dir, CPU)
    hand_over(
        fresh,
        study.finalists,
        seal=SEAL,
        before_opening=lambda _: happened.append("asked"),
    )
    # Once for each size of pictures.
    assert happened == ["chosen", "asked", "opened", "opened"]


def test_the_rule_hears_the_validation_values_of_what_has_not_seen_that_split(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[str, Any] = {}

    def choose(objective: str, direction: str, winner: Measured, **others: Any) -> Choice:
        heard.update(others, winner=winner)
        return Choice(winner, "")

    monkeypatch.setattr(handover, "choose", choose)
    made = handed_over(study.evaluator, *study.finalists)
    seen = study.evaluator.load(RECIPE)
    network = study.evaluator.trained(RECIPE, study.finalists[0].validated(), seen).model
    with torch.inference_mode():
        outputs = network.eval()(torch.from_numpy(seen.validation.inputs))
    right = (outputs.argmax(1).numpy() == seen.validation.labels).mean()
    assert heard["winner"] == Measured("winner", float(right), (4,))
    assert heard["ensemble"].trials == (4, 2)
    values = {each.kind: each.validation_value for each in told(made).candidates}
    assert heard["ensemble"].value == values["ensemble"]
    assert [each.kind for each in heard["others"]] == ["linear_probe", "before"]
    assert values["refit"] == values["winner"] == heard["winner"].value


def lost() -> FitState:
    raise CheckpointMissing


def test_a_trial_whose_checkpoint_is_lost_is_left_out_and_told(study: Study) -> None:
    first, second = study.finalists
    gone = Finalist(second.number, second.recipe, lost, second.refits)
    report = told(handed_over(study.evaluator, first, gone))
    assert "Trial 2 is left out: its checkpoint is lost or cannot be used." in report.why
    assert "ensemble" not in [each.kind for each in report.candidates]


def test_a_trial_whose_checkpoint_is_another_models_is_left_out(study: Study) -> None:
    first, second = study.finalists
    recipe = RECIPE.model_copy(update={"head": "mlp"})
    other = Finalist(9, recipe, second.validated)
    report = told(handed_over(study.evaluator, first, other))
    assert "Trial 9 is left out" in report.why


def test_a_trial_whose_refit_is_lost_stays_as_it_was_validated(
    study: Study, tmp_path: Path, choose: Callable[[CandidateKind], None]
) -> None:
    choose("ensemble")
    first, second = study.finalists
    half = Finalist(second.number, second.recipe, second.validated, (lost,))
    files = Files(tmp_path / "model")
    report = told(handed_over(study.evaluator, first, half, files=files))
    assert "The refit of trial 2 is left out" in report.why
    assert "Trained anew on train and validation: the recipes of trials 4." in report.why
    assert "These refits count twice" in report.why
    members = load_exported(tmp_path / "model").members
    assert [(one.card.seed, one.card.weight) for one in members] == [(4, 2), (4, 1), (2, 1)]
    states = [first.refits[0](), first.validated(), second.validated()]
    for member, state in zip(members, states, strict=True):
        held = member.model.network.state_dict()
        assert all(torch.equal(held[name], value) for name, value in state.weights.items())


def test_beside_states_as_validated_the_refit_counts_twice(
    study: Study,
    tmp_path: Path,
    choose: Callable[[CandidateKind], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose("ensemble")
    measured: list[Sequence[float]] = []

    def averaged(*said: Any) -> Any:
        measured.append(said[3] if len(said) > 3 else ())
        return evaluator.averaged(*said)

    monkeypatch.setattr(handover, "averaged", averaged)
    first, second = study.finalists
    others = [replace(second, refits=())]
    made = handed_over(study.evaluator, first, *others, files=Files(tmp_path / "model"))
    predictor = load_exported(tmp_path / "model")
    pictures = [Image.fromarray(stored[..., 0]) for stored in sealed(study).inputs]
    found, *each = (
        [
            one.probabilities["a"]
            for one in which.predict(pictures)
            if isinstance(one, Prediction)
        ]
        for which in (
            predictor,
            *(Predictor(predictor.card, [one]) for one in predictor.members),
        )
    )
    refit, own, other = map(np.array, each)
    np.testing.assert_allclose(found, (2 * refit + own + other) / 4, atol=1e-6)
    right = accuracy(tmp_path / "model", sealed(study), "abc")
    assert right == told(made).test.value == predictor.card.scores.test_accuracy
    # A weight may change no answer of so few pictures.
    assert measured[-1] == [2, 1, 1]


def test_short_of_memory_fewer_pictures_are_measured_at_once(study: Study) -> None:
    plain = handed_over(study.evaluator, *study.finalists)
    with memory_for(3):
        short = handed_over(study.evaluator, *study.finalists)
    for one, other in zip(told(plain).candidates, told(short).candidates, strict=True):
        assert (one.kind, one.validation_value) == (other.kind, other.validation_value)
        assert one.test is not None
        assert other.test is not None
        assert one.test.value == other.test.value


def test_without_the_winners_checkpoint_nothing_is_handed_over(study: Study) -> None:
    first, second = study.finalists
    with pytest.raises(CheckpointMissing):
        handed_over(
            study.evaluator,
            Finalist(4, RECIPE, lost),
            second,
        )
    wrong = Finalist(4, RECIPE.model_copy(update={"head": "mlp"}), first.validated)
    with pytest.raises(CheckpointIncompatible):
        handed_over(
            study.evaluator,
            wrong,
            second,
        )


def test_a_probe_that_turns_out_better_on_the_test_split_is_told_and_not_chosen(
    tmp_path: Path, choose: Callable[[CandidateKind], None]
) -> None:
    task, untrained = digits_that_nobody_learned(tmp_path)
    choose("winner")
    report = told(handed_over(task, untrained))
    assert report.handed_over == "winner"
    tests = {each.kind: each.test for each in report.candidates}
    probe, own = tests["linear_probe"], tests["winner"]
    assert probe is not None
    assert own is not None
    gain = probe.value - own.value
    assert (
        f"a linear model on the pretrained features is better by {gain:.3g} (95 %" in report.why
    )


def digits_that_nobody_learned(folder: Path) -> tuple[Evaluator, Finalist]:
    """A winner that one step with a tiny rate has left as it was: a new head on glyphnet, which knows digits well."""
    task = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))
    evaluator = Evaluator(task, MODEL, folder, CPU)
    recipe = Recipe(
        epochs=1, learning_rate=1e-9, head="mlp", frozen_stages=9, batch_size=1024, shots=2
    )
    seen = evaluator.load(recipe)
    network = backbones.build(
        MODEL, classes=seen.classes, seed=0, head=heads.of(recipe, seen.kind)
    )
    *_, last = fit(TrainingRequest(network, seen, recipe, seed=0, device=CPU))
    state = last.state()
    return evaluator, Finalist(0, recipe, lambda: state)


def test_a_probe_is_handed_over_as_it_was_fitted_to_both_splits(
    tmp_path: Path,
) -> None:
    evaluator, finalist = digits_that_nobody_learned(tmp_path)
    files = Files(tmp_path / "model")
    made = handed_over(evaluator, finalist, files=files)
    assert made.kind == "linear_probe"
    assert "It was fitted anew to train and validation." in told(made).why
    alone = handed_over(evaluator, finalist, may_choose=False)
    assert (alone.kind, alone.report) == ("winner", None)
    # With the validation split's 359 labels beside the 20 of train it does better.
    assert made.scores.value > alone.scores.linear_probe["accuracy"]
    split = evaluator.open_test(RECIPE, SEAL)
    classes = [str(digit) for digit in range(10)]
    assert accuracy(files.handed_over, split, classes) == made.scores.value
