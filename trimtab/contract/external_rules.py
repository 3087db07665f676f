"""What the document of an external study must and must not say."""

from collections.abc import Iterator, Sequence

from trimtab.contract.external import EPOCHS
from trimtab.contract.faults import Fault
from trimtab.contract.readable import Readable
from trimtab.contract.schedulers import Scheduler
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange

MOST_EPOCHS = 100_000
"""Steps are below this number."""
NO_NEEDS = "an external study has none: you start its loops where they fit; leave `needs` out"


def faults(readable: Readable) -> Iterator[Fault]:
    """Yield what has no meaning in an external study, and what it needs."""
    yield from _ours(readable)
    if readable.is_auto:
        message = (
            "an external study names its hyperparameters itself, as "
            "{learning_rate: {kind: float, low: 1e-5, high: 0.1, log: true}}"
        )
        yield Fault(("space",), "missing", message)
    yield from _of_epochs(readable)


def _ours(readable: Readable) -> Iterator[Fault]:
    """Yield what only trimtab's own workers have a use for."""
    if readable.has_model:
        message = "an external study has none: its loop makes its own; leave `model` out"
        yield Fault(("model",), "external_model", message)
    if readable.taught:
        message = "an external study has none: its loop learns from what it likes; leave `teacher` out"
        yield Fault(("teacher",), "external_teacher", message)
    if readable.has_finish:
        message = (
            "an external study has none: no worker can train its best trials anew, or test them"
        )
        yield Fault(("finish",), "external_finish", message)
    if readable.has_needs:
        yield Fault(("needs",), "external_needs", NO_NEEDS)
    if isinstance(readable.transfer, Sequence) and not isinstance(readable.transfer, str):
        message = "nothing is transferred to an external study: its data are not known"
        yield Fault(("search", "transfer"), "external_transfer", message)


def _of_epochs(readable: Readable) -> Iterator[Fault]:
    """Yield what is wrong with `epochs`, the number of reports of a whole trial."""
    fixed, searched = readable.fixed.get(EPOCHS, 1), readable.space.get(EPOCHS)
    message = f"is the number of reports of a trial: a whole number from 1 to {MOST_EPOCHS}"
    if not _is_number(fixed):
        yield Fault(("fixed", EPOCHS), "external_epochs", message)
    if not all(map(_is_number, _bounds(searched))):
        yield Fault(("space", EPOCHS), "external_epochs", message)
    pruner = readable.pruner
    is_told = EPOCHS in readable.fixed or EPOCHS in readable.space
    if isinstance(pruner, Scheduler) and not is_told:
        message = (
            f"{pruner.kind} divides the epochs of a trial, and the study does not say how many "
            "reports a trial makes: set `epochs` in `fixed`"
        )
        yield Fault(("search", "pruner"), "epochs_not_told", message)


def _bounds(searched: Dimension | None) -> Sequence[object]:
    match searched:
        case None:
            return ()
        case Choices():
            return searched.choices
        case IntRange():
            return searched.low, searched.high
        case FloatRange():
            return (None,)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and value is not True and 1 <= value <= MOST_EPOCHS
