"""A study begins with what was best in earlier ones, those of the nearest data first; it all stands in its document."""

from typing import Any

import pytest

from service.use_cases import rebasing, studies
from tests.support.protocol import Service
from tests.support.races import Replicas
from trimtab.contract.leases import Lease
from trimtab.contract.problems import Invalid
from trimtab.contract.studies import StudyDocument

SPACE: dict[str, Any] = {
    "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
}
AUTO = {"sampler": "random", "pruner": "none", "transfer": "auto"}
NEAR, FAR = "a" * 64, "f" * 64


def done(
    service: Service,
    name: str,
    *rates: float,
    data: str = "d" * 64,
    train: int = 60,
    best: float = 0.9,
) -> None:
    """A study that is done, whose trials had these learning rates, the first one the best."""
    trials = len(rates)
    service.study(
        name,
        space=SPACE,
        probed=False,
        priority=900,
        budget={"trials": trials},
        first_trials=[{"learning_rate": rate} for rate in rates],
        search={"sampler": "random", "pruner": "none"},
    )
    worker = service.worker()
    for number in range(trials):
        lease = service.lease(worker)
        service.begin(
            lease, data_sha256=data, pictures={"train": train, "validation": 20, "test": 20}
        )
        service.complete(lease, best - number / 10)
    service.complete_final(service.lease(worker), 0.9)
    assert studies.read(service.context, name).state == "done"


def created(service: Service, name: str = "next", **changes: Any) -> None:
    given: dict[str, Any] = {"space": SPACE, "search": AUTO, "budget": {"trials": 30}}
    service.study(name, probed=False, **(given | changes))


def document(service: Service, name: str = "next") -> StudyDocument:
    return studies.read(service.context, name).document


def rate(lease: Lease) -> Any:
    return lease.hyperparameters["learning_rate"]


def begun(service: Service, data: str = "d" * 64, train: int = 60) -> None:
    """The first trial of the study begins, and tells its data."""
    lease = service.lease()
    service.begin(
        lease, data_sha256=data, pictures={"train": train, "validation": 20, "test": 20}
    )


def told(service: Service, name: str = "next") -> list[tuple[str, int]]:
    return [(one.study, one.points) for one in document(service, name).transferred or ()]


def test_a_study_begins_with_the_two_best_of_the_nearest_data_first(either: Service) -> None:
    done(either, "far", 3e-2, 2e-2, 1e-2, data=FAR, train=60_000)
    done(either, "same", 1e-3, 2e-3, 3e-3, data=NEAR)
    done(either, "near", 4e-4, 5e-4, data=FAR, train=600)
    created(either)
    begun(either, data=NEAR)
    assert [rate(either.lease()) for _ in range(6)] == [1e-3, 2e-3, 4e-4, 5e-4, 3e-2, 2e-2]
    assert told(either) == [("same", 2), ("near", 2), ("far", 2)]
    distances = [one.distance for one in document(either).transferred or ()]
    # The features and the pictures' size are not known, but of the same data by their content.
    assert distances == [0.0, pytest.approx(3**0.5), pytest.approx((9 + 2) ** 0.5)]
    starts = document(either).starts or ()
    assert [one.proposed_by for one in starts] == [
        *("prior", "study:same", "study:same", "study:near"),
        *("study:near", "study:far", "study:far"),
    ]


def test_the_first_known_recipe_stays_first_and_the_others_come_behind(
    service: Service,
) -> None:
    done(service, "same", 5e-3, 3e-3)
    done(service, "further", 1e-3, 2e-3, data=FAR)
    created(service, search=AUTO | {"known_recipes": True}, budget={"trials": 60})
    begun(service)
    starts = document(service).starts or ()
    # The second recipe, at 1e-3, was the best of the further study, and comes only once.
    assert [(one.proposed_by, one.values["learning_rate"]) for one in starts] == [
        *(("known_recipe:warm_cosine", 3e-3), ("study:same", 5e-3)),
        *(("study:further", 1e-3), ("study:further", 2e-3)),
    ]


def test_a_small_search_takes_over_a_third_of_its_trials_at_most(service: Service) -> None:
    done(service, "one", 1e-3, 2e-3)
    done(service, "two", 3e-3, 4e-3)
    created(service, budget={"trials": 9})
    begun(service)
    assert told(service) == [("two", 2), ("one", 1)]


def test_what_was_best_in_a_study_that_learned_nothing_is_not_taken_over(
    service: Service,
) -> None:
    done(service, "lost", 1e-3, 2e-3, best=0.6)
    done(service, "learned", 3e-3, 4e-3)
    created(service)
    begun(service)
    assert told(service) == [("learned", 2), ("lost", 0)]


def test_what_was_taken_over_stays_when_its_study_is_deleted(service: Service) -> None:
    done(service, "same", 1e-3, 2e-3)
    created(service)
    begun(service)
    before = document(service)
    studies.delete(service.context, "same")
    assert document(service) == before
    assert rate(service.lease()) == 1e-3


def test_a_study_that_nothing_is_like_awaits_nothing(service: Service) -> None:
    done(service, "same", 1e-3, 2e-3)
    created(service, model={"backbone": "resnet18"})
    assert document(service).transferred == ()
    for word in ("none", "done_studies"):
        created(service, word.replace("_", "-"), search=AUTO | {"transfer": word})
        assert not document(service, word.replace("_", "-")).awaits_transfer


def test_another_replica_proposes_what_was_taken_over(replicas: Replicas) -> None:
    first, second = replicas.one, replicas.two
    done(first, "same", 1e-3, 2e-3)
    created(first)
    document(second)
    probe = second.lease()
    first.begin(probe)
    assert rate(second.lease()) == 1e-3
    assert rate(first.lease()) == 2e-3


def test_a_study_that_is_named_gives_what_it_has_whatever_its_data(service: Service) -> None:
    done(service, "far", 3e-2, 2e-2, data=FAR, train=60_000)
    done(service, "same", 1e-3, 2e-3)
    created(service, search=AUTO | {"transfer": ["far"]})
    begun(service)
    assert [rate(service.lease()) for _ in range(2)] == [3e-2, 2e-2]
    assert told(service) == [("far", 2)]


def test_names_that_can_give_nothing_are_refused_each_with_its_reason(service: Service) -> None:
    done(service, "flowers", 1e-3, 2e-3)
    created(service, "running", search=AUTO | {"transfer": "none"})
    task = {
        "kind": "regression",
        "dataset": {"kind": "csv", "path": "/data/t.csv", "targets": ["age"]},
    }
    with pytest.raises(Invalid) as caught:
        created(service, search=AUTO | {"transfer": ["flower", "running"]})
    assert [(one.pointer, one.code) for one in caught.value.errors] == [
        ("/search/transfer/0", "unknown_study"),
        ("/search/transfer/1", "study_not_done"),
    ]
    assert "near names: flowers" in caught.value.errors[0].message
    with pytest.raises(Invalid) as caught:
        created(service, task=task, search=AUTO | {"transfer": ["flowers"]})
    (error,) = caught.value.errors
    assert error.code == "transfer_from_another_task_kind"
    assert "its task is a classification, and this one is a regression" in error.message


def test_a_study_that_begins_anew_takes_over_anew(service: Service) -> None:
    done(service, "same", 1e-3, 2e-3)
    created(service)
    begun(service)
    rebasing.rebase(service.context, "next", None)
    assert document(service).awaits_transfer
    assert document(service).starts == (document(service, "next.before-1").starts or ())[:1]
    begun(service)
    assert told(service) == [("same", 2)]


def test_what_was_taken_over_is_stopped_like_any_other(service: Service) -> None:
    done(service, "same", 1e-3, 2e-3)
    created(service, search=AUTO | {"pruner": {"kind": "threshold", "lower": 0.2}})
    begun(service)
    lease = service.lease()
    assert rate(lease) == 1e-3
    assert service.report(lease, 0.1) == "stop"
