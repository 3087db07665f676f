"""What a training asks of a device's memory."""

import pytest

from tests.support.leases import a_lease
from tests.support.pictures import tiny_data
from tests.support.tiny import CPU
from worker.runner.memory_watch import MemoryWatch


@pytest.mark.parametrize(("unfreeze_every", "frozen"), [(0, 3), (2, 0)])
def test_a_finding_names_what_was_computed_in_and_the_stages_that_stay_frozen(
    unfreeze_every: int, frozen: int
) -> None:
    recipe = {"precision": "float32", "frozen_stages": 3, "unfreeze_every": unfreeze_every}
    found = MemoryWatch(a_lease(recipe=recipe), tiny_data(), CPU, 1 << 30, known=()).news(4)
    assert found is not None
    assert (found.precision, found.frozen_stages) == ("float32", frozen)
    assert found.memory_bytes == 1 << 30


def test_of_what_trains_beside_others_nothing_is_found() -> None:
    watch = MemoryWatch(a_lease(), tiny_data(), CPU, 1 << 30, known=(), alone=False)
    assert watch.news(4) is None
