"""The average of several models' answers: probabilities, and numbers in their own unit."""

from collections.abc import Sequence

import pytest
import torch

from trimtab.contract.metrics import TargetKind
from worker.training.model.averaging import average
from worker.training.model.card import CardTarget

ONE = torch.tensor([[2.0, 0.0, -1.0], [0.0, 4.0, 0.0]])
OTHER = torch.tensor([[-3.0, 1.0, 0.5], [1.0, 0.0, 0.0]])


def number(mean: float, std: float) -> CardTarget:
    return CardTarget(name="size", kind="regression", mean=mean, std=std)


def test_classes_have_the_mean_of_the_probabilities_not_of_the_outputs() -> None:
    found = average([ONE, OTHER], [(), ()])
    expected = (ONE.double().softmax(1) + OTHER.double().softmax(1)) / 2
    torch.testing.assert_close(found.softmax(1), expected)
    torch.testing.assert_close(found.exp(), expected)
    thrice = average([ONE, OTHER], [(), ()], weights=[3.0, 1.0])
    torch.testing.assert_close(
        thrice.exp(), (3 * ONE.double().softmax(1) + OTHER.double().softmax(1)) / 4
    )


def test_a_yes_or_no_has_the_mean_of_the_probabilities() -> None:
    targets = tuple(CardTarget(name=name, kind="binary") for name in "abc")
    found = average([ONE, OTHER], [targets, targets])
    expected = (ONE.double().sigmoid() + OTHER.double().sigmoid()) / 2
    torch.testing.assert_close(found.sigmoid(), expected)
    thrice = average([ONE, OTHER], [targets, targets], weights=[3.0, 1.0])
    torch.testing.assert_close(
        thrice.sigmoid(), (3 * ONE.double().sigmoid() + OTHER.double().sigmoid()) / 4
    )


def test_models_that_are_sure_stay_finite() -> None:
    targets = (CardTarget(name="tame", kind="binary"),)
    sure = torch.tensor([[900.0], [-900.0]])
    torch.testing.assert_close(average([sure, sure], [targets, targets]), sure.double())


def test_numbers_are_averaged_in_their_own_unit() -> None:
    # 10 + 2 * 1 = 12 and 20 + 5 * 2 = 30 are 21 on average: 5.5 deviations of 2 above 10.
    outputs = [torch.tensor([[1.0]]), torch.tensor([[2.0]])]
    targets = [(number(10, 2),), (number(20, 5),)]
    assert average(outputs, targets).item() == pytest.approx(5.5)
    assert average(outputs, targets, (number(0, 1),)).item() == pytest.approx(21)
    thrice = average(outputs, targets, (number(0, 1),), [3.0, 1.0])
    assert thrice.item() == pytest.approx((3 * 12 + 30) / 4)


@pytest.mark.parametrize("models", [1, 3])
def test_each_target_has_its_own_columns(models: int) -> None:
    kinds: Sequence[tuple[TargetKind, tuple[str, ...]]] = [
        ("classification", ("a", "b")),
        ("binary", ()),
        ("regression", ()),
    ]
    targets = tuple(CardTarget(name=k, kind=k, classes=c) for k, c in kinds)
    outputs = torch.tensor([[1.0, 3.0, -2.0, 7.0]])
    found = average([outputs] * models, [targets] * models)[0]
    torch.testing.assert_close(found[:2].softmax(0), outputs[0, :2].double().softmax(0))
    torch.testing.assert_close(found[2:], outputs[0, 2:].double())
