"""Reading a study document: whatever the file holds, the answer is a study or a clear refusal."""

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from trimtab.cli import documents
from trimtab.contract import problems
from trimtab.contract.pruners import MedianPruner, NoPruner, Pruner

GOOD = """
name: digits
task:  {kind: classification, dataset: {kind: builtin, name: digits}}
model: {backbone: glyphnet}
space:
  learning_rate: {kind: float, low: 1e-5, high: 1.0e-1, log: true}
fixed:  {epochs: 12}
budget: {trials: 60}
"""


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "study.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refusal(folder: Path, content: str | bytes) -> problems.Invalid:
    with pytest.raises(problems.Invalid) as caught:
        documents.read(written(folder, content))
    return caught.value


def pointers(refused: problems.Invalid) -> dict[str, str]:
    return {fault.pointer: fault.message for fault in refused.errors}


def test_a_good_document_is_a_study(tmp_path: Path) -> None:
    study = documents.read(written(tmp_path, GOOD))
    assert (study.name, study.budget.trials) == ("digits", 60)


def test_1e_minus_5_is_a_number_as_everywhere_but_in_yaml_1_1() -> None:
    assert documents.parse("[1e-5, -2E+3, .5e1, 1.e2, 1e5x]", "it") == [
        1e-5,
        -2e3,
        5.0,
        100.0,
        "1e5x",
    ]


def test_an_unknown_field_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    refused = refusal(tmp_path, GOOD.replace("log: true", "logs: true") + "serch: {}\n")
    assert pointers(refused) == {
        "/space/learning_rate/logs": "there is no such field; did you mean 'log'?",
        "/serch": "there is no such field; did you mean 'search'?",
    }


def test_a_hyperparameter_in_another_place_is_told_its_own(tmp_path: Path) -> None:
    refused = refusal(
        tmp_path, GOOD.replace("kind: builtin", "shots: 5, kind: builtin") + "epochs: 3\n"
    )
    told = "there is no such field; it is a hyperparameter: name it below `fixed` or `space`"
    assert pointers(refused) == {"/task/dataset/shots": told, "/epochs": told}


@pytest.mark.parametrize(
    ("written_as", "pruner"),
    [
        ("median", MedianPruner(kind="median")),
        ("none", NoPruner(kind="none")),
        ("{kind: median, warmup_epochs: 2}", MedianPruner(kind="median", warmup_epochs=2)),
    ],
)
def test_a_pruner_is_a_word_or_a_kind_with_its_parameters(
    tmp_path: Path, written_as: str, pruner: Pruner
) -> None:
    study = documents.read(written(tmp_path, f"{GOOD}search: {{pruner: {written_as}}}\n"))
    assert study.search.pruner == pruner


@pytest.mark.parametrize(
    ("written_as", "pointer"),
    [("medain", "/search/pruner"), ("{kind: medain}", "/search/pruner/kind")],
)
def test_a_misspelt_pruner_is_told_the_nearest_word(
    tmp_path: Path, written_as: str, pointer: str
) -> None:
    refused = refusal(tmp_path, f"{GOOD}search: {{pruner: {written_as}}}\n")
    (said,) = pointers(refused).items()
    assert said[0] == pointer
    assert said[1].startswith("Input should be 'median', ")
    assert said[1].endswith("; did you mean 'median'?")


def test_a_missing_field_is_named_where_it_should_stand(tmp_path: Path) -> None:
    refused = refusal(tmp_path, GOOD.replace("low: 1e-5, ", "").replace("budget", "fixed2"))
    assert pointers(refused)["/space/learning_rate/low"] == "Field required"
    assert pointers(refused)["/budget"] == "Field required"


def test_a_value_that_no_member_of_a_union_takes_is_one_fault(tmp_path: Path) -> None:
    refused = refusal(tmp_path, GOOD.replace("epochs: 12", "epochs: [12]"))
    assert list(pointers(refused)) == ["/fixed/epochs"]


def test_names_in_a_pointer_are_escaped(tmp_path: Path) -> None:
    refused = refusal(tmp_path, GOOD + '"a/b~c": 1\n')
    assert list(pointers(refused)) == ["/a~1b~0c"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("some words\n", "it must have fields"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key 'a' appears twice"),
        ("a: {b: 1, b: 2}\n", "appears twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag"),
        ("a: [1\n", "line 2"),
        ("a: 1\n---\nb: 2\n", "single document"),
        ("a: &a [*a]\n", "inside its own anchor"),
        ("a: 2026-13-45\n", "a value that cannot be read: month must be"),
        ("[" * 5000, "nested too deeply"),
        ("\x00\x01", "unacceptable character"),
        (b"\xff\xfe\x00", "UTF-8"),
        ("a: '" + "x" * (1 << 20) + "'", "larger than 1 MiB"),
    ],
)
def test_what_is_no_document_is_refused_in_words(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    assert said in refusal(tmp_path, content).detail


def test_an_alias_bomb_is_refused_before_it_is_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    with pytest.raises(problems.Invalid, match="100,000 values"):
        documents.parse("\n".join(lines), "it")


def test_a_merge_key_may_be_overridden() -> None:
    text = "base: &base {low: 1, high: 2}\nmine: {<<: *base, high: 3}\n"
    assert documents.parse(text, "it") == {
        "base": {"low": 1, "high": 2},
        "mine": {"low": 1, "high": 3},
    }


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(problems.Invalid, match="No such file"):
        documents.read(tmp_path / "absent.yaml")
    with pytest.raises(problems.Invalid, match="not a regular file"):
        documents.read(tmp_path)
    with pytest.raises(problems.Invalid, match="cannot be read"):
        documents.read(Path("a\0b"))


@given(st.text(max_size=200))
@example("? [a]\n: 1")
@example("{[1]: 2}")
@example("a: .nan")
@example("!!binary x")
@example("<<: 1")
@example("- &a !!set {*a : }")
@example("=")
def test_any_text_at_all_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(problems.Invalid):
        documents.parse(text, "it")


Plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "task", "model", "space", "fixed", "search", "budget", "x"]),
        Plain,
    )
)
def test_any_document_at_all_is_a_study_or_has_its_faults_named(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, object]
) -> None:
    folder = tmp_path_factory.mktemp("any", numbered=True)
    refused = refusal(folder, yaml.safe_dump(document, allow_unicode=False))
    assert refused.errors or "YAML" in refused.detail or "value" in refused.detail
