"""What every trial of a training process works on."""

from dataclasses import dataclass
from pathlib import Path

import torch

from trimtab.contract.leases import Lease
from worker import data
from worker.data import TaskData
from worker.runner.agent_channel import AgentChannel
from worker.training.features.feature_cache import FeatureCache
from worker.training.model import backbones
from worker.training.model.backbone_cache import BackboneCache
from worker.training.model.user_backbones import OwnBackbones


@dataclass(frozen=True)
class Resources:
    """One device, and what is kept warm for it.

    Attributes:
        channel: To the agent.
        memory_bytes: Our share of the device's memory.
        cache_dir: Keeps decoded data sets.
        download: Whether public data sets that are not there may be fetched.
    """

    channel: AgentChannel
    device: torch.device
    memory_bytes: int
    cache_dir: Path
    features: FeatureCache
    own: OwnBackbones
    backbone_cache: BackboneCache
    download: bool = False

    def load(self, lease: Lease) -> TaskData:
        """Open what a lease's trial trains on.

        Raises:
            DataError, BackboneError: What it asks for is not to be had here.
        """
        return data.load(
            lease.task,
            cache_dir=self.cache_dir,
            wanted=backbones.input_spec(lease.model, lease.recipe, self.own),
            few=lease.recipe.shots,
            download=self.download,
        )
