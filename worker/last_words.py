"""How a lease ends in the runner's hands."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from trimtab.contract.leases import Failed, Outcome
from worker.bench import Bench
from worker.failures import failure_of
from worker.pipe_messages import Ended, RunTrial, StoredFile
from worker.saver import Saver
from worker.signs_of_life import Cancelled

log = logging.getLogger(__name__)

_MAY_HAVE_DAMAGED = frozenset({"crashed", "oom", "infrastructure"})
"""Failures after which nobody knows what the kept backbone holds; all others leave a whole one, or never had it."""


class LastWords:
    """Sees to it that whatever happens in a trial ends it alone, and that the agent is told.

    Args:
        bench: What it works on.
        order: The trial.
    """

    def __init__(self, bench: Bench, order: RunTrial) -> None:
        self.saver = Saver(order.folder)
        self.are_said = False
        self._bench = bench
        self._lease = order.lease

    @contextmanager
    def carefully(self) -> Generator[None]:
        """Do a part of the trial inside."""
        try:
            yield
        except Cancelled:
            self.say(Failed(error="cancelled"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent is told, and the runner goes on
            failure = failure_of(error)
            if failure.error in _MAY_HAVE_DAMAGED:
                self._bench.shelf.clear()
            log.info("%s/%d: %s", self._lease.study, self._lease.trial_number, failure.message)
            self.say(failure)

    def say(self, outcome: Outcome | None, model: StoredFile | None = None) -> None:
        """End it; without an outcome it is put aside, to be carried on from what is saved."""
        self.are_said = True
        self.saver.close()
        ended = Ended(
            lease_id=self._lease.lease_id,
            outcome=outcome,
            newest=self.saver.newest,
            best=self.saver.best,
            model=model,
        )
        self._bench.line.say(ended)
