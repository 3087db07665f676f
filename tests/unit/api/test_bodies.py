"""Reading JSON strictly: what two parsers could read differently is refused, and nothing else."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis.strategies import (
    DrawFn,
    binary,
    booleans,
    composite,
    dictionaries,
    floats,
    integers,
    lists,
    none,
    recursive,
    text,
)

from service.api import bodies
from service.api.bodies import DEEPEST, LONGEST_NUMBER, parse
from trimtab.contract.problems import BadRequest, DuplicateKey, MalformedJson, NonFinite

scalars = (
    none()
    | booleans()
    | integers(-(10**80), 10**80)
    | floats(allow_nan=False, allow_infinity=False)
    | text(max_size=20)
)
documents = recursive(
    scalars,
    lambda inner: lists(inner, max_size=4) | dictionaries(text(max_size=5), inner, max_size=4),
)


@composite
def nested(draw: DrawFn) -> tuple[int, str]:
    """A depth, and a document that is so deep."""
    brackets = draw(lists(booleans(), min_size=1, max_size=2 * DEEPEST))
    opened = "".join('{"a":' if is_object else "[" for is_object in brackets)
    closed = "".join("}" if is_object else "]" for is_object in reversed(brackets))
    return len(brackets), f"{opened}0{closed}"


@given(documents, booleans())
def test_what_json_can_say_is_read_as_it_is(document: Any, is_ascii: bool) -> None:
    body = json.dumps(document, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    assert repr(parse(body)) == repr(document)


@given(binary(max_size=60) | text(alphabet='[]{}":,\\ 0e-.ntN', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_by_name(body: bytes) -> None:
    try:
        parsed = parse(body)
    except (BadRequest, NonFinite):
        return
    assert json.loads(body) == parsed


@given(nested())
@example((DEEPEST, "[" * DEEPEST + "0" + "]" * DEEPEST))
@example((DEEPEST + 1, "[" * (DEEPEST + 1) + "0" + "]" * (DEEPEST + 1)))
def test_depth_is_counted_up_to_32(case: tuple[int, str]) -> None:
    depth, body = case
    if depth <= DEEPEST:
        assert parse(body.encode()) == json.loads(body)
        return
    with pytest.raises(MalformedJson, match="nests deeper than 32"):
        parse(body.encode())


@given(text(alphabet='[]{}"\\a', max_size=200))
def test_brackets_in_text_are_no_depth(content: str) -> None:
    assert parse(json.dumps([content * 40]).encode()) == [content * 40]


@given(documents, text(max_size=5), integers(0, 3))
def test_a_key_that_comes_twice_is_refused_at_any_depth(
    document: Any, key: str, depth: int
) -> None:
    value, name = json.dumps(document), json.dumps(key)
    body = f"{{{name}: {value}, {name}: {value}}}"
    for _ in range(depth):
        body = f'[{{"within": {body}}}]'
    with pytest.raises(DuplicateKey):
        parse(body.encode())


def test_a_key_spelt_with_an_escape_is_the_same_key() -> None:
    with pytest.raises(DuplicateKey):
        parse(b'{"a": 1, "\\u0061": 2}')


@pytest.mark.parametrize(
    "literal", ["NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1.8e308"]
)
@pytest.mark.parametrize("around", ["{}", "[{}]", '{{"a": {}}}'])
def test_what_is_not_finite_is_refused(literal: str, around: str) -> None:
    with pytest.raises(NonFinite):
        parse(around.format(literal).encode())


@pytest.mark.parametrize("digits", [LONGEST_NUMBER, LONGEST_NUMBER + 1, 100_000])
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_a_number_has_at_most_100_digits(form: str, digits: int) -> None:
    body = form.format("1" * digits).encode()
    if digits <= LONGEST_NUMBER:
        assert parse(body) == json.loads(body)
        return
    with pytest.raises(MalformedJson, match="more than 100 digits"):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{} {}",
        b"[1,]",
        b"{'a': 1}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'"\x01"',
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"nul",
        b"// {}",
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        parse(body)


def test_the_smallest_and_largest_floats_are_read() -> None:
    assert parse(b"[1.7976931348623157e308, 5e-324, 1e-400]") == [
        1.7976931348623157e308,
        5e-324,
        0.0,
    ]
    assert math.copysign(1, parse(b"-0.0")) == -1


def test_text_without_an_end_is_one_token_however_long() -> None:
    hostile = b'\\"' * 5_000
    tokens = bodies._TOKENS.findall(hostile)  # pyright: ignore[reportPrivateUsage] - its cost is the rule
    assert len(tokens) == 1
