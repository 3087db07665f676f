"""What can go wrong in training; `kind` is how a trial that meets it fails.

Interrupted                    no error: whoever trains asked to leave between two batches
TrainingError
├── Diverged                   a loss that is not finite
├── RecipeUnfit                a recipe that the backbone cannot compute
├── NoUnknownWord              words to drop, in a vocabulary without an unknown one
├── LayersShared               last layers to draw anew, in a model that has one for all
├── TooManyTokens              a recipe that reads more of a text than the backbone has positions for
├── NothingToChooseBy          a recipe that chooses by a validation split that there is not
├── MemoryUntold               a bound on memory, on a device that does not tell its own
├── WeightsError
│   ├── WeightsMissing         no such file
│   ├── WeightsUnavailable     published weights that can be neither found nor downloaded
│   ├── WeightsUnpublished     the published weights of a backbone that has none
│   ├── WeightsUnreadable      a corrupt file, or one of other things than tensors
│   ├── WeightsUnfit           nothing in the file fits the backbone
│   ├── WeightsNotFinite       weights with infinities or without numbers
│   ├── WeightsOfSeveral       several models in one file
│   ├── TextModelMissing       no folder of an encoder
│   ├── TextModelUnreadable    a folder of an encoder that lacks a part
│   ├── TextModelUnfit         parts that do not belong together, or a network that is not known
│   └── WeightsPartial         too little in the file fits the backbone
├── BackboneError
│   ├── BackbonesUnreadable    a file of own backbones that is missing, raises or offers none
│   ├── BackboneMissing        an own backbone that is not registered here
│   ├── BackboneUnknown        a name that the installed library does not know
│   ├── LibraryMissing         a backbone of a library that is not installed here
│   └── BackboneUnfit          what is registered is no network for the task
├── TeacherError
│   ├── TeacherMissing         no such file
│   └── TeacherUnfit           a teacher of other classes
├── ModelUnreadable            a file that is no exported model
├── MembersUnlike              models that cannot be averaged
└── CheckpointError
    ├── CheckpointMissing      one that could not be fetched
    ├── CheckpointUnreadable   a corrupt file
    └── CheckpointIncompatible another model's or optimizer's state
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from trimtab.contract.trials import FailureKind

_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device, or the machine, had no memory left for a computation.

    `torch.OutOfMemoryError` is a RuntimeError, and so is what the CPU's allocator and the libraries raise.
    """
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


class Interrupted(Exception):
    """Leaves a training between two batches; raised by `each_batch`. The state then says how far the epoch is."""


class TrainingError(Exception):
    """A training that cannot begin or go on."""

    kind: ClassVar[FailureKind] = "user_error"


class Diverged(TrainingError):
    """The loss is infinite or not a number."""

    kind: ClassVar[FailureKind] = "diverged"

    def __init__(self, epoch: int, split: str) -> None:
        super().__init__(
            f"the {split} loss is not finite in epoch {epoch}; a lower learning rate or a longer warm-up may help"
        )
        self.epoch = epoch


class RecipeUnfit(TrainingError):
    """The recipe asks for what the backbone cannot compute; another one of the same study may do."""

    kind: ClassVar[FailureKind] = "recipe_unfit"

    def __init__(self, backbone: str, side: int, reason: str) -> None:
        super().__init__(
            f"{backbone} does not take pictures of {side} x {side} pixels, which the recipe asks for ({reason}); leave "
            "such an image_size out, or say `one_size` of a backbone that takes one alone"
        )


class TooManyTokens(TrainingError):
    """The recipe reads more word pieces than the backbone has positions for."""

    kind: ClassVar[FailureKind] = "recipe_unfit"

    def __init__(self, folder: Path, wanted: int, positions: int) -> None:
        super().__init__(
            f"max_tokens is {wanted}, and {folder} has positions for {positions}: set it to {positions} or less"
        )


class LayersShared(TrainingError):
    """The recipe draws the last layers anew, and the model has one layer that is passed several times."""

    kind: ClassVar[FailureKind] = "recipe_unfit"

    def __init__(self, backbone: str) -> None:
        super().__init__(
            f"reinit_layers draws the last layers anew, and those of this {backbone} share their weights: set it to 0"
        )


class NoUnknownWord(TrainingError):
    """The recipe drops words, and the vocabulary has no word piece for unknown ones."""

    kind: ClassVar[FailureKind] = "recipe_unfit"

    def __init__(self) -> None:
        super().__init__(
            "word_dropout reads words as unknown ones, and the tokenizer has no such word piece: set it to 0"
        )


class NothingToChooseBy(TrainingError):
    """The recipe chooses by the validation split, and this training has none."""

    kind: ClassVar[FailureKind] = "recipe_unfit"

    def __init__(self) -> None:
        super().__init__(
            "adaptation_grid keeps the point that is best on the validation split, and this training learns from that "
            "split: give it the point that its trial has kept (`adaptation_weight`)"
        )


class TooMuchAtOnce(TrainingError):
    """Memory that was too little for several trainings together may be enough for each of them alone."""

    kind: ClassVar[FailureKind] = "crashed"

    def __init__(self, trainings: int) -> None:
        super().__init__(f"there was no memory for {trainings} heads at a time")


class MemoryUntold(TrainingError):
    """A study asks for the memory that a training takes, and the device does not tell it."""

    def __init__(self, device: str) -> None:
        super().__init__(
            f"the study names memory_bytes, and {device} does not tell how much memory a training takes; start a worker on "
            "a CUDA device, or take memory_bytes out of the study's constraints and objectives"
        )


class WeightsError(TrainingError):
    """The model's weights cannot be had."""


class WeightsMissing(WeightsError):
    """There is no such weights file."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: there is no such weights file on this worker; put it there or correct `model.weights`"
        )
        self.path = path


class WeightsUnavailable(WeightsError):
    """Published weights that are not in the cache and cannot be downloaded."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, backbone: str, url: str, path: Path, reason: str) -> None:
        super().__init__(
            f"the weights of {backbone} are not at {path}, and {url} cannot be downloaded ({reason}); "
            f"fetch {path.name} elsewhere and put it there, or set `model.weights` to none or to a path"
        )
        self.url = url
        self.path = path


class WeightsUnpublished(WeightsError):
    """Published weights of a backbone for which a library names none."""

    def __init__(self, backbone: str, library: str) -> None:
        super().__init__(
            f"{library} names no published weights of {backbone}: set `model.weights` to a path, or to none for random ones"
        )


class WeightsUnreadable(WeightsError):
    """A weights file that is corrupt or holds more than tensors."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: no weights can be read from it ({reason})")
        self.path = path


class WeightsUnfit(WeightsError):
    """Weights of another network."""

    def __init__(self, source: str, backbone: str) -> None:
        super().__init__(
            f"{source}: none of its tensors has the name and shape of one of {backbone}; is it another network's?"
        )


class WeightsNotFinite(WeightsError):
    """Weights that hold infinities or no numbers, with which every training diverges at once."""

    def __init__(self, source: str, tensors: Sequence[str]) -> None:
        super().__init__(
            f"{source}: {len(tensors)} of its tensors hold values that are not finite, such as {tensors[0]}; the training "
            "that saved it had diverged, or its numbers did not fit the precision: take an earlier or another file"
        )


class WeightsOfSeveral(WeightsError):
    """A file that holds several models, none of which training could begin from rather than another."""

    def __init__(self, path: Path, models: int) -> None:
        super().__init__(
            f"{path} holds {models} models whose probabilities are averaged, and a training begins from one: "
            "name the file of a single model, or let this one teach (`teacher`)"
        )


class TextModelMissing(WeightsError):
    """There is no such folder of a published encoder."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder}: there is no such folder on this worker, and a name of a hub is not fetched: download the model "
            "elsewhere and put its folder there, or correct `model.weights`"
        )


class TextModelUnreadable(WeightsError):
    """A folder of a published encoder that lacks a part, or a part that cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: no model for texts can be read from it ({reason}); `model.weights` is a folder as it is published, "
            "with config.json, model.safetensors or pytorch_model.bin, and tokenizer.json or vocab.txt"
        )
        self.path = path


class TextModelUnfit(WeightsError):
    """A folder whose parts do not belong together, or whose network is not known here."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder}: this model for texts cannot be used: {reason}")


class WeightsPartial(WeightsError):
    """Weights of which too little fits the backbone to call it pretrained.

    Args:
        backbone: The name of the backbone.
        share: The share of the backbone that they fit.
        told: The numbers and names of the tensors that fit and that do not.
    """

    def __init__(self, backbone: str, share: float, told: str) -> None:
        super().__init__(
            f"the weights are those of {int(100 * share)} % of {backbone}, and 90 % are needed: {told}; name the backbone "
            "that the file was made for, or set `model.partial_weights: true` to begin with what fits"
        )
        self.share = share


class BackboneError(TrainingError):
    """A person's own backbone cannot be had."""


class BackbonesUnreadable(BackboneError):
    """A file of own backbones that is missing, raises or offers none."""

    def __init__(self, origin: Path | str, reason: str) -> None:
        super().__init__(f"{origin}: no backbones can be read from it ({reason})")


class BackboneMissing(BackboneError):
    """An own backbone that is not registered: on a worker, or where a person predicts."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, backbone: str, registered: Sequence[str]) -> None:
        known = ", ".join(registered) or "none"
        super().__init__(
            f"{backbone} is not registered here (registered: {known}); give `trimtab worker start` or `predict` "
            "--backbones FILE, or set TRIMTAB_BACKBONES=FILE: a Python file that has a function of this name which "
            "takes the number of classes and returns the network"
        )


class BackboneUnknown(BackboneError):
    """A name that the library on this worker does not know."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, backbone: str, library: str, nearest: Sequence[str]) -> None:
        super().__init__(
            f"{library} has no model {backbone}; the nearest: {', '.join(nearest) or 'none'}; correct `model.backbone`, "
            "or install a release that has it on a worker"
        )


class LibraryMissing(BackboneError):
    """A backbone of a library that is not installed: on a worker, or where a person predicts."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, backbone: str, library: str, extra: str) -> None:
        super().__init__(
            f"{backbone} needs {library}, which is not installed here: pip install 'trimtab[{extra}]' on this machine"
        )


class BackboneUnfit(BackboneError):
    """What is registered under a name is no network for the task."""

    def __init__(self, backbone: str, reason: str) -> None:
        super().__init__(f"{backbone} cannot be used: {reason}")


class TeacherError(TrainingError):
    """There is nobody to learn from."""


class TeacherMissing(TeacherError):
    """There is no such model file."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: there is no such model on this worker; put it there or correct `teacher.path`"
        )


class TeacherUnfit(TeacherError):
    """A teacher of something else than the student's classes."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot teach this task: {reason}")


class ModelUnreadable(TrainingError):
    """A missing, corrupt or foreign model file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: no model can be read from it ({reason})")
        self.path = path


class MembersUnlike(TrainingError):
    """Models whose probabilities cannot be averaged, since they do not mean the same."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"model {number} cannot be averaged with the first one: {reason}")


class CheckpointError(TrainingError):
    """A training state that cannot be resumed from."""

    kind: ClassVar[FailureKind] = "checkpoint_corrupt"


class CheckpointMissing(CheckpointError):
    """A checkpoint that the service no longer has, or that could not be fetched."""

    def __init__(self) -> None:
        super().__init__("it could not be fetched from the service")


class CheckpointUnreadable(CheckpointError):
    """A corrupt or foreign checkpoint file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: not a readable checkpoint ({reason})")
        self.path = path


class CheckpointIncompatible(CheckpointError):
    """A sound checkpoint of another model, optimizer or release."""
