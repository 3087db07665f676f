"""What a final report says of the trials' answers, and where they are not known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.support.leases import a_lease
from tests.support.pictures import tiny_data
from trimtab.contract.final_report import FinalReport
from trimtab.contract.recipe import Recipe
from trimtab.contract.validation_outputs import TrialOutputs
from worker import trial_outputs
from worker.pipe_messages import RunTrial
from worker.runner import final_lease
from worker.training.final.answers import Answered
from worker.training.final.candidates import Member, TrainedState
from worker.training.final.choice import Choice, Measured
from worker.training.final.correction import TrialAnswers
from worker.training.final.evaluator import Told
from worker.training.final.report import report_of
from worker.training.loop.state import FitState
from worker.training.objective import objectives
from worker.training.objective.validation_outputs import pack

LABELS = torch.arange(60) % 3
OUTPUTS = functional.one_hot(LABELS.roll(1).where(LABELS == 0, LABELS), 3).float()
"""The rows of two classes are told right, and those of the first class taken for the last."""


def _report(*trials: TrialAnswers) -> FinalReport:
    seen = tiny_data()

    def read() -> FitState:
        raise AssertionError

    told = Told(OUTPUTS, LABELS, "float32", "float32")
    winner = Member(3, TrainedState(Recipe(), seen, read), (), told)
    answered = Answered(objectives.of(seen, Recipe()), LABELS, {"winner": OUTPUTS})
    choice = Choice(Measured("winner", 2 / 3, (3,)), "It is the best.")
    test = Answered(answered.objective, LABELS, {"winner": OUTPUTS, "linear_probe": OUTPUTS})
    return report_of(choice, "winner", [winner], (), answered, test, trials)


def _trial(number: int, right: float) -> TrialAnswers:
    hits = np.random.default_rng(number).random((1, 60, 1)) < right
    return TrialAnswers(number, float(hits.mean()), hits, are_hits=True)


def test_the_report_has_the_corrected_value_and_how_many_epochs_a_value_averages() -> None:
    found = _report(_trial(1, 0.2), _trial(3, 0.9))
    assert found.why_not_corrected is None
    assert found.corrected is not None
    assert found.corrected.trials == 2
    assert found.corrected.first < 0.4 < 0.8 < found.corrected.value.value
    assert found.averaged_epochs == 3


def test_the_report_tells_the_classes_and_what_is_confused_on_the_test_split() -> None:
    found = _report()
    names = tiny_data().classes
    assert [(one.name, one.recall) for one in found.classes] == list(
        zip(names, (0, 1, 1), strict=True)
    )
    (pair,) = found.confusion
    assert (pair.is_class, pair.told_as, pair.count) == (names[0], names[2], 20)


def test_a_report_without_the_trials_answers_says_why() -> None:
    found = _report()
    assert found.corrected is None
    assert found.why_not_corrected is not None
    assert "told no trial's answers" in found.why_not_corrected


def test_the_choice_is_not_repeated_without_its_winner() -> None:
    found = _report(_trial(1, 0.2), _trial(2, 0.9))
    assert found.corrected is None
    assert found.why_not_corrected is not None
    assert found.why_not_corrected.startswith("what trial 3, the winner, answered")


def _order(folder: Path, path: Path) -> RunTrial:
    return RunTrial(lease=a_lease(), folder=folder, outputs=path)


def test_the_runner_reads_what_the_agent_has_written(tmp_path: Path) -> None:
    hits = torch.tensor([[True], [False], [True]])
    packed = pack([hits])
    assert packed is not None
    told = TrialOutputs(trial_number=4, value=0.5, outputs=packed)
    trial_outputs.write(tmp_path / "outputs", [told])
    (found,) = final_lease.answers(_order(tmp_path, tmp_path / "outputs"))
    assert (found.number, found.value, found.are_hits) == (4, 0.5, True)
    assert found.outputs[0, :, 0].tolist() == [True, False, True]


@pytest.mark.parametrize("content", ["{", '{"trial_number": 1}\n', None])
def test_answers_of_no_use_cost_the_correction_alone(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "outputs"
    if content is not None:
        path.write_text(content)
    assert final_lease.answers(_order(tmp_path, path)) == []
