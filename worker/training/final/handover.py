"""What a study hands over: chosen on the validation split, then measured once on the sealed test split, then exported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from trimtab.contract.final_report import CandidateKind, FinalReport
from trimtab.contract.recipe import Recipe
from trimtab.contract.teachers import Teacher
from worker.data import Seal, Split, TaskData
from worker.training.final import exporting
from worker.training.final.answers import Answered
from worker.training.final.candidates import (
    Finalist,
    Member,
    Network,
    TrainedState,
    Untrained,
    members_of,
    networks_of,
)
from worker.training.final.choice import Choice, Lead, Measured, choose
from worker.training.final.correction import TrialAnswers
from worker.training.final.evaluator import Evaluator, Told, averaged
from worker.training.final.probe import Probe
from worker.training.final.report import report_of
from worker.training.final.scores import FinalScores
from worker.training.objective import objectives

_UNTRAINED: tuple[CandidateKind, ...] = ("linear_probe", "before")
"""What no trial has trained."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where models are written.

    Attributes:
        handed_over: The file of the model that is handed over.
        validated: The file of the winner as it was validated, which is written where another model is handed over; None
            writes none.
    """

    handed_over: Path
    validated: Path | None = None


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What was handed over.

    Attributes:
        scores: The scores of the model.
        kind: The kind of the model.
        report: The reasons, and the candidates; None where there was nothing to choose from.
    """

    scores: FinalScores
    kind: CandidateKind
    report: FinalReport | None


def hand_over(
    evaluator: Evaluator,
    finalists: Sequence[Finalist],
    *,
    seal: Seal,
    before_opening: Callable[[TaskData], object] = lambda _: None,
    files: Files | None = None,
    teacher: Teacher | None = None,
    may_choose: bool = True,
    trials: Sequence[TrialAnswers] = (),
) -> HandedOver:
    """Choose the model that a study hands over, measure all candidates on the test split, and export it.

    Args:
        evaluator: The task and the machine.
        finalists: The best trials, the winner first; of several, the average is what was asked for.
        seal: The right to open the test split.
        before_opening: Called with the winner's data when all else is ready and the choice is made; what it raises leaves
            the test split sealed.
        files: The files to write; None writes none.
        teacher: The model whose answers the trials may have learned; None: nobody taught them.
        may_choose: False hands over the winner, whatever else is better, and measures the probe of train alone.
        trials: The answers of the study's completed trials to the validation split; none where nobody knows.

    Raises:
        DataError: The data are missing or broken.
        WeightsError: The pretrained weights cannot be had.
        BackboneError: The backbone is not registered here.
        CheckpointError: The winner's state is of no use.
    """
    members, notes = members_of(evaluator, finalists)
    winner = members[0]
    untrained = Untrained(evaluator, winner)
    validation = _on_validation(members, untrained)
    choice = _chosen(members, validation, may_choose=may_choose)
    # The test split comes last: whatever goes wrong up to here leaves it sealed, and the choice knows nothing of it.
    before_opening(winner.seen)
    tester = _Tester(evaluator, seal)
    probe = untrained.probe(with_validation=may_choose)
    test = _on_test(members, untrained, probe, tester)
    handed = _handed(choice, members)
    made = HandedOver(
        scores=_scores(choice.measured.kind, handed, validation, test),
        kind=handed,
        report=report_of(choice, handed, members, notes, validation, test, trials)
        if may_choose
        else None,
    )
    if files is not None:
        parts = _Parts(evaluator, tester, members, untrained, probe, teacher)
        _write(files.handed_over, parts, handed, made.scores)
        if files.validated is not None and handed != "winner":
            scores = _scores("winner", "winner", validation, test)
            _write(files.validated, parts, "winner", scores)
    return made


class _Tester:
    """Asks trained states about the test split, each once."""

    def __init__(self, evaluator: Evaluator, seal: Seal) -> None:
        self._evaluator = evaluator
        self._seal = seal
        self._told: dict[int, Told] = {}

    def split(self, state: TrainedState) -> Split:
        return self._evaluator.of(state.model).open_test(state.recipe, self._seal)

    def told(self, state: TrainedState) -> Told:
        if id(state) not in self._told:
            self._told[id(state)] = state.told(self._evaluator, "test", self.split(state))
        return self._told[id(state)]


def _on_validation(members: Sequence[Member], untrained: Untrained) -> Answered:
    winner = members[0]
    told = [member.validation.outputs for member in members]
    outputs: dict[CandidateKind, Tensor] = {"winner": winner.validation.outputs}
    if len(members) > 1:
        outputs["ensemble"] = averaged(told, [one.seen for one in members], winner.seen)
    outputs |= untrained.on_validation()
    objective = objectives.of(winner.seen, Recipe())
    return Answered(objective, winner.validation.labels, outputs)


def _on_test(
    members: Sequence[Member], untrained: Untrained, probe: Probe, tester: _Tester
) -> Answered:
    winner = members[0]
    told = tester.told(winner.validated)
    outputs: dict[CandidateKind, Tensor] = {"winner": told.outputs}
    if winner.refits:
        outputs["refit"] = tester.told(winner.refits[0]).outputs
    networks = networks_of(members)
    if len(networks) > 1:
        each = [tester.told(one.state).outputs for one in networks]
        of, weights = [one.state.seen for one in networks], [one.weight for one in networks]
        outputs["ensemble"] = averaged(each, of, winner.seen, weights)
    outputs |= untrained.on_test(tester.split(winner.validated), probe)
    return Answered(objectives.of(winner.seen, Recipe()), told.labels, outputs)


def _chosen(members: Sequence[Member], validation: Answered, *, may_choose: bool) -> Choice:
    trials = tuple(member.number for member in members)
    winner = Measured("winner", validation.value("winner"), trials[:1])
    ensemble = lead = None
    others: list[Measured] = []
    if may_choose and len(members) > 1:
        ensemble = Measured("ensemble", validation.value("ensemble"), trials)
        found = validation.gain("winner", over="ensemble")
        lead = Lead(found.interval.value, found.standard_error)
    if may_choose:
        outputs = validation.outputs
        known: list[CandidateKind] = [kind for kind in _UNTRAINED if kind in outputs]
        others = [Measured(kind, validation.value(kind)) for kind in known]
    objective = validation.objective
    return choose(
        objective.metric,
        objective.direction,
        winner,
        ensemble=ensemble,
        lead=lead,
        others=others,
    )


def _handed(choice: Choice, members: Sequence[Member]) -> CandidateKind:
    kind, refits = choice.measured.kind, members[0].refits
    if kind != "winner" or not refits:
        return kind
    # The winner with several seeds is the average that was asked for, unless that is of other trials too.
    return "ensemble" if len(members) == 1 and len(refits) > 1 else "refit"


def _scores(
    validated: CandidateKind, handed: CandidateKind, validation: Answered, test: Answered
) -> FinalScores:
    return FinalScores(
        objective=test.objective.metric,
        test_count=len(test.labels),
        validation=validation.metrics(validated),
        test=test.metrics(handed),
        before=test.metrics("before"),
        linear_probe=test.metrics("linear_probe"),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What models are written of."""

    evaluator: Evaluator
    tester: _Tester
    members: Sequence[Member]
    untrained: Untrained
    probe: Probe
    teacher: Teacher | None


def _write(path: Path, parts: _Parts, kind: CandidateKind, scores: FinalScores) -> None:
    if kind in _UNTRAINED:
        exporting.export_untrained(
            path,
            parts.untrained,
            parts.members[0].seen,
            parts.evaluator,
            scores=scores.on_card(),
            probe=parts.probe if kind == "linear_probe" else None,
        )
        return
    exporting.export_states(
        path,
        [(one, parts.tester.told(one.state)) for one in _networks(kind, parts.members)],
        parts.evaluator,
        scores=scores.on_card(),
        teacher=parts.teacher,
    )


def _networks(kind: CandidateKind, members: Sequence[Member]) -> list[Network]:
    if kind == "ensemble":
        return networks_of(members)
    return [Network(members[0].validated if kind == "winner" else members[0].handed)]
