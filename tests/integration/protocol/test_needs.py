"""What a study needs of a device: no smaller worker gets its trials, and a study that none can serve says so."""

from typing import Literal

import pytest

from service.use_cases import editing, studies
from tests.support.protocol import Service
from tests.support.races import Replicas
from trimtab.contract.demand import Needs
from trimtab.contract.edits import NeedsEdit, StudyEdit
from trimtab.contract.problems import Invalid, StudyNotActive
from trimtab.contract.studies import Study

L4 = 23_678_025_728
"""The bytes that CUDA tells of an L4, which is sold with 24 GB."""
T4 = 15_655_829_504
"""Those of a T4, which is sold with 16 GB."""
NEEDS = {"gpu_memory_gb": 24}


def shown(service: Service, name: str = "digits") -> Study:
    return studies.read(service.context, name)


def test_a_worker_never_gets_what_it_cannot_hold(either: Service) -> None:
    either.study(needs=NEEDS)
    for small in (either.worker(), either.gpu(T4), either.gpu(0)):
        assert either.claim(small) == ()
    assert either.lease(either.gpu(L4)).study == "digits"
    assert either.lease(either.gpu(80 * 10**9)).study == "digits"


def test_a_worker_of_unknown_memory_is_not_trusted(either: Service) -> None:
    either.study(needs=NEEDS)
    unknown = either.gpu(L4)
    either.rows("UPDATE trimtab.workers SET memory_bytes = NULL RETURNING 1")
    assert either.claim(unknown) == ()


def test_a_small_worker_serves_the_studies_behind_a_large_one(either: Service) -> None:
    either.study("large", needs=NEEDS, priority=900)
    either.study("small")
    assert either.lease(either.worker()).study == "small"
    assert either.lease(either.gpu(L4)).study == "large"


def test_a_trial_that_was_given_back_goes_to_no_smaller_worker(either: Service) -> None:
    either.study(needs=NEEDS)
    either.drain(either.lease(either.gpu(L4)))
    assert either.claim(either.gpu(T4)) == ()
    assert either.lease(either.gpu(L4)).fence == 2


def test_a_small_worker_serves_what_is_behind_more_studies_than_a_look_lists(
    either: Service,
) -> None:
    for number in range(50):
        either.study(f"study-{number}", needs=NEEDS, priority=900)
    either.study("small")
    assert either.lease(either.worker()).study == "small"


@pytest.mark.parametrize(
    ("small", "there"),
    [(None, "no worker has a GPU"), (T4, "the largest one has 15.7 GB (worker gpu)")],
)
def test_a_study_that_every_worker_is_too_small_for_says_why_it_waits(
    service: Service, small: int | None, there: str
) -> None:
    service.study(needs=NEEDS)
    assert not shown(service).blocked  # as long as nobody is there
    service.worker()
    if small:
        service.gpu(small)
    told = shown(service)
    assert told.blocked
    assert told.problem == (
        f"No worker can serve the study: it needs a GPU with 24 GB, and {there}. "
        "It goes on by itself when a worker with such a GPU starts."
    )
    (listed,) = studies.page(service.context, before=None, size=9)[0].studies
    assert listed.blocked
    large = service.gpu(L4)
    assert (shown(service).blocked, shown(service).problem) == (False, None)
    service.lease(large)
    assert not shown(service).blocked


def test_a_study_without_needs_is_not_blocked_by_small_workers(service: Service) -> None:
    service.study()
    service.worker()
    assert not shown(service).blocked


def change(service: Service, needs: NeedsEdit | Literal["none"], name: str = "digits") -> Study:
    return editing.edit(service.context, name, StudyEdit(needs=needs))


def test_what_a_study_needs_may_change_while_it_waits(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    one.study(needs=NEEDS)
    small = one.gpu(T4)
    assert two.claim(small) == ()
    assert studies.read(two.context, "digits").blocked
    changed = change(one, NeedsEdit(gpu_memory_gb=16))
    assert (changed.blocked, changed.document.needs) == (False, Needs(gpu_memory_gb=16))
    assert studies.read(two.context, "digits").document.needs == Needs(gpu_memory_gb=16)
    two.drain(two.lease(small))
    assert change(two, "none").document.needs is None
    assert one.lease(one.worker()).fence == 2
    told = one.rows("SELECT body FROM trimtab.events WHERE kind = 'study_edited' ORDER BY id")
    assert [row.body["after"].get("needs") for row in told] == [{"gpu_memory_gb": 16}, None]
    replicas.assert_intact()


def test_a_study_that_is_over_and_one_of_loops_need_no_device(service: Service) -> None:
    service.external()
    with pytest.raises(Invalid) as raised:
        change(service, NeedsEdit(gpu_memory_gb=16), "own")
    assert [fault.pointer for fault in raised.value.errors] == ["/needs"]
    service.study()
    studies.cancel(service.context, "digits")
    with pytest.raises(StudyNotActive, match="needs no device"):
        change(service, NeedsEdit(gpu_memory_gb=16))


SEVERAL = {"devices_per_trial": 2}


def test_a_study_of_several_devices_a_trial_is_served_by_workers_that_have_them(
    either: Service,
) -> None:
    either.study(needs=SEVERAL)
    either.study("small", priority=1)
    assert either.lease(either.worker()).study == "small"
    served = either.lease(either.several(2))
    assert (served.study, served.devices_per_trial) == ("digits", 2)
    # One with more devices serves it too.
    assert either.lease(either.several(4)).study == "digits"


def test_a_study_that_no_worker_has_devices_enough_for_says_so(service: Service) -> None:
    service.study(needs=SEVERAL)
    service.worker()
    told = shown(service)
    assert told.blocked
    assert told.problem is not None
    assert (
        "each trial is trained on 2 devices, and no worker offers more than 1" in told.problem
    )
    assert "trimtab worker start --devices 2" in told.problem
    service.several(2)
    assert not shown(service).blocked


def test_both_needs_are_of_the_same_worker(either: Service) -> None:
    either.study(needs={**NEEDS, **SEVERAL})
    assert either.claim(either.gpu(L4)) == ()
    assert either.claim(either.several(2)) == ()


def test_a_change_of_the_memory_keeps_the_number_of_devices(service: Service) -> None:
    service.study(needs=SEVERAL)
    as_sent = NeedsEdit.model_validate_json(NeedsEdit(gpu_memory_gb=16).model_dump_json())
    changed = change(service, as_sent)
    assert changed.document.needs == Needs(gpu_memory_gb=16, devices_per_trial=2)
    fewer = change(service, NeedsEdit(devices_per_trial=1))
    assert fewer.document.needs == Needs(gpu_memory_gb=16)
    assert change(service, "none").document.needs is None
