"""Training pictures changed at random: what each option does, and that a seed repeats it."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.augment import augmentation
from worker.training.augment.augmentation import Augmentation, Batch
from worker.training.features import features
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model.freezing import Freezing
from worker.training.objective.objectives import Classification

EVERY: tuple[Mapping[str, Any], ...] = (
    {"augmentation": "flip"},
    {"augmentation": "flip_crop"},
    {"augmentation": "trivial"},
    {"augmentation": "rand", "augmentation_strength": 0.7},
    {"mixup": 0.4},
    {"cutmix": 1.0},
    {"mixup": 0.4, "cutmix": 1.0},
    {"random_erasing": 0.5},
)
LABELS = torch.arange(40) % 3
OBJECTIVE = Classification("accuracy", "maximize")


def _pictures(channels: int = 3, count: int = 40, side: int = 16) -> Tensor:
    random = torch.Generator().manual_seed(1)
    shape = (count, side, side, channels)
    return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)


def _made(**recipe: Any) -> Augmentation:
    made = augmentation.of(Recipe.model_validate(recipe), "image")
    assert made is not None
    return made


def _batch(seed: int, images: Tensor, **recipe: Any) -> Batch:
    torch.manual_seed(seed)
    return _made(**recipe)(images, LABELS[: len(images)])


def test_nothing_is_changed_unless_something_is_asked_for() -> None:
    assert augmentation.of(Recipe(), "image") is None
    assert augmentation.of(Recipe(augmentation_strength=1.0), "image") is None


@pytest.mark.parametrize("asked", [{"augmentation": "flip"}, {"mixup": 1.0}])
def test_what_is_no_picture_is_not_changed(asked: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(asked)
    assert augmentation.of(recipe, "image") is not None
    assert augmentation.of(recipe, "text") is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("recipe", EVERY)
def test_the_same_seed_changes_the_same_pictures_alike_and_leaves_the_originals(
    recipe: Mapping[str, Any], channels: int
) -> None:
    images = _pictures(channels)
    before = images.clone()
    one, again, other = (_batch(seed, images, **recipe) for seed in (0, 0, 1))
    assert torch.equal(images, before)
    assert (one.inputs.shape, one.inputs.dtype) == (images.shape, torch.uint8)
    assert torch.equal(one.inputs, again.inputs)
    assert not torch.equal(one.inputs, other.inputs)
    assert not torch.equal(one.inputs, images)


def test_flipping_mirrors_about_half_of_the_pictures_and_does_nothing_else() -> None:
    images = _pictures()
    changed = _batch(0, images, augmentation="flip").inputs
    mirrored = [torch.equal(new, old.flip(1)) for new, old in zip(changed, images, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30


def test_cropping_is_a_crop_of_the_picture_padded_with_its_mirror_image() -> None:
    images = _pictures(side=16)
    torch.manual_seed(3)
    changed = augmentation.cropped(images)
    padded = functional.pad(images.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect")
    padded = padded.permute(0, 2, 3, 1).to(torch.uint8)
    offsets: set[tuple[int, int]] = set()
    for new, whole in zip(changed, padded, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(new, whole[y : y + 16, x : x + 16])
        ]
        assert len(found) == 1
        offsets.update(found)
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(5))


def test_trivial_augment_takes_one_operation_a_picture_and_leaves_some_alone() -> None:
    images = _pictures(count=40)
    changed = _batch(0, images, augmentation="trivial").inputs
    kept = sum(torch.equal(new, old) for new, old in zip(changed, images, strict=True))
    assert 0 < kept < 15


def test_rand_augment_of_no_strength_does_only_what_has_no_amount() -> None:
    images = _pictures(count=40)
    # Stretched and flat already: neither autocontrast nor equalizing can change them much.
    weak, strong = (
        _batch(0, images, augmentation="rand", augmentation_strength=strength).inputs
        for strength in (0.0, 1.0)
    )
    by_weak, by_strong = (
        (changed.int() - images.int()).abs().float().mean() for changed in (weak, strong)
    )
    assert by_weak < 2
    assert by_strong > 20


def test_mixup_blends_pictures_and_labels_by_the_same_share() -> None:
    images = _pictures(count=3)
    images[0], images[1], images[2] = 0, 100, 200
    batch = _batch(2, images, mixup=1.0)
    assert batch.partners is not None
    assert 0 < batch.weight < 1
    values = torch.tensor([0.0, 100.0, 200.0])
    blend = batch.weight * values + (1 - batch.weight) * values[batch.partners]
    assert torch.equal(batch.inputs[:, 0, 0, 0], blend.round().to(torch.uint8))


def test_cutmix_weighs_labels_by_the_area_that_is_left() -> None:
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 16, 16, 1)
    for seed in range(8):
        batch = _batch(seed, images, cutmix=1.0)
        assert batch.partners is not None
        for row, partner in enumerate(map(int, batch.partners)):
            if partner != row:
                own = (batch.inputs[row] == row).float().mean()
                theirs = (batch.inputs[row] == partner).float().mean()
                assert own.item() == pytest.approx(batch.weight)
                assert own + theirs == 1


def test_a_coin_decides_between_mixup_and_cutmix() -> None:
    images = torch.zeros((2, 16, 16, 1), dtype=torch.uint8)
    images[1] = 200
    kinds: set[bool] = set()
    for seed in range(30):
        batch = _batch(seed, images, mixup=1.0, cutmix=1.0)
        assert batch.partners is not None
        if torch.equal(batch.partners, torch.tensor([1, 0])):
            first = batch.inputs[0]
            kinds.add(0 < int(first.min()) == int(first.max()) < 200)
    assert kinds == {True, False}


def test_the_loss_of_a_mixed_batch_is_the_two_labels_losses_by_weight() -> None:
    outputs = torch.randn(4, 3)
    labels, partners = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 2, 2])
    batch = Batch(torch.empty(0), labels, partners, 0.3)
    expected = 0.3 * functional.cross_entropy(outputs, labels) + 0.7 * functional.cross_entropy(
        outputs, partners
    )
    assert torch.allclose(batch.loss(OBJECTIVE, outputs), expected)


def test_labels_of_any_layout_are_mixed_row_by_row() -> None:
    labels = torch.rand(5, 2)
    batch = augmentation.mixed_up(_pictures(count=5), labels, 1.0)
    assert batch.partners is not None
    assert torch.equal(batch.partners[:, 0].sort().values, labels[:, 0].sort().values)


@pytest.mark.parametrize("alpha", [5e-324, 1e-3, 100.0])
def test_any_alpha_gives_a_weight(alpha: float) -> None:
    for _ in range(20):
        assert 0 <= augmentation.mixed_up(_pictures(count=2), LABELS[:2], alpha).weight <= 1


def test_random_erasing_fills_one_box_of_the_papers_size_in_as_many_pictures_as_asked() -> None:
    images = torch.zeros((400, 32, 32, 1), dtype=torch.uint8)
    torch.manual_seed(0)
    changed = augmentation.erased(images, probability=0.25)
    shares: list[float] = []
    for picture in changed[..., 0]:
        if picture.any():
            rows, columns = torch.nonzero(picture, as_tuple=True)
            tall, wide = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
            shares.append(float(tall * wide / 32**2))
            box = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (box > 0).float().mean() > 0.7
    assert 70 < len(shares) < 130
    assert min(shares) > 0.01
    assert max(shares) < 0.36
    assert max(shares) - min(shares) > 0.2


def test_nothing_is_changed_in_validation() -> None:
    data = tiny_data()
    measured: list[Tensor] = []
    model = tiny_backbone(data)
    model.register_forward_pre_hook(
        lambda module, args: None if module.training else measured.append(args[0].clone())
    )
    recipe = Recipe(augmentation="rand", mixup=0.4, random_erasing=1.0, epochs=1)
    list(fit(TrainingRequest(model, data, recipe, seed=0, device=CPU)))
    assert torch.equal(torch.cat(measured), torch.from_numpy(data.validation.inputs))


@pytest.mark.parametrize("recipe", EVERY)
def test_features_of_unchanged_pictures_stand_for_no_changed_ones(
    recipe: Mapping[str, Any],
) -> None:
    data, frozen = tiny_data(), {"frozen_stages": 1}
    for changes, expected in ((frozen, (4, 4, 4)), ({**frozen, **recipe}, (8, 8, 1))):
        freezing = Freezing(tiny_backbone(data), Recipe.model_validate(changes))
        inputs = features.inputs_of(freezing, data, CPU, cache=None, each_batch=lambda: None)
        images, _ = inputs.train.take(torch.arange(2))
        assert tuple(images.shape[1:]) == expected
