"""The live view: what it says of a study at each moment."""

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tests.unit.cli.played_service import BEST, STUDY, TRIAL
from trimtab.cli import board, tables
from trimtab.cli.watch import Reckoning, Snapshot
from trimtab.contract.events import Event, EventKind
from trimtab.contract.studies import Best, Study
from trimtab.contract.trials import IntermediateValue, Trial


def study(**changes: Any) -> Study:
    return Study.model_validate({**STUDY, "state": "active", "final": None, **changes})


def trial(**changes: Any) -> Trial:
    return Trial.model_validate({**TRIAL, **changes})


def event(kind: EventKind, number: int | None = None) -> Event:
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    return Event(cursor="1", at=at, kind=kind, trial_number=number, body={})


def snapshot(shown: Study, *events: Event, seconds_left: float | None = None) -> Snapshot:
    return Snapshot(shown, {3: trial()}, events, seconds_left)


def drawn(view: RenderableType, width: int = 110) -> str:
    console = Console(width=width, force_terminal=False, markup=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_the_board_says_how_far_how_good_what_was_saved_and_how_long() -> None:
    text = drawn(board.board(snapshot(study(), seconds_left=75.0)))
    for part in (
        "digits  active",
        "4 of 16",
        "3 completed, 1 pruned",
        "96.25 % validation accuracy, trial 3",
        "30 trained, 10 saved by stopping early (25%)",
        "about 75 s",
        "learning_rate=0.001",
    ):
        assert part in text


def test_a_narrow_terminal_cuts_hyperparameters_and_nothing_else() -> None:
    long = trial(hyperparameters={f"hyperparameter_{n}": 0.123 for n in range(9)})
    text = drawn(board.board(Snapshot(study(), {3: long}, (), None)), width=80)
    row = next(line for line in text.splitlines() if "hyperparameter_0" in line)
    for cell in ("3", "completed", "91.00 %", "▁x█", "…"):
        assert cell in row


def test_a_study_without_anything_yet_says_so() -> None:
    text = drawn(board.board(Snapshot(study(best=None, progress={}), {}, (), None)))
    assert "none yet" in text
    assert "not known yet" in text


@pytest.mark.parametrize(
    ("state", "said"),
    [("finalising", "sealed test split"), ("done", "done"), ("cancelled", "cancelled")],
)
def test_time_left_names_what_comes_when_the_search_is_over(state: str, said: str) -> None:
    assert said in board.time_left(snapshot(study(state=state)))


def test_search_trials_and_refits_are_told_apart() -> None:
    document = STUDY["document"] | {"finish": {"refit": True, "ensemble": 2}}
    refits = {"total": 2, "running": 1, "completed": 1}
    seen = snapshot(study(document=document, refits=refits, state="finalising"))
    text = drawn(board.board(seen))
    assert "4 of 14" in text
    assert "1 of 2 trained on train and validation, 1 running" in text
    assert "trained anew" in board.time_left(seen)
    over = study(document=document, refits={"total": 2, "completed": 1, "failed": 1})
    finalising = over.model_copy(update={"state": "finalising"})
    assert "sealed test split" in board.time_left(snapshot(finalising))


def test_a_line_is_written_for_each_settled_trial_and_each_change_of_the_study() -> None:
    seen = snapshot(
        study(),
        event("study_created"),
        event("reported", 3),
        event("trial_pruned", 3),
        event("trial_failed", 9),
    )
    written = board.lines(seen)
    assert [line.split("  ", 1)[1].split("  ")[0] for line in written] == [
        "study created",
        "trial 3 pruned",
        "trial 9 failed",
    ]
    assert "91.00 % after 3 epochs" in written[1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (98, "98 s"), (100, "2 min"), (3590, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_are_told_as_people_tell_them(seconds: float, words: str) -> None:
    assert board.duration(seconds) == words


def test_time_left_is_reckoned_from_the_pace_since_we_look() -> None:
    reckoning = Reckoning(study(progress={"completed": 2}), now=100.0)
    later = study(progress={"completed": 4, "pruned": 1, "failed": 1})
    assert reckoning.seconds_left(later, 0.0, now=140.0) == pytest.approx(100.0)


def test_time_left_forgets_the_start_up() -> None:
    reckoning = Reckoning(study(progress={}), now=0.0)
    assert reckoning.seconds_left(study(progress={"completed": 1}), 0.0, now=30.0) == 450.0
    assert reckoning.seconds_left(study(progress={"completed": 2}), 0.0, now=32.0) == 28.0


def test_time_left_is_never_more_than_the_wall_time() -> None:
    document = {**STUDY["document"], "budget": {"trials": 16, "wall_time_s": 120.0}}
    reckoning = Reckoning(study(progress={}, document=document), now=0.0)
    later = study(progress={"completed": 1}, document=document)
    assert reckoning.seconds_left(later, 31.0, now=30.0) == 89.0


@pytest.mark.parametrize(
    "now",
    [
        study(progress={"completed": 2}),
        study(state="finalising"),
        study(progress={"completed": 16}),
    ],
)
def test_there_is_no_reckoning_without_a_settled_trial_or_without_a_rest(now: Study) -> None:
    reckoning = Reckoning(study(progress={"completed": 2}), now=100.0)
    assert reckoning.seconds_left(now, 0.0, now=140.0) is None


def test_a_curve_runs_from_its_lowest_to_its_highest_value() -> None:
    points = tuple(
        IntermediateValue(step=n, value=v) for n, v in enumerate([0.1, None, 0.5, 0.9])
    )
    assert tables.curve(points) == "▁x▅█"
    assert tables.curve(points[:1]) == "▁"
    assert tables.curve(points[1:2]) == "x"


def test_a_long_curve_is_drawn_from_its_first_to_its_last_value_in_a_tables_width() -> None:
    points = tuple(IntermediateValue(step=n, value=float(n)) for n in range(200))
    drawn = tables.curve(points)
    assert (len(drawn), drawn[0], drawn[-1]) == (tables.CURVE_WIDTH, "▁", "█")
    assert list(drawn) == sorted(drawn)


def test_a_study_that_is_done_shows_before_and_after() -> None:
    text = drawn(tables.study(Study.model_validate(STUDY)))
    assert "97.00 %" in text
    assert "before fine-tuning" in text
    assert "11.00 %" in text


def test_a_study_tells_what_it_takes_of_the_services_disk() -> None:
    text = drawn(tables.study(Study.model_validate({**STUDY, "artifact_bytes": 12_345_678})))
    assert "12.3 MB of checkpoints and model" in text


def test_a_study_tells_what_is_searched_and_what_is_fixed_by_whom() -> None:
    document = STUDY["document"] | {
        "fixed": {"epochs": 8, "schedule": "cosine", "warmup_share": 0.1},
        "completed": ["schedule", "warmup_share"],
    }
    lines = drawn(tables.study(study(document=document))).splitlines()
    told = [" ".join(line.split()) for line in lines]
    assert "searched learning_rate" in told
    assert "fixed epochs=8" in told
    assert "known recipe schedule=cosine warmup_share=0.1" in told
    auto = drawn(tables.study(study(document=document | {"auto_space": True})))
    assert "learning_rate (auto)" in auto
    optimizer = {"kind": "choices", "choices": ["sgd", "adam"]}
    momentum = {"kind": "float", "low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}}
    space = {"optimizer": optimizer, "momentum": momentum}
    conditional = drawn(tables.study(study(document=document | {"space": space})))
    assert "momentum (with optimizer: sgd)" in conditional


def test_a_trial_tells_what_proposed_it() -> None:
    assert "proposed by" not in drawn(tables.trial(trial()))
    known = drawn(tables.trial(trial(proposed_by="known_recipe:fast_head")))
    assert "known_recipe:fast_head" in known


def test_an_epoch_is_told_with_its_losses_and_where_the_average_was_taken() -> None:
    point = IntermediateValue(step=4, value=0.9)
    measured = {"train_loss": 0.25, "validation_f1": 0.5, "validation_adaptation_weight": 0.75}
    answer = trial(curve=(point,), metrics={"4": measured})
    told = "90.00 %  train_loss=0.25  validation_adaptation_weight=0.75"
    assert told in drawn(tables.trial(answer))


def test_a_failed_trial_shows_its_kind_and_message() -> None:
    failed = trial(
        state="failed", value=None, error_kind="oom", error_message="no memory\x1b[2J"
    )
    text = drawn(tables.trial(failed))
    assert "oom: no memory" in text
    assert "\x1b" not in text


def test_the_board_and_the_lines_say_why_a_trial_failed() -> None:
    failed = trial(state="failed", value=None, error_kind="oom", error_message="no memory")
    seen = Snapshot(study(), {3: failed}, (event("trial_failed", 3),), None)
    assert "trial 3: oom: no memory" in drawn(board.board(seen))
    assert "trial 3 failed  oom: no memory" in board.lines(seen)[0]


def test_the_board_and_the_lines_say_why_a_study_was_set_aside() -> None:
    paused = study(state="paused", problem="The sampler failed.\x1b[2J")
    told = event("study_paused").model_copy(update={"body": {"problem": paused.problem}})
    seen = Snapshot(paused, {}, (told,), None)
    assert "The sampler failed." in drawn(board.board(seen))
    assert "study paused: The sampler failed." in board.lines(seen)[0]
    assert "\x1b" not in drawn(board.board(seen)) + board.lines(seen)[0]


def test_a_blocked_study_tells_its_problem_and_the_workers_that_cannot_serve_it() -> None:
    at = "2026-11-01T12:00:00Z"
    aside = [{"worker": "cpu-0", "problem": "no such folder\x1b[2J", "at": at}]
    blocked = study(blocked=True, problem="No worker can serve it.\x1b[2J", set_aside=aside)
    told = event("worker_set_aside").model_copy(
        update={"body": {"worker": "cpu-0", "problem": "no such folder"}}
    )
    seen = Snapshot(blocked, {}, (told,), None)
    views = drawn(board.board(seen)), drawn(tables.study(blocked))
    for view in views:
        assert "active, blocked" in view
        assert "No worker can serve it." in view
    assert "worker cpu-0: no such folder" in views[1]
    lines = board.lines(seen)
    assert lines[0].endswith("worker cpu-0 set aside: no such folder")
    assert lines[1].startswith("study blocked: No worker can serve it.")
    assert "\x1b" not in "".join([*views, *lines])


def test_a_study_tells_what_its_first_epoch_took() -> None:
    probe = {"epoch_s": 12.345, "memory_bytes": 2_500_000_000}
    text = drawn(tables.study(study(probe=probe)))
    assert "12.3 s the first, in 2.50 GB of the device's memory" in text
    assert "12.3 s the first\n" in drawn(tables.study(study(probe={"epoch_s": 12.345})))


def test_best_tells_why_there_are_no_scores() -> None:
    failed = {**BEST, "final": None, "problem": "The final evaluation failed: oom: no memory"}
    assert "failed: oom: no memory" in drawn(tables.best(Best.model_validate(failed)))


def test_the_board_and_the_study_tell_what_ended_it() -> None:
    done = study(state="done", ended_by="wall_time")
    for view in (board.board(Snapshot(done, {}, (), None)), tables.study(done)):
        assert "its wall time" in drawn(view)


@pytest.mark.parametrize(
    ("kind", "message", "words"),
    [
        ("diverged", "the loss is not finite", "diverged: the loss is not finite"),
        (
            "poison",
            "Failed 3 times; the last: crashed: -9",
            "Failed 3 times; the last: crashed: -9",
        ),
        ("poison", None, "poison"),
        ("oom", None, "oom"),
    ],
)
def test_a_failure_is_told_by_what_happened(kind: str, message: str | None, words: str) -> None:
    failed = trial(state="failed", value=None, error_kind=kind, error_message=message)
    assert tables.failure(failed) == words


def test_a_cancelled_trial_is_no_failure() -> None:
    one_epoch = [{"step": 0, "value": 0.5}]
    cancelled = trial(state="cancelled", value=None, error_kind="cancelled", curve=one_epoch)
    seen = Snapshot(study(), {3: cancelled}, (event("trial_cancelled", 3),), None)
    assert "last failure" not in drawn(board.board(seen))
    assert "trial 3 cancelled  50.00 % after 1 epoch  learning_rate" in board.lines(seen)[0]


def test_the_learning_rate_stands_first() -> None:
    values = {"batch_size": 16, "momentum": 0.9, "learning_rate": 0.0123456}
    shown = tables.hyperparameters(values)
    assert shown == "learning_rate=0.0123  batch_size=16  momentum=0.9"


def test_an_error_is_shown_in_its_own_unit_and_the_least_is_the_best_of_a_curve() -> None:
    best: dict[str, object] = {"number": 3, "objective": "rmse", "value": 12.3456}
    best["hyperparameters"] = dict[str, object]()
    points = [{"step": step, "value": value} for step, value in enumerate((40.0, 9.5, 30.0))]
    running = trial(state="running", objective="rmse", value=None, curve=points)
    text = drawn(board.board(Snapshot(study(best=best), {3: running}, (), None)))
    assert "12.346 validation rmse, trial 3" in text
    row = next(line for line in text.splitlines() if "running" in line)
    assert "9.5" in row
    assert "%" not in row


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        ("accuracy", "50.00 % accuracy"),
        ("species.balanced_accuracy", "50.00 % species.balanced accuracy"),
        ("f1_macro", "0.5 f1 macro"),
        ("age.mae", "0.5 age.mae"),
    ],
)
def test_a_share_is_shown_in_per_cent_and_all_else_as_a_number(metric: str, shown: str) -> None:
    assert tables.measured(metric, 0.5) == shown
    assert tables.measured(metric, None) == "-"


def test_best_tells_the_pretrained_model_of_the_winner() -> None:
    model = {"backbone": "resnet18", "weights": "none"}
    told = " ".join(drawn(tables.best(Best.model_validate({**BEST, "model": model}))).split())
    assert "pretrained model resnet18, weights none" in told


def test_the_best_of_a_curve_is_by_the_direction_of_its_study() -> None:
    points = tuple(
        IntermediateValue(step=step, value=value) for step, value in enumerate((0.5, 0.25))
    )
    pruned = trial(value=None, curve=points, objective="reward")
    assert tables.reached(pruned) == 0.5
    assert tables.reached(pruned.model_copy(update={"direction": "minimize"})) == 0.25
