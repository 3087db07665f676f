"""How a study's scheduler is told what changed and asked, without a database."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from service.domain.facts import TrialFacts
from service.sampling import Exhausted, Proposal, Resumption, Sampling, Waiting
from service.sampling import study as study_module
from service.sampling.scheduling.scheduler import (
    Asked,
    Begin,
    Choice,
    GoOn,
    Over,
    Stop,
    Wait,
)
from tests.support.scheduled import a_trial
from tests.unit.sampling.ledger import Clock, Ledger, document
from trimtab.contract.reasons import Reason
from trimtab.contract.studies import StudyDocument

SPACE = {"learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}}
WHY = Reason(rule="scripted", text="Because.")


@dataclass
class Scripted:
    """A scheduler that answers what it is told to, and keeps what it hears and is asked."""

    answers: list[Choice] = field(default_factory=list[Choice])
    heard: list[list[TrialFacts]] = field(default_factory=list[list[TrialFacts]])
    asked: list[Asked] = field(default_factory=list[Asked])

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        self.heard.append(list(trials))

    def decide(self, asked: Asked) -> Choice:
        self.asked.append(asked)
        return self.answers.pop(0)

    def reason_to_pause(self, number: int) -> Reason:
        return WHY


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    made = Scripted()

    def scheduler_for(_: StudyDocument) -> Scripted:
        return made

    monkeypatch.setattr(study_module, "scheduler_for", scheduler_for)
    return made


STUDY = document(
    SPACE, sampler="random", initial_trials=1, known_recipes=False, pruner="asha"
).model_copy(update={"starts": ()})


def _next(sampling: Sampling, number: int = 5, *, may_begin: bool = True) -> object:
    with sampling.next(
        1, STUDY, claim_id="c", next_number=number, may_begin=may_begin
    ) as chosen:
        return chosen


def _decide(sampling: Sampling, number: int, *values: float) -> object:
    curve = tuple(enumerate(values))
    return sampling.decide(1, STUDY, number, curve, may_begin=True, next_number=9)


def test_a_claim_is_answered_what_the_scheduler_chooses(scripted: Scripted) -> None:
    sampling = Sampling(Ledger().read, Clock())
    scripted.answers = [Begin(3, reason=WHY), GoOn(2, 9, WHY), Wait(), Over()]
    begun = _next(sampling)
    assert isinstance(begun, Proposal)
    assert (begun.runs_until, begun.reason, begun.proposed_by) == (3, WHY, "random")
    assert _next(sampling, may_begin=False) == Resumption(2, 9, WHY)
    assert _next(sampling) == Waiting()
    assert _next(sampling) == Exhausted()
    assert [(one.last, one.may_begin, one.next_number) for one in scripted.asked] == [
        (None, True, 5),
        (None, False, 5),
        (None, True, 5),
        (None, True, 5),
    ]


def test_values_that_the_scheduler_gives_are_those_of_the_trial_but_for_the_initial_design(
    scripted: Scripted,
) -> None:
    sampling = Sampling(Ledger().read, Clock())
    begin = Begin(3, {"learning_rate": 0.01}, "scripted")
    scripted.answers = [begin, begin]
    given, designed = _next(sampling, 5), _next(sampling, 0)
    assert isinstance(given, Proposal)
    assert (given.values, given.proposed_by) == ({"learning_rate": 0.01}, "scripted")
    assert given.only_as_number is None
    assert isinstance(designed, Proposal)
    assert (designed.proposed_by, designed.only_as_number) == ("prior", 0)
    assert designed.values != given.values


def test_what_was_given_and_is_not_in_the_history_yet_is_told(scripted: Scripted) -> None:
    ledger = Ledger()
    sampling = Sampling(ledger.read, Clock())
    scripted.answers = [Begin(3, {"learning_rate": 0.01}), Wait(), Wait()]
    _next(sampling)
    _next(sampling)
    ledger.commit(TrialFacts(5, "running", {"learning_rate": 0.01}))
    _next(sampling)
    assert [one.in_flight for one in scripted.asked] == [[], [{"learning_rate": 0.01}], []]


def test_where_the_space_has_no_point_left_the_scheduler_chooses_without_beginning(
    scripted: Scripted,
) -> None:
    grid = document({"frozen_stages": {"kind": "int", "low": 0, "high": 2}}, sampler="grid")
    sampling = Sampling(Ledger().read, Clock())
    scripted.answers = [Begin(3), GoOn(2, None)]
    with sampling.next(1, grid, claim_id="c", next_number=3, may_begin=True) as chosen:
        assert chosen == Resumption(2, None, None)
    assert [one.may_begin for one in scripted.asked] == [True, False]


def test_a_report_is_judged_with_its_values_and_only_the_trial_itself_goes_on(
    scripted: Scripted,
) -> None:
    stored = a_trial(4, 0.1, state="running", runs_until=2)
    sampling = Sampling(Ledger(stored).read, Clock())
    scripted.answers = [GoOn(4, 9, WHY), GoOn(3, 9), Begin(1), Wait(), Stop(WHY)]
    told = [_decide(sampling, 4, 0.1, 0.2) for _ in range(5)]
    assert [(one.verdict, one.runs_until) for one in told] == [  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        ("continue", 9),
        ("pause", 2),
        ("pause", 2),
        ("pause", 2),
        ("stop", 2),
    ]
    assert scripted.asked[0].last == 4
    assert scripted.heard[1] == [a_trial(4, 0.1, 0.2, state="running", runs_until=2)]


def test_a_decision_that_was_not_stored_is_forgotten_before_the_next(
    scripted: Scripted,
) -> None:
    stored = a_trial(4, 0.1, state="running", runs_until=2)
    ledger = Ledger(stored)
    sampling = Sampling(ledger.read, Clock())
    scripted.answers = [GoOn(4, 9), Wait(), Wait()]
    _decide(sampling, 4, 0.1, 0.2)
    _next(sampling)
    assert scripted.heard[-1] == [stored]
    scripted.answers.insert(0, GoOn(4, 9))
    _decide(sampling, 4, 0.1, 0.2)
    ledger.commit(a_trial(4, 0.1, 0.2, state="running", runs_until=9))
    _next(sampling)
    assert scripted.heard[-1] == [a_trial(4, 0.1, 0.2, state="running", runs_until=9)]


def test_what_changed_is_heard_once_however_the_history_was_read(scripted: Scripted) -> None:
    ledger = Ledger(a_trial(0, 0.1))
    sampling = Sampling(ledger.read, Clock())
    scripted.answers = [Wait(), Wait()]
    _next(sampling)
    _next(sampling)
    assert [len(one) for one in scripted.heard] == [1, 0]


def test_a_study_without_a_scheduler_is_proposed_to_until_its_budget_is_spent() -> None:
    study = document(SPACE, sampler="random")
    sampling = Sampling(Ledger().read, Clock())
    for may_begin, kind in ((True, Proposal), (False, Exhausted)):
        with sampling.next(
            1, study, claim_id="c", next_number=0, may_begin=may_begin
        ) as chosen:
            assert isinstance(chosen, kind)
