"""A trial that this process trains by a loop of its own."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsFloat, SupportsIndex, TypeVar

from trimtab.client import loop_endings, loop_reports, loop_states
from trimtab.client.loop_keeper import LOST, LoopKeeper
from trimtab.client.worker_verbs import WorkerVerbs
from trimtab.contract import problems
from trimtab.contract.external_leases import ExternalLease
from trimtab.contract.leases import CheckpointReport, Release, Report, Reports, Verdict
from trimtab.contract.problems import Invalid

log = logging.getLogger(__name__)

T = TypeVar("T")


class LoopTrial:
    """One trial of an external study, as the loop that trains it sees it. Use it in a `with` block, which ends it.

    Leaving the block completes the trial with the value that was reported last; or ends it as the service said when a
    report was answered with false. An exception makes it failed, and goes on. Ctrl-C, `sys.exit` and a service that cannot
    be reached give the trial back: another loop goes on from its last checkpoint.

    Args:
        client: The client of the service.
        lease: The lease of the trial, which a thread keeps from now on.
        silent_s: The seconds without a report or a checkpoint after which the loop counts as hung, so that the trial goes to
            another one; None: a trial is this process's for as long as it lives.
        earlier: Returns the last value that earlier attempts have reported; None: there is none.
        left: Is called when the trial is over for this process.
    """

    def __init__(
        self,
        client: WorkerVerbs,
        lease: ExternalLease,
        *,
        silent_s: float | None = None,
        earlier: Callable[[], float | None] = lambda: None,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._lease = lease
        self._earlier, self._left = earlier, left
        self._keeper = LoopKeeper(client, lease.lease_id, lease.ttl_s, silent_s)
        self._resumed = loop_states.Resumed(client, lease)
        self._last: Report | None = None
        self._told: Verdict = "continue"
        """The gravest verdict that the loop knows of."""
        self._has_begun = self._is_over = False
        self._keeper.start()

    def __repr__(self) -> str:
        return f"<trial {self.number} of {self.study}>"

    @property
    def study(self) -> str:
        """The study's name."""
        return self._lease.study

    @property
    def number(self) -> int:
        """The trial's number within its study."""
        return self._lease.trial_number

    @property
    def seed(self) -> int:
        """The trial's own seed: the same for each attempt, unlike its neighbours'."""
        return self._lease.seed

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The values that the search proposed, and those that the document fixes: numbers, text, booleans or None."""
        return self._lease.hyperparameters

    @property
    def resume(self) -> Path | None:
        """The file that an earlier attempt saved last, to go on from; None: there is none. It is removed with the trial.

        Raises:
            problems.Unreachable: the service does not answer.
        """
        return self._resumed.path

    @property
    def first_step(self) -> int:
        """The first step that is left to do: 0, or the one after the step that `resume` was saved at."""
        return self._resumed.first_step

    @property
    def should_stop(self) -> bool:
        """Whether the service wants the loop to end, as far as it has said so yet: for a look between two reports."""
        self._told = self._keeper.verdict
        return self._told != "continue" or self._keeper.lost is not None

    def report(
        self,
        step: SupportsIndex,
        value: SupportsFloat | None = None,
        /,
        **metrics: SupportsFloat,
    ) -> bool:
        """Tell what a step has brought, and learn whether to go on.

        Args:
            step: The number of the step, from 0, above the last one that was reported; an epoch, as a rule.
            value: The value of the study's objective; or name it.
            metrics: The values of the study's metrics by their names. An objective that is not finite ends the trial: it has
                diverged.

        Returns:
            True: go on. False: leave the block; whatever is reported after that is not sent.

        Raises:
            problems.LeaseLost: the trial is no longer this process's.
            problems.Invalid: a metric is not one of the study's, the objective is missing, or the step does not rise.
            problems.Unreachable: the service did not answer for as long as the client tries.
        """
        self._refuse_if_over()
        report = loop_reports.report_of(self._lease.task, step, value, metrics)
        loop_reports.refuse_if_not_after(self._last, report)
        if self._has_diverged or self._told in ("stop", "cancel"):
            return False
        reports = Reports(reports=(report,))
        answer = self._held(lambda: self._client.report(self._lease.lease_id, reports))
        self._last = report
        self._keeper.spoke(answer)
        self._told = self._keeper.verdict
        return self._told == "continue" and not self._has_diverged

    def save(self, path: str | Path, *, step: SupportsIndex | None = None) -> None:
        """Upload a checkpoint. When this returns, the service has it, and another attempt gets it as `resume`.

        Args:
            path: The file. It may be written anew once this has returned.
            step: The last step that is in it; None: the one that was reported last.

        Raises:
            problems.LeaseLost: the trial is no longer this process's.
            problems.CheckpointGoesBack: a checkpoint of a later step was saved before.
            problems.Invalid: there is no such file, or nothing has been reported that it could be the state after.
            problems.Unreachable: the service did not answer for as long as the client tries.
        """
        self._refuse_if_over()
        state = loop_states.described(Path(path), self._saved_step(step))
        self._keeper.spoke()
        self._held(lambda: self._client.upload(path, state.sha256))
        report = CheckpointReport(checkpoint=state)
        self._held(lambda: self._client.checkpoint(self._lease.lease_id, report))
        self._keeper.spoke()

    def __enter__(self) -> Self:
        self._refuse_if_over()
        self._has_begun = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._keeper.lost is None:
                self._end(error)
            elif error is None:
                raise self._no_longer_ours(self._keeper.lost)
        finally:
            self._forget()

    def give_back(self) -> None:
        """Release a trial whose block was never entered; nothing happens to one that was."""
        if self._has_begun or self._is_over:
            return
        try:
            self._client.release(self._lease.lease_id, Release(reason="drain"))
        except problems.Problem as problem:
            log.warning("%r could not be given back: %s", self, problem)
        finally:
            self._forget()

    @property
    def is_over(self) -> bool:
        """Whether the trial has ended for this process."""
        return self._is_over

    @property
    def _has_diverged(self) -> bool:
        return self._last is not None and self._last.value is None

    def _saved_step(self, step: SupportsIndex | None) -> int:
        if step is not None:
            return loop_reports.step_of(step)
        if self._last is not None:
            return self._last.step
        if self._resumed.path is not None:
            return self._resumed.first_step - 1
        raise Invalid(
            "Nothing has been reported yet that the file could be the state after: report a step first, "
            "or name the last one that is in it, as `trial.save(path, step=0)`."
        )

    def _refuse_if_over(self) -> None:
        if self._is_over:
            raise Invalid(f"Trial {self.number} of {self.study} has ended.")
        if self._keeper.lost is not None:
            raise self._no_longer_ours(self._keeper.lost)

    def _held(self, verb: Callable[[], T]) -> T:
        """Ask the service for something that only the holder of the lease gets."""
        try:
            return verb()
        except LOST as problem:
            self._keeper.lose(problem)
            raise self._no_longer_ours(problem) from problem

    def _no_longer_ours(self, problem: problems.Problem) -> problems.LeaseLost:
        return problems.LeaseLost(
            f"Trial {self.number} of {self.study} is no longer this process's, and what it does is stored no more: "
            f"{problem.detail} A process that says nothing for {self._lease.ttl_s:g} s has lost its trial to the next one.",
            state=problem.state,
        )

    def _end(self, error: BaseException | None) -> None:
        ending = loop_endings.ending_of(
            self._lease, error, self._last, self._told, self._earlier
        )
        try:
            loop_endings.deliver(self._client, self._lease.lease_id, ending)
        except problems.Problem as problem:
            if error is None:
                raise
            # The exception of the loop is the news; a trial that is not settled is free when its lease expires.
            log.warning("%r: its end could not be told: %s", self, problem)
        if error is None and loop_endings.is_silent(ending):
            raise Invalid(loop_endings.SILENT)

    def _forget(self) -> None:
        self._is_over = True
        self._keeper.stop()
        self._resumed.discard()
        self._left()
