"""Documents of studies of texts: what they may search, and what has no meaning for them."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.documents import a_document
from trimtab.contract.faults import refusal
from trimtab.contract.priors import known_recipes
from trimtab.contract.search_space import Choices, FloatRange
from trimtab.contract.studies import StudyDocument

TEXTS = {
    "kind": "classification",
    "dataset": {"kind": "csv", "path": "/data/a.csv", "text": "review", "targets": ["verdict"]},
}
BERT = {"backbone": "bert", "weights": "/models/bert"}


def _refused(**changes: Any) -> list[tuple[str, str]]:
    document = a_document(**changes)
    with pytest.raises(ValidationError) as raised:
        StudyDocument.model_validate(document)
    problem = refusal(StudyDocument, document, raised.value.errors(include_url=False))
    return [(fault.pointer, fault.message) for fault in problem.errors]


def test_what_is_about_the_other_kind_of_data_is_refused() -> None:
    rate = {"kind": "float", "low": 1e-5, "high": 1e-3, "log": True}
    told = _refused(
        task=TEXTS,
        model=BERT,
        space={"learning_rate": rate, "mixup": {"kind": "choices", "choices": [0.0, 0.2]}},
        fixed={"image_size": 64, "augmentation": "none", "max_tokens": 64},
    )
    words = "is about pictures, and the model reads texts: leave it out"
    assert told == [("/space/mixup", words), ("/fixed/image_size", words)]
    told = _refused(fixed={"word_dropout": 0.1, "pooling": "mean", "reinit_layers": 1})
    words = "is about texts, and the model sees pictures: leave it out"
    assert sorted(told) == [("/fixed/reinit_layers", words), ("/fixed/word_dropout", words)]


def test_auto_searches_what_matters_of_texts() -> None:
    document = StudyDocument.model_validate(a_document(task=TEXTS, model=BERT, space="auto"))
    space = document.space
    assert set(space) == {
        *("learning_rate", "schedule", "batch_size", "pooling", "frozen_stages"),
        *("head_factor", "layer_decay", "label_smoothing"),
    }
    rate = space["learning_rate"]
    assert isinstance(rate, FloatRange)
    # Devlin et al. (2019) take 2e-5 to 5e-5, Clark et al. (2020) 5e-5 for large models and 3e-4 for small ones.
    assert (rate.low, rate.prior, rate.high) == (5e-6, 1e-4, 1e-3)
    assert space["schedule"] == Choices(kind="choices", choices=("linear", "cosine"))
    assert document.fixed["warmup_share"] == 0.1
    best, small, plain = known_recipes("encoder", "adamw", "classification")
    rates = [one.values["learning_rate"] for one in (best, small, plain)]
    assert rates == [1e-4, 3e-4, 3e-5]
    assert (best.values["schedule"], best.values["warmup_share"]) == ("linear", 0.1)
