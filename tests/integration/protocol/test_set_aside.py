"""A study that cannot be served is paused with its problem told, and the others go on."""

import pytest

from service.domain import pruning
from service.sampling import Proposal
from service.sampling.initial import InitialDesign
from service.use_cases import studies
from service.use_cases.context import DocumentUnreadable
from tests.support.protocol import Service

TPE = {"sampler": "tpe", "pruner": "none"}


def narrow(service: Service) -> None:
    """A study whose range is one part in 10^16, as an older release stored it: TPE cannot divide by its width."""
    space = {"learning_rate": {"kind": "float", "low": 1e-3, "high": 2e-3, "log": True}}
    service.study("narrow", space=space, search=TPE, budget={"trials": 100}, priority=900)
    service.rows(
        """UPDATE trimtab.studies SET document = jsonb_set(document::jsonb, '{space,learning_rate,high}',
               to_jsonb(CAST(:high AS float8)))::json WHERE name = 'narrow' RETURNING 1""",
        high=1e-3 * (1 + 2.3e-16),
    )


def serve(service: Service, count: int) -> list[str]:
    """The studies that one worker's claims are served from; each trial completes."""
    worker = service.worker()
    names: list[str] = []
    for _ in range(count):
        lease = service.lease(worker)
        service.complete(lease, 0.5)
        names.append(lease.study)
    return names


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # by which numpy announces it
def test_a_sampler_that_fails_costs_the_other_studies_nothing_and_its_study_tells_why(
    either: Service,
) -> None:
    narrow(either)
    either.study("digits", search=TPE, budget={"trials": 20})
    assert serve(either, 30) == ["narrow"] * 10 + ["digits"] * 20
    told = studies.read(either.context, "narrow")
    assert told.state == "paused"
    assert told.trials_created == 10
    assert str(told.problem).startswith("The sampler failed (ValueError: ")
    assert "resumed" in str(told.problem)
    assert studies.read(either.context, "digits").problem is None


def test_a_study_that_was_set_aside_comes_back_when_it_is_resumed_and_the_cause_is_gone(
    either: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Proposal:
        raise ValueError("nothing to divide by")

    name = either.study(search=TPE)
    with monkeypatch.context() as broken:
        broken.setattr(InitialDesign, "draw", fails)
        for _ in range(2):
            assert either.claim(either.worker()) == ()
            told = studies.read(either.context, name)
            assert (told.state, told.trials_created) == ("paused", 0)
            assert "nothing to divide by" in str(told.problem)
            assert studies.resume(either.context, name).problem is None
    assert serve(either, 3) == [name] * 3
    assert studies.read(either.context, name).problem is None


def test_a_document_of_another_release_costs_the_other_studies_nothing(either: Service) -> None:
    either.study("later", search=TPE, priority=900)
    either.study("digits", search=TPE)
    either.rows(
        """UPDATE trimtab.studies SET document = jsonb_set(document::jsonb, '{search,later}', '1')::json
           WHERE name = 'later' RETURNING 1"""
    )
    assert serve(either, 2) == ["digits"] * 2
    assert either.value("SELECT state FROM trimtab.studies WHERE name = 'later'") == "paused"
    problem = either.value("SELECT problem FROM trimtab.studies WHERE name = 'later'")
    assert "search/later" in problem
    with pytest.raises(DocumentUnreadable, match="search/later"):
        studies.read(either.context, "later")


def test_a_pruner_that_fails_loses_no_report_and_its_study_is_set_aside(
    either: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"sampler": "random", "pruner": "median"}
    either.study("judged", search=search, priority=900, budget={"trials": 1})
    either.study("digits")
    lease, other = either.lease(), either.lease()
    assert (lease.study, other.study) == ("judged", "digits")

    def fails(*_: object, **__: object) -> bool:
        raise ZeroDivisionError("no peers")

    monkeypatch.setattr(pruning, "median", fails)
    assert either.report(lease, 0.5) == "continue"
    told = studies.read(either.context, "judged")
    assert (told.state, told.progress.epochs) == ("paused", 1)
    assert str(told.problem).startswith("The pruner failed (ZeroDivisionError: no peers)")
    assert either.report(lease, 0.6, step=1) == "pause"
    assert either.report(other, 0.5) == "continue"
