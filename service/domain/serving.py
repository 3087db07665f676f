"""Which study a claim serves."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Work:
    """A study that has work: trials that wait, or a budget to propose from."""

    study_id: int
    name: str
    priority: int
    running: int
    created_at: datetime
    trials_created: int
    trials_limit: int
    has_queued: bool
    may_propose: bool
    has_paused: bool = False
    """Trials are paused by the search, which may take one up again."""
    is_probed_next: bool = False
    """Nobody has begun a trial of it yet: the next lease is its probe, and runs alone."""
    one_at_a_time: bool = False
    """Claims of its trials are decided one at a time: each takes a part of what the one before it has left."""
    gpu_memory_gb: float = 0.0
    """The memory of a GPU that it needs; 0: it runs on any device."""
    devices_per_trial: int = 1
    """The number of devices that each of its trials is trained on."""

    @property
    def has_some(self) -> bool:
        """Whether one more claim may find something."""
        if self.has_queued or self.has_paused:
            return True
        return self.may_propose and self.trials_created < self.trials_limit


def is_alone(running: int, holding: int) -> bool:
    """Whether no worker but the claimant seems to have trials of the study, which makes its proposals repeatable.

    A proposal that is the trial number's own is void as another trial: whoever is not alone after all proposes again.

    Args:
        running: trials of the study.
        holding: trials that the claimant runs, of any study.
    """
    return running <= holding


@dataclass(frozen=True, slots=True)
class Claim:
    """Who asks for one trial.

    Attributes:
        beside: the name of the only study that may serve it; None: any study may.
        holding: the number of trials that its worker runs already: all of that study, since it claims beside no other.
        worker: the worker that claims.
        set_aside: the ids of the studies that its worker cannot serve.
        gpu_memory_gb: the most that a study may need of its worker's device.
        devices: the number of devices that its worker offers.
    """

    beside: str | None = None
    holding: int = 0
    worker: UUID | None = None
    set_aside: Collection[int] = ()
    gpu_memory_gb: float = 0.0
    devices: int = 1

    def may_have(self, study: Work) -> bool:
        """Whether its worker can serve the study, if there is work."""
        return (
            study.study_id not in self.set_aside
            and study.gpu_memory_gb <= self.gpu_memory_gb
            and study.devices_per_trial <= self.devices
        )


def distribute(studies: Sequence[Work], claims: Sequence[Claim]) -> list[Work | None]:
    """The study that serves each claim, as it is when its turn comes; None when there is no work left.

    Highest priority first, then fewest running trials, then oldest: as if the claims came one after another. A claim
    beside a study waits for that study's turn, and takes no other study's; the trials that its worker runs already do
    not count, since that worker is taken with or without one more.
    """
    now = {study.study_id: study for study in studies}
    got: Counter[tuple[UUID | None, str]] = Counter()
    served: list[Work | None] = []
    for claim in claims:
        able = (one for one in now.values() if one.has_some and claim.may_have(one))
        own = claim.holding + (got[claim.worker, claim.beside or ""] if claim.worker else 0)
        chosen = min(able, key=partial(_rank, claim.beside, own), default=None)
        if chosen is not None and claim.beside not in (None, chosen.name):
            chosen = None
        served.append(chosen)
        if chosen is not None:
            got[claim.worker, chosen.name] += 1
            now[chosen.study_id] = _after_one_more(chosen)
    return served


def _after_one_more(study: Work) -> Work:
    """The study once one more trial of it runs; a probe leaves nothing for others."""
    if study.is_probed_next:
        return replace(study, running=study.running + 1, has_queued=False, may_propose=False)
    created = study.trials_created + (not study.has_queued)
    return replace(study, running=study.running + 1, trials_created=created)


TURN = "priority DESC, running, created_at, study_id"
"""The order of `_rank` in SQL, for a claim beside no study: a query that keeps the first of many studies keeps the right ones."""


def _rank(beside: str | None, own: int, study: Work) -> tuple[int, int, datetime, int]:
    running = study.running - (own if beside == study.name else 0)
    return -study.priority, running, study.created_at, study.study_id


def storable_at_once(numbers: Sequence[int | None]) -> list[list[int]]:
    """The places of new trials that can be stored together: those for numbers in a row, then those for any number.

    Whoever is left out has been overtaken, and is to be proposed anew.
    """
    in_a_row: list[int] = []
    following: int | None = None
    for place, number in enumerate(numbers):
        if number is not None and following in (None, number):
            in_a_row.append(place)
            following = number + 1
    anywhere = [place for place, number in enumerate(numbers) if number is None]
    return [places for places in (in_a_row, anywhere) if places]
