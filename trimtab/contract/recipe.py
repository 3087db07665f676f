"""Every hyperparameter that a worker understands: its type, default, legal range and meaning, written once."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.config import JsonDict

from trimtab.contract.datasets import Modality
from trimtab.contract.message import Int, Message, Number

Scope = Literal["head", "step", "network", "data"]
"""What of a training a hyperparameter changes: see `Recipe`."""
Resize = Literal["crop", "squash", "pad"]
"""What is done about pictures that are not square."""
Pooling = Literal["cls", "mean", "max"]
"""What stands for a text: the vector of its first token, or of all its tokens together."""


def _scope(scope: Scope, reads: Modality | None = None) -> JsonDict:
    """Mark a field; the words stand in its JSON schema."""
    return {"scope": scope} if reads is None else {"scope": scope, "reads": reads}


class Recipe(Message):
    """All that a worker needs to know to train one trial: a study's fixed values and the trial's sampled ones.

    No rule links two fields: every combination of legal values is a legal recipe, so that a sampler can
    never propose one that cannot be trained.

    Each field says once, in its JSON schema, what of a training it changes. A field that changes several has the last
    of these words that is true of it:

    - `head`: how weights move, and for how long: where the head alone is trained, how that learns. Trials that differ
      in nothing else have the same features, and one runner may train them at a time (`worker/grouping.py`).
    - `step`: what a step computes of a batch: its loss, and in how many parts. Trials that differ in this too have the
      same features, but share no runner; a step may be more than the plain one that is computed for several heads.
    - `network`: what the network is, which of its weights move and how they are tied to the pretrained ones, and the
      precision. What frozen stages make of a picture may differ, and no runner is shared.
    - `data`: which pictures are learned from, and how they look. Features are of other pictures, or not kept at all
      where pictures change from step to step; no runner is shared.
    """

    epochs: Int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Passes over the training split; the schedule's length.",
        json_schema_extra=_scope("head"),
    )
    batch_size: Int = Field(
        default=32,
        ge=1,
        le=65_536,
        description="Images in one optimizer step.",
        json_schema_extra=_scope("head"),
    )
    learning_rate: Number = Field(
        default=1e-3,
        gt=0,
        le=10,
        description="Peak learning rate, reached after the warm-up.",
        json_schema_extra=_scope("head"),
    )
    weight_decay: Number = Field(
        default=1e-4,
        ge=0,
        le=10,
        description="Pull of the weights towards zero: added to the gradient by sgd and adam, decoupled in "
        "adamw and muon; biases and normalisation layers are spared.",
        json_schema_extra=_scope("head"),
    )
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = Field(
        default="adamw",
        description="Update rule; sgd takes Nesterov's momentum, muon leaves the head, biases and normalisation "
        "layers to adamw.",
        json_schema_extra=_scope("head"),
    )
    momentum: Number = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="Momentum of sgd and muon; adam and adamw do not read it.",
        json_schema_extra=_scope("head"),
    )
    schedule: Literal["constant", "linear", "cosine", "one_cycle", "step"] = Field(
        default="cosine",
        description="Learning rate after the warm-up: kept, lowered to zero step by step until the last epoch ends, "
        "one cycle from a 25th of the peak up and down to a 10,000th, or lowered in steps.",
        json_schema_extra=_scope("head"),
    )
    step_epochs: Int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Epochs after which schedule step lowers the learning rate, again and again.",
        json_schema_extra=_scope("head"),
    )
    step_factor: Number = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Factor by which schedule step lowers the learning rate.",
        json_schema_extra=_scope("head"),
    )
    warmup_epochs: Number = Field(
        default=0.0,
        ge=0,
        le=10_000,
        description="Epochs (fractions allowed) in which the learning rate rises from zero to its peak; one_cycle "
        "takes 30 % of all epochs where it is 0.",
        json_schema_extra=_scope("head"),
    )
    warmup_share: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of all epochs in which the learning rate rises from zero to its peak; the longer of this and "
        "warmup_epochs counts.",
        json_schema_extra=_scope("head"),
    )
    clip_norm: Number = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Norm of all gradients together to which longer ones are shortened; 0 shortens none.",
        json_schema_extra=_scope("head"),
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="What convolutions and matrix products compute in: auto is bfloat16 where the device is built "
        "for it, else float16 on a GPU, else float32; what a device cannot do is done in float32.",
        json_schema_extra=_scope("network"),
    )
    frozen_stages: Int = Field(
        default=0,
        ge=0,
        le=1_000,
        description="Stages of the backbone, counted from the input, that keep their weights: 0 trains all; "
        "the backbone's number of stages or more trains the head alone.",
        json_schema_extra=_scope("network"),
    )
    unfreeze_every: Int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Epochs after which one more of the frozen stages is trained, the last one first; 0 keeps them frozen.",
        json_schema_extra=_scope("network"),
    )
    layer_decay: Number = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor on the learning rate for every stage further from the head.",
        json_schema_extra=_scope("network"),
    )
    head_learning_rate: Annotated[Number, Field(gt=0, le=10)] | None = Field(
        default=None,
        description="The head's own peak learning rate; null: learning_rate times head_factor.",
        json_schema_extra=_scope("head"),
    )
    head_factor: Number = Field(
        default=1.0,
        gt=0,
        le=1_000,
        description="Factor on the head's learning rate; where head_learning_rate is given, nothing reads it.",
        json_schema_extra=_scope("head"),
    )
    batch_norm: Literal["train", "frozen"] = Field(
        default="train",
        description="Statistics of batch normalisation in the stages that are trained: each batch's, or the "
        "pretrained ones; scale and shift are trained either way.",
        json_schema_extra=_scope("network", "image"),
    )
    lora_rank: Int = Field(
        default=0,
        ge=0,
        le=1_024,
        description="Rank of LoRA: in the stages that are trained, the weights of linear, convolution and attention "
        "layers move by products of two thin matrices and nothing else is trained; 0 trains everything.",
        json_schema_extra=_scope("network"),
    )
    lora_alpha: Number = Field(
        default=16.0,
        gt=0,
        le=10_000,
        description="Factor on the products of LoRA, divided by lora_rank.",
        json_schema_extra=_scope("network"),
    )
    l2_sp: Number = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Pull of the backbone's weights towards the pretrained ones, in place of weight_decay, which "
        "the head keeps; 0 pulls to zero by weight_decay.",
        json_schema_extra=_scope("network"),
    )
    early_stopping_patience: Int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Epochs without a better objective value after which training ends; 0 never ends it early.",
        json_schema_extra=_scope("head"),
    )
    early_stopping_min_gain: Number = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Gain in the objective value, in its own unit, that early stopping counts as better.",
        json_schema_extra=_scope("head"),
    )
    ema_decay: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the old in a moving average of the weights over the steps, which is what is measured "
        "and kept; 0 keeps the trained weights themselves.",
        json_schema_extra=_scope("head"),
    )
    swa_epochs: Int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Last epochs whose weights are averaged (stochastic weight averaging); 0 averages none.",
        json_schema_extra=_scope("head"),
    )
    adaptation_grid: Int = Field(
        default=0,
        ge=0,
        le=100,
        description="Points between the pretrained weights and the trained ones of which the best on the validation "
        "split is kept after each epoch (WiSE-FT); 0 keeps the trained ones.",
        json_schema_extra=_scope("network"),
    )
    micro_batch_size: Annotated[Int, Field(ge=1, le=65_536)] | None = Field(
        default=None,
        description="Images computed at once where a batch does not fit into memory: its gradients are accumulated; "
        "null: the whole batch, and less by itself when the device runs out of memory.",
        json_schema_extra=_scope("step"),
    )
    distillation_temperature: Number = Field(
        default=2.0,
        gt=0,
        le=100,
        description="By which the teacher's and the student's logits are divided before they are compared; "
        "without a teacher nothing reads it.",
        json_schema_extra=_scope("step"),
    )
    distillation_weight: Number = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the teacher in the loss, the labels having the rest; without a teacher nothing reads it.",
        json_schema_extra=_scope("step"),
    )
    image_size: Annotated[Int, Field(ge=8, le=1024)] | None = Field(
        default=None,
        description="Side in pixels of the square images; null: what the backbone's published weights were made "
        "for; glyphnet keeps small images that all have one side as they are.",
        json_schema_extra=_scope("data", "image"),
    )
    resize: Resize = Field(
        default="crop",
        description="How a picture that is not square becomes so: crop keeps its middle, squash changes its "
        "proportions, pad puts it on black.",
        json_schema_extra=_scope("data", "image"),
    )
    max_tokens: Annotated[Int, Field(ge=4, le=8192)] | None = Field(
        default=None,
        description="Word pieces of a text that are read, those that begin and end it included; null: 256, or as many as "
        "the model has positions for. What is longer is cut, and counted in the record.",
        json_schema_extra=_scope("data", "text"),
    )
    word_dropout: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability with which a training step reads a word piece as an unknown one.",
        json_schema_extra=_scope("data", "text"),
    )
    shots: Annotated[Int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Labelled pictures of each class that are learned from, always the same ones, those of fewer among "
        "those of more; null: all of the training split.",
        json_schema_extra=_scope("data"),
    )
    augmentation: Literal["none", "flip", "flip_crop", "trivial", "rand"] = Field(
        default="none",
        description="How training pictures are changed at random: mirrored; mirrored and shifted by up to an eighth; "
        "TrivialAugment; RandAugment of two operations.",
        json_schema_extra=_scope("data", "image"),
    )
    augmentation_strength: Number = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Of rand's operations; the others do not read it.",
        json_schema_extra=_scope("data", "image"),
    )
    mixup: Number = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Training pictures are blended in pairs, by a share drawn from Beta(mixup, mixup); 0: never.",
        json_schema_extra=_scope("data", "image"),
    )
    cutmix: Number = Field(
        default=0.0,
        ge=0,
        le=100,
        description="A box of each training picture comes from another, its area drawn from Beta(cutmix, cutmix); "
        "0: never; beside mixup a coin decides batch by batch.",
        json_schema_extra=_scope("data", "image"),
    )
    random_erasing: Number = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Probability with which a box of a training picture becomes noise.",
        json_schema_extra=_scope("data", "image"),
    )
    pooling: Pooling = Field(
        default="mean",
        description="What stands for a text before the head: cls takes the vector of its first token, mean and max those "
        "of all tokens.",
        json_schema_extra=_scope("network", "text"),
    )
    reinit_layers: Int = Field(
        default=0,
        ge=0,
        le=1_000,
        description="Last layers of a text model that begin with random weights, as far as they are trained.",
        json_schema_extra=_scope("network", "text"),
    )
    head: Literal["linear", "mlp"] = Field(
        default="linear",
        description="What follows the backbone's features: a linear layer, or one hidden layer before it.",
        json_schema_extra=_scope("network"),
    )
    head_width: Int = Field(
        default=256,
        ge=1,
        le=65_536,
        description="Units of the hidden layer of an mlp head.",
        json_schema_extra=_scope("network"),
    )
    head_activation: Literal["relu", "gelu", "silu"] = Field(
        default="relu",
        description="Activation of the hidden layer of an mlp head.",
        json_schema_extra=_scope("network"),
    )
    head_dropout: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability with which a training step drops an input of the head's last layer.",
        json_schema_extra=_scope("network"),
    )
    label_smoothing: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of each class label that is spread evenly over the classes (yes and no for a binary one).",
        json_schema_extra=_scope("step"),
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: each class weighs in the loss as if all were equally common in the training split.",
        json_schema_extra=_scope("step"),
    )
    regression_loss: Literal["mse", "huber"] = Field(
        default="mse",
        description="Loss of targets that are numbers: squared error, or Huber's.",
        json_schema_extra=_scope("step"),
    )
    huber_delta: Number = Field(
        default=1.0,
        gt=0,
        le=1_000,
        description="Error from which Huber's loss grows linearly, in standard deviations of the target.",
        json_schema_extra=_scope("step"),
    )
