"""The runner's end of the pipes: orders arrive while it trains, and are looked at when it has a moment."""

import threading
from collections import deque
from collections.abc import Iterator
from uuid import UUID

from trimtab.contract.leases import Verdict
from worker.pipe_messages import News, Order, RunTrial, Sender, read_orders


class AgentLine:
    """Speaks to the agent over two inherited pipes.

    Args:
        orders: the descriptor to read from.
        news: the descriptor to write to.
    """

    def __init__(self, orders: int, news: int) -> None:
        self._sender = Sender(news)
        self._changed = threading.Condition()
        self._trials: deque[RunTrial] = deque()
        self._lease_id: UUID | None = None
        self._answers: dict[int, Verdict] = {}
        self._asked: Verdict = "continue"
        self._gone = False
        threading.Thread(
            target=self._listen, args=(orders,), name="agent-orders", daemon=True
        ).start()

    def say(self, news: News) -> None:
        """Tell the agent; to one that is gone it is lost, and the lifeline ends this process."""
        try:
            self._sender.send(news)
        except BrokenPipeError:
            self._leave()

    def trials(self) -> Iterator[RunTrial]:
        """Yield one trial after the other, until the agent is gone."""
        while (trial := self._next_trial()) is not None:
            yield trial

    def verdict(self, step: int) -> Verdict:
        """Wait for the answer to the epoch of `step`; `cancel` when the agent is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._gone or step in self._answers)
            return self._answers.pop(step, "cancel")

    def asked(self) -> Verdict:
        """Return the newest word that came without an epoch; `continue` where there was none."""
        return self._asked

    def _next_trial(self) -> RunTrial | None:
        with self._changed:
            self._changed.wait_for(lambda: self._gone or len(self._trials) > 0)
            return self._trials.popleft() if self._trials else None

    def _listen(self, orders: int) -> None:
        for order in read_orders(orders):
            self._receive(order)
        self._leave()

    def _receive(self, order: Order) -> None:
        with self._changed:
            if isinstance(order, RunTrial):
                self._lease_id = order.lease.lease_id
                self._answers, self._asked = {}, "continue"
                self._trials.append(order)
            elif order.lease_id == self._lease_id and order.step is None:
                self._asked = order.verdict
            elif order.lease_id == self._lease_id and order.step is not None:
                self._answers[order.step] = order.verdict
            self._changed.notify_all()

    def _leave(self) -> None:
        with self._changed:
            self._gone = True
            self._changed.notify_all()
