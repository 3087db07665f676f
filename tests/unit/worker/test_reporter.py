from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from tests.support.records import a_record
from trimtab.contract import problems
from trimtab.contract.leases import Answer, Report, Reports, Verdict
from trimtab.contract.records import TrialRecord
from worker.agent.backoff import FIRST_S
from worker.agent.reporter import Reporter


@dataclass
class Service:
    """Refuses as long as `refusal` stands, else answers with `verdict`."""

    refusal: problems.Problem | None = None
    record_refusal: problems.Problem | None = None
    verdict: Verdict = "continue"
    tries: int = 0
    heard: list[list[int]] = field(default_factory=list[list[int]])
    records: list[TrialRecord] = field(default_factory=list[TrialRecord])

    def record(self, lease_id: UUID, record: TrialRecord) -> None:
        self.tries += 1
        if self.record_refusal is not None:
            raise self.record_refusal
        self.records.append(record)

    def report(self, lease_id: UUID, reports: Reports) -> Answer:
        self.tries += 1
        if self.refusal is not None:
            raise self.refusal
        self.heard.append([report.step for report in reports.reports])
        return Answer(verdict=self.verdict, ttl_s=60)


@dataclass
class Clock:
    """Time that passes when told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def a_reporter(service: Service, clock: Clock) -> tuple[Reporter, list[float]]:
    renewals: list[float] = []
    return Reporter(service, uuid4(), renewals.append, clock), renewals


def epoch(step: int) -> Report:
    return Report(step=step, value=0.5)


def test_the_verdict_is_the_services() -> None:
    reporter, renewals = a_reporter(Service(verdict="stop"), Clock())
    assert reporter.report(epoch(0)) == "stop"
    assert renewals == [60]
    assert reporter.pending == ()


def test_training_goes_on_while_the_service_is_away_and_all_is_told_when_it_is_back() -> None:
    service, clock = Service(problems.Unreachable()), Clock()
    reporter, _ = a_reporter(service, clock)
    assert reporter.report(epoch(0)) == "continue"
    assert reporter.report(epoch(1)) == "continue"
    service.refusal = None
    clock.now += FIRST_S
    reporter.report(epoch(2))
    assert service.heard == [[0, 1, 2]]


def test_an_absent_service_is_not_asked_at_every_epoch() -> None:
    service = Service(problems.Unreachable())
    reporter, _ = a_reporter(service, Clock())
    for step in range(100):
        reporter.report(epoch(step))
    assert service.tries == 1
    assert len(reporter.pending) == 100


def test_what_one_request_may_not_hold_is_told_by_the_next() -> None:
    service, clock = Service(problems.Unreachable()), Clock()
    reporter, _ = a_reporter(service, clock)
    for step in range(1500):
        reporter.report(epoch(step))
    service.refusal = None
    clock.now += 60
    reporter.report(epoch(1500))
    reporter.report(epoch(1501))
    assert [len(steps) for steps in service.heard] == [1000, 502]


def test_a_report_that_is_refused_for_good_does_not_hold_up_the_next() -> None:
    service = Service(problems.StepConflict())
    reporter, _ = a_reporter(service, Clock())
    assert reporter.report(epoch(0)) == "continue"
    service.refusal = None
    reporter.report(epoch(1))
    assert service.heard == [[1]]


def test_a_lost_lease_is_the_attempts_to_know() -> None:
    reporter, _ = a_reporter(Service(problems.LeaseLost()), Clock())
    with pytest.raises(problems.LeaseLost):
        reporter.report(epoch(0))


def test_no_epoch_is_told_before_the_record_that_the_service_holds_against_the_studys_data() -> (
    None
):
    service, clock = Service(record_refusal=problems.Unavailable()), Clock()
    reporter, _ = a_reporter(service, clock)
    assert isinstance(reporter.begin(a_record()), problems.Unavailable)
    assert reporter.report(epoch(0)) == "continue"
    assert (service.tries, reporter.record) == (1, a_record())
    clock.now += 60
    assert reporter.report(epoch(1)) == "continue"
    assert (service.tries, service.heard) == (2, [])
    service.record_refusal = problems.DataChanged("61 pictures instead of 60")
    clock.now += 60
    with pytest.raises(problems.LeaseLost, match="61 pictures"):
        reporter.report(epoch(2))
    assert service.heard == []
    service.record_refusal = None
    reporter.report(epoch(3))
    assert (service.records, service.heard) == ([a_record()], [[0, 1, 2, 3]])
    assert reporter.record is None


def test_a_record_that_is_refused_for_good_holds_up_no_report() -> None:
    service = Service(record_refusal=problems.Invalid())
    reporter, _ = a_reporter(service, Clock())
    assert isinstance(reporter.begin(a_record()), problems.Invalid)
    reporter.report(epoch(0))
    assert (service.records, service.heard) == ([], [[0]])
