"""What the studies of this database teach the next one, and what people are told of it."""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from typing import get_args

from pydantic import ValidationError
from sqlalchemy import Connection

from service.domain import experience as rules
from service.domain.experience import Won
from service.domain.transfer import is_guess
from service.storage import experience
from service.storage.experience import DoneStudy
from service.use_cases.context import Context
from trimtab.contract.experience import KindPriors, Priors, RecipePrior
from trimtab.contract.models import families_of, stored_model
from trimtab.contract.priors import (
    RATES,
    SGD_FACTOR,
    Family,
    family_of,
    known_recipes,
)
from trimtab.contract.records import StudyData
from trimtab.contract.starts import KNOWN_RECIPE
from trimtab.contract.studies import StudyDocument

Kind = tuple[Family, str]
"""The kind of a model and of its task."""


def priors(context: Context) -> Priors:
    """All kinds of models, for classification and for the tasks of the studies that are done."""
    with context.database.statements() as connection:
        won = _won(connection)
    plain: list[Kind] = [(family, "classification") for family in get_args(Family)]
    kinds = [*plain, *sorted(set(won) - set(plain))]
    return Priors(kinds=tuple(_told(kind, won[kind]) for kind in kinds))


def taught(connection: Connection, document: StudyDocument) -> Sequence[Won]:
    """What won in the studies of the document's kind, or in those that it names; nothing where it has no use for that."""
    search = document.search
    # Recipes are put into an order by it, and the centre of a space of ours is moved: others need not be read for it.
    if search.transfer == "none" or not (search.known_recipes or document.auto_space):
        return ()
    families = set(families_of(document.model).values())
    if len(families) != 1:  # what won with one kind of model says little of another's rates
        return ()
    names = search.transfer if isinstance(search.transfer, tuple) else None
    return _won(connection, names)[families.pop(), document.task.kind]


def _won(
    connection: Connection, names: Container[str] | None = None
) -> Mapping[Kind, list[Won]]:
    found: defaultdict[Kind, list[Won]] = defaultdict(list)
    for study in experience.done(connection):
        if (names is not None and study.name not in names) or _guesses(study):
            continue
        recipe = {**study.fixed, **study.hyperparameters}
        rate = recipe.get("learning_rate")
        if isinstance(rate, int | float) and rate > 0:
            factor = SGD_FACTOR if recipe.get("optimizer") == "sgd" else 1.0
            known = study.proposed_by and study.proposed_by.removeprefix(KNOWN_RECIPE)
            found[_kind(study)].append(Won(rate / factor, known))
    return found


def _guesses(study: DoneStudy) -> bool:
    """Tell whether a study learned nothing; one of another release, whose data cannot be read, is taken at its word."""
    with suppress(ValidationError):
        data = None if study.data is None else StudyData.model_validate(study.data)
        return is_guess(study.accuracy, data)
    return False


def _kind(study: DoneStudy) -> Kind:
    model = stored_model(study.model, study.hyperparameters)
    return family_of(str(model["backbone"]), str(model["weights"])), study.kind


def _told(kind: Kind, won: Sequence[Won]) -> KindPriors:
    family, task = kind
    rates = RATES[family]
    recipes = rules.order(known_recipes(family, "adamw", task), won)
    return KindPriors(
        family=family,
        task=task,
        studies=len(won),
        centre=rules.centre(rates, won),
        usual_centre=rates.centre,
        decades=rates.decades,
        source=rates.source,
        recipes=tuple(
            RecipePrior(
                name=one.name,
                values=one.values,
                source=one.source,
                wins=sum(each.recipe == one.name for each in won),
            )
            for one in recipes
        ),
    )
