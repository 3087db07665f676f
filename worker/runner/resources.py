"""The resources of a training process, which all of its trials use."""

from dataclasses import dataclass
from pathlib import Path

import torch

from trimtab.contract.leases import Lease
from worker import data
from worker.data import TaskData
from worker.runner.agent_channel import AgentChannel
from worker.runner.thread_counts import ThreadCounts
from worker.training.features.feature_cache import FeatureCache
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
        download: Whether public data sets that are missing may be fetched from the network.
    """

    channel: AgentChannel
    device: torch.device
    memory_bytes: int
    cache_dir: Path
    features: FeatureCache
    own: OwnBackbones
    backbone_cache: BackboneCache
    threads: ThreadCounts
    download: bool = False

    def load(self, lease: Lease) -> TaskData:
        """Open the data that a lease's trial is trained on.

        Raises:
            DataError, BackboneError: The data set or the backbone that it names cannot be used on this worker.
        """
        return data.load(
            lease.task,
            cache_dir=self.cache_dir,
            wanted=backbones.input_spec(lease.model, lease.recipe, self.own),
            few=lease.recipe.shots,
            download=self.download,
        )
