"""What completed trials answered to the validation split: kept with their outcome, told to the final lease's holder."""

from typing import Any

import pytest

from service.use_cases import leases, studies
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from trimtab.contract.leases import Completed, Failed, Lease
from trimtab.contract.problems import Conflict, LeaseLost
from trimtab.contract.validation_outputs import ValidationOutputs


def outputs(body: str = "eA==") -> ValidationOutputs:
    return ValidationOutputs(form="hits", epochs=1, rows=8, columns=1, body=body)


def complete(service: Service, value: float, told: ValidationOutputs | None) -> Lease:
    lease = service.lease()
    service.settle(lease, Completed(value=value, validation_outputs=told))
    return lease


def finalising(service: Service, *bodies: str | None, **changes: Any) -> Lease:
    """The final lease of a study whose trials have answered so."""
    service.study(budget={"trials": len(bodies)}, **changes)
    for number, body in enumerate(bodies):
        told = None if body is None else outputs(body)
        complete(service, 0.5 + number / 100, told)
    return service.lease()


def pages(service: Service, final: Lease) -> list[list[int]]:
    """The numbers of the trials on each page, read as a worker reads them."""
    read: list[list[int]] = []
    start: int | None = 0
    while start is not None:
        page = leases.outputs_page(service.context, final.lease_id, start)
        read.append([one.trial_number for one in page.trials])
        start = page.next
    return read


def test_the_holder_of_a_final_lease_is_told_what_each_completed_trial_answered(
    either: Service,
) -> None:
    either.study(budget={"trials": 4})
    told = outputs("AA==")
    complete(either, 0.6, told)
    complete(either, 0.5, None)
    either.fail(either.lease(), "oom")
    complete(either, 0.7, told)
    page = leases.outputs_page(either.context, either.lease().lease_id, 0)
    assert [(one.trial_number, one.value, one.outputs) for one in page.trials] == [
        (0, 0.6, told),
        (3, 0.7, told),
    ]
    assert page.next is None
    assert broken(either.context.database) == {}


def test_a_repeated_outcome_keeps_the_answers_once(either: Service) -> None:
    either.study(budget={"trials": 1})
    lease = either.lease()
    for _ in range(2):
        either.settle(lease, Completed(value=0.5, validation_outputs=outputs()))
    assert either.value("SELECT count(*) FROM trimtab.validation_outputs") == 1


def test_pages_are_cut_by_their_bytes_and_have_one_trial_at_least(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = "A" * 4000, "eA=="
    final = finalising(service, large, small, small, large, small)
    one_small = len(outputs(small).model_dump_json())
    assert pages(service, final) == [[0, 1, 2, 3, 4]]
    monkeypatch.setattr(leases, "LARGEST_PAGE_BYTES", 2 * one_small)
    assert pages(service, final) == [[0], [1, 2], [3], [4]]
    monkeypatch.setattr(leases, "LARGEST_PAGE_BYTES", 2**20)
    monkeypatch.setattr(leases, "MOST_ON_A_PAGE", 2)
    assert pages(service, final) == [[0, 1], [2, 3], [4]]


def test_only_the_holder_of_a_final_lease_is_told(either: Service) -> None:
    either.study(budget={"trials": 3}, finish={"refit": True})
    lease = either.lease()
    with pytest.raises(Conflict, match="Only a final lease"):
        leases.outputs_page(either.context, lease.lease_id, 0)
    either.settle(lease, Completed(value=0.5, validation_outputs=outputs()))
    complete(either, 0.4, None)
    refit = either.lease()
    with pytest.raises(Conflict, match="Only a final lease"):
        leases.outputs_page(either.context, refit.lease_id, 0)
    either.settle(refit, Failed(error="oom"))
    final = either.lease()
    assert pages(either, final) == [[0]]
    either.drain(final)
    with pytest.raises(LeaseLost):
        leases.outputs_page(either.context, final.lease_id, 0)


def test_what_no_trial_answered_is_an_empty_page(service: Service) -> None:
    assert pages(service, finalising(service, None)) == [[]]


def test_what_another_study_answered_is_not_told(service: Service) -> None:
    service.study("other", budget={"trials": 1}, priority=900)
    complete(service, 0.5, outputs())
    other = service.lease()
    assert pages(service, finalising(service, "AA==")) == [[0]]
    page = leases.outputs_page(service.context, other.lease_id, 0)
    assert [one.outputs.body for one in page.trials] == ["eA=="]


def test_the_answers_go_with_their_study(service: Service) -> None:
    service.complete_final(finalising(service, "AA=="))
    studies.delete(service.context, "digits")
    assert service.value("SELECT count(*) FROM trimtab.validation_outputs") == 0


def test_a_refit_has_no_answers(service: Service) -> None:
    service.study(budget={"trials": 2}, finish={"refit": True})
    complete(service, 0.5, None)
    complete(service, 0.1, outputs())
    assert service.value("SELECT count(*) FROM trimtab.validation_outputs") == 0
