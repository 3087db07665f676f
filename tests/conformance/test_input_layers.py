"""What every input layer promises to networks, to the cache of features and to exported files."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from tests.support.text_models import a_token_card
from worker.training.model import backbones
from worker.training.model.card import InputCard
from worker.training.model.image_input import ImageInput
from worker.training.model.inputs import InputLayer
from worker.training.model.token_input import TokenInput

CARD: TypeAdapter[InputCard] = TypeAdapter(InputCard)


@dataclass(frozen=True)
class Case:
    """One input layer, with stored batches that a data set may hold; no two are of one shape."""

    layer: InputLayer
    batches: Sequence[Tensor]


def _pictures(side: int, channels: int) -> Tensor:
    random = torch.Generator().manual_seed(side)
    return torch.randint(256, (3, side, side, channels), dtype=torch.uint8, generator=random)


PICTURES = tuple(_pictures(side, channels) for side in (5, 8, 13) for channels in (1, 3))
COLOUR = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORDS = a_token_card(positions=9)


def _texts(length: int) -> Tensor:
    random = torch.Generator().manual_seed(length)
    words = torch.randint(2, 20, (3, length), generator=random)
    words[0, length // 2 :] = WORDS.pad_id
    return words.to(torch.uint16)


TEXTS = tuple(_texts(length) for length in (5, 8, 13))
OTHER_WORDS = WORDS.model_copy(update={"sep_id": 4})
PICTURE_CASES: Mapping[str, Case] = {
    "grey": Case(ImageInput((0.3,), (0.37,)), PICTURES),
    "other grey": Case(ImageInput((0.30000001192092896,), (0.36,)), PICTURES),
    "colour": Case(ImageInput(*COLOUR), PICTURES),
    "colour, not too small": Case(ImageInput(*COLOUR, least_side=9), PICTURES),
    "colour, one size": Case(ImageInput(*COLOUR, only_side=7), PICTURES),
    "colour, tried at another size": Case(ImageInput(*COLOUR, example_side=12), PICTURES),
}
CASES: Mapping[str, Case] = {
    **PICTURE_CASES,
    "texts": Case(TokenInput(WORDS), TEXTS),
    "texts with another end": Case(TokenInput(OTHER_WORDS), TEXTS),
}
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_layer
def test_an_example_is_a_stored_batch_that_the_layer_takes(case: Case) -> None:
    example = case.layer.example(2)
    assert example.dtype == case.batches[0].dtype
    assert example.dim() == case.batches[0].dim()
    taken = case.layer(example)
    assert len(example) == len(taken) == 2
    assert taken.isfinite().all()


@every_layer
def test_an_example_is_the_same_each_time_and_draws_nothing(case: Case) -> None:
    before = torch.get_rng_state()
    assert torch.equal(case.layer.example(3), case.layer.example(3))
    assert torch.equal(torch.get_rng_state(), before)


@every_layer
def test_the_same_batch_gives_the_same_bits_in_training_and_in_evaluation(case: Case) -> None:
    layer = copy.deepcopy(case.layer)
    for batch in case.batches:
        before = batch.clone()
        trained = layer.train()(batch)
        assert torch.equal(trained, layer.eval()(batch))
        assert torch.equal(batch, before)


@every_layer
def test_a_layer_made_from_a_card_gives_the_bits_of_the_layer_that_wrote_it(case: Case) -> None:
    written = case.layer.card().model_dump_json()
    built = ImageInput((0.1,), (0.9,), least_side=40)
    again = backbones.input_layer(CARD.validate_json(written), built)
    assert again.card() == case.layer.card()
    assert again.memory_format == case.layer.memory_format
    for batch in (*case.batches, case.layer.example(2)):
        assert torch.equal(again(batch), case.layer(batch))
    assert torch.equal(again.example(2), case.layer.example(2))


def test_layers_that_differ_have_cards_that_differ() -> None:
    cards = [case.layer.card().model_dump_json() for case in CASES.values()]
    assert len(set(cards)) == len(CASES)


@every_layer
def test_nothing_of_it_is_trained_or_stored_with_the_weights(case: Case) -> None:
    assert list(case.layer.parameters()) == []
    assert case.layer.state_dict() == {}
    assert not any(taken.requires_grad for taken in map(case.layer, case.batches))


@pytest.mark.parametrize("case", PICTURE_CASES.values(), ids=PICTURE_CASES)
def test_a_resized_layer_makes_of_any_samples_what_the_network_was_trained_on(
    case: Case,
) -> None:
    for known in case.batches:
        card = case.layer.card()
        resized = case.layer.resized_to(known.shape[1:])
        for other in case.batches:
            assert resized(other).shape[1:] == case.layer(known).shape[1:]
        assert torch.equal(resized(known), case.layer(known))
        assert case.layer.card() == card


@every_layer
def test_a_layer_that_is_resized_stays_what_it_was(case: Case) -> None:
    # A network for texts takes those of any length.
    resized = case.layer.resized_to(case.batches[0].shape[1:])
    assert torch.equal(resized(case.batches[0]), case.layer(case.batches[0]))


@every_layer
def test_it_says_how_the_networks_weights_are_to_lie_in_memory(case: Case) -> None:
    assert case.layer.memory_format in (torch.channels_last, torch.contiguous_format)
