"""Studies of plain Optuna come in as history: to look at in the Dashboard, and to begin other studies with."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from service.storage import idempotency, imports, studies
from service.storage.imports import Unreadable
from service.use_cases.context import Context
from service.use_cases.races import again
from trimtab.contract.hyperparameters import hyperparameters
from trimtab.contract.imports import ImportReport, StudyImport
from trimtab.contract.problems import IdempotencyKeyReused, ImportRefused, StudyExists
from trimtab.contract.search_space import Scalar


def bring_in(
    context: Context, found: StudyImport, idempotency_key: str | None = None
) -> ImportReport:
    """Store a study as history; the same request under the same key is answered as the first was.

    Raises:
        StudyExists: the name is taken.
        ImportRefused: Optuna could not read what would be stored.
        IdempotencyKeyReused: the key came before with another study.
    """
    report = _report(found)
    digest = hashlib.sha256(found.model_dump_json().encode()).hexdigest()
    return again(lambda: _bring_in(context, found, report, idempotency_key, digest))


def _bring_in(
    context: Context, found: StudyImport, report: ImportReport, key: str | None, digest: str
) -> ImportReport:
    with context.database.transaction() as connection:
        is_taken = studies.name_taken(connection, found.name) is not None
        kept = idempotency.read(connection, key) if key else None
        if kept is not None:
            if kept.request_sha256 != digest:
                raise IdempotencyKeyReused
            return ImportReport.model_validate(kept.body)
        if is_taken:
            raise StudyExists(
                f"A study named {found.name!r} exists: give this one another name with --as."
            )
        imports.insert(connection, found, report)
        if key:
            idempotency.keep(connection, key, digest, 201, report.model_dump_json())
    return report


def _report(found: StudyImport) -> ImportReport:
    try:
        values = imports.values_of(found)
        changed = _changed(found)
    except Unreadable as error:
        raise ImportRefused(f"The study cannot be imported: {error}.") from error
    if len({one.number for one in found.trials}) < len(found.trials):
        raise ImportRefused("The study cannot be imported: two trials have one number.")
    if any(len(dict(one.curve)) < len(one.curve) for one in found.trials):
        raise ImportRefused("The study cannot be imported: a trial has two values of one step.")
    known = hyperparameters()
    names = sorted({name for one in found.trials for name in one.params})
    ends = [one.state for one in found.trials]
    usable = sum(
        one.state == "complete" and one.value is not None and bool(legal(params))
        for one, params in zip(found.trials, values, strict=True)
    )
    return ImportReport(
        name=found.name,
        source=found.source,
        direction=found.direction,
        complete=ends.count("complete"),
        pruned=ends.count("pruned"),
        failed=ends.count("failed"),
        zombies=ends.count("zombie"),
        left_out=found.left_out,
        usable=usable,
        names=tuple(name for name in names if name in known),
        strange_names=tuple(name for name in names if name not in known),
        changed_names=changed,
    )


def legal(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the hyperparameters that a recipe may have with these values."""
    known = hyperparameters()
    return {
        name: value
        for name, value in values.items()
        if name in known and known[name].allows(value)
    }


def _changed(found: StudyImport) -> tuple[str, ...]:
    """Return the names whose range changed while the study ran.

    Raises:
        ImportRefused: the choices of one changed, or numbers became choices: no reader of Optuna's takes that.
    """
    places: defaultdict[str, set[int]] = defaultdict(set)
    for one in found.trials:
        for name, (place, _) in one.params.items():
            places[name].add(place)
    several = {name: sorted(those) for name, those in places.items() if len(those) > 1}
    families = imports.families(found) if several else []
    for name, those in sorted(several.items()):
        if len({families[place] for place in those}) > 1:
            raise ImportRefused(
                _changed_choices(name, [found.distributions[one] for one in those])
            )
    return tuple(sorted(several))


def _changed_choices(name: str, distributions: Sequence[str]) -> str:
    return (
        f"The study cannot be imported: {name} changed while it ran, from {distributions[0]} to {distributions[1]}, and the "
        "choices of a hyperparameter must stay. Copy the trials of one kind into a study of their own with Optuna's "
        "`Study.add_trials`, and import that."
    )
