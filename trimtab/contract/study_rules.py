"""What the fields of a study's document must say of one another."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from trimtab.contract import conditions, external_rules
from trimtab.contract.auto_search import AutoPruner
from trimtab.contract.conditions import Conditions
from trimtab.contract.external import EXTERNAL
from trimtab.contract.faults import MOST_FAULTS, Fault, hint
from trimtab.contract.hyperparameters import Hyperparameter, hyperparameters
from trimtab.contract.models import MODEL
from trimtab.contract.objective_rules import of_constraints, of_objectives
from trimtab.contract.objectives import COSTS, OF_THE_MODEL
from trimtab.contract.pruners import NoPruner
from trimtab.contract.readable import Readable
from trimtab.contract.recipe import Recipe
from trimtab.contract.schedulers import FreezeThawScheduler, Scheduler
from trimtab.contract.search_space import Choices, Dimension, FloatRange, Scalar, contains

FIND_COMPROMISES = ("gp", "auto", "random", "grid")
"""The samplers that two objectives go with."""

SHARE_A_MODEL = ("gp", "auto")
"""The samplers that `pruner: freeze_thaw` goes with."""


def faults(readable: Readable) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a document."""
    if readable.kind == EXTERNAL:
        yield from external_rules.faults(readable)
    else:
        yield from _of_a_recipe(readable)
    yield from _unpaid(readable)
    if isinstance(readable.pruner, AutoPruner) and readable.sampler != "auto":
        message = "stands beside `sampler: auto` alone, which chooses both"
        yield Fault(("search", "pruner"), "auto_beside_a_sampler", message)
    for name in readable.space:
        if name in readable.fixed:
            yield Fault(("fixed", name), "fixed_and_sampled", "stands in `space` as well")
    condition_faults = tuple(conditions.faults(readable.space))
    yield from condition_faults
    yield from _strange_points(readable)
    if not condition_faults:
        yield from _inactive_points(readable)
    for number, name in enumerate(readable.completed):
        if name not in readable.fixed:
            yield Fault(("completed", number), "not_fixed", "does not stand in `fixed`")
    if readable.sampler == "grid":
        yield from _no_grid(readable)
    yield from _incomparable(readable)
    measured = readable.metrics
    if measured and readable.kind != EXTERNAL:
        measured = (*measured, *COSTS)
    yield from of_constraints(readable.constraints, measured)
    yield from of_objectives(
        readable.objectives,
        readable.objective,
        measured,
        directions_follow=readable.kind != EXTERNAL,
    )
    yield from _several(readable)


def _of_a_recipe(readable: Readable) -> Iterator[Fault]:
    """Yield what is wrong with a study that trimtab's workers train, which know their hyperparameters and models."""
    known = hyperparameters()
    yield from _another_kind(readable)
    yield from _unread(readable, known)
    yield from _unknown(readable.space, readable.fixed, known, readable.models)
    yield from _other_models(readable)
    if not readable.has_model:
        yield Fault(("model",), "missing", "Field required")
    yield from _illegal_fixed(readable.fixed, known)
    if readable.taught and readable.kind != "classification":
        message = f"only a classification learns from a teacher, and this is a {readable.kind}"
        yield Fault(("teacher",), "untaught_kind", message)
    for name, dimension in readable.space.items():
        if name in known and dimension is not None:
            yield from _illegal_dimension(name, dimension, known[name])


def _strange_points(readable: Readable) -> Iterator[Fault]:
    """Yield what is wrong with points to begin with: names that are not searched, values outside their dimension."""
    for place, point in readable.points:
        for name, value in point.items():
            if name not in readable.space:
                message = f"is not searched; {hint(name, readable.space)}"
                yield Fault((*place, name), "not_searched", message)
            elif (found := readable.space[name]) and not contains(found, value):
                message = "lies outside its dimension in `space`"
                yield Fault((*place, name), "outside_its_dimension", message)


def _inactive_points(readable: Readable) -> Iterator[Fault]:
    """Yield which values of points to begin with stand for dimensions that are not active there."""
    space = {name: found for name, found in readable.space.items() if found is not None}
    if len(space) < len(readable.space):
        return
    rules = Conditions(space)
    for place, values in readable.points:
        for name, message in rules.faults(values):
            yield Fault((*place, name), "inactive", message)


def _no_grid(readable: Readable) -> Iterator[Fault]:
    """Yield what a grid has no use for."""
    if any(place[0] == "first_trials" for place, _ in readable.points):
        message = "a grid goes through its space in its own order"
        yield Fault(("first_trials",), "first_trials_of_a_grid", message)
    if readable.is_auto:
        message = "a grid needs a space of your own, of choices, whole numbers and steps"
        yield Fault(("space",), "auto_grid", message)
    else:
        yield from _endless(readable.space)


def _another_kind(readable: Readable) -> Iterator[Fault]:
    """Yield that a model reads other samples than the data set has: nothing could be learned, and no trial would say more."""
    if readable.modality == "text" and "image" in readable.reads:
        message = "sees pictures, and `task.dataset` has texts: take a model that reads them, such as bert"
        yield Fault(("model",), "another_kind_of_samples", message)
    if readable.modality == "image" and "text" in readable.reads:
        message = "reads texts, and `task.dataset` has pictures: name the column of texts of a csv or jsonl in `text`"
        yield Fault(("model",), "another_kind_of_samples", message)


def _unread(readable: Readable, known: Mapping[str, Hyperparameter]) -> Iterator[Fault]:
    """Yield which hyperparameters none of the models reads: those of pictures beside texts, and the reverse."""
    if not readable.reads:
        return
    # To fix a default says nothing that would be lost.
    said = [
        ("fixed", name)
        for name, value in readable.fixed.items()
        if name in known and value != known[name].default
    ]
    for place in (*(("space", name) for name in readable.space if name in known), *said):
        reads = known[place[1]].reads
        if reads is not None and reads not in readable.reads:
            message = (
                "is about pictures, and the model reads texts: leave it out"
                if reads == "image"
                else "is about texts, and the model sees pictures: leave it out"
            )
            yield Fault(place, "not_read", message)


def _several(readable: Readable) -> Iterator[Fault]:
    """Yield what does not go with two objectives, or with bounds on what the model costs."""
    if readable.objectives and readable.sampler not in FIND_COMPROMISES:
        known = ", ".join(FIND_COMPROMISES)
        message = f"{readable.sampler!r} looks for one best value; with two objectives it is one of {known}"
        yield Fault(("search", "sampler"), "sampler_of_one_objective", message)
    if readable.objectives and not isinstance(readable.pruner, NoPruner | None):
        message = (
            "is none with two objectives: a curve of the first says nothing about the second"
        )
        yield Fault(("search", "pruner"), "pruner_of_one_objective", message)
    named = {one.metric for one in (*readable.constraints, *readable.objectives)}
    bounded = sorted(named & OF_THE_MODEL)
    if bounded and readable.finish is not None and readable.finish.ensemble > 1:
        message = f"is 1 where {bounded[0]} counts: an ensemble costs what all its members do"
        yield Fault(("finish", "ensemble"), "ensemble_beside_costs", message)
    if bounded and readable.finish is not None and readable.finish.seeds > 1:
        message = f"is 1 where {bounded[0]} counts: the average of several seeds costs what all of them do"
        yield Fault(("finish", "seeds"), "seeds_beside_costs", message)


def _unpaid(readable: Readable) -> Iterator[Fault]:
    finish, trials = readable.finish, readable.trials
    if finish is None:
        return
    if finish.seeds > 1 and not finish.refit:
        message = f"{finish.seeds} seeds are of refits: give `refit: true` beside them, or leave them out"
        yield Fault(("finish", "seeds"), "seeds_without_refit", message)
    if finish.refits is not None and not finish.refit:
        message = (
            f"{finish.refits} are asked for: give `refit: true` beside them, or leave them out"
        )
        yield Fault(("finish", "refits"), "refits_without_refit", message)
    if (finish.refits or 0) > finish.ensemble:
        message = f"{finish.refits} of {finish.ensemble} trials: give `ensemble: {finish.refits}` or more, or fewer refits"
        yield Fault(("finish", "refits"), "more_refits_than_trials", message)
    if trials is None:
        return
    if (
        readable.epochs is not None
        and finish.trainings * readable.epochs_of_trial >= readable.epochs
    ):
        message = (
            f"leaves no epoch for the search: {finish.trainings} refits take {readable.epochs_of_trial} each, "
            f"and the budget has {readable.epochs}"
        )
        yield Fault(("budget", "epochs"), "unpaid_finish", message)
    if trials >= finish.fewest_trials:
        return
    message = (
        f"needs a budget of {finish.fewest_trials} trials or more, and this one has {trials}: "
        f"{finish.ensemble} to choose from, and {finish.trainings} for the refits"
        if finish.refit
        else f"needs {finish.ensemble} trials to average, and the budget has {trials}"
    )
    yield Fault(("finish",), "unpaid_finish", message)


def _incomparable(readable: Readable) -> Iterator[Fault]:
    """Yield what keeps trials from being compared at rungs."""
    pruner = readable.pruner
    if not isinstance(pruner, Scheduler):
        return
    if isinstance(pruner, FreezeThawScheduler) and readable.sampler not in SHARE_A_MODEL:
        message = (
            f"goes with `sampler: gp`, whose model it shares, and not with {readable.sampler!r}"
        )
        yield Fault(("search", "pruner"), "freeze_thaw_without_gp", message)
    if "epochs" in readable.space:
        message = f"cannot be searched beside `pruner: {pruner.kind}`, which compares trials at the same epochs; set it in `fixed`"
        yield Fault(("space", "epochs"), "searched_epochs", message)
        return
    epochs = readable.fixed.get("epochs", _usual_epochs(readable))
    if isinstance(pruner, FreezeThawScheduler) or not isinstance(epochs, int):
        return
    if pruner.first_rung is None:
        return
    if pruner.first_rung >= epochs:
        message = (
            f"has to be less than the {epochs} epochs of a trial: nothing is paused at its end"
        )
        yield Fault(("search", "pruner", "first_rung"), "rung_beyond_the_end", message)


def _usual_epochs(readable: Readable) -> int | None:
    """The epochs of a trial where the document says nothing; None: they are not known, which is a fault by itself."""
    return None if readable.kind == EXTERNAL else Recipe.model_fields["epochs"].default


def _unknown(
    space: Mapping[str, object],
    fixed: Mapping[str, Scalar],
    known: Mapping[str, Hyperparameter],
    models: Sequence[str] | None,
) -> Iterator[Fault]:
    searched = [("space", name) for name in space if models is None or name != MODEL]
    named = searched + [("fixed", name) for name in fixed]
    strange = [place for place in named if place[1] not in known]
    for place in strange[:MOST_FAULTS]:
        why = "no worker understands this hyperparameter"
        if place[1] == MODEL:
            why = "is searched where `model` of the document has `choices`, and never fixed"
        else:
            why = f"{why}; {hint(place[1], known)}"
        yield Fault(place, "unknown_hyperparameter", why)


def _other_models(readable: Readable) -> Iterator[Fault]:
    """Yield that the dimension of the models has not the names of the models."""
    found, names = readable.space.get(MODEL), readable.models
    if names is None or found is None:
        return
    own = found.choices if isinstance(found, Choices) else ()
    if set(own) != set(names):
        message = f"has to be the choices {', '.join(sorted(names))}, as `model` names these"
        yield Fault(("space", MODEL), "other_models", message)


def _illegal_fixed(
    fixed: Mapping[str, Scalar], known: Mapping[str, Hyperparameter]
) -> Iterator[Fault]:
    try:
        Recipe.model_validate({name: fixed[name] for name in fixed if name in known})
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            yield Fault(("fixed", *detail["loc"]), detail["type"], detail["msg"])


def _illegal_dimension(
    name: str, dimension: Dimension, known: Hyperparameter
) -> Iterator[Fault]:
    values = (
        dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
    )
    if isinstance(dimension, FloatRange) and known.kind != "float":
        message = f"a worker takes no real number here, but {_legal(known)}"
        yield Fault(("space", name), "illegal_range", message)
    elif not all(known.allows(value) for value in values):
        message = f"holds values outside what is legal: {_legal(known)}"
        yield Fault(("space", name), "illegal_range", message)


def _legal(known: Hyperparameter) -> str:
    if known.choices:
        return "one of " + ", ".join(known.choices)
    above = ">" if known.low_exclusive else ">="
    below = "<" if known.high_exclusive else "<="
    return f"{known.kind} {above} {known.low} and {below} {known.high}"


def _endless(space: Mapping[str, Dimension | None]) -> Iterator[Fault]:
    for name, dimension in space.items():
        if (
            isinstance(dimension, FloatRange)
            and dimension.step is None
            and dimension.low < dimension.high
        ):
            yield Fault(("space", name), "endless_grid", "a grid needs a step or choices here")
