"""What every trial of a training process works on."""

from dataclasses import dataclass
from pathlib import Path

import torch

from trimtab.contract.leases import Lease
from worker import data
from worker.agent_line import AgentLine
from worker.data import TaskData
from worker.training import backbones
from worker.training.feature_cache import FeatureCache
from worker.training.own_backbones import OwnBackbones
from worker.training.shelf import Shelf


@dataclass(frozen=True)
class Bench:
    """One device, and what is kept warm for it.

    Attributes:
        line: To the agent.
        memory_bytes: Of the device, our share.
        cache_dir: Of decoded data sets.
        download: Whether public data sets that are not there may be fetched.
    """

    line: AgentLine
    device: torch.device
    memory_bytes: int
    cache_dir: Path
    features: FeatureCache
    own: OwnBackbones
    shelf: Shelf
    download: bool = False

    def load(self, lease: Lease) -> TaskData:
        """Open what a lease's trial trains on.

        Raises:
            DataError, BackboneError: What it asks for is not to be had here.
        """
        return data.load(
            lease.task,
            cache_dir=self.cache_dir,
            image_size=backbones.image_size(lease.model, lease.recipe, self.own),
            few=lease.recipe.shots,
            download=self.download,
        )
