"""Requests at the same moment, on two replicas."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from trimtab.contract.problems import Problem, Unavailable


@dataclass(frozen=True)
class Replicas:
    """Two services with a pool and a memory of their own, over the same database."""

    one: Service
    two: Service

    def alternate(self, count: int) -> Sequence[Service]:
        """So many services: one, two, one, ..."""
        return [(self.one, self.two)[n % 2] for n in range(count)]

    def assert_intact(self) -> None:
        """No invariant is broken."""
        assert broken(self.one.context.database) == {}


def at_once(*verbs: Callable[[], Any]) -> list[Any]:
    """Run the verbs in threads that start together; what each answered, or the problem that it raised."""
    barrier = threading.Barrier(len(verbs))
    answers: list[Any] = [None] * len(verbs)

    def run(index: int, verb: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            answers[index] = verb()
        except Exception as error:  # noqa: BLE001 - judged below
            answers[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(verbs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, Problem):
            raise answer
    assert not any(isinstance(answer, Unavailable) for answer in answers), answers
    return answers
