"""The data room: sources, splits with a sealed test set, and the cache of decoded pictures."""

from worker.data.cache import Split
from worker.data.loading import TaskData, load, open_test

__all__ = ["Split", "TaskData", "load", "open_test"]
