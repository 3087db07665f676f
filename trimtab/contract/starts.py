"""Points that a study's search begins with."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from trimtab.contract.message import Message, Text
from trimtab.contract.search_space import Scalar

FIRST_TRIALS = "first_trials"
"""What proposed a trial: its person, by the document's `first_trials`."""
PRIOR = "prior"
"""What proposed a trial: a draw from the priors of the space."""
ENQUEUED = "enqueued"
"""What proposed a trial: its person, while the study ran."""
KNOWN_RECIPE = "known_recipe:"
"""What proposed a trial, before its name: a recipe that is known to be good for models of this kind."""


class Start(Message):
    """One point of the search space to begin with."""

    values: Mapping[str, Scalar]
    """The values by the names of their hyperparameters; names that are missing get the prior's."""
    proposed_by: Annotated[Text, Field(max_length=200)]
    """What it comes from, such as `known_recipe:plain`."""
