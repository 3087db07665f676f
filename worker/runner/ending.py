"""How a lease ends in the runner's hands."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from trimtab.contract.leases import Failed, Outcome
from worker.pipe_messages import Ended, RunTrial, StoredFile
from worker.runner.checkpoint_writer import CheckpointWriter
from worker.runner.failures import failure_of
from worker.runner.progress import Cancelled, Finished
from worker.runner.resources import Resources

log = logging.getLogger(__name__)

_MAY_HAVE_DAMAGED = frozenset({"crashed", "oom", "infrastructure"})
"""Failures after which nobody knows what the kept backbone holds; all others leave a whole one, or never had it."""


class TrialEnding:
    """Sees to it that whatever happens in a trial ends it alone, and that the agent is told.

    Args:
        resources: What it works on.
        order: The trial.
    """

    def __init__(self, resources: Resources, order: RunTrial) -> None:
        self.writer = CheckpointWriter(order.folder)
        self.has_ended = False
        self._resources = resources
        self._lease = order.lease

    @contextmanager
    def guard(self) -> Generator[None]:
        """Do a part of the trial inside."""
        try:
            yield
        except (Cancelled, Finished):
            # One that is to finish and has no epoch as yet has nothing to complete with.
            self.end(Failed(error="cancelled"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent is told, and the runner goes on
            failure = failure_of(error)
            if failure.error in _MAY_HAVE_DAMAGED:
                self._resources.backbone_cache.clear()
            log.info("%s/%d: %s", self._lease.study, self._lease.trial_number, failure.message)
            self.end(failure)

    def end(self, outcome: Outcome | None, model: StoredFile | None = None) -> None:
        """End it; without an outcome it is put aside, to be carried on from what is saved."""
        self.has_ended = True
        self.writer.close()
        ended = Ended(
            lease_id=self._lease.lease_id,
            outcome=outcome,
            newest=self.writer.newest,
            best=self.writer.best,
            model=model,
        )
        self._resources.channel.say(ended)
