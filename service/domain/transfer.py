"""What is taken over from studies that are done: how near their data are, and which of their configurations are tried."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from trimtab.contract.conditions import Conditions
from trimtab.contract.models import MODEL, models_of
from trimtab.contract.priors import SGD_FACTOR, family_of
from trimtab.contract.records import StudyData
from trimtab.contract.search_space import Scalar, contains, nearest
from trimtab.contract.starts import KNOWN_RECIPE, PRIOR, Start
from trimtab.contract.studies import StudyDocument
from trimtab.contract.tasks import Model
from trimtab.contract.transfer import STUDY, Part, Source

BEST_OF_EACH = 2
"""The number of configurations that one study gives at most."""
MOST_POINTS = 6
"""The number that all of them give at most."""
SHARE = 3
"""One in this many trials of the search is a point of an earlier study at most."""
MOST_SOURCES = 20
"""The number of studies that are told of, the nearest ones."""
MOST_STARTS = 100
"""The number of points that a document may list."""
LUCK = 2.0
"""The best accuracy of a study beats the share of its largest class by so many standard errors before it gives anything.

The best of some tens of models that guess is about as lucky.
"""
UNKNOWN = 1.0
"""What a part of the distance counts that is not known: as much as ten times the samples."""

Values = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Earlier:
    """A study that may give points to another.

    Attributes:
        name: The study's name.
        model: The backbone and its weights, of several those of its best trial; None where nobody knows.
        data: The data that it was trained on; None where nobody knows.
        searched: The names of the hyperparameters that it searched.
        best: The hyperparameters of its best trials with this model, the best first, those that were fixed among them.
        accuracy: The best accuracy that one of its trials had on the validation split; None where they were compared by
            something else, or nobody knows.
    """

    name: str
    model: Model | None
    data: StudyData | None
    searched: Set[str]
    best: Sequence[Values]
    accuracy: float | None = None


def parts(
    document: StudyDocument, data: StudyData, earlier: Earlier
) -> dict[Part, float | None]:
    """Hold a study, whose data are now known, against an earlier one: 0 is alike, and null is not known.

    Sizes are compared by their decimal logarithms; balance is the entropy of the classes by that of even ones.
    """
    found: dict[Part, float | None]
    other = earlier.data
    if other is None:
        found = dict.fromkeys(("size", "classes", "balance", "input_size", "features"))
    elif other.data_sha256 == data.data_sha256:
        found = dict.fromkeys(("size", "classes", "balance", "input_size", "features"), 0.0)
    else:
        found = {
            "size": _decades(data.pictures.get("train"), other.pictures.get("train")),
            "classes": _decades(data.classes, other.classes),
            "balance": _difference(_balance(data), _balance(other)),
            "input_size": _decades(data.input_size, other.input_size),
            "features": _of_features(data, other),
        }
    models = models_of(document.model).values()
    nearest_model = min((_of_models(one, earlier.model) or 0.0 for one in models), default=0.0)
    return {**found, "model": None if earlier.model is None else nearest_model}


def distance(found: Mapping[Part, float | None]) -> float:
    """Return the distance of two studies, the root of the sum of the squares of its parts."""
    return math.hypot(*(UNKNOWN if one is None else one for one in found.values()))


def is_guess(accuracy: float | None, data: StudyData | None) -> bool:
    """Tell whether the best trial of a study may as well have guessed the largest class, so that it says nothing."""
    if accuracy is None or data is None:
        return False
    counts = [one.validation for one in data.class_counts]
    rows = sum(counts)
    if not rows or rows != data.pictures.get("validation"):
        return False  # Of more than a hundred classes not all are told, and a sample may have several.
    share = max(counts) / rows
    return accuracy <= share + LUCK * math.sqrt(share * (1 - share) / rows)


def _decades(one: int | None, other: int | None) -> float | None:
    if one is None or other is None:
        return None
    return abs(math.log10(max(1, one)) - math.log10(max(1, other)))


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else abs(one - other)


def _balance(data: StudyData) -> float | None:
    """Return 1 where all classes have as many training samples; also where there are none to compare."""
    counts = [one.train for one in data.class_counts if one.train]
    if len(counts) < 2:
        return 1.0
    shares = [count / sum(counts) for count in counts]
    return -sum(share * math.log(share) for share in shares) / math.log(len(shares))


def _of_features(data: StudyData, other: StudyData) -> float | None:
    """Return the distance of what the same backbone makes of both, by the larger of their lengths."""
    one, two = data.features, other.features
    if one is None or two is None or one.backbone != two.backbone:
        return None
    if len(one.values) != len(two.values):
        return None
    longest = max(math.hypot(*one.values), math.hypot(*two.values))
    return math.dist(one.values, two.values) / longest if longest else 0.0


def _of_models(model: Model, other: Model | None) -> float | None:
    if other is None:
        return None
    if (model.backbone, model.weights) == (other.backbone, other.weights):
        return 0.0
    families = [family_of(one.backbone, one.weights) for one in (model, other)]
    return 0.5 if families[0] == families[1] else 1.0


def point(
    document: StudyDocument, earlier: Earlier, values: Values
) -> dict[str, Scalar] | None:
    """Return an earlier configuration as a point of the document's space; None where it does not belong there.

    It does where the two searched something in common, and most of its values lie inside; the others take the nearest
    ones. Learning rates of sgd are ten times those of other optimizers, as they are in the priors.
    """
    if not earlier.searched & document.space.keys():
        return None
    given = {name: values[name] for name in document.space if name in values}
    if MODEL in document.space and earlier.model is not None:
        named = _named(document, earlier.model)
        if named is None:
            return None
        given[MODEL] = named
    if "learning_rate" in given and "optimizer" not in document.space:
        given["learning_rate"] = _rate(given["learning_rate"], values, document)
    inside = {name: nearest(document.space[name], value) for name, value in given.items()}
    active = Conditions(document.space).active(inside)
    fits = sum(contains(document.space[name], given[name]) for name in active)
    return active if 2 * fits > len(active) else None


def _named(document: StudyDocument, earlier: Model | None) -> str | None:
    """Return the name of the one of several models that an earlier one was, or is most like; None: all are of other kinds."""
    apart = {name: _of_models(one, earlier) for name, one in models_of(document.model).items()}
    found = {name: distance for name, distance in apart.items() if distance is not None}
    nearest_one = min(found, key=found.__getitem__, default=None)
    return nearest_one if nearest_one is not None and found[nearest_one] < 1.0 else None


def _rate(rate: Scalar, values: Values, document: StudyDocument) -> Scalar:
    was, is_now = values.get("optimizer"), document.recipe({}).optimizer
    if not isinstance(rate, int | float) or was is None or (was == "sgd") == (is_now == "sgd"):
        return rate
    return rate * SGD_FACTOR if is_now == "sgd" else rate / SGD_FACTOR


def with_transferred(
    document: StudyDocument, data: StudyData, earlier: Iterable[Earlier], trials_created: int
) -> StudyDocument:
    """Put the best configurations of earlier studies behind the first known recipe, and behind all trials that have begun.

    Args:
        document: The study's document, which awaits them.
        data: The study's data.
        earlier: The studies that may give points; of equally near ones the first counts as nearer.
        trials_created: The number of trials that the study has.
    """
    starts, begun = _begun(document, trials_created)
    most = min(MOST_POINTS, max(1, document.search_budget.trials // SHARE))
    most = max(0, min(most, MOST_STARTS - max(begun, len(starts))))
    taken = [*document.first_trials, *(one.values for one in starts[:begun])]
    points, sources = _chosen(document, data, earlier, taken, most)
    if points:
        # A trial beyond the list has a point of the prior, and keeps its number.
        starts += [Start(values={}, proposed_by=PRIOR)] * (begun - len(starts))
        new = [one.values for one in points]
        starts[begun:] = [*points, *(one for one in starts[begun:] if one.values not in new)]
    return document.model_copy(update={"starts": tuple(starts), "transferred": sources})


def _begun(document: StudyDocument, trials_created: int) -> tuple[list[Start], int]:
    """Return the points to begin with, and the number of those that keep their places."""
    starts = list(document.starts or ())
    begun = max(0, trials_created - len(document.first_trials))
    if starts and starts[0].proposed_by.startswith(KNOWN_RECIPE):
        begun = max(1, begun)
    return starts, begun


def _chosen(
    document: StudyDocument,
    data: StudyData,
    earlier: Iterable[Earlier],
    taken: Sequence[Values],
    most: int,
) -> tuple[list[Start], tuple[Source, ...]]:
    """Return the points, those of the nearest study first, and the studies that were looked at."""
    measured = [(one, parts(document, data, one)) for one in earlier]
    measured.sort(key=lambda each: distance(each[1]))
    points: list[Start] = []
    sources: list[Source] = []
    for one, found in measured[:MOST_SOURCES]:
        seen = [*taken, *(each.values for each in points)]
        guesses = is_guess(one.accuracy, one.data)
        new = [] if guesses else list(_new_points(document, one, seen))[: most - len(points)]
        points += (Start(values=each, proposed_by=f"{STUDY}{one.name}") for each in new)
        sources.append(
            Source(
                study=one.name,
                distance=distance(found),
                parts=found,
                points=len(new),
                guesses=guesses,
            )
        )
    return points, tuple(sources)


def _new_points(
    document: StudyDocument, earlier: Earlier, seen: Sequence[Values]
) -> Iterator[Values]:
    """Yield the points that an earlier study gives, each once."""
    taken = list(seen)
    for values in earlier.best[:BEST_OF_EACH]:
        found = point(document, earlier, values)
        if found is not None and found not in taken:
            taken.append(found)
            yield found


def untransferred(document: StudyDocument) -> StudyDocument:
    """Return the document of a study that begins anew: what it takes over depends on its data, which are others now."""
    if not document.transferred:
        return document
    own = tuple(one for one in document.starts or () if not one.proposed_by.startswith(STUDY))
    return document.model_copy(update={"starts": own, "transferred": None})
