"""Every verb in any order, against the model in plain Python; the invariants after each step."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from service.domain.lifecycle import STUDY_STEPS, TRIAL_STEPS
from service.use_cases import studies
from tests.support.protocol import TTL_S, Service, empty
from tests.support.protocol_invariants import broken
from tests.support.protocol_model import LeaseModel, Model, Refused, StudyModel, WorkerModel
from trimtab.contract.leases import Checkpoint, Completed, Failed, Lease, Outcome, Pruned
from trimtab.contract.problems import Problem

NAMES = ("one", "two")
CHANGES: dict[str, Callable[..., object]] = {
    "paused": studies.pause,
    "active": studies.resume,
    "stopping": studies.stop,
    "cancelled": studies.cancel,
}
OUTCOMES: Sequence[tuple[str, object, bool]] = (
    ("completed", 0.5, False),
    ("completed", 0.5, False),
    ("completed", 0.7, False),
    ("pruned", None, False),
    ("failed", "oom", False),
    ("failed", "crashed", True),
    ("failed", "cancelled", False),
)
RECENT = st.integers(0, 5)


class Protocol(RuleBasedStateMachine):
    """Two workers, two names for studies; every lease ever given may speak at any time."""

    def __init__(self, service: Service, steps: Counter[tuple[str, str, str]]) -> None:
        super().__init__()
        self.service = service
        self.steps = steps
        self.model = Model(TTL_S)
        empty(service.context.database)
        self.workers = [(service.worker(n), WorkerModel(n)) for n in (1, 2)]
        self.claims: list[tuple[tuple[UUID, WorkerModel], UUID, int, str | None]] = []
        self.leases: list[tuple[Lease, LeaseModel]] = []
        self.states: dict[tuple[str, str, int], str] = {}

    def both(self, real: Callable[[], Any], model: Callable[[], Any]) -> tuple[Any, Any]:
        """Ask the service and the model; both answer, or both refuse in the same way."""
        refusal = None
        expected = None
        try:
            expected = model()
        except Refused as refused:
            refusal = str(refused)
        self.note_the_steps()
        if refusal is None:
            return real(), expected
        with pytest.raises(Problem) as raised:
            real()
        assert raised.type.__name__ == refusal
        return None, None

    def same(self, real: Callable[[], Any], model: Callable[[], Any]) -> None:
        answer, expected = self.both(real, model)
        assert answer == expected

    @initialize()
    def create(self) -> None:
        self.create_limited("one", 2, None, 2)

    @rule(
        name=st.sampled_from(NAMES),
        trials=st.integers(1, 3),
        wall_time_s=st.sampled_from([None, None, 150.0]),
        max_crashes=st.integers(1, 3),
        refits=st.integers(0, 2),
        seeds=st.integers(1, 2),
    )
    def create_limited(
        self,
        name: str,
        trials: int,
        wall_time_s: float | None,
        max_crashes: int,
        refits: int = 0,
        seeds: int = 1,
    ) -> None:
        if name not in self.model.studies:
            refits = min(refits, trials)
            seeds = seeds if refits else 1
            paid = trials + refits * seeds
            wall = wall_time_s and wall_time_s * paid / trials
            self.service.study(
                name,
                budget={"trials": paid, "wall_time_s": wall},
                max_crashes=max_crashes,
                finish={"refit": refits > 0, "ensemble": max(1, refits), "seeds": seeds},
            )
            study_id = studies.study_id(self.service.context, name)
            self.model.create(study_id, name, trials, wall_time_s, max_crashes, refits, seeds)

    @rule(
        which=st.integers(0, 1),
        capacity=st.integers(1, 2),
        beside=st.sampled_from([None, None, *NAMES]),
    )
    def claim(self, which: int, capacity: int, beside: str | None = None) -> None:
        if self.workers[which][
            1
        ].has_crashed:  # it starts anew: three crashes would be its quarantine
            self.workers[which] = (self.service.worker(1 + which), WorkerModel(1 + which))
        self.claims.append((self.workers[which], uuid4(), capacity, beside))
        self._claim(*self.claims[-1])

    @rule(which=RECENT)
    def repeat_a_claim(self, which: int) -> None:
        if self.claims and not self.claims[-1 - which % len(self.claims)][0][1].has_crashed:
            self._claim(*self.claims[-1 - which % len(self.claims)])

    def _claim(
        self,
        worker: tuple[UUID, WorkerModel],
        claim_id: UUID,
        capacity: int,
        beside: str | None,
    ) -> None:
        worker_id, worker_model = worker
        got, expected = self.both(
            lambda: self.service.claim(
                worker_id, claim_id=claim_id, capacity=capacity, beside=beside
            ),
            lambda: self.model.claim(worker_model, claim_id, capacity, beside),
        )
        for lease, model in zip(got or (), expected or (), strict=True):
            trial = model.trial
            resume = None if lease.resume is None else lease.resume.step
            assert (lease.study, lease.trial_number, lease.kind, lease.fence, resume) == (
                *(trial.study.name, trial.number, trial.kind, model.fence),
                trial.resume(),
            )
            assert lease.seed_index == trial.seed_index
            if trial.kind == "final":
                self.check_members(lease, trial.study)
            if model not in [known for _, known in self.leases]:
                self.leases.append((lease, model))

    def check_members(self, lease: Lease, study: StudyModel) -> None:
        best = study.best_first()[: max(1, study.refits_wanted)]
        refitted: dict[int, list[int]] = {}
        for refit in study.refits:
            kept = refit.validated()
            if refit.state == "completed" and kept is not None:
                refitted.setdefault(refit.number, []).append(kept)
        assert [
            (one.trial_number, one.value, step(one.validated), [r.step for r in one.refits])
            for one in lease.members
        ] == [
            (trial.number, trial.value, trial.validated(), refitted.get(trial.number, []))
            for trial in best
        ]

    def spoken(self, which: int) -> tuple[Lease, LeaseModel] | None:
        """A lease that speaks: a recent one, live or not; a new one if there is none."""
        if not self.leases:
            self.claim(1, 2)
        return self.leases[-1 - which % len(self.leases)] if self.leases else None

    @rule(
        which=RECENT,
        step=st.integers(0, 3),
        values=st.lists(st.sampled_from([0.25, 0.5, None]), min_size=1, max_size=2),
    )
    def report(self, which: int, step: int, values: list[float | None]) -> None:
        if pair := self.spoken(which):
            self.same(
                lambda: self.service.report(pair[0], *values, step=step),
                lambda: self.model.report(pair[1], step, values),
            )

    @rule(which=RECENT)
    def heartbeat(self, which: int) -> None:
        if pair := self.spoken(which):
            self.same(
                lambda: self.service.heartbeat(pair[0]), lambda: self.model.heartbeat(pair[1])
            )

    @rule(which=RECENT, step=st.integers(0, 3), best=st.none() | st.integers(0, 3))
    def checkpoint(self, which: int, step: int, best: int | None) -> None:
        if pair := self.spoken(which):
            self.same(
                lambda: self.service.checkpoint(pair[0], step, best=best),
                lambda: self.model.checkpoint(pair[1], step, best),
            )

    @rule(which=RECENT, outcome=st.sampled_from(OUTCOMES))
    def settle(self, which: int, outcome: tuple[str, object, bool]) -> None:
        if pair := self.spoken(which):
            self.same(
                lambda: self._settle(pair[0], outcome),
                lambda: self.model.settle(pair[1], outcome),
            )

    def _settle(self, lease: Lease, outcome: tuple[str, Any, bool]) -> str:
        kind, what, retryable = outcome
        if (lease.kind, kind) == ("final", "completed"):
            return self.service.complete_final(lease, what)
        message: Outcome = (
            Failed(error=what, retryable=retryable) if kind == "failed" else Pruned()
        )
        return self.service.settle(
            lease, Completed(value=what) if kind == "completed" else message
        )

    @rule(which=RECENT, reason=st.sampled_from(["drain", "paused"]))
    def release(self, which: int, reason: str) -> None:
        if pair := self.spoken(which):
            give_back = (
                self.service.drain if reason == "drain" else self.service.give_back_paused
            )
            self.same(lambda: give_back(pair[0]), lambda: self.model.release(pair[1], reason))

    @rule(seconds=st.sampled_from([4.0, 6.0, 50.0, 61.0, 100.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.service.clock.advance(seconds)
        self.model.now += seconds

    @rule()
    def sweep(self) -> None:
        self.same(self.service.sweep, self.model.sweep)

    @rule()
    def expire(self) -> None:
        self.let_time_pass(TTL_S + 1)
        self.sweep()

    @rule(which=RECENT, state=st.sampled_from([*CHANGES, "active", "stopping"]))
    def change(self, which: int, state: str) -> None:
        if name := self.a_study(which):
            self.both(
                lambda: CHANGES[state](self.service.context, name),
                lambda: self.model.change(name, state),
            )

    @rule(which=RECENT, pause=st.booleans(), state=st.sampled_from([*CHANGES]))
    def give_back_and_change(self, which: int, pause: bool, state: str) -> None:
        self.claim(1, 2)
        if pause:
            self.change(which, "paused")
        for index, (_, lease) in enumerate(reversed(self.leases)):
            if lease.live:
                self.release(index, "paused" if pause else "drain")
        self.change(which, state)

    @rule(complete=st.booleans())
    def settle_what_runs(self, complete: bool) -> None:
        self.claim(1, 2)
        for index, (_, lease) in enumerate(reversed(self.leases)):
            if lease.live:
                self.settle(index, OUTCOMES[0] if complete else OUTCOMES[4])

    @rule(which=RECENT, pause=st.booleans(), complete=st.booleans(), cancel=st.booleans())
    def wind_up(self, which: int, pause: bool, complete: bool, cancel: bool) -> None:
        self.settle_what_runs(complete)
        self.claim(1, 2)
        if pause:
            self.change(which, "paused")
        self.change(which, "stopping")
        self.settle_what_runs(complete)
        if cancel:
            self.change(which, "cancelled")

    @rule(which=RECENT)
    def delete(self, which: int) -> None:
        if name := self.a_study(which):
            self.same(
                lambda: studies.delete(self.service.context, name),
                lambda: self.model.delete(name),
            )
            self.leases = [
                pair
                for pair in self.leases
                if self.model.studies.get(pair[1].trial.study.name) is pair[1].trial.study
            ]

    def a_study(self, which: int) -> str | None:
        names = sorted(self.model.studies)
        return names[which % len(names)] if names else None

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        stored = self.service.rows("""
            SELECT s.name, t.kind, t.number, t.seed_index, t.state, t.fence, t.crashes, t.error_kind,
                   CASE t.kind WHEN 'trial' THEN t.value END, (t.checkpoint ->> 'step')::int,
                   (SELECT coalesce(jsonb_object_agg(v.step, v.intermediate_value), '{}')
                    FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id)
            FROM trimtab.trials t JOIN trimtab.studies s USING (study_id) ORDER BY 1, 2, 3, 4""")
        expected = sorted(
            (study.name, trial.kind, trial.number, trial.seed_index, trial)
            for study in self.model.studies.values()
            for trial in study.everything()
        )
        assert [tuple(row)[:10] for row in stored] == [
            (
                *(
                    name,
                    kind,
                    number,
                    index,
                    trial.state,
                    trial.fence,
                    trial.crashes,
                    trial.error,
                ),
                *(trial.value if kind == "trial" else None, trial.resume()),
            )
            for name, kind, number, index, trial in expected
        ]
        for (*_, curve), (_, kind, *_, trial) in zip(stored, expected, strict=True):
            if kind == "trial":
                assert {int(step): value for step, value in curve.items()} == trial.curve
        self._studies_are_what_the_model_says()

    def _studies_are_what_the_model_says(self) -> None:
        stored = self.service.rows(
            "SELECT name, state, trials_created, problem IS NOT NULL FROM trimtab.studies ORDER BY name"
        )
        assert [tuple(row) for row in stored] == sorted(
            (study.name, study.state, len(study.trials), study.has_problem)
            for study in self.model.studies.values()
        )

    @invariant()
    def no_invariant_is_broken(self) -> None:
        assert broken(self.service.context.database) == {}

    def note_the_steps(self) -> None:
        now = {
            (study.name, trial.kind, trial.number): (study.age, trial.state)
            for study in self.model.studies.values()
            for trial in study.everything()
        }
        now |= {(s.name, "study", 0): (s.age, s.state) for s in self.model.studies.values()}
        for key, (age, state) in now.items():
            before = self.states.get((*key[:2], key[2] + 1000 * age))
            self.steps[key[1], before or "", state] += 1
        self.states = {(*key[:2], key[2] + 1000 * age): s for key, (age, s) in now.items()}


def step(state: Checkpoint | None) -> int | None:
    return None if state is None else state.step


def test_the_protocol_behaves_as_its_model_whatever_is_said_in_whatever_order(
    either: Service,
) -> None:
    class OnThisDatabase(Protocol):
        def __init__(self) -> None:
            super().__init__(either, Counter())

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=40, stateful_step_count=25, derandomize=True, phases=[Phase.generate]
        ),
    )


def test_a_long_walk_takes_every_step_of_both_state_tables(service: Service) -> None:
    steps: Counter[tuple[str, str, str]] = Counter()
    dice = Random(1)
    for _ in range(40):
        world = Protocol(service, steps)
        world.create()
        for _ in range(25):
            say_anything(world, dice)
            world.what_is_stored_is_what_the_model_says()
            world.no_invariant_is_broken()
        world.note_the_steps()
    assert_every_step_was_taken(steps)


def say_anything(world: Protocol, dice: Random) -> None:
    """One verb, each as likely as the next: hypothesis favours a few in each of its examples."""
    which, flag, step = dice.randrange(6), dice.random() < 0.5, dice.randrange(4)
    state, values = dice.choice([*CHANGES]), dice.choices([0.25, 0.5, None], k=1 + step % 2)
    limits = (1 + which % 3, dice.choice([None, 150.0]), 1 + step % 2, dice.randrange(3))
    verbs: Sequence[Callable[[], object]] = (
        lambda: world.create_limited(NAMES[which % 2], *limits),
        lambda: world.claim(which % 2, 1 + flag),
        lambda: world.repeat_a_claim(which),
        lambda: world.report(which, step, values),
        lambda: world.heartbeat(which),
        lambda: world.checkpoint(which, step, step if flag else None),
        lambda: world.settle(which, dice.choice(OUTCOMES)),
        lambda: world.release(which, "paused" if flag else "drain"),
        lambda: world.let_time_pass(dice.choice([4.0, 6.0, 50.0, 100.0])),
        world.sweep,
        world.expire,
        lambda: world.change(which, state),
        lambda: world.give_back_and_change(which, flag, state),
        lambda: world.settle_what_runs(flag),
        lambda: world.wind_up(which, flag, step > 1, which > 2),
        lambda: world.delete(which),
    )
    dice.choice(verbs)()


def assert_every_step_was_taken(steps: Iterable[tuple[str, str, str]]) -> None:
    """All legal steps of both tables, but into `deleting`: a deletion is one transaction, and nobody sees it."""
    # No search of the walk pauses trials: test_search_pauses.py has these steps.
    of_a_search = {("trial", "paused", "running"), ("trial", "paused", "pruned")}
    legal = {("trial", a, b) for a, after in TRIAL_STEPS.items() for b in after} | {
        ("study", a, b) for a, after in STUDY_STEPS.items() for b in after if b != "deleting"
    }
    taken = {(kind, a, b) for kind, a, b in steps if a and a != b}
    # A paused study that is stopped with nothing left to do takes two steps in one verb.
    two_at_once = {("study", "paused", end) for end in ("finalising", "done")}
    searched = {step for step in taken if step[0] in ("trial", "study")}
    assert searched - legal - two_at_once == set()
    assert legal - of_a_search - taken == set()
    for of_the_finish in ("refit", "final"):
        assert {b for kind, _, b in steps if kind == of_the_finish} == {
            *("queued", "running", "completed", "failed", "cancelled"),
        }
