"""A person changes a study that has begun: its budget and priority, also while workers claim, and after its end."""

from typing import Any

import pytest

from service.use_cases import artifacts, editing, events, studies
from tests.support.protocol import A_MODEL, Service
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from trimtab.contract.edits import BudgetEdit, StudyEdit
from trimtab.contract.problems import Invalid, NoModel, StudyNotActive, StudyNotFound
from trimtab.contract.studies import Study

KEPT_S = 100.0


def edit(
    service: Service, *, priority: int | None = None, name: str = "digits", **budget: Any
) -> Study:
    changes = StudyEdit(budget=BudgetEdit(**budget), priority=priority)
    return editing.edit(service.context, name, changes)


def refused(service: Service, **changes: Any) -> Any:
    with pytest.raises(Invalid) as raised:
        edit(service, **changes)
    (fault,) = raised.value.errors
    return fault


def done(service: Service, *, trials: int = 2, **budget: Any) -> None:
    """A study of two trials that is done."""
    service.study(budget={"trials": trials, **budget})
    for value in (0.4, 0.5):
        service.complete(service.lease(), value)
    final = service.lease()
    service.begin(final)
    service.complete_final(final, 0.8)


def test_more_trials_are_proposed_and_the_document_says_so_on_every_replica(
    replicas: Replicas,
) -> None:
    one, two = replicas.one, replicas.two
    one.study(budget={"trials": 2})
    assert [one.lease().trial_number, two.lease().trial_number] == [0, 1]
    assert two.claim(two.worker()) == ()
    assert edit(one, trials=4).document.budget.trials == 4
    assert studies.read(two.context, "digits").document.budget.trials == 4
    assert [two.lease().trial_number, one.lease().trial_number] == [2, 3]
    assert one.claim(one.worker()) == ()
    replicas.assert_intact()


def test_the_limit_of_the_search_moves_by_the_difference_and_the_refits_stay_paid(
    service: Service,
) -> None:
    service.study(
        budget={"trials": 12, "wall_time_s": 1200}, finish={"refit": True, "ensemble": 3}
    )
    edit(service, trials=20)
    assert service.rows("SELECT trials_limit, wall_time_s FROM trimtab.studies")[0] == (
        17,
        1020.0,
    )
    edit(service, wall_time_s="none")
    assert service.value("SELECT wall_time_s FROM trimtab.studies") is None


def test_an_edit_is_told_once_with_what_was_and_is(service: Service) -> None:
    service.study(budget={"trials": 4})
    for _ in range(2):
        edit(service, trials=6, priority=7)
    (event,) = service.rows("SELECT body FROM trimtab.events WHERE kind = 'study_edited'")
    assert event.body == {
        "before": {"trials": 4, "priority": 500},
        "after": {"trials": 6, "priority": 7},
    }


def test_a_claim_serves_the_study_that_got_the_higher_priority(either: Service) -> None:
    either.study("first")
    either.study("second")
    edit(either, name="second", priority=501)
    assert either.lease().study == "second"


def test_fewer_trials_than_have_begun_are_refused_with_the_number(service: Service) -> None:
    service.study(budget={"trials": 9}, finish={"refit": True, "ensemble": 1})
    for _ in range(3):
        service.lease()
    fault = refused(service, trials=3)
    assert (fault.pointer, fault.code) == ("/budget/trials", "too_few_trials")
    assert "3 trials have begun, and 1 more pay its refits: give 4 or more" in fault.message
    assert edit(service, trials=4).document.budget.trials == 4
    assert service.claim(service.worker()) == ()


def test_a_budget_that_is_cut_to_what_has_ended_ends_the_search(service: Service) -> None:
    service.study(budget={"trials": 9})
    service.complete(service.lease(), 0.5)
    study = edit(service, trials=1)
    assert (study.state, study.ended_by) == ("finalising", "trials")
    assert service.lease().kind == "final"


def test_a_wall_time_that_is_spent_already_is_refused_and_a_longer_one_goes_on(
    service: Service,
) -> None:
    service.study(budget={"trials": 9, "wall_time_s": 100})
    running = service.lease()
    service.clock.advance(60)
    fault = refused(service, wall_time_s=60)
    assert (fault.pointer, fault.code) == ("/budget/wall_time_s", "wall_time_spent")
    assert "give more than 60 s" in fault.message
    edit(service, wall_time_s=200)
    service.clock.advance(50)
    assert service.report(running, 0.5) == "continue"
    service.clock.advance(90)
    assert service.report(running, 0.5, step=1) == "finish"


@pytest.mark.parametrize("state", ["stopping", "finalising", "cancelled"])
def test_a_search_that_was_ended_takes_no_other_budget(service: Service, state: str) -> None:
    service.study(budget={"trials": 1 if state == "finalising" else 9})
    lease = service.lease()
    if state == "stopping":
        studies.stop(service.context, "digits")
    if state == "finalising":
        service.complete(lease, 0.5)
    if state == "cancelled":
        studies.cancel(service.context, "digits")
    with pytest.raises(StudyNotActive, match=f"The study is {state}") as raised:
        edit(service, trials=20)
    assert raised.value.state == state
    if state == "cancelled":
        with pytest.raises(StudyNotActive, match="no use for a priority"):
            edit(service, priority=1)
    else:
        assert edit(service, priority=1).document.priority == 1


def test_a_study_that_is_not_there_is_not_edited(service: Service) -> None:
    with pytest.raises(StudyNotFound):
        edit(service, trials=9)


def test_more_budget_takes_a_study_that_is_done_up_again(either: Service) -> None:
    done(either)
    study = edit(either, trials=3)
    assert (study.state, study.final, study.ended_by) == ("active", None, None)
    assert [one.test_value for one in study.earlier_finals] == [0.8]
    assert studies.best(either.context, "digits").earlier_finals == study.earlier_finals
    assert studies.model_sha256(either.context, "digits") == A_MODEL
    lease = either.lease()
    assert (lease.kind, lease.trial_number) == ("trial", 2)
    either.complete(lease, 0.45)
    again = either.lease()
    # The same trial won again: its row goes on with a fence of its own.
    assert (again.kind, again.trial_number, again.fence) == ("final", 1, 2)
    assert broken(either.context.database) == {}


def test_the_scores_of_a_second_end_say_that_the_test_split_had_been_opened(
    service: Service,
) -> None:
    done(service)
    first = studies.read(service.context, "digits").final
    assert first is not None
    assert first.test_opened_before == 0
    edit(service, trials=3)
    service.complete(service.lease(), 0.9)
    final = service.lease()
    assert (final.trial_number, final.fence) == (2, 1)  # another trial won
    service.begin(final)
    service.complete_final(final, 0.85)
    study = studies.read(service.context, "digits")
    assert study.final is not None
    assert (study.state, study.final.test_value, study.final.test_opened_before) == (
        "done",
        0.85,
        1,
    )
    assert [one.test_value for one in study.earlier_finals] == [0.8]
    opened = "SELECT count(*) FROM trimtab.events WHERE kind = 'final_test_opened'"
    assert service.value(opened) == 2
    told = service.value("SELECT body FROM trimtab.events WHERE kind = 'study_reopened'")
    assert told["final"]["test_value"] == 0.8
    assert broken(service.context.database) == {}


def test_a_study_is_taken_up_again_as_often_as_it_gets_more_and_its_refits_are_trained_anew(
    service: Service,
) -> None:
    service.study(budget={"trials": 4}, finish={"refit": True, "ensemble": 2})
    for end in range(3):
        if end:
            assert edit(service, trials=4 + end).refits.total == 2
        for number in range(1 if end else 2):
            service.complete(service.lease(), 0.5 - 0.01 * (end + number))
        refits = [service.lease(), service.lease()]
        assert [(one.kind, one.fence, one.resume) for one in refits] == [
            ("refit", 1 + end, None)
        ] * 2
        for refit in refits:
            service.checkpoint(refit, 3)
            service.complete(refit, 0.1)
        final = service.lease()
        assert [member.refit is not None for member in final.members] == [True, True]
        service.begin(final)
        service.complete_final(final)
        assert broken(service.context.database) == {}
    study = studies.read(service.context, "digits")
    assert study.final is not None
    assert (len(study.earlier_finals), study.final.test_opened_before) == (2, 2)


def test_a_repeated_edit_takes_no_study_up_again(service: Service) -> None:
    done(service)
    edit(service, trials=3)
    service.complete(service.lease(), 0.45)
    service.complete_final(service.lease())
    assert edit(service, trials=3).state == "done"


def test_a_study_that_is_done_needs_a_trial_to_begin(service: Service) -> None:
    done(service, wall_time_s=100)
    for fault in (refused(service, trials=1), refused(service, wall_time_s=500)):
        assert (fault.pointer, fault.code) == ("/budget/trials", "too_few_trials")
        assert "2 trials have begun: give 3 or more" in fault.message
    with pytest.raises(StudyNotActive, match="no use for a priority"):
        edit(service, priority=1)


def test_a_grid_that_is_used_up_is_not_taken_up_again(service: Service) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [16, 32]}}
    service.study(space=space, search={"sampler": "grid"}, budget={"trials": 3})
    for value in (0.4, 0.5):
        service.complete(service.lease(), value)
    service.claim(service.worker())
    service.complete_final(service.lease())
    assert refused(service, trials=9).code == "space_exhausted"


def test_a_study_that_ended_without_a_model_is_taken_up_again(service: Service) -> None:
    service.study(budget={"trials": 1})
    service.prune(service.lease())
    study = edit(service, trials=2)
    assert (study.state, study.problem, study.earlier_finals) == ("active", None, ())
    with pytest.raises(NoModel):
        studies.model_sha256(service.context, "digits")
    service.complete(service.lease(), 0.5)
    assert service.lease().kind == "final"


def test_a_final_evaluation_that_failed_does_not_end_the_study_that_got_more(
    service: Service,
) -> None:
    service.study(budget={"trials": 1})
    service.complete(service.lease(), 0.5)
    service.fail(service.lease(), "crashed")
    assert studies.read(service.context, "digits").state == "done"
    assert edit(service, trials=2).state == "active"
    service.complete(service.lease(), 0.4)
    final = service.lease()
    assert (final.kind, final.trial_number) == ("final", 0)
    service.complete_final(final)
    assert studies.read(service.context, "digits").state == "done"


def test_the_model_of_an_earlier_end_is_kept(service: Service) -> None:
    done(service)
    edit(service, trials=3)
    service.clock.advance(KEPT_S + 1)
    artifacts.collect(service.context, KEPT_S)
    assert service.context.artifacts.path(A_MODEL).exists()


def test_edits_and_claims_at_once_never_exceed_the_budget(replicas: Replicas) -> None:
    for round_ in range(5):
        name = f"digits-{round_}"
        replicas.one.study(name, budget={"trials": 4})
        claims = [
            lambda on=on: on.claim(on.worker(), beside=None) for on in replicas.alternate(6)
        ]
        cuts = [
            lambda on=on, name=name: edit(on, name=name, trials=2)
            for on in replicas.alternate(2)
        ]
        at_once(*claims, *cuts)
        replicas.assert_intact()
        studies.cancel(replicas.one.context, name)


def test_the_story_of_a_study_goes_on_behind_an_end_that_was_not_its_last(
    service: Service,
) -> None:
    done(service)
    study_id = studies.study_id(service.context, "digits")
    assert events.after(service.context, study_id, (0, 0)).is_last
    edit(service, trials=3)
    assert not events.after(service.context, study_id, (0, 0)).is_last
    service.complete(service.lease(), 0.45)
    service.complete_final(service.lease())
    assert events.after(service.context, study_id, (0, 0)).is_last


def test_other_limits_change_and_stay_like_the_wall_time(service: Service) -> None:
    service.study(
        budget={"trials": 12, "device_seconds": 1200, "epochs": 100},
        finish={"refit": True, "ensemble": 3},
    )
    study = edit(service, trials=15, target_value=0.9)
    assert study.document.budget.limits == {
        "device_seconds": 1200,
        "epochs": 100,
        "target_value": 0.9,
    }
    # Of these, the refits take three of fifteen, and twelve epochs.
    assert service.value("SELECT limits FROM trimtab.studies") == {
        "device_seconds": 960.0,
        "epochs": 88,
        "target_value": 0.9,
    }
    edit(service, device_seconds="none", epochs="none", target_value="none")
    assert service.value("SELECT limits FROM trimtab.studies") is None


def test_a_limit_that_is_reached_already_is_refused_and_nothing_is_stored(
    service: Service,
) -> None:
    service.study(budget={"trials": 9})
    service.complete(service.lease(), 0.5)
    fault = refused(service, target_value=0.5)
    assert (fault.pointer, fault.code) == ("/budget/target_value", "limit_reached")
    assert "0.5 is reached already" in fault.message
    assert studies.read(service.context, "digits").document.budget.limits == {}
    assert service.value("SELECT limits FROM trimtab.studies") is None
    assert edit(service, target_value=0.6).state == "active"


def test_a_study_that_reached_its_target_is_taken_up_again_by_a_further_one_alone(
    service: Service,
) -> None:
    service.study(budget={"trials": 9, "target_value": 0.5})
    service.complete(service.lease(), 0.5)
    service.complete_final(service.lease())
    assert refused(service, trials=12).pointer == "/budget/target_value"
    assert studies.read(service.context, "digits").state == "done"
    assert edit(service, target_value="none").state == "active"
    assert service.lease().trial_number == 1
