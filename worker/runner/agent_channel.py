"""The runner's end of the pipes: orders arrive while it trains, and are looked at when it has a moment."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from trimtab.contract.leases import Lease, Verdict
from worker.pipe_messages import Ended, News, Order, RunTrial, Sender, Steer, read_orders


@dataclass
class _Verdicts:
    """What the agent has said about one lease."""

    answers: dict[int, Verdict] = field(default_factory=dict[int, Verdict])
    asked: Verdict = "continue"

    def take(self, steer: Steer) -> None:
        if steer.step is None:
            self.asked = steer.verdict
        else:
            self.answers[steer.step] = steer.verdict


class AgentChannel:
    """Speaks to the agent over two inherited pipes.

    Args:
        orders: the descriptor to read from.
        news: the descriptor to write to.
    """

    def __init__(self, orders: int, news: int) -> None:
        self._sender = Sender(news)
        self._changed = threading.Condition()
        self._trials: deque[RunTrial] = deque()
        self._verdicts: dict[UUID, _Verdicts] = {}
        self._gone = False
        threading.Thread(
            target=self._listen, args=(orders,), name="agent-orders", daemon=True
        ).start()

    def say(self, news: News) -> None:
        """Tell the agent; to one that is gone it is lost, and the lifeline ends this process."""
        if isinstance(news, Ended):
            # Before it is told: the agent may order the same lease again.
            with self._changed:
                self._verdicts.pop(news.lease_id, None)
        try:
            self._sender.send(news)
        except BrokenPipeError:
            self._leave()

    def trials(self) -> Iterator[RunTrial]:
        """Yield one trial after the other, until the agent is gone."""
        while (trial := self._next_trial()) is not None:
            yield trial

    def waiting(self, takes: Callable[[Lease], bool]) -> Iterator[RunTrial]:
        """Yield the trials that wait already, up to the first one that is not taken."""
        while True:
            with self._changed:
                if not self._trials or not takes(self._trials[0].lease):
                    return
                trial = self._trials.popleft()
            yield trial

    def verdict(self, lease_id: UUID, step: int) -> Verdict:
        """Wait for the answer to a lease's epoch of `step`; `cancel` when the agent is gone."""
        verdicts = self._verdicts[lease_id]
        with self._changed:
            self._changed.wait_for(lambda: self._gone or step in verdicts.answers)
            return verdicts.answers.pop(step, "cancel")

    def asked(self, lease_id: UUID) -> Verdict:
        """Return the newest word about a lease that came without an epoch; `continue` where there was none."""
        return self._verdicts[lease_id].asked

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
                self._verdicts[order.lease.lease_id] = _Verdicts()
                self._trials.append(order)
            elif order.lease_id in self._verdicts:
                self._verdicts[order.lease_id].take(order)
            self._changed.notify_all()

    def _leave(self) -> None:
        with self._changed:
            self._gone = True
            self._changed.notify_all()
