"""The error tree: one class for every refusal of the service.

The docstring of a class is its default detail, which users read. `TABLE` gives each class its slug, title and HTTP
status. The service answers with `application/problem+json` (RFC 9457), and the client raises the same class again.

    Problem
    ├── BadRequest: MalformedJson, DuplicateKey, BadHost
    ├── Unauthorized
    ├── Forbidden: CrossOrigin, WorkerQuarantined, WorkerDraining
    ├── NotFound: StudyNotFound, TrialNotFound, WorkerNotFound, LeaseNotFound, ArtifactNotFound, DatasetNotFound,
    │             NoCompletedTrial, NoModel
    ├── MethodNotAllowed
    ├── Conflict: StudyExists, OneObjective, NotExternal, StudyNotActive, StudyNotIdle, BudgetSpent, GridTakesNoTrials,
    │             TrialNotActive, TrialNotFailed, TeacherNotReady, LeaseLost, DataChanged, StepConflict, ResultConflict, WorkerBusy,
    │             CheckpointGoesBack
    ├── Gone: StudyDeleted
    ├── PayloadTooLarge, TooManyPoints, UnsupportedMediaType
    ├── Invalid: UnknownField, WrongType, NonFinite, IdempotencyKeyReused, ImportRefused, Sha256Mismatch
    └── Unavailable: StorageFull, Unreachable (raised by the client alone)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.contract.message import Message


class FieldError(Message):
    """One fault of a document: its place (RFC 6901 JSON pointer), the rule, a message. Never the refused value."""

    pointer: str
    code: str
    message: str


class ProblemDocument(Message):
    """The body of `application/problem+json` (RFC 9457). `retry_after_s` repeats the Retry-After header."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[FieldError, ...] = ()
    retry_after_s: float | None = None
    state: str | None = None
    """The state of the trial or study that refused; only for `lease-lost`, `study-not-active`, `trial-not-active` and
    `trial-not-failed`."""


class Problem(Exception):
    """The service met an unexpected error; its log says more."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
        state: str | None = None,
    ) -> None:
        self.detail = detail or " ".join((type(self).__doc__ or "").split())
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        self.state = state
        super().__init__(self.detail)

    def document(self, instance: str | None = None) -> ProblemDocument:
        """Return the body of the HTTP answer; `instance` identifies the request."""
        row = row_of(type(self))
        return ProblemDocument(
            type=f"/problems/{row.slug}",
            title=row.title,
            status=row.status,
            detail=self.detail,
            instance=instance,
            errors=self.errors,
            retry_after_s=self.retry_after_s,
            state=self.state,
        )


class BadRequest(Problem):
    """The request cannot be read."""


class MalformedJson(BadRequest):
    """The body is not one well-formed JSON document in UTF-8."""


class DuplicateKey(BadRequest):
    """An object of the body names the same key twice."""


class BadHost(BadRequest):
    """The service does not answer for the host in the Host header."""


class Unauthorized(Problem):
    """The request needs the service's token, as the header `Authorization: Bearer TOKEN`."""


class Forbidden(Problem):
    """The service does not allow this request."""


class CrossOrigin(Forbidden):
    """A web page of another origin asks for a change: the service takes those from programs and from its own pages only."""


class WorkerQuarantined(Forbidden):
    """The last trials of this worker all crashed while other workers succeeded: repair its machine, then restart it."""


class WorkerDraining(Forbidden):
    """This worker was asked to leave, so it gets no more trials: start another one in its place."""


class NotFound(Problem):
    """The service has nothing at this address."""


class StudyNotFound(NotFound):
    """There is no study with this name."""


class TrialNotFound(NotFound):
    """The study has no trial with this number."""


class WorkerNotFound(NotFound):
    """There is no worker with this id."""


class LeaseNotFound(NotFound):
    """There has never been a lease with this id."""


class ArtifactNotFound(NotFound):
    """The service has no artifact with this sha256."""


class DatasetNotFound(NotFound):
    """There is no uploaded data set with this name."""


class NoCompletedTrial(NotFound):
    """The study has no completed trial."""


class NoModel(NotFound):
    """The study has no exported model: it is not done, or none of its trials completed."""


class MethodNotAllowed(Problem):
    """This address does not support the request's method."""


class Conflict(Problem):
    """The request conflicts with what is stored."""


class StudyExists(Conflict):
    """A study with this name exists already."""


class OneObjective(Conflict):
    """The study has one objective, and so no front of compromises; ask for its best trial."""


class NotExternal(Conflict):
    """Trimtab's workers train this study: a loop of your own takes trials of a study of `task: {kind: external}` alone."""


class StudyNotActive(Conflict):
    """The state of the study does not allow this."""


class BudgetSpent(Conflict):
    """The budget of the study's search has nothing left for another trial: give more with `trimtab study edit`."""


class GridTakesNoTrials(Conflict):
    """A grid goes through its space in its own order, and takes no other trials."""


class TrialNotActive(Conflict):
    """The trial has ended, so it cannot be stopped."""


class TrialNotFailed(Conflict):
    """Only a trial that has failed is tried again."""


class StudyNotIdle(Conflict):
    """The study still has running trials: cancel it, and delete it when they have ended."""


class TeacherNotReady(Conflict):
    """The teacher's study has no exported model yet, or its model is not the one that the document names."""


class LeaseLost(Conflict):
    """The lease has expired, was settled, or a later attempt has replaced it."""


class DataChanged(LeaseLost):
    """This worker's data is not the data that the study began with, so its lease was ended."""


class StepConflict(Conflict):
    """A different value is already stored for this step of this attempt."""


class ResultConflict(Conflict):
    """The lease was already settled with a different outcome."""


class WorkerBusy(Conflict):
    """The worker already holds as many leases as its registered capacity."""


class CheckpointGoesBack(Conflict):
    """A checkpoint of a later step is already recorded."""


class Gone(Problem):
    """What was at this address has been deleted."""


class StudyDeleted(Gone):
    """The study has been deleted."""


class PayloadTooLarge(Problem):
    """The body is larger than this address accepts."""


class TooManyPoints(PayloadTooLarge):
    """A batch may hold at most 1,000 reports."""


class UnsupportedMediaType(Problem):
    """The body must be `application/json`."""


class Invalid(Problem):
    """Some fields of the document are not valid; `errors` lists each of them."""


class UnknownField(Invalid):
    """The document has an unknown field; `errors` lists each of them."""


class WrongType(Invalid):
    """A field of the document has the wrong type; `errors` lists each of them."""


class NonFinite(Invalid):
    """A number of the document is NaN or infinite; `errors` lists each of them."""


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key was already used for a different request: send a new key."""


class ImportRefused(Invalid):
    """The study of Optuna cannot be imported."""


class Sha256Mismatch(Invalid):
    """The bytes that arrived do not have the sha256 in the address."""


class Unavailable(Problem):
    """The service cannot answer at the moment, and nothing was stored: try again."""


class StorageFull(Unavailable):
    """The disk of the database or of the artifacts is full, and nothing was stored: free some space on it."""


class Unreachable(Unavailable):
    """No trimtab service answers at this address."""


@dataclass(frozen=True)
class Row:
    """The slug, title and status of one class of problem over HTTP."""

    slug: str
    title: str
    status: int


TABLE: Mapping[type[Problem], Row] = {
    Problem: Row("internal", "Internal error", 500),
    BadRequest: Row("bad-request", "Bad request", 400),
    MalformedJson: Row("malformed-json", "Malformed JSON", 400),
    DuplicateKey: Row("duplicate-key", "Duplicate key", 400),
    BadHost: Row("bad-host", "Bad Host header", 400),
    Unauthorized: Row("unauthorized", "Unauthorized", 401),
    Forbidden: Row("forbidden", "Forbidden", 403),
    WorkerQuarantined: Row("worker-quarantined", "Every trial of the worker crashed", 403),
    WorkerDraining: Row("worker-draining", "The worker was asked to leave", 403),
    CrossOrigin: Row("cross-origin", "Request of another origin", 403),
    NotFound: Row("not-found", "Not found", 404),
    StudyNotFound: Row("study-not-found", "Study not found", 404),
    TrialNotFound: Row("trial-not-found", "Trial not found", 404),
    WorkerNotFound: Row("worker-not-found", "Worker not found", 404),
    LeaseNotFound: Row("lease-not-found", "Lease not found", 404),
    ArtifactNotFound: Row("artifact-not-found", "Artifact not found", 404),
    DatasetNotFound: Row("dataset-not-found", "Data set not found", 404),
    NoCompletedTrial: Row("no-completed-trial", "No completed trial", 404),
    NoModel: Row("no-model", "No exported model", 404),
    MethodNotAllowed: Row("method-not-allowed", "Method not allowed", 405),
    Conflict: Row("conflict", "Conflict", 409),
    StudyExists: Row("study-exists", "Study exists", 409),
    OneObjective: Row("one-objective", "One objective", 409),
    NotExternal: Row("not-external", "Not an external study", 409),
    StudyNotActive: Row("study-not-active", "Study not active", 409),
    BudgetSpent: Row("budget-spent", "Budget spent", 409),
    GridTakesNoTrials: Row("grid-takes-no-trials", "A grid takes no trials", 409),
    TrialNotActive: Row("trial-not-active", "Trial not active", 409),
    TrialNotFailed: Row("trial-not-failed", "Trial not failed", 409),
    StudyNotIdle: Row("study-not-idle", "Study not idle", 409),
    TeacherNotReady: Row("teacher-not-ready", "Teacher not ready", 409),
    LeaseLost: Row("lease-lost", "Lease lost", 409),
    DataChanged: Row("data-changed", "Data changed", 409),
    StepConflict: Row("step-conflict", "Step conflict", 409),
    ResultConflict: Row("result-conflict", "Result conflict", 409),
    WorkerBusy: Row("worker-busy", "Worker busy", 409),
    CheckpointGoesBack: Row("checkpoint-goes-back", "Checkpoint goes back", 409),
    Gone: Row("gone", "Gone", 410),
    StudyDeleted: Row("study-deleted", "Study deleted", 410),
    PayloadTooLarge: Row("payload-too-large", "Payload too large", 413),
    TooManyPoints: Row("too-many-points", "Too many points", 413),
    UnsupportedMediaType: Row("unsupported-media-type", "Unsupported media type", 415),
    Invalid: Row("invalid", "Invalid document", 422),
    UnknownField: Row("unknown-field", "Unknown field", 422),
    WrongType: Row("wrong-type", "Wrong type", 422),
    NonFinite: Row("non-finite", "Non-finite number", 422),
    IdempotencyKeyReused: Row("idempotency-key-reused", "Idempotency-Key reused", 422),
    ImportRefused: Row("import-refused", "Import refused", 422),
    Sha256Mismatch: Row("sha256-mismatch", "sha256 mismatch", 422),
    Unavailable: Row("unavailable", "Service unavailable", 503),
    StorageFull: Row("storage-full", "Storage full", 503),
    Unreachable: Row("unreachable", "Service unreachable", 503),
}


def row_of(problem: type[Problem]) -> Row:
    """Return the row of a class, or of its nearest ancestor that has one."""
    return next(TABLE[base] for base in problem.__mro__ if base in TABLE)


def every_problem(root: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Yield every class of the tree, the root first."""
    yield root
    for child in root.__subclasses__():
        yield from every_problem(child)


def from_document(document: Mapping[str, Any]) -> Problem:
    """Rebuild the exception that the service raised; an unknown type becomes the general class of its status."""
    parsed = ProblemDocument.model_validate(
        {key: value for key, value in document.items() if key in ProblemDocument.model_fields}
    )
    slug = parsed.type.rsplit("/", 1)[-1]
    by_slug = {row.slug: problem for problem, row in TABLE.items()}
    by_status = {row.status: problem for problem, row in reversed(list(TABLE.items()))}
    problem = by_slug.get(slug) or by_status.get(parsed.status, Problem)
    return problem(
        parsed.detail,
        errors=parsed.errors,
        retry_after_s=parsed.retry_after_s,
        state=parsed.state,
    )
