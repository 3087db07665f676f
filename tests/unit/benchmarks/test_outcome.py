"""What the benchmark of the outcome makes of its results, and that no side learns from what it is measured on."""

from pathlib import Path

import pytest
from PIL import Image

from tests.benchmarks.outcome_figures import figures, lines
from tests.benchmarks.outcome_results import Done, Kept, coverage, gain
from tests.benchmarks.outcome_tasks import JOBS, lay


def done(task: str, study: int, side: str, *accuracies: float, **more: object) -> Done:
    return Done(task, study, side, accuracies, 8, **more)  # pyright: ignore[reportArgumentType]


def test_sides_are_compared_by_study_then_by_task() -> None:
    results = [
        done("a", 0, "plain", 0.5, 0.7),
        done("a", 0, "single", 0.7),
        done("a", 1, "plain", 0.8, 0.8),
        done("a", 1, "single", 0.7),
        done("b", 0, "plain", 0.2),
        done("b", 0, "single", 0.4),
        done("b", 1, "single", 0.9),  # has no plain run to be held against
    ]
    found = gain(results, "single", "plain")
    assert found is not None
    assert found.tasks == pytest.approx({"a": 0.0, "b": 20.0})
    assert found.points == pytest.approx(10.0)
    assert found.studies == 3
    assert found.interval is not None
    # Task a gives -10 or +10 points a study, of which two are drawn; task b the same 20 always.
    assert found.interval == pytest.approx((5.0, 15.0))
    assert gain(results, "ensemble", "plain") is None


def test_an_ensemble_is_held_against_one_model_of_its_own_search() -> None:
    def reported(
        study: int, handed: float, side: str = "ensemble", **candidates: tuple[float, float]
    ) -> Done:
        told = [
            {"kind": kind, "validation_value": validation, "test": {"value": test}}
            for kind, (validation, test) in candidates.items()
        ]
        return done("a", study, side, handed, report={"candidates": told})

    results = [
        reported(0, 0.9, winner=(0.8, 0.1), refit=(0.8, 0.7), linear_probe=(0.8, 0.2)),
        reported(1, 0.9, winner=(0.8, 0.1), refit=(0.8, 0.7), linear_probe=(0.81, 0.8)),
    ]
    assert figures(results)["ensemble_same_search"] == pytest.approx({"a": 15.0})
    single = reported(1, 0.8, "single", refit=(0.8, 0.7), linear_probe=(0.81, 0.8))
    assert figures([single])["without"] == pytest.approx({"untrained": -10.0})


def test_a_single_study_of_each_task_has_no_interval() -> None:
    results = [done("a", 0, "plain", 0.5), done("a", 0, "single", 0.6)]
    found = gain(results, "single", "plain")
    assert found is not None
    assert found.interval is None


def test_an_interval_covers_if_it_holds_what_more_pictures_say() -> None:
    def reported(test: float, corrected: float | None, naive: float) -> Done:
        report = {"test": {"value": test, "low": test - 0.05, "high": test + 0.05}}
        value = corrected and {"value": corrected, "low": corrected - 0.1, "high": corrected}
        return done(
            *("a", 0, "single", 0.8),
            validation=naive,
            more={"handed_over": 0.80, "validated": 0.75},
            report={**report, "corrected": value and {"value": value}},
        )

    found = coverage([reported(0.82, 0.77, 0.85), reported(0.70, None, 0.95)])
    assert found["test"] == pytest.approx({"held": 0.5, "optimism": -4.0, "of": 2})
    assert found["corrected"] == pytest.approx({"held": 1.0, "optimism": 2.0, "of": 1})
    assert found["naive"] == pytest.approx({"optimism": 15.0, "of": 2})


def test_losses_come_first_and_rules_are_held_against_the_side_that_has_them() -> None:
    results = [
        done("shapes", 0, "plain", 0.5),
        done("shapes", 0, "single", 0.6),
        done("shapes", 0, "without_refit", 0.55),
        done("ants_bees", 0, "plain", 0.8),
        done("ants_bees", 0, "single", 0.7),
        done("ants_bees", 0, "choice", 0.9),
        done("ants_bees", 0, "choice_without_last_epoch", 0.7),
    ]
    found = figures(results)
    assert found["to_plain"] == pytest.approx({"shapes": 10.0, "ants_bees": -10.0})
    assert found["without"] == pytest.approx({"last_epoch": -20.0, "refit": -5.0})
    assert found["means"]["to_plain"]["unseen"]["points"] == pytest.approx(10.0)
    assert found["means"]["to_plain"]["used_for_choosing"]["points"] == pytest.approx(-10.0)
    told = [one.split(", all")[0] for one in lines(results) if ", all" in one]
    assert told == [
        "choice_without_last_epoch less choice",
        "without_refit less single",
        "single less plain",
    ]
    assert "    ants_bees -10.0, shapes +10.0" in lines(results)


def test_what_was_kept_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    one = done("a", 1, "plain", 0.5, 0.25, cpu_s=1.5)
    Kept(path).add(one)
    again = Kept(path)
    assert again.has("a", 1, "plain")
    assert not again.has("a", 1, "single")
    assert again.of(["a"], studies=2) == [one]
    assert again.of(["a"], studies=1) == again.of(["b"], studies=2) == []


@pytest.mark.parametrize("name", ["shapes", "digits_8"])
def test_a_study_draws_its_own_pictures_and_never_those_of_the_test(
    name: str, tmp_path: Path
) -> None:
    (job,) = [job for job in JOBS if job.name == name]
    first, second = (lay(job, tmp_path, study) for study in (0, 1))
    seen = {place: _pictures(place) for place in (first.data / "train", second.data / "train")}
    test, more = _pictures(first.data / "test"), _pictures(first.more)
    assert test == _pictures(second.data / "test")
    one, other = seen.values()
    assert one != other
    assert not (one | other) & (test | more)
    assert not test & more
    assert lay(job, tmp_path, 0) == first
    assert _pictures(first.data / "train") == one


def _pictures(folder: Path) -> set[bytes]:
    return {Image.open(path).tobytes() for path in folder.rglob("*.png")}
