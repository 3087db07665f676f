import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from service.batching import Batcher
from trimtab.contract.problems import Problem, StepConflict


class Server:
    """Answers each number with its double, odd ones with a problem, when it is let."""

    def __init__(self) -> None:
        self.groups: list[Sequence[int]] = []
        self.go_on = asyncio.Event()

    async def __call__(self, group: Sequence[int]) -> list[int | Problem]:
        self.groups.append(group)
        await self.go_on.wait()
        if 13 in group:
            raise ConnectionError
        return [StepConflict() if number % 2 else 2 * number for number in group]


async def told(grouping: Batcher[int, int], numbers: Sequence[int]) -> list[Any]:
    return await asyncio.gather(*map(grouping.submit, numbers), return_exceptions=True)


async def told_together(
    server: Server, grouping: Batcher[int, int], numbers: Sequence[int]
) -> list[Any]:
    """The first is served alone, and the others come meanwhile."""
    first = asyncio.create_task(told(grouping, numbers[:1]))
    while not server.groups:
        await asyncio.sleep(0)
    others = asyncio.create_task(told(grouping, numbers[1:]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    server.go_on.set()
    return [*await first, *await others]


def run(play: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(10):
            await play(Server())

    asyncio.run(within())


def test_what_comes_while_one_is_served_is_the_next_group():
    async def play(server: Server) -> None:
        grouping = Batcher[int, int](server)
        assert await told_together(server, grouping, [0, 2, 4]) == [0, 4, 8]
        assert await told(grouping, [6]) == [12]
        assert server.groups == [[0], [2, 4], [6]]

    run(play)


def test_what_comes_at_the_same_turn_of_the_loop_is_one_group_in_the_order_of_its_coming():
    async def play(server: Server) -> None:
        grouping = Batcher[int, int](server)
        server.go_on.set()
        assert await told(grouping, [0, 2, 4]) == [0, 4, 8]
        assert server.groups == [[0, 2, 4]]

    run(play)


def test_a_group_has_no_more_than_the_largest():
    async def play(server: Server) -> None:
        grouping = Batcher[int, int](server, largest=2)
        assert await told_together(server, grouping, [0, 2, 4, 6]) == [0, 4, 8, 12]
        assert server.groups == [[0], [2, 4], [6]]

    run(play)


@pytest.mark.parametrize("numbers", [[1], [0, 1, 2, 3]])
def test_a_problem_is_of_its_request_alone(numbers: list[int]):
    async def play(server: Server) -> None:
        answers = await told_together(server, Batcher(server), numbers)
        for number, answer in zip(numbers, answers, strict=True):
            assert isinstance(answer, StepConflict) if number % 2 else answer == 2 * number

    run(play)


def test_an_error_is_told_to_the_whole_group_and_the_next_is_served():
    async def play(server: Server) -> None:
        grouping = Batcher[int, int](server)
        first, *others = await told_together(server, grouping, [0, 2, 13])
        assert first == 0
        assert [type(answer) for answer in others] == [ConnectionError, ConnectionError]
        assert (await told(grouping, [4])) == [8]

    run(play)


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
@pytest.mark.parametrize("alone", [0, 3])
def test_who_is_served_first_and_leaves_does_not_stop_those_behind(alone: int, turns: int):
    """It may leave before the others come, among them, or while it is served, alone or with them."""

    async def play(server: Server) -> None:
        grouping = Batcher[int, int](server)
        first = asyncio.create_task(grouping.submit(0))
        for _ in range(alone):
            await asyncio.sleep(0)
        second = asyncio.create_task(grouping.submit(2))
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        server.go_on.set()
        assert await second == 4
        assert await grouping.submit(4) == 8

    run(play)
