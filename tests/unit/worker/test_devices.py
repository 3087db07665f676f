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


@pytest.mark.parametrize(
    ("wanted", "count", "there", "chosen"),
    [
        ("auto", 2, 0, ("cpu", "cpu")),
        ("auto", 2, 4, ("cuda:0", "cuda:1")),
        ("cuda:2", 2, 4, ("cuda:2", "cuda:3")),
        ("cuda:3", 1, 4, ("cuda:3",)),
    ],
)
def test_several_devices_are_those_from_the_first_one_on(
    wanted: str, count: int, there: int, chosen: tuple[str, ...]
) -> None:
    assert devices.several(wanted, count, there) == chosen


def test_devices_that_are_not_there_are_refused_with_what_is() -> None:
    with pytest.raises(devices.NoSuchDevice, match="cuda:0 to cuda:3; use --devices 1 or"):
        devices.several("cuda:3", 2, 4)
