"""The end of a study, as it is shown: which model is handed over and why, and how far its numbers can be trusted."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from trimtab.cli.failures import printable
from trimtab.cli.figures import figure, gain, interval, table, words
from trimtab.contract.final_report import (
    Candidate,
    CandidateKind,
    ClassScores,
    FinalReport,
    FinalScores,
)

Rows = list[tuple[str, Text]]

MODELS: Mapping[CandidateKind, str] = {
    "winner": "the best trial",
    "refit": "the best trial's recipe, trained on train and validation",
    "ensemble": "the average of the best trials",
    "linear_probe": "a linear model on the pretrained features",
    "before": "the pretrained model as it was",
}
SHOWN = 5
"""The number of classes, and of pairs that are confused, that are shown; the JSON has more."""


def brief(final: FinalScores | None) -> Rows:
    """Return the scores on the test split, and in a line which model has them."""
    if final is None:
        return []
    return [
        *_handed_over(final.report),
        (f"test {words(final.objective)}", Text(_test(final), style="bold green")),
        ("  before fine-tuning", Text(figure(final.objective, final.test_value_before))),
        ("  linear probe", Text(figure(final.objective, final.linear_probe_test_value))),
        ("  test samples", Text(str(final.test_count))),
        ("model sha256", Text(final.model_sha256)),
        *_opened_before(final),
    ]


def _opened_before(final: FinalScores) -> Rows:
    """Return a warning where the test split had been opened before the study got its last budget."""
    count = final.test_opened_before
    if not count:
        return []
    times = "once" if count == 1 else f"{count} times"
    told = f"opened {times} before: if a score was seen when more budget was given, this one flatters"
    return [("test split", Text(told, style="yellow"))]


def earlier(finals: Sequence[FinalScores]) -> Rows:
    """Return the scores of a study's earlier ends."""
    return [(f"test {words(one.objective)}, earlier end", Text(_test(one))) for one in finals]


def full(final: FinalScores | None) -> Rows:
    """Return the same with the reasons, and what the choice of the best trial is worth."""
    if final is None or final.report is None:
        return brief(final)
    return [
        *_corrected(final.objective, final.report),
        *brief(final),
        ("why", Text(printable(final.report.why))),
    ]


def tables_of(final: FinalScores | None) -> Iterator[RenderableType]:
    """Yield the candidates, the classes of the lowest recall, and the pairs that are confused most."""
    if final is None or final.report is None:
        return
    yield _candidates(final.objective, final.report.candidates)
    if worst := _worst(final.report.classes):
        yield worst
    if final.report.confusion:
        yield _confused(final.report)


def _handed_over(report: FinalReport | None) -> Rows:
    return [] if report is None else [("handed over", Text(MODELS[report.handed_over]))]


def _test(final: FinalScores) -> str:
    if final.report is None:
        return figure(final.objective, final.test_value)
    return interval(final.objective, final.report.test)


def _corrected(objective: str, report: FinalReport) -> Rows:
    epochs, found = report.averaged_epochs, report.corrected
    rows = [("  measured as", Text(f"the mean of the last {epochs} epochs"))]
    if found is None:
        why = report.why_not_corrected or "nothing says why"
        told = [("validation corrected", Text(f"not for the choice: {printable(why)}"))]
    else:
        told = [("validation corrected", Text(interval(objective, found.value)))]
        if found.trials > 1:
            told.append(("  gain over the first trial", Text(gain(objective, found.gain))))
    return [*(rows if epochs > 1 else ()), *told]


def _candidates(objective: str, candidates: tuple[Candidate, ...]) -> RenderableType:
    rows = table("candidate", "trials", f"validation {words(objective)}", "test")
    for one in candidates:
        rows.add_row(
            MODELS[one.kind],
            ", ".join(map(str, one.trials)) or "-",
            figure(objective, one.validation_value),
            "-" if one.test is None else interval(objective, one.test),
        )
    return rows


def _worst(classes: tuple[ClassScores, ...]) -> RenderableType | None:
    rows = table("class of the lowest recall", "recall", "precision", "test samples")
    missed = [(one.recall, one) for one in classes if one.recall is not None and one.recall < 1]
    for _, one in sorted(missed, key=lambda pair: pair[0])[:SHOWN]:
        rows.add_row(
            _named(one.target, one.name),
            _share(one.recall),
            _share(one.precision),
            str(one.count),
        )
    return rows if missed else None


def _confused(report: FinalReport) -> RenderableType:
    rows = table("test samples of", "taken for", "count")
    for one in report.confusion[:SHOWN]:
        rows.add_row(_named(one.target, one.is_class), printable(one.told_as), str(one.count))
    return rows


def _named(target: str, name: str) -> str:
    return printable(f"{target}: {name}" if target else name)


def _share(value: float | None) -> str:
    return figure("accuracy", value)
