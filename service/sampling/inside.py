"""Which trials a sampler is shown of a study whose space was changed while it ran."""

from collections.abc import Iterator
from dataclasses import replace

from service.domain.facts import Changes, TrialFacts
from service.domain.space_editing import fitting
from trimtab.contract.conditions import Conditions
from trimtab.contract.studies import StudyDocument


class Inside:
    """The trials inside of a study's space, with the values that it searches.

    A trial that had begun before a dimension was added has the value for it that was fixed then, or the recipe's own.

    Args:
        document: The study's document.
    """

    def __init__(self, document: StudyDocument) -> None:
        self._document = document
        self._rules = Conditions(document.space)

    def shown(self, changes: Changes) -> Changes:
        """Return what changed without the trials that lie outside."""
        if not self._document.space_edits:
            return changes
        return replace(changes, trials=tuple(self._shown(changes)))

    def _shown(self, changes: Changes) -> Iterator[TrialFacts]:
        for trial in changes.trials:
            values = self._document.values_of(trial.number, trial.hyperparameters)
            found = fitting(self._document.space, self._rules, values)
            if found is not None:
                yield replace(trial, hyperparameters=found)
