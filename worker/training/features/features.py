"""What a training runs over: samples, or what the frozen beginning of its network makes of them, computed once."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.contract.recipe import Recipe
from worker.data import Split, TaskData
from worker.training.augment import augmentation
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import (
    PlacedSplit,
    autocast,
    by_length,
    dtype_of,
    put_back,
    row_batches,
)
from worker.training.device.threads import Attempt, computing_on
from worker.training.features import frozen_prefix
from worker.training.features.feature_cache import LIMIT_BYTES, FeatureCache
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing, state_of
from worker.training.model.halves import Halves
from worker.training.objective.evaluate import BATCH_SIZE

_FORMAT = 3
"""Part of every key: a change of how features are computed makes old ones invisible."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What every epoch goes over.

    Attributes:
        forward: The function from a batch of either split to its logits `(N, classes)`.
        train: The samples or features that are learned from.
        validation: The samples or features that trials are compared by; None where the task keeps none apart.
        layer: The linear layer that `forward` is, if no more than that is trained, on features in full precision.
    """

    forward: Callable[[Tensor], Tensor]
    train: PlacedSplit
    validation: PlacedSplit | None
    layer: nn.Linear | None = None

    def under(self, head: nn.Module) -> "Inputs":
        """Return the same features for another head."""
        layer = head if isinstance(head, nn.Linear) else None
        return Inputs(head, self.train, self.validation, layer)


def inputs_of(
    freezing: Freezing,
    data: TaskData,
    device: torch.device,
    *,
    cache: FeatureCache | None,
    each_batch: Callable[[], object],
) -> Inputs:
    """Compute what the frozen stages make of the data, or find it; else these are the samples.

    The arguments are those of `means_of`.
    """
    forward, place = means_of(freezing, data, device, cache=cache, each_batch=each_batch)
    train = place("train", data.train)
    validation = place("validation", data.validation) if len(data.validation) else None
    # Asked for again, the cut is the one that `means_of` has just made: the backbone remembers it.
    is_cut = train.full_precision
    halves = frozen_prefix.cut(freezing.model, freezing.still) if is_cut else None
    return Inputs(forward, train, validation, None if halves is None else halves.layer)


def means_of(
    freezing: Freezing,
    data: TaskData,
    device: torch.device,
    *,
    cache: FeatureCache | None,
    each_batch: Callable[[], object],
) -> tuple[Callable[[Tensor], Tensor], Callable[[str, Split], PlacedSplit]]:
    """Return what a training computes logits with, and what it computes them from: a split, by its name.

    A split becomes what the frozen stages make of it. It stays as it is where nothing is frozen, where what frozen
    stages make of a sample changes from step to step, and where the features would take more than the cache may hold.

    The features are the same bits whether they are computed or found, with a cache or without: they are computed
    in batches of `evaluate`'s size, in the order of the split. Only a device that runs out of memory computes them
    in smaller ones.

    Args:
        freezing: The network, which is on `device` and frozen for the first epoch, and the training's recipe.
        data: The task's samples.
        device: The device that computes the features.
        cache: Keeps the features; None keeps them in memory.
        each_batch: Called before every batch.
    """
    model, recipe, still = freezing.model, freezing.recipe, freezing.still
    limit = LIMIT_BYTES if cache is None else cache.limit_bytes
    freezing.training_mode()
    halves = None if _inputs_change(data, recipe) else frozen_prefix.cut(model, still)
    # Without a cache the features lie in memory, so that the limit of the disk is a limit there too. Early stages make
    # maps that are many times as large as the pictures: to compute those again is better than to read them.
    if halves is None or _bytes_of(halves, model, data, device, recipe.precision) > limit:
        return model, lambda _, split: PlacedSplit(
            split, device, lengths=model.input.lengths(torch.from_numpy(split.inputs))
        )

    def place(part: str, split: Split) -> PlacedSplit:
        def make() -> Tensor:
            return _compute(halves, model, split, device, recipe.precision, each_batch)

        if cache is None or not data.key:
            found = make()
        else:
            found = cache.get(key(freezing, data, device, part), make)
        # Where all stages are frozen, what is left is a small layer on vectors. To cast its inputs and its weights at
        # every step would cost more than half precision saves, and float32 is what `HeadStack` computes in.
        if found.dim() == 2 and still >= len(model.stages):
            return PlacedSplit(split, device, found.float(), full_precision=True)
        # What stands for a sample is still as long as the sample is.
        lengths = (
            model.input.lengths(torch.from_numpy(split.inputs)) if found.dim() > 2 else None
        )
        return PlacedSplit(split, device, found, lengths=lengths)

    return halves.rest, place


def attempt(freezing: Freezing, data: TaskData, device: torch.device) -> Attempt | None:
    """Return a function that computes one batch of features on a number of threads; None where it would tell nothing.

    It tells nothing on a GPU, and where no features are kept.

    Args:
        freezing: The network, which is on `device` and frozen for the first epoch, and the training's recipe.
        data: The task's samples.
        device: The device that computes the features.
    """
    if device.type != "cpu" or _inputs_change(data, freezing.recipe):
        return None
    freezing.training_mode()
    halves = frozen_prefix.cut(freezing.model, freezing.still)
    if halves is None:
        return None
    model, stored = freezing.model, torch.from_numpy(data.train.inputs[:BATCH_SIZE])

    def compute(threads: int) -> float:
        model.eval()
        with (
            computing_on(threads),
            torch.no_grad(),
            autocast(device, freezing.recipe.precision),
        ):
            began = time.perf_counter()
            halves.kept(model.input(stored))
            return time.perf_counter() - began

    return compute


def _inputs_change(data: TaskData, recipe: Recipe) -> bool:
    """Whether the frozen stages see a sample differently at each step."""
    return augmentation.is_wanted(recipe, data.modality)


def key(freezing: Freezing, data: TaskData, device: torch.device, part: str) -> str:
    """Return all that the features of a split depend on, as text.

    Args:
        freezing: The network with its input layer, what of it stays as it was, and the recipe's precision.
        data: Data whose own `key` is known.
        device: The device that computes the features.
        part: Name of the split.
    """
    # Not in the key: the head, the seed, the learning rate, and all else that only the trained part depends on. This
    # is why trials that differ in those share their features.
    model, still = freezing.model, freezing.still
    facts: dict[str, object] = {
        "format": _FORMAT,
        **machine(device, freezing.recipe.precision),
        "backbone": model.name,
        "code": model.code,
        "frozen_stages": still,
        "weights": digest(model, still),
        "input": model.input.card().model_dump(),
        "data": data.key,
        "part": part,
    }
    if model.shape is not None:
        facts["network"] = [model.shape.model_dump(), model.pooling]
    return json.dumps(facts)


def machine(device: torch.device, precision: str) -> dict[str, object]:
    """Return all that the same computation's bits depend on; on a CPU, the number of threads orders the sums."""
    cpu = device.type == "cpu"
    kind = (
        torch.cpu.get_capabilities()["cpu_name"] if cpu else torch.cuda.get_device_name(device)
    )
    return {
        "torch": torch.__version__,
        "device": [device.type, kind, torch.get_num_threads() if cpu else 0],
        "precision": str(dtype_of(precision, device)),
    }


def digest(model: Backbone, frozen_stages: int, *, remember: bool = True) -> str:
    """Return the sha256 of the frozen weights; remembered where the model's maker vouches for them (`digests`).

    Args:
        model: The model.
        frozen_stages: The number of its stages whose weights are asked about.
        remember: Without it the weights are looked at anew: they are not all as they were loaded.

    The name of a file would not do: it may be replaced, and random weights have no file. The values are hashed, so
    that features belong to exactly the weights that made them.
    """
    known = model.digests if remember and model.digests is not None else {}
    if frozen_stages not in known:
        seen = hashlib.sha256()
        # With shapes and types, since the bytes of two tensors in a row could also be those of two others.
        for name, value in state_of(model, frozen_stages, frozen=True).items():
            seen.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            # As a network lies that is trained: to lay it out otherwise takes half as long as the hash.
            plain = value.detach().cpu()
            plain = plain.permute(0, 2, 3, 1) if plain.dim() == 4 else plain
            seen.update(plain.contiguous().flatten().view(torch.uint8).numpy().data)
        known[frozen_stages] = seen.hexdigest()
    return known[frozen_stages]


def _compute(
    halves: Halves,
    model: Backbone,
    split: Split,
    device: torch.device,
    precision: str,
    each_batch: Callable[[], object],
) -> Tensor:
    """Compute the features of all samples, also of those that this training does not see: others will."""
    # Evaluation mode, also where the training will not freeze a normalisation: all of this part is frozen.
    model.eval()
    kept: list[Tensor] = []
    micro_batches = MicroBatches()
    stored = torch.from_numpy(split.inputs)

    def compute(batch: Tensor) -> Tensor:
        return halves.kept(model.input(batch.to(device))).cpu()

    with torch.no_grad(), autocast(device, precision):
        # Which kernel a library takes depends on the batch, and with it the last bits. In `evaluate`'s batches the
        # features are those that a validation without a cache would compute.
        order = by_length(len(stored), model.input.lengths(stored))
        for rows in row_batches(order, BATCH_SIZE):
            each_batch()
            kept += micro_batches.each(stored.index_select(0, rows), compute)
    return put_back(_of_one_shape(kept), order) if halves.marks_padding else torch.cat(kept)


def _of_one_shape(kept: Sequence[Tensor]) -> list[Tensor]:
    """Pad what was computed of batches of different lengths, `(n, l, F)`, to the longest; vectors are left as they are."""
    if kept[0].dim() < 3:
        return list(kept)
    longest = max(one.shape[1] for one in kept)
    return [functional.pad(one, (0, 0, 0, longest - one.shape[1])) for one in kept]


def _bytes_of(
    halves: Halves, model: Backbone, data: TaskData, device: torch.device, precision: str
) -> int:
    """Return the bytes that the features of both splits take; one sample is computed, once for each cut."""
    looks = (*data.train.inputs.shape[1:], precision)
    if looks not in halves.bytes_each:
        one = np.ascontiguousarray(data.train.inputs[:1])
        model.eval()
        with torch.no_grad(), autocast(device, precision):
            kept = halves.kept(model.input(torch.from_numpy(one).to(device)))
        longer = one.shape[1] if halves.marks_padding and kept.dim() > 2 else 0
        halves.bytes_each[looks] = (
            kept.nbytes // kept.shape[1] * longer if longer else kept.nbytes
        )
    return halves.bytes_each[looks] * (len(data.train.inputs) + len(data.validation.inputs))
