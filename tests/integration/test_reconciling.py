"""Optuna's tables after strangers wrote to them."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from service.storage import optuna_view
from service.storage.engine import Database
from service.use_cases import reconciling
from tests.support.protocol import Service


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Service:
    playing = Service.on(database, tmp_path)
    playing.study()
    return playing


@pytest.fixture
def stranger(service: Service, database: Database) -> optuna.Study:
    return optuna.load_study(study_name="digits", storage=optuna_view.cached(database))


def reconcile(service: Service) -> int:
    service.clock.advance(reconciling.EVERY_S + 1)
    return reconciling.reconcile(service.context)


def optunas(service: Service) -> list[tuple[str, float | None]]:
    rows = service.rows(
        """SELECT p.state::text AS state, v.value FROM public.trials p LEFT JOIN public.trial_values v USING (trial_id)
           ORDER BY p.number"""
    )
    return [(row.state, row.value) for row in rows]


def test_where_nobody_interferes_nothing_is_repaired(service: Service) -> None:
    service.prune(service.lease())
    service.fail(service.lease(), "oom")
    service.drain(service.lease())
    service.complete(service.lease(), 0.5)
    assert reconcile(service) == 0


def test_a_trial_that_a_stranger_finished_runs_on(
    service: Service, stranger: optuna.Study
) -> None:
    lease = service.lease()
    stranger.tell(0, 0.99)
    assert optunas(service) == [("COMPLETE", 0.99)]
    assert reconcile(service) == 1
    assert optunas(service) == [("RUNNING", None)]
    service.complete(lease, 0.5)
    assert optunas(service) == [("COMPLETE", 0.5)]
    told = service.value("SELECT body FROM trimtab.events WHERE kind = 'trial_repaired'")
    assert told == {"was": "COMPLETE", "is": "RUNNING"}


def test_a_trial_that_nobody_runs_is_no_ghost(service: Service, database: Database) -> None:
    service.drain(service.lease())
    service.complete(service.lease(), 0.5)
    service.rows("UPDATE public.trials SET state = 'RUNNING' RETURNING 1")
    service.rows("DELETE FROM public.trial_values RETURNING 1")
    assert reconcile(service) == 1
    assert optunas(service)[0] == ("COMPLETE", 0.5)


def test_it_is_done_once_a_minute(service: Service, stranger: optuna.Study) -> None:
    reconcile(service)
    service.lease()
    stranger.tell(0, 0.99)
    assert reconciling.reconcile(service.context) == 0
    assert reconcile(service) == 1


def test_what_a_stranger_began_stands_in_no_claims_way(
    service: Service, stranger: optuna.Study
) -> None:
    service.complete(service.lease(), 0.5)
    strange = [stranger.ask(), stranger.ask()]
    ours = [service.lease() for _ in range(3)]
    assert [lease.trial_number for lease in ours] == [1, 2, 3]
    assert (
        service.claim(service.worker()) == ()
    )  # the budget is four trials, and exactly so many
    stranger.tell(strange[0], 0.25)
    service.complete(ours[0], 0.75)
    assert [(trial.number, trial.value) for trial in stranger.get_trials()] == [
        (0, 0.5),
        (1, 0.75),
        (2, None),
        (3, None),
        (4, 0.25),
        (5, None),
    ]


def test_what_a_stranger_began_is_failed_when_it_is_old(
    service: Service, stranger: optuna.Study
) -> None:
    stranger.ask()
    service.rows(
        "UPDATE public.trials SET datetime_start = trimtab.now() AT TIME ZONE 'UTC' RETURNING 1"
    )
    assert reconcile(service) == 0
    service.clock.advance(reconciling.ORPHAN_AFTER_S)
    assert reconcile(service) == 1
    (orphan,) = stranger.get_trials()
    assert orphan.state == TrialState.FAIL
    assert orphan.system_attrs["trimtab:orphan"] is True
