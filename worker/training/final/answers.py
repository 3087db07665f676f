"""What candidates answered to a split, and how good that is."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from trimtab.contract.final_report import CandidateKind, Interval
from worker.training.final.intervals import Difference, interval_of, paired_difference
from worker.training.objective.objectives import Objective


@dataclass(frozen=True, slots=True)
class Answered:
    """What candidates answered to a split.

    Attributes:
        objective: The objective of the task.
        labels: The labels of the split.
        outputs: The outputs of each candidate.
    """

    objective: Objective
    labels: Tensor
    outputs: Mapping[CandidateKind, Tensor]

    def metrics(self, kind: CandidateKind) -> Mapping[str, float]:
        """Return all metrics of a candidate by name."""
        return self.objective.metrics(self.outputs[kind], self.labels)

    def value(self, kind: CandidateKind) -> float:
        """Return the objective of a candidate."""
        return self.metrics(kind)[self.objective.metric]

    def interval(self, kind: CandidateKind) -> Interval:
        """Return the objective of a candidate with its interval."""
        return interval_of(self.objective, self.outputs[kind], self.labels)

    def gain(self, kind: CandidateKind, over: CandidateKind) -> Difference:
        """Return how much better one candidate is than another."""
        ours, theirs = self.outputs[kind], self.outputs[over]
        return paired_difference(self.objective, ours, theirs, self.labels)
