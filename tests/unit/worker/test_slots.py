import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimtab import cores
from worker import devices
from worker.agent import supervisor
from worker.runner import runner


@given(memory=st.integers(0, 2**42), count=st.integers(2, 64))
def test_each_slot_gets_an_equal_share_that_is_enough_or_all_are_refused(
    memory: int, count: int
) -> None:
    if memory < count << 30:
        with pytest.raises(devices.TooManySlots, match=f"{count} slots would have"):
            devices.share(memory, count)
    else:
        assert 1 << 30 <= devices.share(memory, count) == memory // count


def test_a_single_worker_makes_do_with_what_there_is() -> None:
    assert devices.share(1 << 20, 1) == 1 << 20


@pytest.mark.parametrize(("label", "told"), [("node", "node-12"), ("a" * 63, "a" * 60 + "-12")])
def test_a_slots_label_is_the_machines_with_its_number(label: str, told: str) -> None:
    assert supervisor.label_of(label, 12) == told


def test_a_runner_takes_its_part_of_memory_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runner.take_share(torch.device("cpu"), 1)
    assert runner.take_share(torch.device("cpu"), 2) == whole // 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(cores, "usable", lambda: 6)
    assert [runner.most_threads(slots) for slots in (1, 2, 4, 8)] == [6, 3, 1, 1]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert runner.most_threads(1) == 4  # OMP_NUM_THREADS=4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_slots_allocator_keeps_to_its_part_of_a_gpu() -> None:
    device = torch.device("cuda:0")
    memory = runner.take_share(device, 2)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(memory + (64 << 20), dtype=torch.uint8, device=device)
    runner.take_share(device, 1)
