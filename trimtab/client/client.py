"""The client: one typed verb per endpoint of the service."""

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Self, overload

import httpx2
from pydantic import ValidationError

from trimtab.client import files
from trimtab.client.addresses import of_page, of_study
from trimtab.client.dataset_verbs import DatasetVerbs
from trimtab.client.loop_trial import LoopTrial
from trimtab.client.loops import Loops
from trimtab.client.wire import Wire
from trimtab.client.worker_verbs import WorkerVerbs
from trimtab.contract import problems
from trimtab.contract.edits import BudgetEdit, NeedsEdit, StudyEdit, TrialRequest
from trimtab.contract.events import Event
from trimtab.contract.experience import Priors
from trimtab.contract.finish import WhichModel
from trimtab.contract.imports import ImportReport, StudyImport
from trimtab.contract.info import Info
from trimtab.contract.pareto import Pareto
from trimtab.contract.search_space import Scalar, Space
from trimtab.contract.studies import Best, Study, StudyDocument, StudyPage
from trimtab.contract.trials import Trial, TrialPage, TrialState

DEFAULT_SERVER = "http://127.0.0.1:8000"
RECONNECT_S = 0.5
ENDED = ("done", "cancelled")
LAST_EVENTS = ("study_done", "study_cancelled")


def address_of(server: str | None) -> str:
    """Return the service's address: the one that is given, else that of TRIMTAB_SERVER, else the usual one here."""
    return server or os.environ.get("TRIMTAB_SERVER") or DEFAULT_SERVER


class Client(WorkerVerbs, DatasetVerbs):
    """Speaks to one trimtab service. Threads may share it; use it as a context manager or `close` it.

    Every verb raises the subclass of `problems.Problem` that the service raised, and `problems.Unreachable`
    where none answers. Every verb may be repeated safely, and is, for `retry_for_s` seconds in all.

    Args:
        server: the address of the service; None reads TRIMTAB_SERVER, and without it is http://127.0.0.1:8000.
        token: the bearer token of the service; None reads TRIMTAB_TOKEN.
        timeout_s: the seconds that one answer may take.
        retry_for_s: the seconds for which one verb is repeated while the service cannot be reached; 0 tries once.
        transport: a replacement of the network, for tests.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 30.0,
        retry_for_s: float = 10.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        token = token or os.environ.get("TRIMTAB_TOKEN")
        self._wire = Wire(
            address_of(server).rstrip("/"),
            token,
            timeout_s=timeout_s,
            retry_for_s=retry_for_s,
            transport=transport,
        )
        self._loops = Loops(self, self)

    @property
    def server(self) -> str:
        """The service's address."""
        return self._wire.server

    def close(self) -> None:
        """Close every connection."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Studies

    def create_study(
        self, document: StudyDocument, *, idempotency_key: str | None = None
    ) -> Study:
        """Submit a study. A repeated call with the same key creates no second study; None makes a new key."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        response = self._wire.send("POST", "/v1/studies", document, headers=headers)
        return self._wire.parse(Study, response)

    def import_study(self, found: StudyImport) -> ImportReport:
        """Bring in a study of plain Optuna as history."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        response = self._wire.send("POST", "/v1/imports", found, headers=headers)
        return self._wire.parse(ImportReport, response)

    def studies(self, *, page_size: int = 100, page_token: str | None = None) -> StudyPage:
        """List studies, newest first, a page at a time."""
        params = of_page(page_size, page_token)
        return self._wire.parse(StudyPage, self._wire.send("GET", "/v1/studies", params=params))

    def study(self, name: str) -> Study:
        """Return one study as it is now."""
        return self._wire.parse(Study, self._wire.send("GET", of_study(name)))

    def edit_study(
        self,
        name: str,
        *,
        trials: int | None = None,
        wall_time_s: float | Literal["none"] | None = None,
        device_seconds: float | Literal["none"] | None = None,
        epochs: int | Literal["none"] | None = None,
        target_value: float | Literal["none"] | None = None,
        no_progress_trials: int | Literal["none"] | None = None,
        priority: int | None = None,
        parallel: int | Literal["none"] | None = None,
        gpu_memory_gb: float | Literal["none"] | None = None,
        space: Space | None = None,
        fixed: Mapping[str, Scalar] | None = None,
    ) -> Study:
        """Change a study that has begun; more budget takes one that is done up again.

        Args:
            name: The study's name.
            trials: The whole number of trials, those that have begun and the refits included; None: as it is.
            wall_time_s: The whole wall time in seconds; `none`: no limit; None: as it is.
            device_seconds: The whole time of workers in seconds; `none`: no limit; None: as it is.
            epochs: The whole number of epochs of all trials; `none`: no limit; None: as it is.
            target_value: The objective value at which the search ends; `none`: it has none; None: as it is.
            no_progress_trials: The number of trials in a row without a better value that ends the search; `none`; None.
            priority: The priority; None: as it is.
            parallel: The number of trials that may be leased at a time; `none`: no limit; None: as it is.
            gpu_memory_gb: The memory of a GPU that its workers need; `none`: any device will do; None: as it is.
            space: The whole search space from now on; None: as it is.
            fixed: The values of hyperparameters that `space` no longer has; None: the recipe's own.

        Raises:
            problems.StudyNotActive: the study's state takes no such change.
            problems.Invalid: the budget is less than what was spent.
        """
        budget = BudgetEdit(
            trials=trials,
            wall_time_s=wall_time_s,
            device_seconds=device_seconds,
            epochs=epochs,
            target_value=target_value,
            no_progress_trials=no_progress_trials,
        )
        changes = StudyEdit(
            budget=budget,
            priority=priority,
            parallel=parallel,
            needs=NeedsEdit(gpu_memory_gb=gpu_memory_gb)
            if isinstance(gpu_memory_gb, int | float)
            else gpu_memory_gb,
            space=space,
            fixed=fixed,
        )
        return self._wire.parse(Study, self._wire.send("PATCH", of_study(name), changes))

    def pause(self, name: str) -> Study:
        """Start no more trials, and let the workers put the running ones aside."""
        return self._change(name, "pause")

    def resume(self, name: str) -> Study:
        """Carry on after a pause, or let workers that were set aside for the study try again."""
        return self._change(name, "resume")

    def stop(self, name: str) -> Study:
        """Start no more trials, let the running ones finish, then evaluate the winner."""
        return self._change(name, "stop")

    def cancel(self, name: str) -> Study:
        """End now: running trials are given up and no winner is evaluated."""
        return self._change(name, "cancel")

    def rebase(self, name: str, *, idempotency_key: str | None = None) -> Study:
        """Accept data that have changed: begin anew under this name.

        What was is cancelled and kept as `NAME.before-N`. A repeated call with the same key begins nothing anew again;
        None makes a new key.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        response = self._wire.send("POST", f"{of_study(name)}:rebase", headers=headers)
        return self._wire.parse(Study, response)

    def delete(self, name: str) -> None:
        """Delete a study that has no running trial, with all its trials."""
        self._wire.send("DELETE", of_study(name))

    def trials(
        self,
        name: str,
        *,
        page_size: int = 100,
        page_token: str | None = None,
        state: TrialState | None = None,
    ) -> TrialPage:
        """List a study's trials by number, a page at a time."""
        params = of_page(page_size, page_token)
        if state is not None:
            params["state"] = state
        response = self._wire.send("GET", f"{of_study(name)}/trials", params=params)
        return self._wire.parse(TrialPage, response)

    def read_trial(self, name: str, number: int) -> Trial:
        """Return one trial with its attempts."""
        response = self._wire.send("GET", f"{of_study(name)}/trials/{number}")
        return self._wire.parse(Trial, response)

    @overload
    def trial(self, name: str, number: int) -> Trial: ...

    @overload
    def trial(
        self, name: str, *, label: str | None = None, silent_s: float | None = None
    ) -> AbstractContextManager[LoopTrial]: ...

    def trial(
        self,
        name: str,
        number: int | None = None,
        *,
        label: str | None = None,
        silent_s: float | None = None,
    ) -> Trial | AbstractContextManager[LoopTrial]:
        """Train a trial of an external study in a `with` block; with a number, return a trial with its attempts.

        Args:
            name: The study's name.
            number: The number of the trial to read; None: the next one is claimed, which waits for one if need be.
            label: The name that the loop is listed by among the workers; None: this machine's and process's.
            silent_s: The seconds without a report or a checkpoint after which the loop counts as hung, so that another one
                gets its trial; None: a trial is this process's for as long as it lives.

        Raises:
            problems.NotExternal: trimtab's workers train this study.
            problems.StudyNotActive: the study has no more trials.
        """
        if number is not None:
            return self.read_trial(name, number)
        return self._loops.one(name, label, silent_s)

    def loop(
        self, name: str, *, label: str | None = None, silent_s: float | None = None
    ) -> Iterator[LoopTrial]:
        """Claim the trials of an external study, one after the other, until it is over: each is for a `with` block.

        Args:
            name: The study's name.
            label: The name that the loop is listed by among the workers; None: this machine's and process's.
            silent_s: The seconds without a word after which the loop counts as hung; None: never.

        Raises:
            problems.NotExternal: trimtab's workers train this study.
            problems.Invalid: a trial was not ended by a `with` block.
        """
        return self._loops.all(name, label, silent_s)

    def enqueue_trial(
        self, name: str, values: Mapping[str, Scalar], *, idempotency_key: str | None = None
    ) -> Trial:
        """Have a configuration tried next; it takes one trial of the budget.

        Args:
            name: The study's name.
            values: The values by the names of searched hyperparameters; names that are missing get the prior's.
            idempotency_key: The request's name: a repeat with the same one adds no second trial; None makes a new one.

        Raises:
            problems.BudgetSpent: nothing is left for another trial.
            problems.Invalid: a name is not searched, or a value lies outside its dimension.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        response = self._wire.send(
            "POST", f"{of_study(name)}/trials", TrialRequest(values=values), headers=headers
        )
        return self._wire.parse(Trial, response)

    def stop_trial(self, name: str, number: int) -> Trial:
        """End one trial: one that runs is pruned after its epoch, with its curve; one that waits is cancelled."""
        response = self._wire.send("POST", f"{of_study(name)}/trials/{number}:stop")
        return self._wire.parse(Trial, response)

    def retry_trial(self, name: str, number: int) -> Trial:
        """Queue a trial that has failed again, with no crash counted."""
        response = self._wire.send("POST", f"{of_study(name)}/trials/{number}:retry")
        return self._wire.parse(Trial, response)

    def best(self, name: str) -> Best:
        """Return the best completed trial, and the winner's test scores once the study is done."""
        return self._wire.parse(Best, self._wire.send("GET", f"{of_study(name)}/best"))

    def pareto(self, name: str) -> Pareto:
        """Return the Pareto front of a study with two objectives."""
        return self._wire.parse(Pareto, self._wire.send("GET", f"{of_study(name)}/pareto"))

    def download_model(
        self, name: str, path: str | Path, *, which: WhichModel = "handed_over"
    ) -> Path:
        """Save the model that the study hands over (.safetensors) as `path`, or the winner as it was validated."""
        asked = "" if which == "handed_over" else f"?which={which}"
        return files.download(self._wire, f"{of_study(name)}/model{asked}", Path(path))

    def download_checkpoint(self, name: str, path: str | Path) -> Path:
        """Save what the loop of an external study's best trial saved last as `path`.

        Raises:
            problems.NoCompletedTrial: no trial has completed.
            problems.ArtifactNotFound: the loop saved nothing of it, or the study is not external.
        """
        best = self.best(name)
        if best.checkpoint is not None:
            return self.download(best.checkpoint.sha256, path)
        if best.recipe is not None:
            raise problems.ArtifactNotFound(
                "Workers train this study: what it hands over is its model."
            )
        raise problems.ArtifactNotFound(
            f"The loop of trial {best.trial.number}, the best one, has saved no checkpoint."
        )

    def events(self, name: str, *, after: str | None = None) -> Iterator[Event]:
        """Follow a study live until it is done or cancelled, from its beginning or after a cursor.

        A connection that breaks is taken up again after the last event, so that none is missed or repeated. A study that
        was done and got more budget is followed through that end to the next one.
        """
        cursor = after
        while True:
            before = cursor
            whole, has_ended = True, False
            try:
                for event in self._one_stream(name, cursor):
                    cursor = event.cursor
                    yield event
                    has_ended |= event.kind in LAST_EVENTS
                    has_ended &= event.kind != "study_reopened"
            except problems.Unavailable:
                whole = False
            # Only the service knows which end is the last one: it closes the stream there.
            if whole and has_ended:
                return
            # The stream ended early. This request is retried, and raises when the retries are used up.
            state = self.study(name).state
            if whole and cursor == before and state in ENDED:
                return
            time.sleep(RECONNECT_S)

    # The service itself

    def priors(self) -> Priors:
        """Return what is known before a study begins, and what the service's studies have moved."""
        return self._wire.parse(Priors, self._wire.send("GET", "/v1/priors"))

    def info(self) -> Info:
        """Return the service's version and its dashboard's path."""
        return self._wire.parse(Info, self._wire.send("GET", "/v1/info"))

    def is_ready(self) -> bool:
        """Whether the service can do its work now; asked once, never raises for an absent service."""
        try:
            with self._wire.stream("/readyz", {}):
                return True
        except problems.Problem:
            return False

    def _change(self, name: str, verb: str) -> Study:
        return self._wire.parse(Study, self._wire.send("POST", f"{of_study(name)}:{verb}"))

    def _one_stream(self, name: str, cursor: str | None) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if cursor is not None:
            headers["Last-Event-ID"] = cursor
        with self._wire.stream(f"{of_study(name)}/events", headers) as response:
            for message in httpx2.EventSource(response):
                event = _read_event(message.data)
                if event is not None:
                    yield event


def _read_event(data: str) -> Event | None:
    """Return one event; None for a kind that only a newer service knows."""
    try:
        return Event.model_validate_json(data, extra="ignore")
    except ValidationError:
        return None
