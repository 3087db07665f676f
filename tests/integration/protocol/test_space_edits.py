"""A person changes the space of a study that runs: what is proposed, what the sampler sees, what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from service.use_cases import editing, enqueuing, studies, trials
from tests.support.fast_path import on_fast_path
from tests.support.protocol import Service
from tests.support.races import Replicas
from trimtab.contract.edits import StudyEdit
from trimtab.contract.leases import Lease
from trimtab.contract.problems import Invalid, StudyNotActive
from trimtab.contract.studies import Study

RATE = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
HIGH_RATE = {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}
BATCHES = {"kind": "choices", "choices": [16, 32, 64]}
SPACE: Mapping[str, Any] = {"learning_rate": RATE, "batch_size": BATCHES}
MANY = {"trials": 60}


def reshape(
    service: Service, space: Mapping[str, Any], *, name: str = "digits", **changes: Any
) -> Study:
    edit = StudyEdit.model_validate({"space": space, **changes})
    return editing.edit(service.context, name, edit)


def refused(service: Service, space: Mapping[str, Any], **changes: Any) -> tuple[str, str, str]:
    with pytest.raises(Invalid) as raised:
        reshape(service, space, **changes)
    (fault,) = raised.value.errors
    return fault.pointer, fault.code, fault.message


def tried(service: Service, name: str = "digits", **values: Any) -> int:
    """A trial of these values that has completed."""
    number = enqueuing.enqueue(service.context, name, values, None)
    lease = service.lease()
    assert lease.trial_number == number
    service.complete(lease, 0.5)
    return number


def proposals(service: Service, count: int) -> list[Lease]:
    return [service.lease() for _ in range(count)]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_what_is_proposed_from_then_on_lies_in_the_changed_space(
    either: Service, sampler: str
) -> None:
    either.study(space=SPACE, budget=MANY, search={"sampler": sampler, "tpe_startup_trials": 2})
    for rate in (1e-5, 2e-5, 1e-4, 1e-2, 2e-2):
        tried(either, learning_rate=rate, batch_size=16)
    reshape(
        either,
        {
            "learning_rate": HIGH_RATE,
            "head_dropout": {"kind": "float", "low": 0.0, "high": 0.5},
        },
    )
    for lease in proposals(either, 4):
        assert set(lease.hyperparameters) == {"learning_rate", "head_dropout"}
        assert 1e-3 <= float(str(lease.hyperparameters["learning_rate"])) <= 1e-1


def test_trials_outside_stay_in_the_tables_and_may_be_the_best(service: Service) -> None:
    service.study(space=SPACE, budget=MANY)
    for rate in (1e-4, 1e-2):
        tried(service, learning_rate=rate, batch_size=16)
    low = service.value("SELECT trial_id FROM trimtab.trials WHERE number = 0")
    study = reshape(service, {"learning_rate": HIGH_RATE, "batch_size": BATCHES})
    (told,) = study.document.space_edits
    assert (told.trials, told.outside) == (2, 1)
    assert study.best is not None
    assert study.progress.completed == 2
    assert (
        service.value("SELECT count(*) FROM public.trial_params WHERE trial_id = :t", t=low)
        == 2
    )


def test_earlier_trials_have_the_fixed_value_of_a_name_that_is_searched_from_then_on(
    service: Service,
) -> None:
    service.study(
        space={"learning_rate": RATE}, fixed={"epochs": 4, "batch_size": 16}, budget=MANY
    )
    tried(service, learning_rate=1e-2)
    waiting = service.lease()
    service.drain(waiting)
    study = reshape(service, SPACE)
    (told,) = study.document.space_edits
    assert (told.outside, told.values) == (0, {"batch_size": 16})
    assert study.document.fixed == {"epochs": 4}
    again = service.lease()
    assert (again.trial_number, again.recipe.batch_size) == (waiting.trial_number, 16)
    recipe = studies.best(service.context, "digits").recipe
    assert recipe is not None
    assert recipe.batch_size == 16
    # Such a trial lies outside of a space that has no such batch.
    service.complete(again, 0.4)
    without = {"learning_rate": RATE, "batch_size": {"kind": "choices", "choices": [32, 64]}}
    assert reshape(service, without).document.space_edits[-1].outside == 2


def test_what_is_taken_out_is_fixed_or_the_recipes_own_and_old_trials_keep_theirs(
    service: Service,
) -> None:
    service.study(space=SPACE, budget=MANY)
    old = service.lease()
    service.drain(old)
    study = reshape(service, {"learning_rate": RATE}, fixed={"batch_size": 128})
    assert study.document.fixed == {"epochs": 4, "batch_size": 128}
    again, new = service.lease(), service.lease()
    assert again.recipe.batch_size == old.recipe.batch_size != 128
    assert new.recipe.batch_size == 128


def test_another_replica_proposes_nothing_from_the_space_of_before(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    one.study(space=SPACE, budget=MANY)
    low = {"learning_rate": {**RATE, "high": 1e-4}}
    high = {"learning_rate": HIGH_RATE}
    with on_fast_path(two) as fast:
        for lease in (fast.lease(), two.lease()):
            two.complete(lease, 0.5)
        reshape(one, high)
        for lease in (fast.lease(), two.lease(), one.lease()):
            assert set(lease.hyperparameters) == {"learning_rate"}
            assert float(str(lease.hyperparameters["learning_rate"])) >= 1e-3
            two.complete(lease, 0.5)
        reshape(one, low)
        assert float(str(fast.lease().hyperparameters["learning_rate"])) <= 1e-4
    assert len(studies.read(two.context, "digits").document.space_edits) == 2


def test_another_replica_judges_a_report_by_the_changed_space(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    one.study(space=SPACE, budget=MANY)
    with on_fast_path(two) as fast:
        lease = fast.lease()
        assert fast.report(lease, 0.5) == "continue"
        reshape(one, {"learning_rate": RATE}, fixed={"batch_size": 128})
        assert fast.report(lease, 0.6, step=1) == "continue"
    known = two.context.documents.known(1)
    assert known is not None
    assert set(known.space) == {"learning_rate"}
    assert [one.value for one in trials.read(two.context, "digits", 0).curve] == [0.5, 0.6]


def test_a_replica_with_the_document_of_before_tells_a_new_trials_recipe(
    replicas: Replicas,
) -> None:
    one, two = replicas.one, replicas.two
    one.study(space=SPACE, budget=MANY)
    two.complete(two.lease(), 0.5)
    reshape(one, {"learning_rate": RATE}, fixed={"batch_size": 128})
    lease = one.lease()
    one.drain(lease)
    again = two.lease()
    assert again.trial_number == lease.trial_number
    assert again.recipe.batch_size == 128


def test_a_proposal_from_the_space_of_before_is_not_stored(service: Service) -> None:
    service.study(space=SPACE, budget=MANY)
    propose = service.context.sampling.proposal
    edits: list[Study] = []

    def meanwhile(*given: Any, **named: Any) -> Any:
        found = propose(*given, **named)
        if not edits:
            edits.append(reshape(service, {"learning_rate": HIGH_RATE}))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.context.sampling, "proposal", meanwhile)
        assert service.claim(service.worker()) == ()
    assert set(service.lease().hyperparameters) == {"learning_rate"}


def test_trials_that_have_not_ended_must_lie_inside(service: Service) -> None:
    service.study(space=SPACE, budget=MANY)
    enqueuing.enqueue(
        service.context, "digits", {"learning_rate": 1e-4, "batch_size": 16}, None
    )
    lease = service.lease()
    pointer, code, message = refused(service, {"learning_rate": HIGH_RATE})
    assert (pointer, code) == ("/space", "orphans_trials")
    assert "trials 0 have not ended" in message
    assert "`trimtab trial stop`" in message
    assert studies.read(service.context, "digits").document.space_edits == ()
    service.complete(lease, 0.5)
    assert reshape(service, {"learning_rate": HIGH_RATE}).document.space_edits[0].outside == 1


@pytest.mark.parametrize(
    ("space", "changes", "pointer", "code"),
    [
        ({}, {}, "/space", "value_error"),
        ({"learning_rte": RATE}, {}, "/space/learning_rte", "unknown_hyperparameter"),
        ({**SPACE, "epochs": {"kind": "int", "low": 2, "high": 4}}, {}, "/space/epochs", "epochs_stay"),
        ({"learning_rate": RATE}, {"fixed": {"epochs": 9}}, "/fixed/epochs", "fixed_stays"),
        (SPACE, {"fixed": {"batch_size": 16}}, "/fixed/batch_size", "fixed_and_sampled"),
        ({"learning_rate": RATE}, {"fixed": {"batch_size": 0}}, "/fixed/batch_size", "greater_than_equal"),
        ({"learning_rate": {**RATE, "high": 1e-5 * (1 + 1e-14)}}, {}, "/space/learning_rate", "narrow_range"),
    ],
)  # fmt: skip
def test_a_space_that_no_study_may_have_is_refused_with_its_place(
    service: Service, space: Any, changes: Any, pointer: str, code: str
) -> None:
    service.study(space=SPACE, budget=MANY)
    assert refused(service, space, **changes)[:2] == (pointer, code)


def test_a_grid_and_a_search_that_is_over_keep_their_space(service: Service) -> None:
    service.study("grid", space={"batch_size": BATCHES}, search={"sampler": "grid"})
    assert refused(service, {"batch_size": BATCHES}, name="grid")[1] == "grid_keeps_its_space"
    service.study("stopped", space=SPACE)
    studies.stop(service.context, "stopped")
    with pytest.raises(StudyNotActive, match="takes no other space"):
        reshape(service, {"learning_rate": RATE}, name="stopped")


def test_the_same_space_again_changes_nothing(service: Service) -> None:
    service.study(space=SPACE, budget=MANY)
    assert reshape(service, SPACE).document.space_edits == ()
    first = reshape(service, {"learning_rate": HIGH_RATE}).document
    assert len(first.space_edits) == 1
    assert reshape(service, {"learning_rate": HIGH_RATE}, fixed=first.fixed).document == first
    told = service.value("SELECT body FROM trimtab.events WHERE kind = 'study_edited'")
    assert told["space_edit"] == {"trials": 0, "outside": 0, "values": {}}


def test_a_space_without_a_point_left_has_new_ones_after_the_change(service: Service) -> None:
    service.study(
        space={"batch_size": {"kind": "choices", "choices": [16, 32]}},
        budget={"trials": 9},
    )
    service.complete(service.lease(), 0.5)
    last = service.lease()
    assert service.claim(service.worker()) == ()
    reshape(service, {"batch_size": BATCHES})
    assert service.lease().hyperparameters == {"batch_size": 64}
    service.complete(last, 0.5)
