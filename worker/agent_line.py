"""The runner's end of the pipes: orders arrive while it trains, and are looked at when it has a moment."""

import threading
from collections import deque
from collections.abc import Iterator
from uuid import UUID

from trimtab.contract.leases import Verdict
from worker.pipe_messages import News, Order, RunTrial, Sender, Steer, read_orders


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
        self._words: list[Steer] = []
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

    def verdict(self, lease_id: UUID, step: int) -> Verdict:
        """Wait for the answer to the epoch of `step`; `cancel` when the agent is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._gone or self._find(lease_id, step) is not None)
            return self._find(lease_id, step) or "cancel"

    def asked(self, lease_id: UUID) -> Verdict:
        """Return the newest word that came without an epoch; `continue` where there was none."""
        with self._changed:
            return self._find(lease_id, None) or "continue"

    def _find(self, lease_id: UUID, step: int | None) -> Verdict | None:
        for word in reversed(self._words):
            if word.lease_id == lease_id and word.step == step:
                return word.verdict
        return None

    def _next_trial(self) -> RunTrial | None:
        with self._changed:
            self._changed.wait_for(lambda: self._gone or len(self._trials) > 0)
            self._words = [] if not self._trials else self._words
            return self._trials.popleft() if self._trials else None

    def _listen(self, orders: int) -> None:
        for order in read_orders(orders):
            self._receive(order)
        self._leave()

    def _receive(self, order: Order) -> None:
        with self._changed:
            match order:
                case RunTrial():
                    self._words.clear()
                    self._trials.append(order)
                case Steer():
                    self._words.append(order)
            self._changed.notify_all()

    def _leave(self) -> None:
        with self._changed:
            self._gone = True
            self._changed.notify_all()
