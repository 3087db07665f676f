"""What a final report says of the choice, in words and in numbers."""

from collections.abc import Iterator, Sequence
from typing import get_args

from trimtab.contract.final_report import Candidate, CandidateKind, Corrected, FinalReport
from worker.training.final import classes
from worker.training.final.answers import Answered
from worker.training.final.candidates import Member
from worker.training.final.choice import Choice
from worker.training.final.correction import NotCorrectable, TrialAnswers, corrected
from worker.training.loop.choice import averaged_epochs

LONGEST_WHY = 1024
_KINDS: tuple[CandidateKind, ...] = get_args(CandidateKind)


def report_of(
    choice: Choice,
    handed: CandidateKind,
    members: Sequence[Member],
    notes: Sequence[str],
    validation: Answered,
    test: Answered,
    trials: Sequence[TrialAnswers] = (),
) -> FinalReport:
    """Make the report of a choice.

    Args:
        choice: The choice, which was made on the validation split.
        handed: The model that is handed over.
        members: The best trials, the winner first.
        notes: Sentences about trials that were left out.
        validation: The candidates' answers to the validation split.
        test: Their answers to the test split.
        trials: The answers of the study's completed trials to the validation split; none where nobody knows.
    """
    seen = members[0].seen
    value, why_not = _correct(members[0].number, trials, validation)
    reasons = (choice.why, *_how(handed, members), *notes, *_surprises(handed, test))
    return FinalReport(
        handed_over=handed,
        why=" ".join(reasons)[:LONGEST_WHY],
        candidates=tuple(_candidates(members, validation, test)),
        test=test.interval(handed),
        corrected=value,
        why_not_corrected=why_not,
        averaged_epochs=averaged_epochs(len(validation.labels)),
        classes=classes.scores_of(seen, test.outputs[handed], test.labels),
        confusion=classes.confusion_of(seen, test.outputs[handed], test.labels),
    )


def _correct(
    winner: int, trials: Sequence[TrialAnswers], validation: Answered
) -> tuple[Corrected | None, str | None]:
    """Correct the winner's value for the choice; return why not, if that cannot be done."""
    if trials and winner not in {trial.number for trial in trials}:
        return (
            None,
            f"what trial {winner}, the winner, answered to the validation split is not known: too long to be told, or of a release before",
        )
    try:
        return corrected(trials, validation.labels.cpu(), validation.objective), None
    except NotCorrectable as error:
        return None, str(error)


def _how(handed: CandidateKind, members: Sequence[Member]) -> Iterator[str]:
    """Say how the model that is handed over was trained."""
    match handed:
        case "refit":
            yield "Its recipe was trained anew on train and validation, which is handed over."
        case "ensemble" if len(members) == 1:
            count = len(members[0].refits)
            yield f"Its recipe was trained anew on train and validation with {count} seeds, whose average is handed over."
        case "ensemble" if anew := [_seeds(one) for one in members if one.refits]:
            yield f"Trained anew on train and validation: the recipes of trials {', '.join(anew)}."
            if len(anew) < len(members):
                yield "These refits count twice, beside all of these trials as they were validated."
        case "linear_probe":
            yield "It was fitted anew to train and validation."
        case _:
            pass


def _seeds(member: Member) -> str:
    count = len(member.refits)
    return str(member.number) if count == 1 else f"{member.number} ({count} seeds)"


def _surprises(handed: CandidateKind, test: Answered) -> Iterator[str]:
    """Say where a linear probe is better on the test split than what is handed over: no reason to choose it now."""
    if handed == "linear_probe":
        return
    gain = test.gain("linear_probe", over=handed).interval
    if gain.value > 0:
        yield (
            "On the test split, after the choice, a linear model on the pretrained features is better by "
            f"{gain.value:.3g} (95 % interval {gain.low:.3g} to {gain.high:.3g})."
        )


def _candidates(
    members: Sequence[Member], validation: Answered, test: Answered
) -> Iterator[Candidate]:
    numbers = tuple(member.number for member in members)
    trials: dict[CandidateKind, tuple[int, ...]] = {
        "winner": numbers[:1],
        "refit": numbers[:1],
        "ensemble": numbers,
    }
    for kind in _KINDS:
        is_winners = kind == "refit" or (kind == "ensemble" and len(members) == 1)
        validated: CandidateKind = "winner" if is_winners else kind
        if kind in test.outputs and validated in validation.outputs:
            yield Candidate(
                kind=kind,
                validation_value=validation.value(validated),
                test=test.interval(kind),
                trials=trials.get(kind, ()),
            )
