"""The scores of a final evaluation, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.training.model import card


@dataclass(frozen=True, slots=True)
class FinalScores:
    """What a model does on samples that nothing before has seen, beside the model it began with.

    Attributes:
        objective: Name of the metric that trials were compared by.
        test_count: Number of samples in the test split.
        validation: Metrics on the validation split of the model, as it was trained without that split.
        test: Metrics of the model on the test split.
        before: Test metrics of the pretrained model before any training on this task: with its own head if that knows
            all the classes, else with an untrained linear one.
        linear_probe: Test metrics of a linear model on the pretrained model's frozen features.
    """

    objective: str
    test_count: int
    validation: Mapping[str, float]
    test: Mapping[str, float]
    before: Mapping[str, float]
    linear_probe: Mapping[str, float]

    @property
    def value(self) -> float:
        """The objective of the model on the test split."""
        return self.test[self.objective]

    def by_name(self) -> dict[str, float]:
        """Everything measured, such as `test_accuracy`, `test_accuracy_before` and `linear_probe_test_accuracy`."""
        return {
            "test_count": float(self.test_count),
            **{f"validation_{name}": value for name, value in self.validation.items()},
            **{f"test_{name}": value for name, value in self.test.items()},
            **{f"test_{name}_before": value for name, value in self.before.items()},
            **{f"linear_probe_test_{name}": value for name, value in self.linear_probe.items()},
        }

    def on_card(self) -> card.Scores:
        """Return them as a model card has them."""
        measured = self.by_name()
        own = {name: measured[name] for name in card.Scores.model_fields if name in measured}
        return card.Scores.model_validate(
            {
                **own,
                "objective": self.objective,
                "metrics": measured,
                "test_count": self.test_count,
            }
        )
