"""Routes of studies and their trials."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from service.api.bodies import JsonRoute
from service.api.dependencies import (
    PageSize,
    Position,
    ServiceContext,
    StudyName,
    TrialNumber,
    token_of,
)
from service.api.downloads import WholeFile
from service.use_cases import (
    artifacts,
    editing,
    enqueuing,
    pareto,
    rebasing,
    steering,
    studies,
    trials,
)
from trimtab.contract.edits import StudyEdit, TrialRequest
from trimtab.contract.finish import WhichModel
from trimtab.contract.pareto import Pareto
from trimtab.contract.studies import Best, Study, StudyDocument, StudyPage
from trimtab.contract.trials import Trial, TrialPage, TrialState

router = APIRouter(prefix="/v1/studies", route_class=JsonRoute, tags=["studies"])

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$", alias="Idempotency-Key"),
]


@router.post("", status_code=201)
def create_study(
    document: StudyDocument,
    context: ServiceContext,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Study:
    """Create a study; the same request under the same Idempotency-Key is answered as the first was."""
    study = studies.create(context, document, idempotency_key)
    response.headers["Location"] = f"/v1/studies/{study.name}"
    return study


@router.get("")
def list_studies(
    context: ServiceContext, position: Position, page_size: PageSize = 100
) -> StudyPage:
    """Studies, newest first."""
    page, last = studies.page(context, before=position, size=page_size)
    return page if last is None else page.model_copy(update={"next_page_token": token_of(last)})


@router.get("/{study}")
def get_study(name: StudyName, context: ServiceContext) -> Study:
    """One study with its progress."""
    return studies.read(context, name)


@router.patch("/{study}")
def edit_study(name: StudyName, changes: StudyEdit, context: ServiceContext) -> Study:
    """Change the budget, priority, `parallel` or space of a study that has begun; more budget takes one that is done up again."""
    return editing.edit(context, name, changes)


@router.delete("/{study}", status_code=204)
def delete_study(name: StudyName, context: ServiceContext) -> None:
    """Delete a study of which nothing runs."""
    studies.delete(context, name)


@router.post("/{study}:pause")
def pause_study(name: StudyName, context: ServiceContext) -> Study:
    """Propose nothing more; running trials checkpoint and are given back."""
    return studies.pause(context, name)


@router.post("/{study}:resume")
def resume_study(name: StudyName, context: ServiceContext) -> Study:
    """Take a paused study up again, or let workers that were set aside for a study try it again."""
    return studies.resume(context, name)


@router.post("/{study}:stop")
def stop_study(name: StudyName, context: ServiceContext) -> Study:
    """Propose nothing more, finish what has begun, evaluate the winner."""
    return studies.stop(context, name)


@router.post("/{study}:cancel")
def cancel_study(name: StudyName, context: ServiceContext) -> Study:
    """End the study now."""
    return studies.cancel(context, name)


@router.post("/{study}:rebase")
def rebase_study(
    name: StudyName, context: ServiceContext, idempotency_key: IdempotencyKey = None
) -> Study:
    """Accept data that have changed: begin anew under this name, and keep what was as `NAME.before-N`, cancelled."""
    return rebasing.rebase(context, name, idempotency_key)


@router.get("/{study}/trials")
def list_trials(
    name: StudyName,
    context: ServiceContext,
    position: Position,
    page_size: PageSize = 100,
    state: TrialState | None = None,
) -> TrialPage:
    """Trials in the order of their numbers, with their curves."""
    page = trials.page(context, name, after=position, size=page_size, state=state)
    if len(page.trials) < page_size:
        return page
    return page.model_copy(update={"next_page_token": token_of(page.trials[-1].number)})


@router.get("/{study}/trials/{number}")
def get_trial(name: StudyName, number: TrialNumber, context: ServiceContext) -> Trial:
    """One trial with its attempts."""
    return trials.read(context, name, number)


@router.post("/{study}/trials", status_code=201)
def enqueue_trial(
    name: StudyName,
    asked: TrialRequest,
    context: ServiceContext,
    idempotency_key: IdempotencyKey = None,
) -> Trial:
    """Try this configuration next; it takes one trial of the budget. A repeat under the same Idempotency-Key adds none."""
    number = enqueuing.enqueue(context, name, asked.values, idempotency_key)
    return trials.read(context, name, number)


@router.post("/{study}/trials/{number}:stop")
def stop_trial(name: StudyName, number: TrialNumber, context: ServiceContext) -> Trial:
    """End one trial: one that runs is pruned after its epoch, with its curve; one that waits is cancelled."""
    steering.stop(context, name, number)
    return trials.read(context, name, number)


@router.post("/{study}/trials/{number}:retry")
def retry_trial(name: StudyName, number: TrialNumber, context: ServiceContext) -> Trial:
    """Queue a trial that has failed again, with no crash counted; it goes on from its checkpoint, if that is there."""
    steering.retry(context, name, number)
    return trials.read(context, name, number)


@router.get("/{study}/best")
def get_best(name: StudyName, context: ServiceContext) -> Best:
    """The winner so far; once the study is done, with its scores on the sealed test split."""
    return studies.best(context, name)


@router.get("/{study}/pareto")
def get_pareto(name: StudyName, context: ServiceContext) -> Pareto:
    """The Pareto front of a study with two objectives: the trials that no other one beats in both."""
    return pareto.read(context, name)


@router.get("/{study}/model", response_class=WholeFile)
def get_model(
    name: StudyName, context: ServiceContext, which: WhichModel = "handed_over"
) -> WholeFile:
    """The exported model, one safetensors file with its card inside; or the winner as it was validated."""
    sha256 = studies.model_sha256(context, name, which)
    path = artifacts.path(context, sha256)
    suffix = ".validated" if which == "validated" else ""
    return WholeFile(
        path, media_type="application/octet-stream", filename=f"{name}{suffix}.safetensors"
    )
