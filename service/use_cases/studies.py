"""Studies: create, read, change state, finish, delete."""

import hashlib
import secrets
from typing import Any

import structlog
from sqlalchemy import Connection

from service.domain.lifecycle import STUDY_STEPS
from service.storage import artifacts, idempotency, imports, listing, refits, studies, trials
from service.use_cases import (
    constraints,
    datasets,
    ending,
    experience,
    serving,
    settling,
    teachers,
    transfer,
)
from service.use_cases.context import Context
from service.use_cases.races import again
from trimtab.contract.events import EventKind
from trimtab.contract.external import EPOCHS
from trimtab.contract.final_report import FinalScores
from trimtab.contract.finish import Refits, WhichModel
from trimtab.contract.leases import Checkpoint
from trimtab.contract.problems import (
    IdempotencyKeyReused,
    NoCompletedTrial,
    NoModel,
    StudyDeleted,
    StudyExists,
    StudyNotActive,
    StudyNotFound,
    StudyNotIdle,
)
from trimtab.contract.records import StudyData
from trimtab.contract.studies import (
    Best,
    BestTrial,
    Progress,
    Study,
    StudyDocument,
    StudyPage,
    StudyState,
    StudySummary,
)

log = structlog.get_logger(__name__)


def create(context: Context, document: StudyDocument, idempotency_key: str | None) -> Study:
    """Store a study; the same request under the same key is answered as the first was.

    Raises:
        StudyExists: the name is taken.
        IdempotencyKeyReused: the key came before with another document.
        StudyNotFound, TeacherNotReady: the study that is to teach has no model.
        Invalid: it searches a range that is none, or names a study to begin with that can give nothing, or data at an
            address that no worker fetches from.
        DatasetNotFound, ArtifactNotFound: its data were not uploaded to this service.
    """
    settling.refuse_narrow(document)
    digest = hashlib.sha256(document.model_dump_json().encode()).hexdigest()
    return again(lambda: _create(context, document, idempotency_key, digest))


def _create(context: Context, document: StudyDocument, key: str | None, digest: str) -> Study:
    with context.database.transaction() as connection:
        # Looked at first: whoever took the name since then has kept its answer already.
        is_ours = studies.name_taken(connection, document.name)
        kept = idempotency.read(connection, key) if key else None
        if kept is not None:
            if kept.request_sha256 != digest:
                raise IdempotencyKeyReused
            return Study.model_validate(kept.body)
        if is_ours is not None:
            raise StudyExists(_taken(document.name, is_ours=is_ours))
        document = settling.with_usual_finish(_seeded(teachers.settled(connection, document)))
        # After the finish is known, whose refits are no trials of the search.
        document = settling.with_chosen_search(
            settling.with_known_recipes(document, experience.taught(connection, document))
        )
        document = settling.with_tpe_startup_trials(transfer.awaited(connection, document))
        document = datasets.settled(connection, document)
        row = studies.insert(connection, document)
        study = _shape(row, document, Progress(), None)
        if key:
            idempotency.keep(connection, key, digest, 201, study.model_dump_json())
    return study


def _taken(name: str, *, is_ours: bool) -> str:
    if is_ours:
        return f"A study named {name!r} exists."
    return (
        f"The name {name!r} is taken by a study that trimtab did not make: others keep it in the same database, with Optuna. "
        "Choose another name."
    )


def _seeded(document: StudyDocument) -> StudyDocument:
    """The document with a seed of its own, if it left that to chance: whoever reads it can repeat the study."""
    if document.search.seed is not None:
        return document
    search = document.search.model_copy(update={"seed": secrets.randbelow(2**31)})
    return document.model_copy(update={"search": search})


def read(context: Context, name: str) -> Study:
    """One study with its progress and its best trial.

    Raises:
        StudyNotFound: there is none of this name.
    """
    with context.database.statements() as connection:
        row = _found(studies.by_name(connection, name))
        document = context.documents.of(row.study_id, row.document)
        epochs = (
            None
            if document.is_external and EPOCHS not in document.fixed
            else document.usual_epochs
        )
        counts = studies.progress(connection, row.study_id, epochs)
        best = trials.best(connection, row.study_id, row.direction)
        stored = artifacts.bytes_of_study(connection, row.study_id)
        served = serving.of_study(connection, row)
        probe = serving.probe_of(connection, row.study_id)
        refitted = refits.progress(connection, row.study_id)
    study = _shape(row, document, Progress.model_validate(counts), best)
    found = {"artifact_bytes": stored, "probe": probe, "refits": refitted, **served}
    return study.model_copy(update=found)


def page(context: Context, *, before: int | None, size: int) -> tuple[StudyPage, int | None]:
    """Studies, newest first, and where the next page begins."""
    with context.database.statements() as connection:
        rows = listing.page(connection, before=before, size=size)
    summaries = tuple(
        StudySummary(
            name=row.name,
            state=row.state,
            blocked=row.blocked,
            created_at=row.created_at,
            trials=row.trials_limit,
            refits=row.refits,
            trials_created=row.trials_created,
            objective=row.objective,
            best_value=row.best,
            best_validation_accuracy=row.best if row.objective == "accuracy" else None,
        )
        for row in rows
    )
    return StudyPage(studies=summaries), rows[-1].study_id if len(rows) == size else None


def best(context: Context, name: str) -> Best:
    """The winner so far, and once the study is done its scores on the sealed test split.

    Raises:
        StudyNotFound: there is no study of this name.
        NoCompletedTrial: nothing has completed.
    """
    with context.database.statements() as connection:
        row = _found(studies.by_name(connection, name))
        winner = trials.best(connection, row.study_id, row.direction)
        problem = serving.of_study(connection, row)["problem"]
        kept = constraints.violated(connection, row.study_id)
    if winner is None:
        unkept = constraints.none_feasible(kept)
        raise NoCompletedTrial(
            unkept or (problem and f"The study has no completed trial. {problem}")
        )
    document = context.documents.of(row.study_id, row.document)
    return Best(
        study=name,
        state=row.state,
        trial=_best_trial(row, winner),
        **_trained_as(document, winner),
        final=_final(row),
        earlier_finals=_earlier(row),
        constraints=kept,
        problem=problem,
    )


def _trained_as(document: StudyDocument, winner: trials.TrialRow) -> dict[str, Any]:
    """The model and the recipe of the winner; where a loop of a person's own trained it, what that saved last."""
    if document.is_external:
        kept = winner.checkpoint
        return {"checkpoint": None if kept is None else Checkpoint.model_validate(kept)}
    return {
        "model": document.model_of(winner.hyperparameters),
        "recipe": document.recipe(winner.hyperparameters, winner.number),
    }


def model_sha256(context: Context, name: str, which: WhichModel = "handed_over") -> str:
    """The artifact that holds the study's exported model.

    Raises:
        StudyNotFound: there is no study of this name.
        NoModel: it is not done, nothing completed, or the model that was asked for is not kept.
    """
    with context.database.statements() as connection:
        row = _found(studies.by_name(connection, name))
    if context.documents.of(row.study_id, row.document).is_external:
        raise NoModel(
            "The study is external: the loops that train its trials keep their models themselves. What the one of its "
            "best trial saved last is a checkpoint (`study best NAME --checkpoint FILE`)."
        )
    # While a study that got more budget is not done again, the model of its last end is the one that there is.
    final = _final(row) or next(reversed(_earlier(row)), None)
    if final is None:
        raise NoModel(row.problem)
    if which == "handed_over" or final.report is None or final.report.handed_over == "winner":
        return final.model_sha256
    if final.validated_sha256 is None:
        raise NoModel(
            "The study hands another model over, and its winner as it was validated was not kept."
        )
    return final.validated_sha256


def study_id(context: Context, name: str) -> int:
    """The id of a study.

    Raises:
        StudyNotFound: there is none of this name.
    """
    with context.database.statements() as connection:
        return _found(studies.by_name(connection, name)).study_id


def pause(context: Context, name: str) -> Study:
    """Propose nothing more; running trials checkpoint and are given back at their next word."""
    return _change(context, name, "paused", "study_paused")


def resume(context: Context, name: str) -> Study:
    """Take a paused study up again, its paused trials first; workers that were set aside for it may try again."""
    if serving.let_all_try_again(context, name):
        return read(context, name)
    return _change(context, name, "active", "study_resumed")


def stop(context: Context, name: str) -> Study:
    """Propose nothing more; what has begun is finished, and then comes the final evaluation."""
    return _change(context, name, "stopping", "study_stopping")


def cancel(context: Context, name: str) -> Study:
    """End the study now: queued and paused trials are cancelled, running ones at their next word."""
    return _change(context, name, "cancelled", "study_cancelled")


def _change(context: Context, name: str, state: StudyState, event: EventKind) -> Study:
    with context.database.transaction() as connection:
        locked = studies.lock(connection, name)
        if locked is None:
            raise _not_found(name)
        now = locked.spending.state
        if state != now:
            if state not in STUDY_STEPS[now] or (state == "active" and now != "paused"):
                raise StudyNotActive(
                    f"The study is {now}; it cannot become {state}.", state=now
                )
            studies.set_state(
                connection,
                locked.study_id,
                state,
                event,
                ended_by="cancelled" if state == "cancelled" else None,
            )
            if state == "cancelled":
                studies.cancel_unleased(connection, locked.study_id)
            if state in ("active", "stopping"):
                studies.queue_paused(connection, locked.study_id)
    ending.follow(context, name)
    return read(context, name)


def set_aside(context: Context, name: str, study_id: int, problem: str) -> None:
    """Pause a study that cannot be served, with its problem; `resume` tries again, with a memory of its own."""
    log.error("study set aside", study=name, problem=problem)
    context.sampling.forget(study_id)
    with context.database.transaction() as connection:
        locked = studies.lock(connection, name)
        if locked is not None and locked.spending.state == "active":
            told = f"{problem} The study was paused, and can be resumed once the cause is gone."
            studies.set_state(
                connection, locked.study_id, "paused", "study_paused", problem=told
            )


def delete(context: Context, name: str) -> None:
    """Delete the study with all its trials.

    Raises:
        StudyNotFound: there is none of this name.
        StudyNotIdle: trials of it are running.
    """
    study_id = again(lambda: _delete(context, name))
    context.sampling.forget(study_id)


def _delete(context: Context, name: str) -> int:
    with context.database.transaction() as connection:
        locked = studies.lock(connection, name)
        gone = imports.study_id(connection, name) if locked is None else locked.study_id
        if gone is None:
            raise _not_found(name)
        if locked is not None and locked.running:
            raise StudyNotIdle
        studies.delete(connection, gone)
    return gone


def exhaust(context: Context, name: str, study_id: int, at_number: int) -> None:
    """The sampler has no further point: the study ends with the trials that it has."""
    with context.database.statements() as connection:
        studies.exhaust(connection, study_id, at_number)
    ending.follow(context, name)


def document(
    context: Context, study_id: int, connection: Connection, *, space_edits: int = 0
) -> StudyDocument:
    """The study's document, from this process's memory or the database; at least as new as a space changed so often.

    Raises:
        StudyDeleted: it was deleted at this moment.
    """
    known = context.documents.known(study_id)
    if known is not None and len(known.space_edits) >= space_edits:
        return known
    stored = studies.document(connection, study_id)
    if stored is None:
        raise StudyDeleted
    return context.documents.of(study_id, stored)


def _found(row: studies.StudyRow | None) -> studies.StudyRow:
    if row is None:
        raise StudyNotFound
    return row


def _not_found(name: str) -> StudyNotFound:
    return StudyNotFound(f"There is no study named {name!r}.")


def _final(row: studies.StudyRow) -> FinalScores | None:
    return None if row.final is None else FinalScores.model_validate(row.final)


def _earlier(row: studies.StudyRow) -> tuple[FinalScores, ...]:
    return tuple(FinalScores.model_validate(one, strict=False) for one in row.earlier_finals)


def _best_trial(study: studies.StudyRow, row: trials.TrialRow) -> BestTrial:
    assert row.value is not None  # noqa: S101 - the query asks for completed trials, and a CHECK gives them values
    return BestTrial(
        number=row.number,
        objective=study.objective,
        value=row.value,
        validation_accuracy=row.value if study.objective == "accuracy" else None,
        hyperparameters=row.hyperparameters,
        measured=row.measured or {},
    )


def _shape(
    row: studies.StudyRow,
    document: StudyDocument,
    progress: Progress,
    best: trials.TrialRow | None,
) -> Study:
    return Study(
        name=row.name,
        state=row.state,
        document=document,
        created_at=row.created_at,
        trials_created=row.trials_created,
        progress=progress,
        refits=Refits(total=document.finish.trainings) if document.finish else Refits(),
        best=None if best is None else _best_trial(row, best),
        final=_final(row),
        earlier_finals=_earlier(row),
        problem=row.problem,
        ended_by=row.ended_by,
        data=None if row.data is None else StudyData.model_validate(row.data),
    )
