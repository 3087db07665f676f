import pytest

from worker import devices


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_device_is_chosen_from_what_is_there(wanted: str, there: int, chosen: str) -> None:
    assert devices.choose(wanted, there) == chosen


@pytest.mark.parametrize(("wanted", "there"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_device_that_is_not_there_is_refused_with_what_is(wanted: str, there: int) -> None:
    with pytest.raises(devices.NoSuchDevice, match="torch sees"):
        devices.choose(wanted, there)


def test_the_memory_of_this_machine_is_known() -> None:
    assert devices.host_memory_bytes() > 1 << 26


def test_the_kernels_count_of_memory_kills_never_falls() -> None:
    before = devices.oom_kills()
    assert devices.oom_kills() >= before >= 0
