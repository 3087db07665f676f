"""Our side of `./run bench replay`: what the whole service does with a study, and what its sampling room does alone."""

from pathlib import Path

import pytest

from service.storage.engine import Database
from tests.benchmarks.replay_ours import SEARCHES, OfRoom, OfService
from tests.benchmarks.replay_simulator import replay
from tests.benchmarks.replay_tasks import Curve, Point, Task, rising
from trimtab.contract.search_space import FloatRange, IntRange

EPOCHS = 6


def a_curve(point: Point, _seed: int) -> Curve:
    rate, batch = float(point["learning_rate"] or 0), float(point["batch_size"] or 0)
    final = 1 - abs(rate - 0.3) - batch / 1000
    told = rising(final, 1 + rate, EPOCHS).tolist()
    return Curve(told, told)


TASK = Task(
    "a task",
    {
        "learning_rate": FloatRange(kind="float", low=0.0001, high=1.0),
        "batch_size": IntRange(kind="int", low=1, high=64, log=True),
    },
    EPOCHS,
    a_curve,
)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_room_alone_searches_as_the_whole_service_does(
    name: str, workers: int, database: Database, tmp_path: Path
):
    search = SEARCHES[name]
    service, room = (
        OfService(database, tmp_path, TASK, search, workers=workers, seed=5),
        OfRoom(TASK, search, seed=5),
    )
    ours, its = (
        replay(side, TASK, workers=workers, full_runs=24 / workers, restart=0.0, seed=5)
        for side in (service, room)
    )
    assert ours.begun > 20
    assert (ours.better, ours.begun, ours.completed) == (its.better, its.begun, its.completed)
    assert service.points == room.points
