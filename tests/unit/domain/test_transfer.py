"""How near earlier studies are, and which of their configurations a study begins with."""

from collections.abc import Sequence
from typing import Any

import pytest

from service.domain import transfer
from service.domain.transfer import Earlier, Values
from tests.support.documents import a_study_document
from tests.support.records import a_record
from trimtab.contract.records import StudyData
from trimtab.contract.starts import Start
from trimtab.contract.studies import StudyDocument
from trimtab.contract.tasks import Model

MODEL = Model(backbone="glyphnet")
RATE = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE: dict[str, Any] = {
    "learning_rate": RATE,
    "batch_size": {"kind": "choices", "choices": [16, 32]},
    "weight_decay": {"kind": "float", "low": 0.0, "high": 0.1},
}
BEST = {"learning_rate": 1e-2, "batch_size": 32, "weight_decay": 0.01}


def data(**changes: Any) -> StudyData:
    features = {"backbone": "glyphnet 1234 8x8x1", "values": (3.0, 4.0)}
    return a_record(**({"input_size": 8, "features": features} | changes)).data


def earlier(*best: Values, name: str = "one", **changes: Any) -> Earlier:
    given: dict[str, Any] = {"model": MODEL, "data": data(), "searched": frozenset(SPACE)}
    return Earlier(name=name, best=best or (BEST,), **(given | changes))


def document(**changes: Any) -> StudyDocument:
    given: dict[str, Any] = {"space": SPACE, "budget": {"trials": 30}}
    return a_study_document(**(given | changes)).model_copy(
        update={"starts": changes.get("starts", ())}
    )


def parts(other: StudyData | None, **changes: Any) -> dict[Any, float | None]:
    return transfer.parts(document(), data(), earlier(data=other, **changes))


def begun(found: StudyDocument) -> Sequence[Start]:
    return (found.starts or ())[1:]


def test_the_same_data_under_another_name_are_at_distance_nought() -> None:
    same = data(pictures={"train": 9}, classes=7, features=None, input_size=None)
    found = parts(same, name="other")
    assert set(found.values()) == {0.0}
    assert transfer.distance(found) == 0.0


def test_each_part_tells_how_far_two_data_sets_are_apart() -> None:
    uneven = (
        {"name": "cat", "train": 90, "validation": 10, "test": 10},
        {"name": "dog", "train": 10, "validation": 10, "test": 10},
    )
    other = data(
        data_sha256="e" * 64,
        pictures={"train": 6_000},
        classes=20,
        class_counts=uneven,
        input_size=80,
        features={"backbone": "glyphnet 1234 8x8x1", "values": (0.0, 0.0)},
    )
    found = parts(other)
    assert found == {
        "size": pytest.approx(2.0),  # a hundred times as many
        "classes": pytest.approx(1.0),
        "balance": pytest.approx(1 - 0.469, abs=1e-3),
        "input_size": pytest.approx(1.0),
        "features": pytest.approx(1.0),  # five apart, and the longer one is five long
        "model": 0.0,
    }
    assert transfer.distance({"size": 3.0, "classes": 4.0}) == 5.0


def test_what_is_not_known_counts_as_far_and_never_as_near() -> None:
    others_features = {"backbone": "resnet18 99 8x8x1", "values": (3.0, 4.0)}
    found = parts(data(data_sha256="e" * 64, features=others_features))
    assert found["features"] is None
    assert transfer.distance(found) == 1.0
    nothing = parts(None, model=None)
    assert set(nothing.values()) == {None}
    assert transfer.distance(nothing) == pytest.approx(6**0.5)


def test_a_model_is_nearer_the_more_it_is_alike() -> None:
    models = ("glyphnet", "cifar_resnet20", "resnet18")
    found = [parts(data(), model=Model(backbone=one))["model"] for one in models]
    assert found == [0.0, 0.5, 1.0]


def test_values_outside_the_space_are_moved_inside_where_most_fit() -> None:
    one_outside = {"learning_rate": 1.0, "batch_size": 32, "weight_decay": 0.01}
    point = transfer.point(document(), earlier(), one_outside)
    assert point == one_outside | {"learning_rate": 0.1}
    two_outside = one_outside | {"batch_size": 128}
    assert transfer.point(document(), earlier(), two_outside) is None


def test_a_study_that_searched_nothing_in_common_gives_nothing() -> None:
    assert transfer.point(document(), earlier(searched={"momentum"}), BEST) is None


def test_a_rate_of_sgd_is_ten_times_the_others() -> None:
    by_sgd = document(fixed={"epochs": 4, "optimizer": "sgd"})
    adamws, sgds = BEST | {"optimizer": "adamw"}, BEST | {"optimizer": "sgd"}
    moved = [
        transfer.point(by_sgd, earlier(), adamws),
        transfer.point(document(), earlier(), sgds),
        transfer.point(by_sgd, earlier(), sgds),
    ]
    rates = [None if one is None else one["learning_rate"] for one in moved]
    assert rates == [pytest.approx(1e-1), pytest.approx(1e-3), 1e-2]


def test_the_nearest_study_comes_first_with_its_two_best_each_once_and_six_in_all() -> None:
    def study(name: str, train: int, *rates: float) -> Earlier:
        best = [BEST | {"learning_rate": rate} for rate in rates]
        other = data(data_sha256="e" * 64, pictures={"train": train})
        return earlier(*best, name=name, data=other)

    found = transfer.with_transferred(
        document(),
        data(),
        [
            study("far", 60_000, 1e-3, 2e-3, 3e-3),
            study("near", 60, 4e-3, 4e-3, 5e-3),
            study("middle", 600, 4e-3, 6e-3),
            study("farther", 600_000, 7e-3, 8e-3),
        ],
        1,
    )
    told = [(one.proposed_by, one.values["learning_rate"]) for one in begun(found)]
    assert told == [
        *(("study:near", 4e-3), ("study:middle", 6e-3)),
        *(("study:far", 1e-3), ("study:far", 2e-3)),
        *(("study:farther", 7e-3), ("study:farther", 8e-3)),
    ]
    assert [(one.study, one.points) for one in found.transferred or ()] == [
        *(("near", 1), ("middle", 1), ("far", 2), ("farther", 2)),
    ]


def test_a_study_whose_best_accuracy_may_be_a_guess_gives_nothing_and_says_so() -> None:
    # Ten of twenty are of the larger class: 0.5, and two standard errors are 0.2236.
    lost, learned = (
        earlier(BEST | {"learning_rate": rate}, name=name, accuracy=accuracy)
        for name, rate, accuracy in (("lost", 1e-3, 0.72), ("learned", 2e-3, 0.73))
    )
    found = transfer.with_transferred(document(), data(), [lost, learned], 1)
    assert [(one.study, one.points, one.guesses) for one in found.transferred or ()] == [
        *(("lost", 0, True), ("learned", 1, False)),
    ]
    assert [one.proposed_by for one in begun(found)] == ["study:learned"]


def test_where_accuracy_or_classes_are_not_known_nobody_is_said_to_guess() -> None:
    half_told = data(pictures={"train": 60, "validation": 40})
    assert not transfer.is_guess(None, data())
    assert not transfer.is_guess(0.1, None)
    assert not transfer.is_guess(0.1, half_told)
    assert transfer.is_guess(0.1, data())


def test_points_come_behind_the_trials_that_have_begun() -> None:
    known = Start(values={"learning_rate": 3e-3}, proposed_by="known_recipe:plain")
    for created, place in ((0, 1), (1, 1), (3, 3)):
        found = transfer.with_transferred(
            document(starts=(known,)), data(), [earlier()], created
        )
        starts = list(found.starts or ())
        assert [one.proposed_by for one in starts].index("study:one") == place
        assert starts[0] == known


def test_a_value_that_is_not_active_at_a_point_is_left_out() -> None:
    momentum = {"kind": "float", "low": 0.8, "high": 0.99, "when": {"optimizer": "sgd"}}
    optimizer = {"kind": "choices", "choices": ["sgd", "adamw"]}
    conditional = document(space={"optimizer": optimizer, "momentum": momentum})
    by_adamw = {"optimizer": "adamw", "momentum": 0.9}
    one = earlier(searched={"optimizer"})
    assert transfer.point(conditional, one, by_adamw) == {"optimizer": "adamw"}
    assert transfer.point(conditional, one, by_adamw | {"optimizer": "sgd"}) == {
        "optimizer": "sgd",
        "momentum": 0.9,
    }


CHOICES = {
    "deep": {"backbone": "vit_b_16"},
    "small": {"backbone": "glyphnet"},
    "other": {"backbone": "cifar_resnet20"},
}


@pytest.mark.parametrize(
    ("backbone", "name", "apart"),
    [("glyphnet", "small", 0.0), ("cifar_resnet56", "small", 0.5), ("swin_t", "deep", 0.5)],
)
def test_among_several_models_a_point_goes_to_the_one_that_is_most_like_its_own(
    backbone: str, name: str, apart: float
) -> None:
    several = document(model={"choices": CHOICES})
    other = earlier(model=Model(backbone=backbone))
    assert transfer.point(several, other, BEST) == {"model": name, **BEST}
    assert transfer.parts(several, data(), other)["model"] == apart


def test_a_point_of_a_model_of_another_kind_goes_to_none_of_several() -> None:
    several = document(model={"choices": CHOICES})
    other = earlier(model=Model(backbone="resnet18"))
    assert transfer.point(several, other, BEST) is None
    assert transfer.parts(several, data(), other)["model"] == 1.0


def test_where_models_are_searched_a_point_of_nobody_knows_which_names_none() -> None:
    models = {"small": {"backbone": "glyphnet"}, "big": {"backbone": "cifar_resnet20"}}
    several = document(model={"choices": models})
    known, unknown = earlier(), earlier(model=None, data=None)
    assert (transfer.point(several, known, BEST) or {})["model"] == "small"
    assert transfer.point(several, unknown, BEST) == BEST
