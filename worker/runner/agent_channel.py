"""The runner's end of the pipes to its agent.

A thread reads orders while the runner trains; the training looks at them between two batches and after each epoch.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from trimtab.contract.leases import Lease, Verdict
from worker.pipe_messages import Ended, News, Order, RunTrial, Sender, Steer, read_orders


@dataclass
class _Verdicts:
    """The agent's verdicts on one lease."""

    by_step: dict[int, Verdict] = field(default_factory=dict[int, Verdict])
    between_epochs: Verdict = "continue"

    def take(self, steer: Steer) -> None:
        if steer.step is None:
            self.between_epochs = steer.verdict
        else:
            self.by_step[steer.step] = steer.verdict


class AgentChannel:
    """Speaks to the agent over two inherited pipes.

    Args:
        orders: the descriptor of the pipe that the agent writes orders to.
        news: the descriptor of the pipe that the agent reads messages from.
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
        """Send a message to the agent. If the agent is gone it is lost, and the lifeline ends this process."""
        if isinstance(news, Ended):
            # The lease is forgotten before the message is sent: once the agent has it, the agent may order the same
            # lease again, and the verdicts of that order must not be removed here.
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
        """Yield the trials that wait already, up to the first whose lease `takes` refuses."""
        while True:
            with self._changed:
                if not self._trials or not takes(self._trials[0].lease):
                    return
                trial = self._trials.popleft()
            yield trial

    def verdict(self, lease_id: UUID, step: int) -> Verdict:
        """Wait for the verdict on a lease's epoch of `step`; `cancel` when the agent is gone."""
        verdicts = self._verdicts[lease_id]
        with self._changed:
            self._changed.wait_for(lambda: self._gone or step in verdicts.by_step)
            return verdicts.by_step.pop(step, "cancel")

    def verdict_between_epochs(self, lease_id: UUID) -> Verdict:
        """Return the newest verdict on a lease that came between two epochs; `continue` if none came."""
        return self._verdicts[lease_id].between_epochs

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
