"""The data room: sources, splits with a sealed test set, and the cache of decoded pictures."""

from worker.data.cache import Split
from worker.data.loading import TaskData, load, open_test
from worker.data.merging import with_validation
from worker.data.seal import Seal, TestSplitSealed

__all__ = [
    "Seal",
    "Split",
    "TaskData",
    "TestSplitSealed",
    "load",
    "open_test",
    "with_validation",
]
