"""The end of a trial in the runner.

Whatever happens in a trial, an exception included, becomes one `Ended` message to the agent. Other trials of the same
process go on.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from trimtab.contract.leases import Failed, Infeasible, Outcome
from worker.pipe_messages import Ended, RunTrial, StoredFile
from worker.runner.checkpoint_writer import CheckpointWriter
from worker.runner.costs import Violates
from worker.runner.failures import failure_of
from worker.runner.progress import Cancelled, Finished, Paused
from worker.runner.resources import Resources

log = logging.getLogger(__name__)

_MAY_HAVE_DAMAGED = frozenset({"crashed", "oom", "infrastructure"})
"""Failures after which the weights of a cached backbone may be wrong, so that it is built anew.

After any other failure the cached backbone still has its weights, or the trial never used it.
"""


class TrialEnding:
    """Ends one trial exactly once and tells the agent how it ended.

    Args:
        resources: The resources of the training process.
        order: The order to run the trial.
    """

    def __init__(self, resources: Resources, order: RunTrial) -> None:
        self.writer = CheckpointWriter(order.folder)
        self.has_ended = False
        self._resources = resources
        self._lease = order.lease

    @contextmanager
    def guard(self) -> Generator[None]:
        """Run a part of the trial in the block; an exception there ends the trial and goes no further."""
        try:
            yield
        except Paused:
            self.end(None)
        except Violates as found:
            self.end(Infeasible(measured=found.measured))
        except (Cancelled, Finished):
            # One that is to finish and has no epoch as yet has nothing to complete with.
            self.end(Failed(error="cancelled"))
        except Exception as error:  # noqa: BLE001 - any error ends this trial; the runner and its other trials go on
            failure = failure_of(error)
            if failure.error in _MAY_HAVE_DAMAGED:
                self._resources.backbone_cache.clear()
            log.info("%s/%d: %s", self._lease.study, self._lease.trial_number, failure.message)
            self.end(failure)

    def end(self, outcome: Outcome | None, models: tuple[StoredFile, ...] = ()) -> None:
        """End the trial; without an outcome it is released, to be resumed from its checkpoint."""
        self.has_ended = True
        # Only after the writer has finished is it known which checkpoints the agent may upload.
        self.writer.close()
        ended = Ended(
            lease_id=self._lease.lease_id,
            outcome=outcome,
            newest=self.writer.newest,
            best=self.writer.best,
            models=models,
        )
        self._resources.channel.say(ended)
