"""How a trial ends in the runner's hands, whatever happens in it."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.support.leases import a_lease
from trimtab.contract.leases import Failed
from worker.pipe_messages import Ended, RunTrial
from worker.runner.ending import TrialEnding
from worker.runner.progress import Cancelled
from worker.training.errors import Diverged


def words_after(error: Exception, folder: Path) -> tuple[Ended, Any]:
    """What the agent is told when a part of a trial raises this, and the bench afterwards."""
    resources = Mock()
    ending = TrialEnding(resources, RunTrial(lease=a_lease(), folder=folder))
    with ending.guard():
        raise error
    assert ending.has_ended
    (told,) = [call.args[0] for call in resources.channel.say.call_args_list]
    return told, resources


def test_a_word_to_end_is_no_failure_of_the_trial(tmp_path: Path) -> None:
    told, _ = words_after(Cancelled(), tmp_path)
    assert told.outcome == Failed(error="cancelled")


def test_what_went_wrong_is_told_by_its_kind(tmp_path: Path) -> None:
    told, _ = words_after(Diverged(3, "training"), tmp_path)
    assert isinstance(told.outcome, Failed)
    assert told.outcome.error == "diverged"


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Diverged(3, "training"), True),
        (Cancelled(), True),
        (RuntimeError("nobody foresaw this"), False),
        (MemoryError(), False),
        (OSError("the disk is gone"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_kept_backbone_goes_only_where_it_may_be_damaged(
    error: Exception, kept: bool, tmp_path: Path
) -> None:
    _, resources = words_after(error, tmp_path)
    assert resources.backbone_cache.clear.called is not kept
