"""What people do to studies in flight."""

import time
from collections.abc import Callable
from typing import Any

from tests.faults.cluster import until
from tests.faults.stage import Stage
from trimtab.contract import problems
from trimtab.contract.search_space import FloatRange


def pause_study(stage: Stage) -> str:
    name = stage.study("active")
    if name is not None and _changed(lambda: stage.operator.pause(name)):
        time.sleep(stage.chance.uniform(0.2, 2))
        _changed(lambda: stage.operator.resume(name))
    return name or "none"


def stop_study(stage: Stage) -> str:
    name = stage.study("active")
    if name is not None:
        _changed(lambda: stage.operator.stop(name))
    return name or "none"


def cancel_study(stage: Stage) -> str:
    name = stage.study("active", "finalising")
    if name is not None:
        _changed(lambda: stage.operator.cancel(name))
    return name or "none"


def delete_study(stage: Stage) -> str:
    """Cancel, and delete as soon as nothing runs; refused while something does."""
    name = stage.study("active")
    if name is not None and _changed(lambda: stage.operator.cancel(name)):
        until(lambda: _changed(lambda: stage.operator.delete(name)), 10, every_s=0.2)
    return name or "none"


def edit_space(stage: Stage) -> str:
    """Leave the largest learning rates out from now on; refused while a trial with one has not ended."""
    name = stage.study("active")
    if name is not None:
        _changed(lambda: _narrow(stage, name))
    return name or "none"


def _narrow(stage: Stage, name: str) -> None:
    space = dict(stage.operator.study(name).document.space)
    rate = space["learning_rate"]
    assert isinstance(rate, FloatRange)
    space["learning_rate"] = rate.model_copy(
        update={"high": rate.low * (rate.high / rate.low) ** 0.6}
    )
    stage.operator.edit_study(name, space=space)


def _changed(change: Callable[[], Any]) -> bool:
    try:
        change()
    except (problems.Conflict, problems.Invalid, problems.NotFound, problems.Unavailable):
        return False
    return True
