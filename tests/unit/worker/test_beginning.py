"""The record of what a worker found when it began."""

from dataclasses import replace

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.data import TaskData, with_validation
from worker.runner import trial_record
from worker.training.model.freezing import Freezing
from worker.training.model.published_weights import WeightsReport

DATA = replace(
    tiny_data(),
    class_counts={"train": (8, 7, 7), "validation": (3, 3, 3), "test": (0, 0, 0)},
    split_sha256="5" * 64,
    notes=("a note",),
)

OF_THREE = (
    "the value is the mean of the last 3 validations up to the epoch that is kept: "
    "the validation split has 9 rows, fewer than 250"
)


def test_a_record_names_data_classes_weights_and_machine() -> None:
    model = tiny_backbone(DATA)
    names = tuple(f"layer{number}" for number in range(15))
    model.report = WeightsReport(
        "w.pth",
        "model_ema",
        matched=names,
        left_out=("fc",),
        quantised=("fc1",),
        unused=("fc2",),
    )
    freezing = Freezing(model, Recipe(precision="float32"))
    record = trial_record.record_of(DATA, freezing.recipe, CPU, freezing=freezing)
    assert record.pictures == {"train": 22, "validation": 9, "test": 0}
    assert [count.name for count in record.class_counts] == ["a", "b", "c"]
    assert [count.train for count in record.class_counts] == [8, 7, 7]
    assert record.labels_used == 22
    assert record.weights is not None
    assert (record.weights.matched.count, len(record.weights.matched.first)) == (15, 10)
    assert (record.weights.source, record.weights.part) == ("w.pth", "model_ema")
    assert record.weights.left_out.first == ("fc",)
    assert record.weights.quantised.first == ("fc1",)
    assert record.weights.unused.first == ("fc2",)
    assert record.notes == (OF_THREE, "a note")
    assert (record.environment.device, record.environment.precision) == ("cpu", "float32")


def test_weights_of_a_part_of_the_backbone_are_no_secret() -> None:
    model, recipe = tiny_backbone(DATA), Recipe()
    model.report = WeightsReport("w.pth", share=0.417)
    freezing = Freezing(model, recipe)
    record = trial_record.record_of(DATA, recipe, CPU, freezing=freezing)
    told = f"the weights are those of 41 % of {model.name}: the rest began at random"
    assert record.notes == (told, OF_THREE, "a note")


def test_that_a_value_is_a_mean_is_told_where_it_is_one() -> None:
    def notes(data: TaskData) -> tuple[str, ...]:
        freezing = Freezing(tiny_backbone(data), Recipe())
        return trial_record.record_of(data, Recipe(), CPU, freezing=freezing).notes

    assert notes(tiny_data()) == (OF_THREE,)
    assert notes(tiny_data(validation=250)) == notes(with_validation(tiny_data())) == ()


def test_portions_with_batch_statistics_of_their_own_are_no_secret() -> None:
    model = tiny_backbone(DATA)

    def notes(
        first_micro_batch_size: int | None = None, devices: int = 1, **recipe: object
    ) -> tuple[str, ...]:
        asked = Recipe.model_validate({"batch_size": 8, **recipe})
        return trial_record.record_of(
            DATA,
            asked,
            CPU,
            freezing=Freezing(model, asked),
            first_micro_batch_size=first_micro_batch_size,
            devices=devices,
        ).notes

    assert "the steps differ from those of whole batches" in notes(micro_batch_size=4)[0]
    assert (
        "computed 2 pictures at a time"
        in notes(first_micro_batch_size=2, micro_batch_size=4)[0]
    )
    assert "computed 4 pictures at a time" in notes(devices=2)[0]
    assert notes() == notes(micro_batch_size=8) == (OF_THREE, "a note")
    assert notes(micro_batch_size=4, batch_norm="frozen") == (OF_THREE, "a note")
