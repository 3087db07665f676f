"""The `search` of a study document: who proposes, who stops, and what a search begins with."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trimtab.contract.auto_search import with_open_pruner
from trimtab.contract.message import Flag, Int, Message, Number, Text
from trimtab.contract.pruners import MedianPruner, NoPruner, Pruner, with_parameters_inside
from trimtab.contract.schedulers import Scheduler
from trimtab.contract.transfer import Transfer

SamplerName = Literal["auto", "tpe", "gp", "random", "grid"]
"""What suits the study, which the service writes in the place of `auto` when it creates it; tree-structured Parzen estimator;
Gaussian process with expected improvement; at random; every point of a grid."""


class Search(Message):
    """Who proposes and who stops."""

    sampler: SamplerName = "tpe"
    pruner: Pruner = MedianPruner(kind="median")
    seed: Annotated[Int, Field(ge=0, lt=2**31)] | None = 0
    """The same one gets one worker the same proposals; null: by chance, and then it stands in the study's document."""
    initial_trials: Annotated[Int, Field(ge=0, le=200)] = 10
    """So many trials are made by their number, from first trials, known recipes and priors, before the sampler proposes.

    0: the sampler proposes from the first one on, or once these points are tried. In a space of finitely many points the
    known recipes and the priors repeat no point.
    """
    tpe_startup_trials: Annotated[Int, Field(ge=1, le=1000)] | None = None
    """TPE learns from trials once this many have ended; until then it draws from the priors, or at random.

    null: the service writes 5 beside an initial design, 10 where `initial_trials` is 0. Trials that failed for their
    configuration count, other failures do not. Stored documents without it are of a release that waited for as many as
    `initial_trials`.
    """
    known_recipes: Flag = True
    """Whether recipes that are known to be good fill in what the document leaves open, and are tried first."""
    prior_strength: Annotated[Number, Field(ge=0, le=1000)] = 3.0
    """How much the priors of the space weigh what `gp` proposes, after the first trials: this much by the number of trials.

    0: not at all. The sampler `tpe` knows the priors by the first trials alone.
    """
    transfer: Transfer = "auto"
    """The studies that are done whose best configurations are tried first: all of the kind, none, or those of these names.

    The same ones move the priors of `auto`, and the order of the known recipes; `done_studies` has them do that alone.
    """
    audit: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """The share of the trials that run to their end although the search would stop or pause them, to tell how often it is wrong."""
    auto_reason: Annotated[Text, Field(max_length=500)] | None = None
    """Why the service chose the sampler and the pruner that stand here in the place of `auto`; null: a person did."""

    @model_validator(mode="before")
    @classmethod
    def _take_older_form(cls, given: object) -> object:
        return with_open_pruner(with_parameters_inside(given))

    @property
    def prunes(self) -> bool:
        """Whether anything judges running trials; if not, nobody need read what they reported."""
        return not isinstance(self.pruner, NoPruner)

    @property
    def schedules(self) -> bool:
        """Whether trials are paused and taken up again, so that each claim and some reports are decided on all trials."""
        return isinstance(self.pruner, Scheduler)
