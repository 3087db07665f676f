"""Text that Postgres and UTF-8 can hold."""

import pytest
from hypothesis import example, given
from hypothesis.strategies import characters, text

from trimtab.contract.leases import LONGEST_MESSAGE, Failed
from trimtab.contract.text import refuse_surrogates_and_nul, storable

anything = text(characters(), max_size=30)


def is_storable(content: str) -> bool:
    try:
        return b"\0" not in content.encode("utf-8")
    except UnicodeEncodeError:
        return False


@given(anything)
def test_what_can_be_stored_passes_and_nothing_else(content: str) -> None:
    if is_storable(content):
        assert refuse_surrogates_and_nul(content) == content
        return
    with pytest.raises(ValueError, match="must not contain"):
        refuse_surrogates_and_nul(content)


@given(anything)
def test_cleaned_text_can_be_stored_and_keeps_the_rest(content: str) -> None:
    cleaned = storable(content)
    assert is_storable(cleaned)
    assert len(cleaned) == len(content)
    assert all(a == b or a == "\ufffd" for a, b in zip(cleaned, content, strict=True))
    assert storable(cleaned) == cleaned
    assert cleaned == content or not is_storable(content)


@pytest.mark.parametrize("value", [None, 7, 1.5, b"\0", ["\0"]])
def test_what_is_no_text_is_anothers_to_judge(value: object) -> None:
    assert refuse_surrogates_and_nul(value) is value


@given(anything)
@example("\0")
@example("\ud800")
def test_a_failure_is_never_refused_for_its_message(content: str) -> None:
    failed = Failed(error="crashed", message=content * 500)
    assert is_storable(failed.message)
    assert len(failed.message) == min(len(content) * 500, LONGEST_MESSAGE)
