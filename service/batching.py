"""Requests that wait while an earlier batch is being served are served together, with one commit.

No request waits for others to come. What has arrived at the same turn of the event loop is served together, and what has
arrived when a batch is done is the next batch. So a lone request is served at once, and the batches grow with the load by
themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from trimtab.contract.problems import Problem

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """Serves one batch after another.

    Args:
        serve: answers the requests of a batch, in their order.
        largest: this many requests are served together at most.
    """

    def __init__(
        self,
        serve: Callable[[Sequence[Q]], Awaitable[Sequence[A | Problem]]],
        *,
        largest: int = 64,
    ) -> None:
        self._serve = serve
        self._largest = largest
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._is_serving = False
        self._rest: asyncio.Task[None] | None = None

    async def submit(self, request: Q) -> A:
        """Wait for the request's own answer.

        Raises:
            Problem: the failure of this request; those of the others in its batch are raised to them.
        """
        if self._is_serving:
            return await self._line_up(request, last=True)
        self._is_serving = True
        try:
            # The loop reads many sockets at a time: those requests come now, and need no batch of their own.
            await asyncio.sleep(0)
            if not self._waiting:
                (answered,) = await self._serve([request])  # which needs no task of its own
                if isinstance(answered, Problem):
                    raise answered
                return answered
            beside = self._line_up(request, last=False)
        finally:
            self._go_on()
        return await beside

    def _line_up(self, request: Q, *, last: bool) -> asyncio.Future[A]:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.insert(len(self._waiting) if last else 0, (request, answer))
        return answer

    def _go_on(self) -> None:
        """Serve those who have come meanwhile."""
        self._is_serving = bool(self._waiting)
        if self._is_serving:
            self._rest = asyncio.create_task(self._serve_waiting())

    async def _serve_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = (
                    self._waiting[: self._largest],
                    self._waiting[self._largest :],
                )
                await self._answer(batch)
        finally:
            self._is_serving = False

    async def _answer(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._serve([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - every waiting request gets it as its own
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Problem):
                future.set_exception(answer)
            else:
                future.set_result(answer)
