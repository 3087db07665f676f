"""What a recipe says of texts: where it is read, and what it leaves as it is."""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from tests.support.text_models import a_token_card, folder_of, tiny_texts
from tests.support.tiny import CPU, same_tensors
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.text.tokenizer import Content, open_tokenizer
from worker.training import safetensors_files
from worker.training.augment.words import WordDropout
from worker.training.device.placement import drawn_batches
from worker.training.errors import ModelUnreadable, NoUnknownWord, TeacherUnfit
from worker.training.loop.distillation import Teacher
from worker.training.loop.epochs import epochs_of
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.model import backbones, bert, heads
from worker.training.model.backbones import Backbone
from worker.training.model.bert import Pooling
from worker.training.model.card import CARD_KEY, Scores
from worker.training.model.export import export, load_exported, make_card
from worker.training.model.freezing import Freezing
from worker.training.model.halves import Halves
from worker.training.model.predictor import Prediction, Unreadable
from worker.training.model.token_input import TokenInput
from worker.training.optim import param_groups

CARD = a_token_card(positions=6)
LINEAR = Recipe()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("bert"))


def _model(folder: Path, recipe: Recipe = LINEAR, seed: int = 0) -> Backbone:
    model = Model(backbone="bert", weights=str(folder))
    head = heads.of(recipe, "classification")
    return backbones.build(model, classes=("no", "yes"), seed=seed, head=head)


def test_a_batch_is_as_long_as_its_longest_text_and_no_longer_than_the_positions() -> None:
    stored = torch.tensor([[2, 7, 3, 0, 0, 0, 0, 0], [2, 7, 3, 8, 3, 0, 0, 0]])
    words, types = TokenInput(CARD)(stored).unbind(1)
    assert words.tolist() == [[2, 7, 3, 0, 0], [2, 7, 3, 8, 3]]
    assert types.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert TokenInput(CARD)(torch.full((1, 8), 7)).shape == (1, 2, 6)
    of_one_type = TokenInput(CARD.model_copy(update={"token_types": 1}))
    assert of_one_type(stored)[:, 1].sum() == 0


def test_the_text_is_the_same_however_much_padding_stands_behind_it(folder: Path) -> None:
    model = _model(folder).eval()
    alone = torch.tensor([[2, 7, 8, 3]], dtype=torch.int32)
    beside = torch.tensor([[2, 7, 8, 3, 0, 0, 0], [2, 7, 8, 9, 9, 9, 3]], dtype=torch.int32)
    with torch.no_grad():
        torch.testing.assert_close(model(alone)[0], model(beside)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["cls", "mean", "max"])
def test_a_text_stands_for_what_pooling_says(folder: Path, how: str) -> None:
    recipe = Recipe.model_validate({"pooling": how})
    model = _model(folder, recipe).eval()
    stored = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 7, 8, 9, 9, 3]])
    assert isinstance(model.network, bert.Encoder)
    with torch.no_grad():
        hidden = model.network.hidden(model.input(stored))[0, :4]
        found = model.features(stored)[0]
    wanted = {"cls": hidden[0], "mean": hidden.mean(dim=0), "max": hidden.amax(dim=0)}[how]
    torch.testing.assert_close(found, wanted)


def test_an_epoch_has_the_same_texts_whether_batches_are_filled_by_length_or_not() -> None:
    torch.manual_seed(0)
    order, lengths = torch.randperm(101), torch.randint(3, 40, (101,))
    plain = drawn_batches(order, 8, None)
    bucketed = drawn_batches(order, 8, lengths)
    assert sorted(map(len, bucketed)) == sorted(map(len, plain))
    assert torch.cat(bucketed).sort().values.tolist() == list(range(101))
    # Padding is what a batch computes beyond its texts.
    spent = [
        sum(len(b) * int(lengths[b].max()) for b in batches) for batches in (plain, bucketed)
    ]
    assert spent[1] < 0.8 * spent[0]
    torch.manual_seed(1)
    again = drawn_batches(order, 8, lengths)
    torch.manual_seed(1)
    assert all(map(torch.equal, again, drawn_batches(order, 8, lengths)))


def test_dropped_words_are_unknown_ones_and_what_begins_ends_and_pads_stays() -> None:
    stored = torch.tensor([[2, *[9] * 500, 3, *[0] * 500]], dtype=torch.uint16)
    before = stored.clone()
    torch.manual_seed(0)
    changed = WordDropout(CARD, 0.3)(stored)
    assert torch.equal(stored, before)
    assert changed[0, 0] == 2
    assert changed[0, 501:].tolist() == [3, *[0] * 500]
    assert 100 < (changed == 1).sum() < 200
    with pytest.raises(NoUnknownWord):
        WordDropout(CARD.model_copy(update={"unk_id": None}), 0.3)


@pytest.mark.parametrize(("frozen", "drawn"), [(0, {1, 2}), (3, {2}), (4, set[int]())])
def test_last_layers_begin_at_random_as_far_as_they_are_trained(
    folder: Path, frozen: int, drawn: set[int]
) -> None:
    recipe = Recipe(reinit_layers=2, frozen_stages=frozen)
    model, plain = _model(folder), _model(folder)
    Freezing(model, recipe).redraw(5)
    ours, theirs = model.network.state_dict(), plain.network.state_dict()
    changed = {name for name, value in ours.items() if not torch.equal(value, theirs[name])}
    assert {int(name.split(".")[1]) for name in changed} == drawn
    again = _model(folder)
    Freezing(again, recipe).redraw(5)
    assert same_tensors(ours, again.network.state_dict())


def test_lora_reaches_query_key_value_output_and_feed_forward(folder: Path) -> None:
    low_rank = Freezing(_model(folder), Recipe(lora_rank=2)).low_rank(0)
    assert low_rank is not None
    layers = itertools.product(range(3), ("query", "key", "value", "output", "up", "down"))
    assert {
        name.removesuffix(".weight.lora_A") for name in low_rank.factors if "lora_A" in name
    } == {f"layers.{number}.{part}" for number, part in layers}


def test_biases_and_normalisations_do_not_decay_and_muon_leaves_the_tables_alone(
    folder: Path,
) -> None:
    recipe = Recipe(optimizer="muon", weight_decay=0.1, layer_decay=0.5)
    groups = param_groups.of_backbone(Freezing(_model(folder), recipe))
    rules = {name: group.rule for group in groups for name in group.parameters}
    assert {name for name, rule in rules.items() if not rule.weight_decay} == {
        name for name in rules if name.endswith("bias") or "norm" in name
    }
    assert rules["embeddings.words"].update == "adamw"
    assert rules["layers.0.query.weight"].update == "muon"
    assert rules["layers.2.up.weight"].rate == 0.5
    assert rules["embeddings.words"].rate == 0.5**4


def _exported(folder: Path, path: Path) -> Backbone:
    """Train a model, export it, and return it."""
    texts, recipe = tiny_texts(folder), Recipe(epochs=3, batch_size=8, learning_rate=1e-2)
    training = begin(TrainingRequest(_model(folder), texts, recipe, seed=0, device=CPU))
    for _ in epochs_of(training):
        pass
    model = training.learner.model
    card = make_card(model, texts, recipe=recipe, seed=0, scores=Scores())
    export(path, model, card=card)
    return model.eval()


def test_an_exported_file_predicts_texts_without_the_folder(tmp_path: Path) -> None:
    folder, path = folder_of(tmp_path / "bert"), tmp_path / "model.safetensors"
    trained = _exported(folder, path)
    texts: list[Content] = ["a good film", ("good", "bad film")]
    tokenizer = open_tokenizer(folder)
    stored = torch.from_numpy(tokenizer.padded(tokenizer.encode(texts, 16)))
    shutil.rmtree(folder)
    *found, empty = load_exported(path).predict_readable([*texts, "  "])
    assert empty == Unreadable("it is empty")
    with torch.no_grad():
        wanted = trained(stored).softmax(dim=1)[:, 1]
    probabilities = [one.probabilities["yes"] for one in found if isinstance(one, Prediction)]
    assert probabilities == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_file_without_its_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    _exported(folder, path)
    tensors, about = safetensors_files.read(path)
    safetensors_files.write(path, tensors, {CARD_KEY: about[CARD_KEY]})
    with pytest.raises(ModelUnreadable, match="it lacks the tokenizer that its card names"):
        load_exported(path)


def test_a_teacher_reads_the_same_word_pieces_or_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.safetensors"
    _exported(folder, path)
    teacher = Teacher(path, ("no", "yes"))
    texts = tiny_texts(folder)
    recipe = Recipe(epochs=1, batch_size=8, distillation_weight=0.5)
    student = Model(backbone="bert", weights=str(folder), layers=1)
    model = backbones.build(student, classes=("no", "yes"), seed=0)
    request = TrainingRequest(model, texts, recipe, seed=0, device=CPU, teacher=teacher)
    (epoch,) = epochs_of(begin(request))
    assert epoch.train_loss > 0
    other = folder_of(tmp_path / "other", words=("good", "bad", "film", "a", "the", "so"))
    model = _model(other)
    request = TrainingRequest(
        model, tiny_texts(other), recipe, seed=0, device=CPU, teacher=teacher
    )
    with pytest.raises(TeacherUnfit, match="its tokenizer is another"):
        begin(request)


@pytest.mark.parametrize(
    ("learned", "columns", "reason"),
    [
        (("review",), ("premise", "hypothesis"), "it reads single texts .review., and the task has pairs of texts"),
        (("premise", "hypothesis"), ("review",), "it reads pairs of texts .*, and the task has single texts .review."),
    ],
)  # fmt: skip
def test_a_teacher_of_single_texts_teaches_no_pairs_and_the_reverse(
    folder: Path, tmp_path: Path, learned: Sequence[str], columns: Sequence[str], reason: str
) -> None:
    path = tmp_path / "teacher.safetensors"
    model, recipe = _model(folder), Recipe(epochs=1, distillation_weight=0.5)
    theirs, ours = (
        replace(tiny_texts(folder), details={"columns": names}) for names in (learned, columns)
    )
    export(path, model, card=make_card(model, theirs, recipe=recipe, seed=0, scores=Scores()))
    teacher = Teacher(path, ("no", "yes"))
    begin(TrainingRequest(model, theirs, recipe, seed=0, device=CPU, teacher=teacher))
    with pytest.raises(TeacherUnfit, match=reason):
        begin(TrainingRequest(model, ours, recipe, seed=0, device=CPU, teacher=teacher))


def test_a_long_text_is_kept_whole_in_half_precision() -> None:
    identity = fx.symbolic_trace(nn.Identity())
    halves = Halves(identity, identity, marks_padding=True)
    kept = torch.zeros(2, 400, 5, dtype=torch.bfloat16)
    kept[0, :299, -1] = kept[1, :301, -1] = 1
    assert halves.rest(kept).shape == (2, 301, 5)
    ones = torch.ones(1, 301, 3, dtype=torch.bfloat16)
    assert Pooling()(ones).tolist() == [[1.0, 1.0]]
