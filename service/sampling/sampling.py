"""The room's one door."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Lock

from service.domain.decisions import Decision
from service.domain.facts import Changes, Cursor, Curve
from service.sampling.joint import Kernels
from service.sampling.judging import Judgement
from service.sampling.proposals import Exhausted, Next, NotStored, Proposal, SamplingFailed
from service.sampling.study import ActiveStudy, Pending
from trimtab.contract.problems import Problem
from trimtab.contract.studies import StudyDocument

LARGEST_SHOWN = 500
"""The cap on the trials that TPE is shown: regret could not be told from that without one."""


class Sampling:
    """Proposals and pruning for all active studies of this process.

    Safe to use from many threads. Studies share no lock while one of them reads or computes.

    Args:
        read: returns the trials of a study that changed since a cursor (None: all), as they are now, in
            commit order. It is called from whatever thread proposes or reports.
        monotonic: a clock that only goes forward, in seconds.
        largest_shown: the number of finished trials that TPE is shown at most (None: all), since its time grows with them.
        kernels: the kernels of TPE; `optuna` is for tests and benchmarks alone, which compare with plain Optuna.
    """

    def __init__(
        self,
        read: Callable[[int, Cursor | None], Changes],
        monotonic: Callable[[], float],
        *,
        largest_shown: int | None = LARGEST_SHOWN,
        kernels: Kernels = "arrays",
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._largest_shown = largest_shown
        self._kernels: Kernels = kernels
        self._lock = Lock()
        self._studies: dict[int, ActiveStudy] = {}

    def proposal(
        self, study_id: int, document: StudyDocument, *, claim_id: str | None, next_number: int
    ) -> AbstractContextManager[Proposal | Exhausted]:
        """Propose the next configuration of a study, and count it as running from here on.

        Store it inside the `with` block; no lock is held there. Left by an exception, the proposal is
        forgotten at once; left otherwise, it counts as running until the history shows the trial (a
        database shows a commit to readers in commit order only when older transactions have ended), for a
        second at most.

        It is made from all that was known when this was called: proposals that wait for one another share a reading.

        Args:
            study_id: the study.
            document: the study's document: its space, sampler and seed.
            claim_id: names the claim; the same name over the same history gets the same proposal. None: the proposal is
                that of the trial number, whoever claims, and is void as another trial.
            next_number: the trial number that comes next, as far as the caller knows.

        Raises:
            SamplingFailed: the sampler failed at this study; the others go on.
            Problem: the history cannot be read at the moment.
        """
        return self._proposal(study_id, document, claim_id, next_number, self._monotonic())

    @contextmanager
    def _proposal(
        self,
        study_id: int,
        document: StudyDocument,
        claim_id: str | None,
        next_number: int,
        asked_at: float,
    ) -> Generator[Proposal | Exhausted]:
        with _Told("sampler"):
            study = self._study(study_id, document)
            proposal, pending = study.propose(
                document.search, claim_id, next_number, asked_at=asked_at
            )
        with _kept(study, pending):
            yield proposal

    def is_immediate(self, study_id: int, document: StudyDocument) -> bool:
        """Tell whether proposals of the study take no reading and no mathematics."""
        return self._study(study_id, document).is_immediate

    @contextmanager
    def next(
        self,
        study_id: int,
        document: StudyDocument,
        *,
        claim_id: str | None,
        next_number: int,
        may_begin: bool,
    ) -> Generator[Next]:
        """Choose what a worker that is free does for a study: begin a trial, take one up again, wait, or nothing more.

        As `proposal`, for studies whose search pauses trials; to be called within `deciding`.

        Args:
            study_id: the study.
            document: the study's document.
            claim_id: names the claim; None: a new trial's proposal is that of its number, whoever claims.
            next_number: the number that a new trial would get.
            may_begin: whether the budget has a trial left to begin.

        Raises:
            SamplingFailed: the sampler or the scheduler failed at this study; the others go on.
            Problem: the history cannot be read at the moment.
        """
        with _Told("search"):
            study = self._study(study_id, document)
            chosen, pending = study.next(
                document.search, claim_id, next_number, may_begin=may_begin
            )
        with _kept(study, pending):
            yield chosen

    @contextmanager
    def deciding(self, study_id: int, document: StudyDocument) -> Generator[None]:
        """Let nobody else of this process decide on the study's trials, until the decision is stored or given up."""
        with self._study(study_id, document).deciding:
            yield

    def decide(
        self,
        study_id: int,
        document: StudyDocument,
        number: int,
        curve: Curve,
        *,
        may_begin: bool,
        next_number: int,
    ) -> Decision:
        """Decide on a trial that has come to the end of what it was given; to be called within `deciding`.

        Args:
            study_id: the study, whose search pauses trials.
            document: its document.
            number: the trial's number.
            curve: the values that the trial reported, those of this report among them.
            may_begin: whether the budget has a trial left to begin.
            next_number: the number that a new trial would get.

        Raises:
            SamplingFailed: the scheduler failed at this study; the others go on.
            Problem: the history cannot be read at the moment.
        """
        with _Told("search"):
            study = self._study(study_id, document)
            return study.decide(
                document.search, number, curve, may_begin=may_begin, next_number=next_number
            )

    def prune(
        self,
        study_id: int,
        document: StudyDocument,
        number: int,
        curve: Curve,
        epochs: int | None = None,
    ) -> Judgement:
        """Tell whether the study's pruner gives up on a running trial with this curve, and why.

        The completed trials that it is held against may be a second old, unless `touch` said otherwise.

        Args:
            study_id: the study.
            document: its document.
            number: the trial's number.
            curve: the values that the trial reported, in the order of the steps.
            epochs: the number of epochs that the trial is to have; None where all have the same.

        Raises:
            SamplingFailed: the pruner failed at this study; the others go on.
        """
        with _Told("pruner"):
            study = self._study(study_id, document)
            return study.prune(document.search, number, curve, epochs)

    def prune_at_once(
        self,
        study_id: int,
        document: StudyDocument,
        number: int,
        curve: Curve,
        epochs: int | None = None,
    ) -> Judgement | None:
        """The same without reading or waiting; None when it takes that."""
        with _Told("pruner"):
            study = self._study(study_id, document)
            return study.prune_at_once(document.search, number, curve, epochs)

    def touch(self, study_id: int) -> None:
        """Note that a trial of the study changed: its history is read again before its next use."""
        if study := self._studies.get(study_id):
            study.touch()

    def forget(self, study_id: int) -> None:
        """Free what is remembered of a study that has ended; were it used again, it would be read anew."""
        self._studies.pop(study_id, None)

    def _study(self, study_id: int, document: StudyDocument) -> ActiveStudy:
        with self._lock:
            study = self._studies.get(study_id)
            # The points to begin with change once, when the first trial has told the study's data, the space by a person.
            made_of = (document.starts, document.space_edits)
            if study is None or study.made_of != made_of:
                read = partial(self._read, study_id)
                study = ActiveStudy(
                    document,
                    read,
                    self._monotonic,
                    largest_shown=self._largest_shown,
                    kernels=self._kernels,
                )
                self._studies[study_id] = study
            return study


@contextmanager
def _kept(study: ActiveStudy, pending: Pending | None) -> Generator[None]:
    """Count a proposal as running once the block has stored it; forget it where that failed."""
    try:
        yield
    except NotStored:
        if pending is not None:
            study.drop(pending)
        return
    except BaseException:
        if pending is not None:
            study.drop(pending)
        raise
    if pending is not None:
        study.settle(pending)


class _Told:
    """Tell errors of one study's own from the database's and the machine's, which another study would meet as well.

    Each report enters one: a generator would take thrice the CPU.
    """

    __slots__ = ("_who",)

    def __init__(self, who: str) -> None:
        self._who = who

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> None:
        if isinstance(error, Exception) and not isinstance(
            error, Problem | MemoryError | OSError
        ):
            raise SamplingFailed(self._who, error) from error
