"""The resources of a training process, which all of its trials use."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from trimtab.contract.leases import Lease
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import FileTeacher
from worker import data, disk_cache
from worker.data import TaskData
from worker.data.roots import Roots
from worker.pipe_messages import RunTrial
from worker.runner.agent_channel import AgentChannel
from worker.runner.followers import Followers
from worker.runner.thread_counts import ThreadCounts
from worker.training.features.feature_cache import FeatureCache
from worker.training.features.statistics import KnownStatistics
from worker.training.model import backbones
from worker.training.model.backbone_cache import BackboneCache
from worker.training.model.user_backbones import OwnBackbones


@dataclass(frozen=True)
class Resources:
    """One device, and the caches that are kept from trial to trial.

    Attributes:
        channel: The channel to the agent.
        device: The device that all trials of this process are trained on.
        memory_bytes: The part of the device's memory that this process may use, in bytes.
        cache_dir: The folder for decoded data sets.
        features: The cache of what frozen layers make of data sets.
        own: The users' own backbones that this process knows.
        backbone_cache: The backbones that are kept between trials, with their pretrained weights.
        threads: The numbers of threads that work of this process is computed with.
        roots: The folders that studies may make this process read.
        cache_bytes: The bound of data, decoded samples and features on disk; None leaves a part of the disk free.
        download: Whether public data sets that are missing may be fetched from the network.
        statistics: The statistics of data sets that this process has computed.
        followers: The processes that train on further devices; None where this one trains alone.
    """

    channel: AgentChannel
    device: torch.device
    memory_bytes: int
    cache_dir: Path
    features: FeatureCache
    own: OwnBackbones
    backbone_cache: BackboneCache
    threads: ThreadCounts
    roots: Roots
    cache_bytes: int | None = None
    download: bool = False
    statistics: KnownStatistics = field(default_factory=KnownStatistics)
    followers: Followers | None = None

    def load(self, lease: Lease) -> TaskData:
        """Open the data that a lease's trial is trained on.

        Raises:
            DataError, BackboneError: The data set or the backbone that it names cannot be used on this worker.
        """
        loaded = data.load(
            lease.task,
            cache_dir=self.cache_dir,
            wanted=backbones.input_spec(lease.model, lease.recipe, self.own),
            few=lease.recipe.shots,
            download=self.download,
            roots=self.roots,
        )
        # What was decoded for it may be more than there was room for.
        disk_cache.collect(self.cache_dir.parent, self.cache_bytes)
        return loaded

    def admit(self, order: RunTrial) -> RunTrial:
        """Return an order whose files besides the data are named by their real paths, and fetched data by theirs.

        Raises:
            OutsideRoots: One of them may not be read.
        """
        lease, teacher = order.lease, order.teacher
        members = tuple(
            one.model_copy(update={"model": one.model and _admitted(one.model, self.roots)})
            for one in lease.members
        )
        lease = lease.model_copy(
            update={
                "model": _admitted(lease.model, self.roots),
                "members": members,
                "task": _fetched(lease.task, order.data),
            }
        )
        if teacher is not None and isinstance(lease.teacher, FileTeacher):
            teacher = self.roots.resolve(teacher)
        return order.model_copy(update={"lease": lease, "teacher": teacher})


def _admitted(model: Model, roots: Roots) -> Model:
    """Return a model whose file of weights is named by its real path."""
    if model.weights in ("default", "none"):
        return model
    return model.model_copy(update={"weights": str(roots.resolve(model.weights))})


def _fetched(task: Task, path: Path | None) -> Task:
    """Return a task whose data set is read where the agent has put it."""
    if path is None:
        return task
    dataset = task.dataset.model_copy(update={"path": str(path)})
    return task.model_copy(update={"dataset": dataset})
