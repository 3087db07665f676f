"""What is known of devices' memory: asked seldom, told without harm, and where it lets a training begin."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from trimtab.contract import problems
from trimtab.contract.memory import MemoryFinding, MemoryFindings
from worker.agent.memory_findings import ASK_AGAIN_S, Memory
from worker.runner.memory_watch import pictures_that_fit

FOUND = MemoryFinding(
    device="A100",
    memory_bytes=40,
    backbone="resnet50",
    input_size=224,
    precision="bfloat16",
    frozen_stages=1,
    batch_size=256,
    micro_batch_size=64,
)


def a_training(**changes: object) -> MemoryFinding:
    return FOUND.model_copy(update={"micro_batch_size": None, **changes})


class Service:
    """Remembers; away while `problem` is set."""

    def __init__(self, *findings: MemoryFinding) -> None:
        self.findings = list(findings)
        self.asked = 0
        self.problem: problems.Problem | None = None

    def memory(self, backbone: str) -> MemoryFindings:
        self.asked += 1
        if self.problem:
            raise self.problem
        return MemoryFindings(findings=tuple(self.findings))

    def remember_memory(self, lease_id: UUID, finding: MemoryFinding) -> None:
        if self.problem:
            raise self.problem
        self.findings.append(finding)


def test_a_batch_that_did_not_fit_begins_with_the_portion_that_did() -> None:
    assert pictures_that_fit([FOUND], a_training()) == 64
    smaller = FOUND.model_copy(update={"micro_batch_size": 32})
    assert pictures_that_fit([FOUND, smaller], a_training()) == 32


@pytest.mark.parametrize(
    "harder", [{"input_size": 300}, {"frozen_stages": 0}, {"memory_bytes": 24}]
)
def test_what_asks_for_more_begins_there_too(harder: dict[str, int]) -> None:
    assert pictures_that_fit([FOUND], a_training(**harder)) == 64


@pytest.mark.parametrize(
    "other",
    [
        {"device": "H100"},
        {"backbone": "resnet18"},
        {"precision": "float32"},
        {"input_size": 128},
        {"frozen_stages": 3},
        {"memory_bytes": 80},
        {"batch_size": 64},
    ],
)
def test_what_may_fit_is_tried_whole(other: dict[str, object]) -> None:
    assert pictures_that_fit([FOUND], a_training(**other)) is None


def test_a_batch_that_fitted_says_nothing_against_another() -> None:
    assert pictures_that_fit([a_training()], a_training(batch_size=512)) is None


def test_the_service_is_asked_once_in_a_while_for_each_backbone() -> None:
    now = 0.0
    service = Service(FOUND)
    memory = Memory(service, clock=lambda: now)
    assert memory.of("resnet50") == (FOUND,)
    assert memory.of("resnet50") == (FOUND,)
    assert service.asked == 1
    memory.of("resnet18")
    assert service.asked == 2
    now = ASK_AGAIN_S
    memory.of("resnet50")
    assert service.asked == 3


def test_what_this_worker_found_is_known_at_once() -> None:
    memory = Memory(Service())
    assert memory.of("resnet50") == ()
    memory.tell(uuid4(), FOUND)
    assert memory.of("resnet50") == (FOUND,)


def test_a_service_that_is_away_fails_nobody_for_it() -> None:
    service = Service()
    service.problem = problems.Unavailable("away")
    memory = Memory(service)
    assert memory.of("resnet50") == ()
    memory.tell(uuid4(), FOUND)
    assert memory.of("resnet50") == (FOUND,)


def test_of_two_that_want_to_know_at_once_one_asks() -> None:
    class Slow(Service):
        def memory(self, backbone: str) -> MemoryFindings:
            found = super().memory(backbone)
            if self.asked == 1:
                with ThreadPoolExecutor(1) as another:
                    another.submit(memory.of, backbone).result()
            return found

    service = Slow(FOUND)
    memory = Memory(service)
    assert memory.of("resnet50") == (FOUND,)
    assert service.asked == 1
