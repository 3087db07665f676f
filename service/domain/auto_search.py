"""Which sampler and which pruner `sampler: auto` stands for, and why."""

from dataclasses import dataclass

from trimtab.contract.auto_search import AutoPruner
from trimtab.contract.pruners import MedianPruner, Pruner
from trimtab.contract.schedulers import FreezeThawScheduler
from trimtab.contract.search import SamplerName
from trimtab.contract.search_space import Choices, IntRange
from trimtab.contract.studies import StudyDocument

FEWEST_TRIALS = 20
"""With 12 trials freeze-thaw ended lower than TPE with the median pruner on some learning curves, with 20 on none."""
FEWEST_EPOCHS = 6
"""With fewer there is little to save between the first decision and the end."""


_FOR_CONSTRAINTS = "gp, which learns from each completed trial how far it keeps the constraints; so does freeze_thaw, which was not measured beside any."


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a study uses in the place of `auto`.

    Attributes:
        sampler: The sampler.
        pruner: The pruner.
        reason: The choice in a sentence.
    """

    sampler: SamplerName
    pruner: Pruner
    reason: str


def chosen(document: StudyDocument) -> Chosen:
    """Choose for a document whose sampler is `auto`; a pruner of its own stays.

    Guarded freeze-thaw with a Gaussian process, but for studies on which it was not shown to be as good as TPE with the
    median pruner.

    Args:
        document: The document, with all else settled: its epochs, and the finish that decides how many trials the search has.
    """
    own = document.search.pruner
    if document.objectives:
        return Chosen(
            "gp",
            own,
            "gp, whose models of both objectives tell what each trial may add to the front.",
        )
    if document.constraints and not isinstance(own, FreezeThawScheduler):
        pruner = MedianPruner(kind="median") if isinstance(own, AutoPruner) else own
        return Chosen("gp", pruner, _FOR_CONSTRAINTS)
    if isinstance(own, FreezeThawScheduler):
        return Chosen("gp", own, "gp, whose model the pruner freeze_thaw shares.")
    why = _why_not(document)
    if not isinstance(own, AutoPruner):
        return _beside(own, document, why)
    if why is not None:
        return Chosen("tpe", MedianPruner(kind="median"), f"tpe with the median pruner: {why}.")
    return Chosen("gp", FreezeThawScheduler(kind="freeze_thaw"), _why(document))


def _beside(own: Pruner, document: StudyDocument, why: str | None) -> Chosen:
    """Choose the sampler alone."""
    kept = f"beside the pruner {own.kind}, which the document names"
    if why is not None:
        return Chosen("tpe", own, f"tpe, {kept}: {why}.")
    return Chosen("gp", own, f"gp, {kept}: {_traits(document)}.")


def _why(document: StudyDocument) -> str:
    return f"gp with freeze_thaw, which gives each next epoch to the trial that promises most for it: {_traits(document)}."


def _traits(document: StudyDocument) -> str:
    """Return what speaks for a model of curves."""
    ranges = sum(not isinstance(one, Choices) for one in document.space.values())
    return (
        f"{document.task.metric} lies within 0 and 1, {ranges} of {len(document.space)} dimensions are ranges, and the "
        f"search has {document.search_budget.trials} trials of {document.usual_epochs} epochs"
    )


def _why_not(document: StudyDocument) -> str | None:
    """Return why freeze-thaw is not for this study; None: it is."""
    trials, epochs = document.search_budget.trials, document.usual_epochs
    if not document.task.is_bounded:
        return f"{document.task.metric} has no worst value, and there freeze_thaw was not shown to be as good"
    if all(isinstance(one, Choices) for one in document.space.values()):
        return "all dimensions are choices, and there freeze_thaw was not shown to be as good"
    if isinstance(document.space.get("epochs"), IntRange | Choices):
        return "epochs is searched, and freeze_thaw compares trials at the same epochs"
    if trials < FEWEST_TRIALS:
        return f"the search has {trials} trials, and freeze_thaw takes {FEWEST_TRIALS} to learn from the first ones"
    if epochs < FEWEST_EPOCHS:
        return (
            f"a trial has {epochs} epochs, and freeze_thaw takes {FEWEST_EPOCHS} to save some"
        )
    return None
