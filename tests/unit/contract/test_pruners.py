"""The pruner of a document: short and long form, the older form, and what is refused."""

import math
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.support.documents import a_document
from trimtab.contract.auto_search import AutoPruner
from trimtab.contract.faults import refusal
from trimtab.contract.problems import (
    FieldError,
    Invalid,
    NonFinite,
    Problem,
    UnknownField,
    WrongType,
)
from trimtab.contract.pruners import (
    AnyPruner,
    MedianPruner,
    NoPruner,
    Pruner,
    PrunerName,
    ThresholdPruner,
)
from trimtab.contract.schedulers import FreezeThawScheduler
from trimtab.contract.search import Search
from trimtab.contract.studies import StudyDocument

KINDS: tuple[type[Any], ...] = get_args(get_args(AnyPruner)[0])
NAMES = [get_args(kind.model_fields["kind"].annotation)[0] for kind in KINDS]
ALL = ", ".join(map(repr, NAMES))
BARE = ", ".join(map(repr, get_args(PrunerName)))
DEFAULT = MedianPruner(kind="median", startup_trials=5, warmup_epochs=None, min_trials=1)


def pruner_of(**search: Any) -> Pruner:
    return StudyDocument.model_validate(a_document(search=search)).search.pruner


def refused(**search: Any) -> tuple[type[Problem], tuple[FieldError, ...]]:
    document = a_document(search=search)
    with pytest.raises(ValidationError) as raised:
        StudyDocument.model_validate(document)
    problem = refusal(StudyDocument, document, raised.value.errors(include_url=False))
    return type(problem), problem.errors


@pytest.mark.parametrize(
    "search",
    [
        {},
        {"pruner": "median"},
        {"pruner": {"kind": "median"}},
        {"pruner": {"kind": "median", "startup_trials": 5, "warmup_epochs": None}},
        {"pruner": "median", "startup_trials": 5},
    ],
)
def test_the_bare_word_means_the_long_form_with_its_defaults(search: dict[str, Any]) -> None:
    assert pruner_of(**search) == DEFAULT


@pytest.mark.parametrize("pruner", ["none", {"kind": "none"}])
def test_no_pruner_has_a_short_and_a_long_form_too(pruner: Any) -> None:
    assert pruner_of(pruner=pruner) == NoPruner(kind="none")


def _needs_no_parameters(kind: type[Any], name: str) -> bool:
    try:
        kind(kind=name)
    except ValidationError:
        return False
    return True


def test_every_bare_word_is_a_kind_that_needs_no_parameters() -> None:
    kinds = {get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in KINDS}
    bare = [name for name, kind in kinds.items() if _needs_no_parameters(kind, name)]
    assert sorted(get_args(PrunerName)) == sorted(bare)
    for name in bare:
        assert TypeAdapter(Pruner).validate_python(name) == kinds[name](kind=name)


def test_the_parameters_of_a_pruner_are_its_own() -> None:
    pruner = {"kind": "median", "startup_trials": 1, "warmup_epochs": 7}
    assert pruner_of(pruner=pruner) == MedianPruner(
        kind="median", startup_trials=1, warmup_epochs=7
    )


@pytest.mark.parametrize(
    ("word", "parameters"),
    [
        (
            "percentile",
            {"percentile": 25.0, "startup_trials": 5, "warmup_epochs": None, "min_trials": 1},
        ),
        ("plateau", {"patience": 5, "min_delta": 0.0, "warmup_epochs": 0}),
    ],
)
def test_the_other_bare_words_have_defaults_of_their_own(
    word: str, parameters: dict[str, Any]
) -> None:
    assert pruner_of(pruner=word).model_dump() == {"kind": word, **parameters}


def test_a_threshold_may_bound_one_side() -> None:
    pruner = pruner_of(pruner={"kind": "threshold", "upper": 2})
    assert pruner == ThresholdPruner(kind="threshold", lower=None, upper=2.0, warmup_epochs=0)


def test_a_document_is_told_in_the_long_form() -> None:
    search = Search.model_validate({"pruner": "median"})
    told = {"kind": "median", "startup_trials": 5, "warmup_epochs": None, "min_trials": 1}
    assert search.model_dump(include={"sampler", "pruner", "seed"}) == {
        "sampler": "tpe",
        "pruner": told,
        "seed": 0,
    }
    assert Search.model_validate_json(search.model_dump_json()) == search


@pytest.mark.parametrize(
    ("stored", "pruner"),
    [
        (
            '{"sampler":"tpe","pruner":"median","seed":3,"startup_trials":4,"warmup_epochs":2}',
            MedianPruner(kind="median", startup_trials=4, warmup_epochs=2),
        ),
        (
            '{"sampler":"tpe","pruner":{"kind":"median","startup_trials":5,"warmup_epochs":0,"min_trials":1},"seed":3}',
            MedianPruner(kind="median", startup_trials=5, warmup_epochs=0, min_trials=1),
        ),
        (
            '{"sampler":"grid","pruner":"none","seed":3,"startup_trials":4,"warmup_epochs":2}',
            NoPruner(kind="none"),
        ),
    ],
)
def test_a_search_that_was_stored_before_pruners_had_parameters_still_opens(
    stored: str, pruner: Pruner
) -> None:
    search = Search.model_validate_json(stored)
    assert (search.pruner, search.seed) == (pruner, 3)
    assert Search.model_validate_json(search.model_dump_json()) == search


def test_parameters_without_a_pruner_are_the_median_pruners() -> None:
    assert pruner_of(startup_trials=3) == MedianPruner(kind="median", startup_trials=3)


@pytest.mark.parametrize("word", ["medain", "Median", "medians"])
def test_a_misspelt_pruner_is_told_the_nearest_word_at_its_place(word: str) -> None:
    for pruner, pointer in (
        (word, "/search/pruner"),
        ({"kind": word}, "/search/pruner/kind"),
    ):
        problem, (fault,) = refused(pruner=pruner)
        assert (problem, fault.pointer) == (Invalid, pointer)
        assert fault.message == f"Input should be {ALL}; did you mean 'median'?"


@pytest.mark.parametrize(
    ("search", "problem", "pointer", "said"),
    [
        ({"pruner": {"startup_trials": 3}}, Invalid, "/pruner/kind", "required"),
        ({"pruner": "qqq"}, Invalid, "/pruner", ALL),
        ({"pruner": ""}, Invalid, "/pruner", ALL),
        ({"pruner": None}, WrongType, "/pruner", f"{BARE} or an object"),
        ({"pruner": ["median"]}, WrongType, "/pruner", f"{BARE} or an object"),
        (
            {"pruner": {"kind": "none", "startup_trials": 3}},
            UnknownField,
            "/pruner/startup_trials",
            "known here: kind",
        ),
        (
            {"pruner": {"kind": "median", "warm_up_epochs": 3}},
            UnknownField,
            "/pruner/warm_up_epochs",
            "did you mean 'warmup_epochs'?",
        ),
        *(
            (
                {"pruner": {"kind": "median", name: value}},
                problem,
                f"/pruner/{name}",
                "integer" if problem is WrongType else "than or equal to",
            )
            for name, value, problem in [
                ("startup_trials", -1, Invalid),
                ("startup_trials", 0, Invalid),
                ("startup_trials", 1001, Invalid),
                ("startup_trials", 2.0, WrongType),
                ("startup_trials", "5", WrongType),
                ("startup_trials", True, WrongType),
                ("startup_trials", None, WrongType),
                ("warmup_epochs", -1, Invalid),
                ("warmup_epochs", 100_001, Invalid),
                ("min_trials", 0, Invalid),
                ("min_trials", 1.0, WrongType),
            ]
        ),
        *(
            ({"pruner": {"kind": kind, name: value}}, problem, f"/pruner/{name}", said)
            for kind, name, value, problem, said in [
                ("percentile", "percentile", -0.5, Invalid, "than or equal to 0"),
                ("percentile", "percentile", 100.5, Invalid, "than or equal to 100"),
                ("percentile", "percentile", "25", WrongType, "valid number"),
                ("percentile", "percentile", math.nan, NonFinite, "finite"),
                ("percentile", "startup_trials", 0, Invalid, "than or equal to 1"),
                ("percentile", "warmup_epochs", -1, Invalid, "than or equal to 0"),
                ("percentile", "min_trials", 0, Invalid, "than or equal to 1"),
                ("percentile", "patience", 3, UnknownField, "known here"),
                ("threshold", "warmup_epochs", None, WrongType, "valid integer"),
                ("threshold", "lower", math.inf, NonFinite, "finite"),
                ("plateau", "patience", 0, Invalid, "than or equal to 1"),
                ("plateau", "patience", 1.5, WrongType, "valid integer"),
                ("plateau", "min_delta", -0.1, Invalid, "than or equal to 0"),
                ("plateau", "warmup_epochs", 100_001, Invalid, "than or equal to 100000"),
            ]
        ),
        ({"pruner": "threshold"}, Invalid, "/pruner", "{kind: threshold, lower: 0.2}"),
        ({"pruner": {"kind": "threshold"}}, Invalid, "/pruner", "`lower`, `upper` or both"),
        (
            {"pruner": {"kind": "threshold", "lower": 0.9, "upper": 0.1}},
            Invalid,
            "/pruner/lower",
            "above `upper`",
        ),
        ({"audit": 1.5}, Invalid, "/audit", "than or equal to 1"),
        ({"audit": -0.1}, Invalid, "/audit", "than or equal to 0"),
        ({"audit": "5 %"}, WrongType, "/audit", "valid number"),
        ({"startup_trials": 0}, Invalid, "/startup_trials", "greater than or equal to 1"),
        (
            {"pruner": "none", "startup_trials": 1.5},
            WrongType,
            "/startup_trials",
            "valid integer",
        ),
        (
            {"pruner": {"kind": "median"}, "startup_trials": 3},
            Invalid,
            "/startup_trials",
            "stands within `pruner`",
        ),
        (
            {"pruner": {"kind": "none"}, "warmup_epochs": 0},
            Invalid,
            "/warmup_epochs",
            "stands within `pruner`",
        ),
    ],
)
def test_a_bad_pruner_is_refused_at_its_place(
    search: dict[str, Any], problem: type[Problem], pointer: str, said: str
) -> None:
    found, (fault,) = refused(**search)
    assert (found, fault.pointer) == (problem, f"/search{pointer}")
    assert said in fault.message


def test_a_misspelt_pruner_is_told_beside_the_parameters_of_the_older_form() -> None:
    _, faults = refused(pruner="medain", startup_trials=3)
    assert [fault.pointer for fault in faults] == ["/search/pruner", "/search/startup_trials"]


def test_the_json_schema_knows_both_forms_and_the_answers_long_one_alone() -> None:
    taken = TypeAdapter(Pruner).json_schema(mode="validation")
    told = TypeAdapter(Pruner).json_schema(mode="serialization")
    assert taken["anyOf"][0]["enum"] == list(get_args(PrunerName))
    assert taken["anyOf"][1]["discriminator"]["propertyName"] == "kind"
    assert [one["$ref"] for one in told["oneOf"]] == [
        f"#/$defs/{kind.__name__}" for kind in KINDS
    ]
    for kind in KINDS:
        assert "kind" in kind.model_json_schema()["required"]


@pytest.mark.parametrize("kind", ["asha", "hyperband"])
def test_a_scheduler_has_a_short_and_a_long_form(kind: str) -> None:
    short = pruner_of(pruner=kind)
    assert short == pruner_of(pruner={"kind": kind, "first_rung": None, "eta": 3})
    assert Search(pruner=short).schedules
    assert Search(pruner=short).prunes
    assert not Search().schedules


@pytest.mark.parametrize("kind", ["asha", "hyperband"])
@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        (
            {"space": {"epochs": {"kind": "int", "low": 2, "high": 9}}, "fixed": {}},
            "/space/epochs",
            "searched_epochs",
        ),
        ({"fixed": {"epochs": 4}}, "/search/pruner/first_rung", "rung_beyond_the_end"),
    ],
)
def test_trials_that_cannot_be_compared_at_rungs_are_refused_also_beside_other_faults(
    kind: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    search = {"pruner": {"kind": kind, "first_rung": 4}}
    for more in ({}, {"priority": -1}):
        with pytest.raises(ValidationError) as raised:
            StudyDocument.model_validate(a_document(search=search, **changes, **more))
        document = a_document(search=search, **changes, **more)
        errors = raised.value.errors(include_url=False)
        found = {
            one.pointer: one.code for one in refusal(StudyDocument, document, errors).errors
        }
        assert found[pointer] == code
        assert len(found) == 1 + len(more)


def test_a_first_rung_below_the_end_is_taken() -> None:
    search = {"pruner": {"kind": "asha", "first_rung": 3}}
    StudyDocument.model_validate(a_document(search=search, fixed={"epochs": 4}))


@pytest.mark.parametrize(
    ("parameter", "value", "problem"),
    [
        ("first_rung", 0, Invalid),
        ("eta", 1, Invalid),
        ("eta", 2.5, WrongType),
        ("eta", 101, Invalid),
    ],
)
def test_a_bad_parameter_of_a_scheduler_is_refused_at_its_place(
    parameter: str, value: Any, problem: type[Problem]
) -> None:
    found, (fault,) = refused(pruner={"kind": "asha", parameter: value})
    assert (found, fault.pointer) == (problem, f"/search/pruner/{parameter}")


@pytest.mark.parametrize("sampler", ["gp", "auto"])
def test_freeze_thaw_goes_with_the_sampler_whose_model_it_shares(sampler: str) -> None:
    assert pruner_of(sampler=sampler, pruner="freeze_thaw") == FreezeThawScheduler(
        kind="freeze_thaw"
    )


@pytest.mark.parametrize("search", [{}, {"sampler": "tpe"}, {"sampler": "grid"}])
def test_freeze_thaw_beside_another_sampler_is_refused_also_beside_other_faults(
    search: dict[str, Any],
) -> None:
    for seed in (3, -1):
        _, faults = refused(**search, pruner="freeze_thaw", seed=seed)
        codes = {fault.pointer: (fault.code, fault.message) for fault in faults}
        name = search.get("sampler", "tpe")
        assert codes["/search/pruner"] == (
            "freeze_thaw_without_gp",
            f"goes with `sampler: gp`, whose model it shares, and not with {name!r}",
        )


def test_epochs_cannot_be_searched_beside_freeze_thaw() -> None:
    space = {"epochs": {"kind": "int", "low": 2, "high": 9}}
    search = {"sampler": "gp", "pruner": "freeze_thaw"}
    with pytest.raises(ValidationError, match="compares trials at the same epochs"):
        StudyDocument.model_validate(a_document(search=search, space=space, fixed={}))


def test_auto_leaves_the_pruner_open_too_unless_a_document_names_one() -> None:
    assert pruner_of(sampler="auto") == AutoPruner(kind="auto")
    assert pruner_of(sampler="auto", pruner="median") == DEFAULT
    assert pruner_of(sampler="auto", startup_trials=3).kind == "median"


def test_a_document_of_auto_survives_its_own_json() -> None:
    search = Search.model_validate({"sampler": "auto"})
    assert Search.model_validate_json(search.model_dump_json()) == search
    assert search.auto_reason is None


def test_a_pruner_left_open_beside_a_sampler_of_ones_own_is_refused() -> None:
    for seed in (3, -1):
        _, faults = refused(sampler="gp", pruner="auto", seed=seed)
        codes = {fault.pointer: fault.code for fault in faults}
        assert codes["/search/pruner"] == "auto_beside_a_sampler"


def test_an_unknown_sampler_is_told_all_of_the_words() -> None:
    _, (fault,) = refused(sampler="atuo", pruner="none")
    assert fault.pointer == "/search/sampler"
    assert "'auto', 'tpe', 'gp', 'random' or 'grid'" in fault.message
