"""The error tree: every refusal crosses the wire and comes back as the same class."""

import http
import re

import pytest
from hypothesis import given
from hypothesis.strategies import builds, characters, floats, lists, none, sampled_from, text

from trimtab.contract import problems
from trimtab.contract.problems import (
    TABLE,
    FieldError,
    Problem,
    every_problem,
    from_document,
    row_of,
)

CLASSES = [problem for problem in every_problem() if problem.__module__ == problems.__name__]
words = text(characters(exclude_categories=["Cs"]), max_size=40)
fields = builds(FieldError, pointer=words, code=words, message=words)


def test_every_problem_has_a_row_of_its_own() -> None:
    assert set(CLASSES) == set(TABLE)
    assert len({row.slug for row in TABLE.values()}) == len(TABLE)


@pytest.mark.parametrize("problem", CLASSES)
def test_a_row_has_a_real_status_a_speaking_slug_and_a_detail(problem: type[Problem]) -> None:
    row = row_of(problem)
    assert http.HTTPStatus(row.status).value >= 400
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.slug)
    assert row.title
    assert problem().detail.endswith(".")


@pytest.mark.parametrize("problem", [c for c in CLASSES if c is not Problem])
def test_a_problem_has_the_status_of_its_kind(problem: type[Problem]) -> None:
    parent = problem.__mro__[1]
    assert parent is Problem or row_of(parent).status == row_of(problem).status


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    named = set(
        re.findall(r"[A-Z][A-Za-z0-9]+", str(problems.__doc__).partition("\n    Problem\n")[2])
    )
    assert named == {problem.__name__ for problem in CLASSES} - {"Problem"}


@given(
    sampled_from(CLASSES),
    words,
    lists(fields, max_size=3),
    none() | floats(0, 3600),
    none() | words,
)
def test_what_was_raised_there_is_raised_here(
    problem: type[Problem],
    detail: str,
    errors: list[FieldError],
    retry_after_s: float | None,
    state: str | None,
) -> None:
    raised = problem(detail, errors=errors, retry_after_s=retry_after_s, state=state)
    document = raised.document(instance="urn:uuid:1")
    again = from_document(document.model_dump(mode="json", exclude_none=True))
    assert type(again) is problem
    assert again.document("urn:uuid:1") == document
    assert str(again) == raised.detail


@pytest.mark.parametrize("status", sorted({row.status for row in TABLE.values()}))
def test_an_unknown_slug_becomes_the_general_class_of_its_status(status: int) -> None:
    document = {
        "type": "/problems/from-the-future",
        "title": "?",
        "status": status,
        "detail": "?",
    }
    general = type(from_document(document))
    assert row_of(general).status == status
    assert general is Problem or general.__mro__[1] is Problem


def test_an_unknown_status_is_a_problem_without_a_name() -> None:
    document = {"type": "about:blank", "title": "Teapot", "status": 418, "detail": "short"}
    assert type(from_document(document)) is Problem


def test_a_newer_services_further_fields_are_passed_over() -> None:
    document = problems.LeaseLost(state="expired").document().model_dump() | {"since": 7}
    assert from_document(document).state == "expired"


def test_a_detail_that_is_not_given_is_the_classs_own() -> None:
    assert problems.StudyNotFound().detail == "There is no study with this name."
    assert problems.StudyNotFound("gone").detail == "gone"
