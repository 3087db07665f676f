"""What every pruner promises, whatever its rule; a kind without an example, or without a case, fails here."""

from typing import Any, cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.facts import Curve, TrialFacts
from service.sampling import Sampling, SamplingFailed
from tests.unit.sampling.ledger import Clock, Ledger, document, stopped
from trimtab.contract.message import Message
from trimtab.contract.pruners import AnyPruner, Pruner
from trimtab.contract.search import Search
from trimtab.contract.studies import StudyDocument

PRUNERS: dict[str, dict[str, Any]] = {
    "median": {"startup_trials": 2, "warmup_epochs": 1, "min_trials": 2},
    "percentile": {
        "percentile": 30.0,
        "startup_trials": 2,
        "warmup_epochs": 1,
        "min_trials": 2,
    },
    "threshold": {"lower": -0.9, "upper": 0.9, "warmup_epochs": 1},
    "plateau": {"patience": 1, "min_delta": 0.25, "warmup_epochs": 1},
    "none": {},
    "asha": {"first_rung": 1, "eta": 2},
    "hyperband": {"first_rung": 1, "eta": 2},
    "freeze_thaw": {},
    "auto": {},
}
EXAMPLES = [{"kind": kind, **parameters} for kind, parameters in PRUNERS.items()]
every_pruner = pytest.mark.parametrize("pruner", EXAMPLES, ids=list(PRUNERS))
VALUES = st.none() | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
CURVES = st.dictionaries(st.integers(0, 3), VALUES, max_size=4).map(
    lambda found: tuple(sorted(found.items()))
)


def _study(pruner: object, objective: str = "accuracy") -> StudyDocument:
    kind = cast(dict[str, Any], pruner)["kind"] if isinstance(pruner, dict) else pruner
    sampler = {"freeze_thaw": "gp", "auto": "auto"}.get(str(kind), "tpe")
    return document(sampler=sampler, pruner=pruner, objective=objective)


def _room(peers: list[Curve], factor: float = 1.0) -> Sampling:
    trials = [
        TrialFacts(n, "completed", {}, _times(curve, factor), 0.5)
        for n, curve in enumerate(peers)
    ]
    return Sampling(Ledger(*trials).read, Clock())


def _times(curve: Curve, factor: float) -> Curve:
    return tuple((step, None if value is None else factor * value) for step, value in curve)


def test_every_kind_of_pruner_is_put_to_the_test() -> None:
    kinds = get_args(get_args(AnyPruner)[0])
    assert {get_args(kind.model_fields["kind"].annotation)[0] for kind in kinds} == set(PRUNERS)


@every_pruner
def test_a_pruner_survives_its_own_json(pruner: dict[str, Any]) -> None:
    search = Search.model_validate({"pruner": pruner})
    assert search.pruner.model_dump() == pruner
    assert Search.model_validate_json(search.model_dump_json()) == search


@every_pruner
@given(CURVES, st.lists(CURVES, max_size=5))
def test_the_verdict_at_once_is_the_verdict_of_a_reader(
    pruner: dict[str, Any], curve: Curve, peers: list[Curve]
) -> None:
    room, study = _room(peers), _study(pruner)
    judged = room.prune(1, study, 9, curve).stop
    assert stopped(room.prune_at_once(1, study, 9, curve)) == judged


@every_pruner
@given(CURVES, st.lists(CURVES, max_size=5))
def test_what_is_better_upside_down_is_judged_alike(
    pruner: dict[str, Any], curve: Curve, peers: list[Curve]
) -> None:
    up = _room(peers).prune(1, _study(pruner), 9, curve).stop
    down = _room(peers, -1.0).prune(1, _study(pruner, "loss"), 9, _times(curve, -1.0)).stop
    assert up == down


@every_pruner
def test_nobody_is_stopped_before_it_has_reported_or_for_being_the_best(
    pruner: dict[str, Any],
) -> None:
    peers: list[Curve] = [((0, 0.1), (1, 0.2), (2, 0.3))] * 9
    for curve in ((), ((0, 0.9),), ((0, 0.9), (1, 0.9), (2, 0.9))):
        assert not _room(peers).prune(1, _study(pruner), 9, curve).stop


def test_a_study_without_a_pruner_stops_nobody() -> None:
    peers: list[Curve] = [((0, 0.9),)] * 9
    for pruner in ("none", {"kind": "none"}):
        assert not _study(pruner).search.prunes
        for value in (0.0, None):
            room, curve = _room(peers), ((0, value),)
            assert not stopped(room.prune_at_once(1, _study(pruner), 9, curve))
            assert not room.prune(1, _study(pruner), 9, curve).stop
    assert _study("median").search.prunes


class _Unknown(Message):
    """A kind that the union does not have, as one would be that was added to it alone."""

    kind: str = "unknown"


def test_a_kind_without_a_case_passes_for_no_other() -> None:
    study = _study("median")
    search = study.search.model_copy(update={"pruner": cast("Pruner", _Unknown())})
    unknown = study.model_copy(update={"search": search})
    peers: list[Curve] = [((0, 0.9),)] * 9
    for judge in (_room(peers).prune, _room(peers).prune_at_once):
        with pytest.raises(SamplingFailed, match="unreachable"):
            judge(1, unknown, 9, ((0, 0.1),))
