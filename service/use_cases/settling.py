"""What a new study's document leaves open and the service writes into it: known recipes, and what searches."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest

from service.domain import auto_search, experience
from service.domain.experience import Won
from trimtab.contract import finish
from trimtab.contract.conditions import Conditions
from trimtab.contract.faults import pointer_to
from trimtab.contract.models import MODEL, families_of
from trimtab.contract.priors import (
    RATES,
    SGD_FACTOR,
    SHADOWED,
    KnownRecipe,
    known_recipes,
    rounded,
)
from trimtab.contract.problems import FieldError, Invalid
from trimtab.contract.recipe import Recipe
from trimtab.contract.search_space import Scalar, Space, is_too_narrow, nearest
from trimtab.contract.starts import KNOWN_RECIPE, Start
from trimtab.contract.studies import StudyDocument


def with_known_recipes(document: StudyDocument, won: Sequence[Won] = ()) -> StudyDocument:
    """Fill in the known recipes: the best of them in `fixed`, all of them as points to begin with.

    What a document already has stays, so that one that was read from a study can be submitted again. A stored document
    is never filled in: its trials keep the defaults that they began with.

    Args:
        document: The document; its finish is settled, since that decides how many trials the search has.
        won: The outcomes of studies of its kind.
    """
    recipes = _recipes(document, won)
    added = _open_values(document, [found[0] for found in recipes.values()])
    starts = document.starts
    if starts is None:
        starts = () if document.search.sampler == "grid" else tuple(_starts(document, recipes))
    return document.model_copy(
        update={
            "space": _moved(document, won),
            "fixed": {**document.fixed, **added},
            "completed": (*document.completed, *added),
            "starts": starts,
        }
    )


def with_usual_finish(document: StudyDocument) -> StudyDocument:
    """Fill in the usual finish for the budget, where a document leaves it open; an external study has none."""
    if document.finish is not None or document.is_external:
        return document
    trainings = document.budget.trials
    if document.budget.epochs is not None:
        trainings = min(trainings, document.budget.epochs // document.epochs)
    usual = finish.usual(
        trainings, grid=document.search.sampler == "grid", alone=document.bounds_the_model
    )
    return document.model_copy(update={"finish": usual})


STARTUP_TRIALS = 5
"""How many trials TPE waits for where it begins with points of known recipes and priors, which spread by themselves."""
STARTUP_TRIALS_ALONE = 10
"""How many it waits for where it begins with nothing: Optuna's default."""


def with_tpe_startup_trials(document: StudyDocument) -> StudyDocument:
    """Fill in how many trials TPE waits for, where a document leaves it open; its starts and its sampler are settled.

    A stored document is never filled in: it goes on as it began.
    """
    search = document.search
    if search.sampler != "tpe" or search.tpe_startup_trials is not None:
        return document
    number = STARTUP_TRIALS if document.numbered_trials else STARTUP_TRIALS_ALONE
    return document.model_copy(
        update={"search": search.model_copy(update={"tpe_startup_trials": number})}
    )


def with_chosen_search(document: StudyDocument) -> StudyDocument:
    """Put a sampler and a pruner in the place of `auto`, with the reason; a document of others stays as it is.

    Args:
        document: The document; all else in it is settled.
    """
    search = document.search
    if search.sampler != "auto":
        return document
    found = auto_search.chosen(document)
    update = {"sampler": found.sampler, "pruner": found.pruner, "auto_reason": found.reason}
    return document.model_copy(update={"search": search.model_copy(update=update)})


def _recipes(
    document: StudyDocument, won: Sequence[Won]
) -> Mapping[str, tuple[KnownRecipe, ...]]:
    """Return the known recipes of each of the document's models, the best one first; none where it wants none."""
    if not document.search.known_recipes:
        return {}
    optimizer, kind = str(document.fixed.get("optimizer", "adamw")), document.task.kind
    return {
        name: experience.order(known_recipes(family, optimizer, kind), won)
        for name, family in families_of(document.model).items()
    }


def _moved(document: StudyDocument, won: Sequence[Won]) -> Space:
    """Move the learning rate's centre in a space that was made from `auto`, unless that has been settled before."""
    families = set(families_of(document.model).values())
    if len(families) != 1:
        return document.space
    usual = RATES[families.pop()]
    factor = SGD_FACTOR if document.fixed.get("optimizer") == "sgd" else 1.0
    rate = document.space.get("learning_rate")
    is_usual = rate is not None and rate.prior == rounded(factor * usual.centre)
    if rate is None or not (is_usual and document.auto_space and document.starts is None):
        return document.space
    moved = {"prior": rounded(factor * experience.centre(usual, won))}
    return {**document.space, "learning_rate": rate.model_copy(update=moved)}


def _open_values(document: StudyDocument, best: Sequence[KnownRecipe]) -> dict[str, Scalar]:
    """Return what the best recipes of all models say alike and the document leaves open."""
    given = {*document.fixed, *document.space}
    return {
        name: value
        for name, value in (best[0].values.items() if best else ())
        if name not in given
        and SHADOWED.get(name) not in given
        and all(other.values.get(name) == value for other in best)
    }


def _starts(
    document: StudyDocument, recipes: Mapping[str, tuple[KnownRecipe, ...]]
) -> Iterator[Start]:
    """Yield the recipes as points of the space, each once: the best of each model, then the next.

    They take a third of the search's trials at most, or as many as there are models.
    """
    trials = document.search_budget.trials
    most = min(max(1, len(recipes), trials // 3), trials)
    seen: list[Mapping[str, Scalar]] = list(document.first_trials)
    ranks = zip_longest(*([(name, one) for one in found] for name, found in recipes.items()))
    for name, recipe in filter(None, chain.from_iterable(ranks)):
        values = projected(document.space, {**recipe.values, MODEL: name})
        if values not in seen and most > 0:
            most -= 1
            seen.append(values)
            yield Start(values=values, proposed_by=f"{KNOWN_RECIPE}{recipe.name}")


def projected(space: Space, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the point of a space that comes nearest to a recipe, whose other values are the defaults.

    Args:
        space: The space.
        values: The recipe's values, and the name of the model where several are searched.
    """
    own = {name: value for name, value in values.items() if name != MODEL}
    recipe = {**Recipe.model_validate(own).model_dump(), MODEL: values.get(MODEL)}
    found = {name: nearest(dimension, recipe[name]) for name, dimension in space.items()}
    return Conditions(space).active(found)


def refuse_narrow(document: StudyDocument) -> None:
    """Refuse a range that is none, here and not where documents are parsed: one that was stored by an older release must stay readable."""
    faults = [
        FieldError(
            pointer=pointer_to(("space", name)),
            code="narrow_range",
            message="low and high are so close that a sampler cannot tell them apart; make them equal, or move them apart",
        )
        for name, dimension in document.space.items()
        if is_too_narrow(dimension)
    ]
    if faults:
        raise Invalid(errors=faults)
