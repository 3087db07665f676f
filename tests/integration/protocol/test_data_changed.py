"""A study keeps to the data that it began with: whoever has others is set aside, until a person accepts them."""

from typing import Any
from uuid import UUID

import pytest

from service.use_cases import rebasing, studies
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from trimtab.contract.leases import Lease
from trimtab.contract.problems import (
    DataChanged,
    IdempotencyKeyReused,
    LeaseLost,
    StudyNotActive,
)
from trimtab.contract.studies import Study

OTHER = {"data_sha256": "e" * 64, "pictures": {"train": 61, "validation": 20, "test": 20}}


def shown(service: Service, name: str = "digits") -> Study:
    return studies.read(service.context, name)


def state_of(service: Service, number: int = 0) -> tuple[str, int]:
    """A trial's state and how many crashes it has."""
    (row,) = service.rows(
        "SELECT state, crashes FROM trimtab.trials WHERE kind = 'trial' AND number = :n",
        n=number,
    )
    return row.state, row.crashes


def begun(service: Service, count: int, **changes: Any) -> tuple[list[UUID], list[Lease]]:
    """A study with so many workers, and the trials that they run on its data."""
    service.study(probed=False, **changes)
    workers = [service.worker() for _ in range(count)]
    leases: list[Lease] = []
    for worker in workers:
        leases.append(service.lease(worker))
        service.begin(leases[-1])
    return workers, leases


def test_the_first_record_tells_the_data_of_the_study_and_the_same_ones_go_on(
    either: Service,
) -> None:
    begun(either, 2)
    data = shown(either).data
    assert data is not None
    assert (data.data_sha256, data.split_sha256) == ("d" * 64, "5" * 64)
    assert (data.pictures["train"], data.class_counts[1].name) == (60, "dog")


def test_another_workers_other_data_cost_the_trial_nothing_and_the_worker_its_turn(
    either: Service,
) -> None:
    begun(either, 1)
    two = either.worker()
    lease = either.lease(two)
    with pytest.raises(DataChanged) as refused:
        either.begin(lease, **OTHER)
    assert "61 pictures instead of 60 in train" in refused.value.detail
    assert f"data {'d' * 12} (split {'5' * 12}), and this worker has {'e' * 12}" in str(
        refused.value
    )
    assert "trimtab study rebase digits" in refused.value.detail
    assert state_of(either, 1) == ("queued", 0)
    with pytest.raises(LeaseLost):
        either.report(lease, 0.5)
    # The others go on, with the trial that was given back first; this one gets other studies' trials alone.
    assert either.claim(two) == ()
    either.study("other")
    assert either.lease(two).study == "other"
    assert either.lease(either.worker()).trial_number == 1
    told = shown(either)
    assert (told.blocked, told.problem, [one.worker for one in told.set_aside]) == (
        *(False, None),
        ["tester"],
    )


def test_a_resumed_trial_of_changed_data_keeps_its_checkpoint_and_waits(
    either: Service,
) -> None:
    (one,), (began,) = begun(either, 1, budget={"trials": 1})
    either.checkpoint(began, 3)
    either.drain(began)
    changed = either.lease(one)
    with pytest.raises(DataChanged):
        either.begin(changed, split_sha256="6" * 64)
    told = shown(either)
    assert told.blocked
    assert "the same pictures, divided into other splits" in str(told.problem)
    # A worker that registers anew, or a resumed study, gets another try.
    fresh = either.lease(either.worker())
    assert fresh.resume is not None
    assert fresh.resume.step == 3
    either.begin(fresh)
    either.drain(fresh)
    assert either.claim(one) == ()
    assert not studies.resume(either.context, "digits").set_aside
    either.begin(either.lease(one))


def test_the_final_evaluation_is_held_to_the_same_data(either: Service) -> None:
    (one,), (trial,) = begun(either, 1, budget={"trials": 1})
    either.complete(trial, 0.5)
    final = either.lease(one)
    assert final.kind == "final"
    with pytest.raises(DataChanged):
        either.begin(final, **OTHER)
    assert either.rows("SELECT 1 FROM trimtab.events WHERE kind = 'final_test_opened'") == []
    told = shown(either)
    assert (told.state, told.blocked) == ("finalising", True)
    assert studies.resume(either.context, "digits").state == "finalising"
    final = either.lease(one)
    either.begin(final)
    either.complete_final(final)
    assert shown(either).state == "done"
    assert broken(either.context.database) == {}


def test_a_rebase_begins_the_trials_anew_and_keeps_what_was(either: Service) -> None:
    begun(either, 1)
    two = either.worker()
    lease = either.lease(two)
    with pytest.raises(DataChanged):
        either.begin(lease, **OTHER)
    anew = rebasing.rebase(either.context, "digits", "a key")
    assert (anew.name, anew.state, anew.trials_created, anew.data) == (
        "digits",
        "active",
        0,
        None,
    )
    assert rebasing.rebase(either.context, "digits", "a key") == anew
    assert rebasing.rebase(either.context, "digits", None) == anew  # it has nothing to accept
    before = shown(either, "digits.before-1")
    assert (before.state, before.trials_created, before.ended_by) == (
        "cancelled",
        2,
        "cancelled",
    )
    assert before.document.name == "digits.before-1"
    assert before.problem == "Its data changed; the study digits begins anew."
    # Whoever was set aside serves it, and its data are those of the new first trial.
    first = either.lease(two)
    assert (first.study, first.trial_number, first.fence) == ("digits", 0, 1)
    either.begin(first, **OTHER)
    data = shown(either).data
    assert data is not None
    assert data.data_sha256 == "e" * 64
    assert rebasing.rebase(either.context, "digits", "another key").trials_created == 0
    assert shown(either, "digits.before-2").trials_created == 1
    with pytest.raises(IdempotencyKeyReused):
        rebasing.rebase(either.context, "digits.before-1", "a key")
    assert broken(either.context.database) == {}


def test_a_study_that_is_over_is_not_rebased_and_a_long_name_is_cut(service: Service) -> None:
    name = "n" * 63
    service.study(name, budget={"trials": 1})
    assert rebasing.rebase(service.context, name, None).name == name
    assert shown(service, "n" * 54 + ".before-1").state == "cancelled"
    service.fail(service.lease(), "crashed")
    assert shown(service, name).state == "done"
    with pytest.raises(StudyNotActive, match="done"):
        rebasing.rebase(service.context, name, None)


def test_of_rebases_at_once_each_key_has_one_effect(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    one.study("digits")
    one.lease()
    keys = ["a", "a", "b", "b"]
    answers = at_once(
        *(
            lambda on=on, key=key: rebasing.rebase(on.context, "digits", key)
            for on, key in zip((one, two, one, two), keys, strict=True)
        )
    )
    assert all(isinstance(answer, Study) for answer in answers), answers
    assert [row[0] for row in one.rows("SELECT name FROM trimtab.studies ORDER BY name")] == [
        "digits",
        "digits.before-1",
    ]
    replicas.assert_intact()


def test_of_other_data_and_an_outcome_at_once_one_is_stored(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    one.study(budget={"trials": 20})
    for number in range(6):
        lease = one.lease()
        found, settled = at_once(
            lambda lease=lease: one.begin(lease, **OTHER),
            lambda lease=lease: two.complete(lease, 0.5),
        )
        state, crashes = state_of(one, number)
        assert crashes == 0
        if state == "completed":
            assert (settled, type(found)) == ("completed", LeaseLost)
        else:
            assert (state, type(found), type(settled)) == ("queued", DataChanged, LeaseLost)
            one.complete(one.lease(), 0.5)
    replicas.assert_intact()


def test_of_two_first_records_at_once_one_tells_the_data(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    for round_ in range(4):
        one.study(
            name := f"study-{round_}", probed=False, budget={"trials": 1}, priority=round_
        )
        lease = one.lease()
        mine, others = at_once(
            lambda lease=lease: one.begin(lease), lambda lease=lease: two.begin(lease, **OTHER)
        )
        data = shown(one, name).data
        assert data is not None
        kept, refused = (mine, others) if data.data_sha256 == "d" * 64 else (others, mine)
        assert kept is None or isinstance(kept, LeaseLost)
        assert isinstance(refused, DataChanged)
    replicas.assert_intact()
