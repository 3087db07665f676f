"""What is known of a kind of model and task before a study begins, and what earlier studies have moved."""

from collections.abc import Mapping

from trimtab.contract.message import Message
from trimtab.contract.search_space import Scalar


class RecipePrior(Message):
    """One known recipe."""

    name: str
    values: Mapping[str, Scalar]
    source: str
    """The grounds for it."""
    wins: int = 0
    """The number of studies in which it was the best of the known recipes."""


class KindPriors(Message):
    """The priors for one kind of model and task, for adamw."""

    family: str
    """The kind of model: `small_convnet`, `convnet`, `transformer` or `from_scratch`."""
    task: str
    """The kind of task."""
    studies: int
    """The number of studies of this kind that are done; from three on they move the priors."""
    centre: float
    """The centre of the learning rate's prior as new studies get it."""
    usual_centre: float
    """The centre without what studies have taught."""
    decades: float
    """The standard deviation of the rate's decimal logarithm."""
    source: str
    """The grounds for the usual centre."""
    recipes: tuple[RecipePrior, ...]
    """The known recipes in the order in which they are tried."""


class Priors(Message):
    """All kinds."""

    kinds: tuple[KindPriors, ...]
