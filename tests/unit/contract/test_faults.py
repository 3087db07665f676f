"""Faults of a document: where, which rule, in words; the refused values never."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from trimtab.contract.faults import (
    LONGEST_PART,
    MOST_FAULTS,
    Fault,
    faults,
    hint,
    pointer_to,
    refusal,
    refuse,
)
from trimtab.contract.message import Int, Message
from trimtab.contract.problems import Invalid, Problem, UnknownField, WrongType


class Circle(Message):
    kind: Literal["circle"]
    radius: Int


class Circles(Message):
    """Its `kind` is the name of one of its fields."""

    kind: Literal["circles"]
    circles: Annotated[tuple[Circle, ...], Field(min_length=1)]


Shape = Annotated[Circle | Circles, Field(discriminator="kind")]


class Drawing(Message):
    shapes: dict[str, Shape]
    title: int | bool | None = None

    @model_validator(mode="after")
    def _check(self) -> "Drawing":
        odd = [name for name in self.shapes if len(name) == 13]
        refuse("Drawing", [Fault(("shapes", name), "unlucky", "13 letters") for name in odd])
        return self


def errors(document: object) -> list[Any]:
    try:
        TypeAdapter(Drawing).validate_python(document)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def told(document: object) -> dict[str, str]:
    return {
        fault.pointer: fault.message for fault in faults(Drawing, document, errors(document))
    }


def test_a_whole_document_has_no_faults() -> None:
    assert told({"shapes": {"a": {"kind": "circle", "radius": 1}}}) == {}


@pytest.mark.parametrize(
    ("shape", "pointer", "said"),
    [
        ({"kind": "circle", "radius": "1"}, "/radius", "valid integer"),
        ({"kind": "circle"}, "/radius", "Field required"),
        ({"kind": "circle", "radius": 1, "radios": 2}, "/radios", "did you mean 'radius'?"),
        ({"kind": "circle", "radius": 1, "x": 2}, "/x", "known here: kind, radius"),
        ({"radius": 1}, "/kind", "Field required"),
        (
            {"kind": "cirkle", "radius": 1},
            "/kind",
            "'circle', 'circles'; did you mean 'circle'?",
        ),
        ({"kind": "circles"}, "/circles", "Field required"),
        ({"kind": "circles", "circles": []}, "/circles", "at least 1 item"),
        ({"kind": "circles", "circles": [{"kind": "circle"}]}, "/circles/0/radius", "required"),
        ({"kind": "circles", "circles": 7}, "/circles", "valid tuple"),
        (
            {"kind": "circles", "circles": [{"kind": "circle", "radius": 1}], "circle": 1},
            "/circle",
            "did you mean 'circles'?",
        ),
    ],
)
def test_a_pointer_leads_to_the_place_through_unions_and_lists(
    shape: Any, pointer: str, said: str
) -> None:
    found = told({"shapes": {"a": shape}})
    assert list(found) == [f"/shapes/a{pointer}"]
    assert said in found[f"/shapes/a{pointer}"]


def test_a_value_that_no_member_takes_is_one_fault() -> None:
    found = told({"shapes": {}, "title": []})
    assert list(found) == ["/title"]
    assert "integer, or a valid boolean" in found["/title"]


def test_a_rule_over_several_fields_tells_each_place() -> None:
    shape = {"kind": "circle", "radius": 1}
    assert told({"shapes": {"a" * 13: shape, "b": shape, "c" * 13: shape}}) == {
        f"/shapes/{'a' * 13}": "13 letters",
        f"/shapes/{'c' * 13}": "13 letters",
    }


def test_no_refused_value_is_repeated() -> None:
    secret = "s3cr3t"
    for shape in (secret, {"kind": secret}, {"kind": "circle", "radius": secret}):
        assert secret not in str(told({"shapes": {"a": shape}, "title": secret}))


def test_of_many_faults_the_first_hundred_are_told() -> None:
    assert len(told({f"f{number}": 1 for number in range(500)})) == MOST_FAULTS


def test_a_pointer_escapes_and_cuts_its_keys() -> None:
    assert pointer_to(("a/b", "~", 3, "\ud800", "k" * 999)) == (
        f"/a~1b/~0/3/\\ud800/{'k' * LONGEST_PART}"
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"shapes": {}, "shape": {}, "tile": 1}, UnknownField),
        ({"shapes": 7}, WrongType),
        ({"shapes": 7, "tile": 1}, Invalid),
        ({}, Invalid),
    ],
)
def test_faults_of_one_kind_give_the_problem_its_name(
    document: Any, problem: type[Problem]
) -> None:
    assert type(refusal(Drawing, document, errors(document))) is problem


def test_a_hint_is_the_nearest_name_or_all() -> None:
    assert hint("momentun", ["momentum", "epochs"]) == "did you mean 'momentum'?"
    assert hint("xyz", ["momentum", "epochs"]) == "known here: epochs, momentum"
