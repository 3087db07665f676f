"""The Optuna room: each active study's history in memory, samplers and pruners over it. It stores nothing."""

from service.sampling.distributions import stored
from service.sampling.judging import GO_ON, Judgement
from service.sampling.proposals import (
    Exhausted,
    Next,
    NotStored,
    Proposal,
    Resumption,
    SamplingFailed,
    Waiting,
)
from service.sampling.sampling import Sampling
from service.sampling.scheduling.choosing import decides_at

__all__ = [
    "GO_ON",
    "Exhausted",
    "Judgement",
    "Next",
    "NotStored",
    "Proposal",
    "Resumption",
    "Sampling",
    "SamplingFailed",
    "Waiting",
    "decides_at",
    "stored",
]
