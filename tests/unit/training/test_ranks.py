"""A training on two devices is the one on a single device, but for the last bits; here, on two processes of the CPU."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.text_models import folder_of
from tests.support.tiny import same_tensors
from tests.support.two_ranks import Case, Outcome, TwoRanks, train
from worker.training.loop.state import FitState


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoRanks]:
    """Two ranks; both leave in peace."""
    ranks = TwoRanks(tmp_path_factory.mktemp("meeting"))
    yield ranks
    assert ranks.close() == [0, 0]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _states(case: Case, folder: Path, epochs: int = 2) -> tuple[FitState, ...]:
    assert case.state is not None
    return tuple(FitState.load(Path(case.state.format(epoch))) for epoch in range(epochs))


def _alone(case: Case, folder: Path) -> tuple[Outcome, FitState]:
    alone = replace(case, state=str(folder / "alone-{}"))
    outcome = train(alone)
    return outcome, _states(alone, folder)[-1]


def _together(two: TwoRanks, case: Case, folder: Path) -> tuple[Outcome, FitState]:
    together = replace(case, state=str(folder / "together-{}"))
    first, second = two.train(together)
    assert (first.error, second.error) == ("", "")
    assert second.passes, "the second rank computed nothing"
    if "ema_decay" not in case.recipe:
        # The first rank ends with the averages that it has measured.
        assert first.digest == second.digest
    return first, _states(together, folder)[-1]


def _same(one: tuple[Outcome, FitState], other: tuple[Outcome, FitState]) -> None:
    """Equal within the rounding of float32."""
    assert one[0].curve
    torch.testing.assert_close(one[0].curve, other[0].curve, rtol=1e-5, atol=1e-5)
    for name, value in one[1].weights.items():
        torch.testing.assert_close(value, other[1].weights[name], rtol=1e-5, atol=1e-5)


EXACT = {"optimizer": "sgd", "precision": "float32"}
"""Not by Adam: it divides each gradient by its size, and so makes much of the rounding where that is nothing else."""
OPTIONS = [
    {},
    {"momentum": 0.9, "schedule": "one_cycle", "clip_norm": 0.1},
    {"ema_decay": 0.7, "label_smoothing": 0.1, "class_weights": "balanced"},
    {"frozen_stages": 2, "unfreeze_every": 1, "epochs": 2},
    {"augmentation": "flip_crop", "mixup": 0.4, "cutmix": 1.0, "random_erasing": 0.5},
    {"lora_rank": 2},
    {"batch_size": 7},
    {"batch_size": 5, "l2_sp": 0.1},
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_it_is_the_training_of_one_device_with_the_same_batches(
    two: TwoRanks, tmp_path: Path, option: dict[str, object]
) -> None:
    case = Case(recipe={**EXACT, "batch_norm": "frozen", **option})
    _same(_together(two, case, tmp_path), _alone(case, tmp_path))


@pytest.mark.parametrize("option", [{}, {"batch_size": 7}, {"batch_size": 6}], ids=str)
def test_batch_normalisation_is_that_of_one_device_which_computes_batches_in_halves(
    two: TwoRanks, tmp_path: Path, option: dict[str, int]
) -> None:
    case = Case(recipe={**EXACT, **option})
    halves = {"micro_batch_size": (option.get("batch_size", 8) + 1) // 2}
    alone = replace(case, recipe={**case.recipe, **halves})
    _same(_together(two, case, tmp_path), _alone(alone, tmp_path))


def test_the_digits_are_learned_alike_by_the_real_backbone(
    two: TwoRanks, tmp_path: Path
) -> None:
    recipe = {**EXACT, "batch_size": 64, "learning_rate": 0.1, "momentum": 0.9}
    case = Case("glyphnet", str(tmp_path), recipe=recipe)
    together = _together(two, case, tmp_path)
    halves = replace(case, recipe={**recipe, "micro_batch_size": 32})
    _same(together, _alone(halves, tmp_path))
    assert together[0].curve[-1][2] > 0.5


@pytest.mark.parametrize("option", [{}, {"word_dropout": 0.3}, {"frozen_stages": 2}], ids=str)
def test_texts_are_learned_alike(
    two: TwoRanks, tmp_path: Path, option: dict[str, object]
) -> None:
    folder = str(
        folder_of(tmp_path / "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    case = Case("bert", folder, recipe={**EXACT, "batch_size": 10, **option})
    _same(_together(two, case, tmp_path), _alone(case, tmp_path))


HARD = {"augmentation": "flip_crop", "mixup": 0.4, "ema_decay": 0.7, "swa_epochs": 1}


@pytest.mark.parametrize("recipe", [{}, HARD, {"lora_rank": 2}], ids=str)
def test_it_goes_on_bit_by_bit_between_two_epochs_and_within_one(
    two: TwoRanks, tmp_path: Path, recipe: dict[str, object]
) -> None:
    whole = Case(recipe=recipe, drops=0.3)
    wanted, end = _together(two, whole, tmp_path)
    between = replace(whole, resume=str(tmp_path / "together-0"), state=str(tmp_path / "b-{}"))
    assert two.train(between)[0].curve == wanted.curve[1:]
    assert same_tensors({**_load(tmp_path / "b-1").weights}, {**end.weights})

    left = replace(whole, leaves=5, state=str(tmp_path / "left-{}"))
    assert [one.error for one in two.train(left)] == ["", ""]
    within = replace(whole, resume=str(tmp_path / "left-part"), state=str(tmp_path / "w-{}"))
    assert two.train(within)[0].curve == wanted.curve[1:]
    assert same_tensors({**_load(tmp_path / "w-1").weights}, {**end.weights})


def _load(path: Path) -> FitState:
    return FitState.load(path)


def test_each_rank_draws_dropout_of_its_own(two: TwoRanks) -> None:
    one, other = two.train(Case(recipe=EXACT, drops=0.5))
    assert one.drawn
    assert not {*one.drawn} & {*other.drawn}
    assert len({*one.drawn}) == len(one.drawn) == one.passes


def test_ranks_that_do_not_begin_with_the_same_weights_are_refused(two: TwoRanks) -> None:
    first, second = two.train(Case(recipe=EXACT, unlike=True))
    assert first.kind == second.kind == "crashed"
    assert "did not begin with the same weights" in first.error


@pytest.mark.parametrize("fails", [0, 1])
@pytest.mark.parametrize("fails_at", [1, 3, 6])
def test_an_error_on_one_rank_ends_the_training_on_all_and_the_next_one_begins(
    two: TwoRanks, tmp_path: Path, fails: int, fails_at: int
) -> None:
    case = Case(recipe=EXACT, fails=fails, fails_at=fails_at)
    first, second = two.train(case)
    assert "the driver is gone" in first.error
    assert second.error == ""
    if fails:
        assert first.kind == "crashed"
        assert "device 2" in first.error
    _together(two, replace(case, fails=None), tmp_path)


def test_a_rank_without_memory_for_its_part_computes_it_in_smaller_ones(
    two: TwoRanks, tmp_path: Path
) -> None:
    case = Case(recipe={**EXACT, "batch_norm": "frozen"}, room=2)
    together = _together(two, case, tmp_path)
    _same(together, _alone(replace(case, room=0), tmp_path))


def test_a_rank_without_memory_for_one_row_ends_the_trial_for_that(two: TwoRanks) -> None:
    case = Case(recipe=EXACT, fails=1, by="DefaultCPUAllocator: can't allocate memory")
    assert two.train(case)[0].kind == "oom"


def test_a_loss_that_is_not_finite_ends_it_on_all_ranks(two: TwoRanks, tmp_path: Path) -> None:
    first, second = two.train(
        Case(
            recipe={
                **EXACT,
                "learning_rate": 1.0,
                "momentum": 0.99,
                "epochs": 60,
                "batch_norm": "frozen",
            }
        )
    )
    assert (first.kind, second.error) == ("diverged", "")
    _together(two, Case(recipe=EXACT), tmp_path)


def test_a_batch_of_fewer_rows_than_ranks_is_trained_on(two: TwoRanks, tmp_path: Path) -> None:
    case = Case(recipe={**EXACT, "batch_size": 1, "epochs": 1})
    together = replace(case, state=str(tmp_path / "together-{}"))
    first, second = two.train(together)
    assert (first.error, second.error, second.passes) == ("", "", 0)
    assert first.digest == second.digest
    _same(
        (first, _states(together, tmp_path, 1)[0]),
        (train(replace(case, state=str(tmp_path / "alone-{}"))), _load(tmp_path / "alone-0")),
    )


def test_a_small_head_on_features_is_trained_by_the_first_rank_alone(
    two: TwoRanks, tmp_path: Path
) -> None:
    case = Case("plain", recipe={**EXACT, "frozen_stages": 1})
    first, second = two.train(case)
    assert (first.error, second.error, second.passes) == ("", "", 0)
    assert first.curve == train(case).curve
