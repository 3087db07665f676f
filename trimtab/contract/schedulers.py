"""What pauses trials and takes them up again, so that many begin and the best of them go on: kinds of `pruner` too."""

from typing import Annotated, Literal

from pydantic import Field

from trimtab.contract.message import Int, Message

FirstRung = Annotated[Int, Field(ge=1, le=100_000)]
Eta = Annotated[Int, Field(ge=2, le=100)]
_ETA = "Of the trials that reached a rung, one in so many goes on to the next, which is so many times as many epochs away."


class AshaScheduler(Message):
    """Asynchronous successive halving with promotion: a trial pauses at each rung until it is among the best there.

    Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020.
    """

    kind: Literal["asha"]
    first_rung: FirstRung | None = Field(
        default=None,
        description="The number of epochs of the first rung; null: an eighteenth of all epochs, at least 1.",
    )
    eta: Eta = Field(default=3, description=_ETA)


class HyperbandScheduler(Message):
    """Several ladders of rungs at once, which begin at more and more epochs; each new trial gets one of them.

    Li et al., Hyperband, JMLR 2018; asynchronous, as in the paper of ASHA.
    """

    kind: Literal["hyperband"]
    first_rung: FirstRung | None = Field(
        default=None,
        description="The number of epochs of the first ladder's first rung; null: an eighteenth of all epochs, at least 1.",
    )
    eta: Eta = Field(default=3, description=_ETA)


class FreezeThawScheduler(Message):
    """Gives the next epochs to the trial, paused or new, that promises most for them, by a model of all curves.

    Swersky, Snoek & Adams, Freeze-Thaw Bayesian Optimization, 2014; guarded: half of the epochs go to trials that are
    run to their end, and all of them where prefixes of curves turn out to say nothing.
    """

    kind: Literal["freeze_thaw"]


Scheduler = AshaScheduler | HyperbandScheduler | FreezeThawScheduler
