"""What every modality promises to the cache."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import picture
from tests.support.texts import minilm
from worker.data.images import pixels
from worker.data.images.encoding import Images
from worker.data.images.picture_files import ImageHeader
from worker.data.modality import ImageSpec, Modality, TokenSpec
from worker.data.text.encoding import TextHeader, Texts
from worker.data.text.tokenizer import sha256_of


@dataclass(frozen=True)
class Case:
    """One modality with what its sources may tell of samples.

    Attributes:
        modality: The modality.
        data_sets: Headers of samples, a data set each; one of them is empty.
        contents: Samples of every kind that a source may read.
        wanted: Specs that networks may ask for; the first leaves all to the data set, and no two are the same.
    """

    modality: Modality[Any, Any, Any]
    data_sets: Sequence[Sequence[Any]]
    contents: Sequence[Any]
    wanted: Sequence[Any]


SHA256 = sha256_of(minilm())
CASES: Mapping[str, Case] = {
    "image": Case(
        Images(),
        data_sets=(
            (),
            (ImageHeader(8, 8, grey=True),) * 2,
            (ImageHeader(8, 8, grey=True), ImageHeader(8, 8, grey=False)),
            (ImageHeader(300, 200, grey=False),),
            (ImageHeader(300, 300, grey=True),),
            (ImageHeader(300, 300, grey=True, levels=(0, 4095)),),
        ),
        contents=(
            picture(1, size=(8, 8), mode="L"),
            picture(2, size=(3, 40)),
            picture(3, size=(90, 50)),
            Image.new("L", (1, 1)),
            pixels.plain(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30))),
        ),
        wanted=(
            ImageSpec(),
            ImageSpec(1),
            ImageSpec(12),
            ImageSpec(33),
            ImageSpec(33, "squash"),
            ImageSpec(33, "pad"),
            ImageSpec(33, crop=0.75),
            ImageSpec(33, crop=0.5),
            ImageSpec(33, interpolation="bicubic"),
        ),
    ),
    "text": Case(
        Texts(TokenSpec(minilm(), SHA256, 512)),
        data_sets=(
            (),
            (TextHeader(6, 0),) * 2,
            (TextHeader(5, 0), TextHeader(9, 1), TextHeader(600, 4)),
        ),
        contents=("", "a film", ("a pair", "of texts"), "a long one " * 300, "東京 \0 \u00e9"),
        wanted=(
            TokenSpec(minilm(), SHA256, 512),
            TokenSpec(minilm(), SHA256, 8),
            TokenSpec(minilm(), "0" * 64, 8),
        ),
    ),
}
every_modality = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_modality
def test_a_sample_is_stored_in_the_dtype_and_shape_that_the_encoding_says(case: Case) -> None:
    for headers in case.data_sets:
        for wanted in case.wanted:
            encoding = case.modality.encoding(case.modality.facts(headers), wanted)
            for content in case.contents:
                stored = case.modality.encode(content, encoding)
                assert (stored.dtype.name, stored.shape) == (encoding.dtype, encoding.shape)


@every_modality
def test_a_sample_is_stored_in_the_same_bits_each_time(case: Case) -> None:
    facts = case.modality.facts(case.data_sets[-1])
    encoding = case.modality.encoding(facts, case.wanted[-1])
    for content in case.contents:
        stored = case.modality.encode(content, encoding).copy()
        assert np.array_equal(case.modality.encode(content, encoding), stored)


@every_modality
def test_facts_are_the_same_after_they_were_kept_as_json(case: Case) -> None:
    for headers in case.data_sets:
        facts = case.modality.facts(headers)
        assert json.loads(json.dumps(facts)) == facts


@every_modality
def test_a_data_set_without_a_readable_sample_has_facts_and_an_encoding(case: Case) -> None:
    facts = case.modality.facts(())
    for wanted in case.wanted:
        assert np.prod(case.modality.encoding(facts, wanted).shape) > 0


@every_modality
def test_headers_are_read_once_and_in_any_order(case: Case) -> None:
    for headers in case.data_sets:
        facts = case.modality.facts(headers)
        assert case.modality.facts(iter(headers)) == facts
        assert case.modality.facts(reversed(headers)) == facts


@every_modality
def test_a_key_is_of_the_encoding_and_of_nothing_else(case: Case) -> None:
    for headers in case.data_sets:
        facts = case.modality.facts(headers)
        encodings = [case.modality.encoding(facts, wanted) for wanted in case.wanted]
        again = [case.modality.encoding(facts, wanted) for wanted in case.wanted]
        assert encodings == again
        assert len({each.key for each in encodings}) == len(set(encodings))
        assert all(each.key.startswith(case.modality.name) for each in encodings)
