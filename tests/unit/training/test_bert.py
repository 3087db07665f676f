"""Our encoder computes what transformers computes, for each kind of model that is published."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.texts import minilm, word_pieces
from trimtab.contract.tasks import Model
from worker.data.text.tokenizer import Content, open_tokenizer
from worker.training.model import backbones, bert

TEXTS: list[Content] = [
    "a good film",
    "not so bad a play played",
    ("the film was good", "bad"),
    "good",
]


def _kinds() -> dict[str, Any]:
    hf: Any = importlib.import_module("transformers")
    small = {
        "vocab_size": 20,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }
    small |= {"intermediate_size": 24, "max_position_embeddings": 20, "pad_token_id": 0}
    return {
        "bert": (hf.BertModel, hf.BertConfig(**small)),
        "roberta": (hf.RobertaModel, hf.RobertaConfig(**small, type_vocab_size=1)),
        "electra": (hf.ElectraModel, hf.ElectraConfig(**small, embedding_size=8)),
        "distilbert": (
            hf.DistilBertModel,
            hf.DistilBertConfig(
                vocab_size=20,
                dim=16,
                n_layers=3,
                n_heads=2,
                hidden_dim=24,
                max_position_embeddings=20,
            ),
        ),
    }


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_texts_and_pairs_of_any_length_give_the_hidden_states_of_transformers(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    made, config = _kinds()[kind]
    torch.manual_seed(0)
    theirs = made(config).eval().to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
    theirs.save_pretrained(tmp_path)
    _agree(word_pieces(tmp_path), theirs.float(), TEXTS)


def test_the_published_minilm_gives_the_hidden_states_of_transformers() -> None:
    hf: Any = importlib.import_module("transformers")

    texts: list[Content] = [
        "How did serfdom develop in and then leave Russia ?",
        ("A man sings.", "No one does."),
        "Hi",
    ]
    _agree(minilm(), hf.BertModel.from_pretrained(str(minilm())).eval(), texts)


def _agree(folder: Path, theirs: Any, texts: Sequence[Content]) -> None:
    model = Model(backbone="bert", weights=str(folder))
    ours = backbones.build(model, classes=("no", "yes"), seed=0).eval()
    tokenizer = open_tokenizer(folder)
    stored = torch.from_numpy(tokenizer.padded(tokenizer.encode(texts, 16), 18))
    tokens = ours.input(stored)
    real = tokens[:, 0] != tokenizer.pad_id
    given = {"input_ids": tokens[:, 0], "attention_mask": real.long()}
    if hasattr(theirs.config, "type_vocab_size") and theirs.config.type_vocab_size > 1:
        given["token_type_ids"] = tokens[:, 1]
        # The second text of the pair, with the separator that ends it, and nothing else.
        pair = texts.index(next(one for one in texts if isinstance(one, tuple)))
        ids = tokenizer.encode([texts[pair][1]], 16)[0]
        assert tokens[pair, 1].sum() == len(ids) - 1
        assert tokens[:, 1].sum() == len(ids) - 1
    assert isinstance(ours.network, bert.Encoder)
    with torch.no_grad():
        found: Tensor = ours.network.hidden(tokens)
        wanted: Tensor = theirs(**given).last_hidden_state
    assert (found - wanted)[real].abs().max() < 1e-5
