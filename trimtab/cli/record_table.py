"""What a worker found when it began a trial, as names and values."""

from collections.abc import Iterator

from rich.text import Text

from trimtab.cli.failures import printable
from trimtab.contract.records import Environment, LeftOut, LoadedWeights, Texts, TrialRecord

CLASSES_SHOWN = 10


def rows_of(answer: TrialRecord) -> list[tuple[str, Text]]:
    """Return what the worker found when it began the trial, as names and values."""
    samples = ", ".join(f"{count} {part}" for part, count in answer.pictures.items())
    noun = "pictures" if answer.texts is None else "texts"
    skipped, twins = answer.skipped, answer.duplicates
    facts = [
        (noun, samples),
        *_classes(answer),
        ("labels used", str(answer.labels_used)),
        ("data sha256", answer.data_sha256),
        ("split sha256", answer.split_sha256 or "-"),
        ("on", _machine(answer.environment)),
    ]
    if skipped.count:
        facts.append(("bad files left out", str(skipped.count)))
        facts += [("", f"{file.path}: {file.reason}") for file in skipped.first]
    facts += [("left out", others(each)) for each in answer.left_out]
    if twins.copies:
        across, labels = twins.across_splits, twins.conflicting_labels
        told = f"{twins.copies}; in several splits: {across}; under several labels: {labels}"
        facts.append((f"copies of {noun}", told))
    if answer.texts is not None:
        facts.append(("tokens", tokens(answer.texts)))
    if answer.weights is not None:
        facts.append(("weights", weights(answer.weights)))
    facts += [("note", note) for note in answer.notes]
    return [(name, Text(printable(text))) for name, text in facts]


def tokens(texts: Texts) -> str:
    """Return what became of the texts of a data set, in a line."""
    cut = f"{texts.cut} texts cut ({texts.cut_share:.1%})" if texts.cut else "no text cut"
    return (
        f"at most {texts.length} a text, {cut}; the longest has {texts.longest}; "
        f"unknown: {texts.unknown_share:.2%}"
    )


def _machine(environment: Environment) -> str:
    facts = [environment.device, environment.precision, f"torch {environment.torch}"]
    if environment.threads is not None:
        facts.append(
            "1 thread" if environment.threads == 1 else f"{environment.threads} threads"
        )
    return ", ".join(facts)


def _classes(answer: TrialRecord) -> Iterator[tuple[str, str]]:
    for each in answer.class_counts[:CLASSES_SHOWN]:
        counts = f"{each.train} train, {each.validation} validation, {each.test} test"
        yield "", f"{each.name}: {counts}"
    if answer.classes > CLASSES_SHOWN:
        yield "", f"and {answer.classes - CLASSES_SHOWN} more classes"


def others(left_out: LeftOut) -> str:
    """Return how many files or folders are none of the data set for one reason, with the first of them."""
    more = ", ..." if left_out.count > len(left_out.first) else ""
    return f"{left_out.count} {left_out.reason}: {', '.join(left_out.first)}{more}"


def weights(loaded: LoadedWeights) -> str:
    """Return how the tensors of a weights file match those of the network, in words."""
    groups = (
        ("left out (of another shape, or a head for other classes)", loaded.left_out),
        ("left out as quantised", loaded.quantised),
        ("missing in the file", loaded.missing),
        ("not used", loaded.unused),
    )
    rest = [f"{names.count} {how}" for how, names in groups if names.count]
    source = f"{loaded.source} ({loaded.part})" if loaded.part else loaded.source
    kept = ["its own head kept by the names of the classes"] if loaded.head else []
    return ", ".join([f"{loaded.matched.count} tensors of {source}", *rest, *kept])
