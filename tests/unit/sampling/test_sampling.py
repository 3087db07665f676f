import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler

from service.domain.facts import Changes, Cursor, TrialFacts
from service.sampling import (
    GO_ON,
    Exhausted,
    Judgement,
    NotStored,
    Proposal,
    Sampling,
    SamplingFailed,
)
from service.sampling.asking import Draws, ask
from service.sampling.distributions import distributions
from service.sampling.history import History, role
from service.sampling.joint import ArrayTPE
from service.sampling.study import REREAD_AFTER_S, seed_of
from tests.unit.sampling.ledger import (
    SPACE,
    Clock,
    Ledger,
    any_values,
    completed,
    document,
    stopped,
)
from trimtab.contract.problems import Unavailable
from trimtab.contract.search_space import Scalar

DEADLINE_S = 10
TPE = document()
SMALL = document({"frozen_stages": {"kind": "int", "low": 0, "high": 2}}, sampler="grid")
MEDIAN = document(pruner={"kind": "median", "startup_trials": 2, "warmup_epochs": 0})


def _twenty() -> list[TrialFacts]:
    rng = random.Random(0)
    return [completed(n, any_values(TPE.space, rng), n / 20) for n in range(20)]


def _propose(sampling: Sampling, claim_id: str = "c", number: int = 20) -> Mapping[str, Scalar]:
    with sampling.proposal(1, TPE, claim_id=claim_id, next_number=number) as proposal:
        assert isinstance(proposal, Proposal)
        return proposal.values


def _in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class TestHistory:
    def test_it_is_read_whole_once_and_then_from_the_cursor_on(self):
        ledger = Ledger(*_twenty())
        sampling = Sampling(ledger.read, Clock())
        _propose(sampling)
        ledger.commit(completed(20, {}, 0.1))
        _propose(sampling)
        assert ledger.reads == [(1, None), (1, (1, 20))]

    def test_claims_that_wait_for_one_another_share_a_reading_that_began_after_they_came(self):
        ledger, clock = Ledger(*_twenty()), Clock()
        sampling = Sampling(ledger.read, clock)
        waiting = [sampling.proposal(1, TPE, claim_id=str(n), next_number=20) for n in range(3)]
        clock.now = 0.1
        found = [one.__enter__() for one in waiting]
        assert len(ledger.reads) == 1
        assert len({str(one.values) for one in found if isinstance(one, Proposal)}) == 3
        later = sampling.proposal(1, TPE, claim_id="later", next_number=20)
        later.__enter__()
        assert len(ledger.reads) == 2

    def test_pruning_uses_it_unread_for_a_second(self):
        ledger, clock = Ledger(), Clock()
        sampling = Sampling(ledger.read, clock)
        sampling.prune(1, MEDIAN, 9, ((0, 0.5),))
        clock.now = REREAD_AFTER_S - 0.01
        sampling.prune(1, MEDIAN, 9, ((0, 0.5),))
        assert len(ledger.reads) == 1
        clock.now = REREAD_AFTER_S
        sampling.prune(1, MEDIAN, 9, ((0, 0.5),))
        assert len(ledger.reads) == 2

    def test_once_touched_it_is_read_before_its_next_use(self):
        ledger = Ledger()
        sampling = Sampling(ledger.read, Clock())
        assert not sampling.prune(1, MEDIAN, 9, ((0, 0.1),)).stop
        ledger.commit(*(TrialFacts(n, "completed", {}, ((0, 0.9),), 0.9) for n in range(2)))
        assert not sampling.prune(1, MEDIAN, 9, ((0, 0.1),)).stop
        sampling.touch(1)
        assert sampling.prune(1, MEDIAN, 9, ((0, 0.1),)).stop
        assert len(ledger.reads) == 2

    def test_at_once_the_pruner_judges_as_ever_while_it_is_fresh(self):
        clock = Clock()
        peers = [TrialFacts(n, "completed", {}, ((0, 0.5),), 0.5) for n in range(2)]
        sampling = Sampling(Ledger(*peers).read, clock)
        assert sampling.prune_at_once(1, MEDIAN, 9, ((0, 0.4),)) is None
        sampling.prune(1, MEDIAN, 9, ((0, 0.4),))
        assert stopped(sampling.prune_at_once(1, MEDIAN, 9, ((0, 0.4),)))
        assert not stopped(sampling.prune_at_once(1, MEDIAN, 9, ((0, 0.6),)))
        clock.now = REREAD_AFTER_S
        assert sampling.prune_at_once(1, MEDIAN, 9, ((0, 0.4),)) is None
        sampling.prune(1, MEDIAN, 9, ((0, 0.4),))
        sampling.touch(1)
        assert sampling.prune_at_once(1, MEDIAN, 9, ((0, 0.4),)) is None

    def test_at_once_nobody_waits_for_who_reads_it(self):
        reading, go_on = threading.Event(), threading.Event()

        def read(study_id: int, cursor: Cursor | None) -> Changes:
            reading.set()
            assert go_on.wait(2 * DEADLINE_S)
            return Ledger().read(study_id, cursor)

        sampling, found = Sampling(read, Clock()), list[Judgement | None]()
        slow = _in_thread(lambda: sampling.prune(1, MEDIAN, 9, ((0, 0.5),)))
        assert reading.wait(DEADLINE_S)
        quick = _in_thread(
            lambda: found.append(sampling.prune_at_once(1, MEDIAN, 9, ((0, 0.5),)))
        )
        quick.join(DEADLINE_S)
        assert found == [None]
        go_on.set()
        slow.join(DEADLINE_S)

    def test_the_median_is_that_of_the_studys_direction(self):
        trials = [TrialFacts(n, "completed", {}, ((0, 0.5),), 0.5) for n in range(2)]
        pruner = {"kind": "median", "startup_trials": 2, "warmup_epochs": 0}
        lower = document(objective="loss", pruner=pruner)
        for study, worse, better in ((MEDIAN, 0.4, 0.6), (lower, 0.6, 0.4)):
            sampling = Sampling(Ledger(*trials).read, Clock())
            assert sampling.prune(1, study, 9, ((0, worse),)).stop
            assert not sampling.prune(1, study, 9, ((0, better),)).stop

    def test_a_touch_while_it_is_read_is_not_lost(self):
        ledger = Ledger()

        def read(study_id: int, cursor: Cursor | None) -> Changes:
            changes = ledger.read(study_id, cursor)
            if cursor is None:
                sampling.touch(study_id)
            return changes

        sampling = Sampling(read, Clock())
        for _ in range(3):
            sampling.prune(1, MEDIAN, 9, ((0, 0.1),))
        assert len(ledger.reads) == 2

    def test_a_read_that_fails_is_told_and_made_good_by_the_next(self):
        ledger = Ledger(*_twenty())
        outages = [ConnectionError("no database")]

        def read(study_id: int, cursor: Cursor | None) -> Changes:
            if outages:
                raise outages.pop()
            return ledger.read(study_id, cursor)

        sampling = Sampling(read, Clock())
        with pytest.raises(ConnectionError):
            _propose(sampling)
        assert _propose(sampling) == _propose(Sampling(ledger.read, Clock()))

    def test_a_forgotten_study_is_read_anew(self):
        ledger = Ledger(*_twenty())
        sampling = Sampling(ledger.read, Clock())
        _propose(sampling)
        sampling.forget(1)
        sampling.forget(2)
        sampling.touch(2)
        _propose(sampling)
        assert ledger.reads == [(1, None), (1, None)]

    def test_grid_random_and_no_pruner_read_nothing(self):
        ledger = Ledger()
        sampling = Sampling(ledger.read, Clock())
        for study in (SMALL, document(sampler="random", pruner="none")):
            with sampling.proposal(1, study, claim_id="c", next_number=0) as proposal:
                assert isinstance(proposal, Proposal)
            sampling.forget(1)
        assert not sampling.prune(1, document(pruner="none"), 9, ((0, None),)).stop
        assert ledger.reads == []


Shows = list[list[Mapping[str, Scalar]]]


@pytest.fixture
def shows(monkeypatch: pytest.MonkeyPatch) -> Shows:
    """The running trials that the sampler was shown, per proposal."""
    found: Shows = []

    class Recording(ArrayTPE):
        def look(
            self, history: History, in_flight: Sequence[Mapping[str, Scalar]], next_number: int
        ) -> None:
            running = [one for one in history.capped(None) if role(one) == "running"]
            found.append([one.hyperparameters for one in running] + list(in_flight))
            super().look(history, in_flight, next_number)

    monkeypatch.setattr("service.sampling.joint.ArrayTPE", Recording)
    return found


class TestInFlight:
    def test_a_proposal_counts_as_running_while_it_is_stored(self, shows: Shows):
        sampling = Sampling(Ledger(*_twenty()).read, Clock())
        with sampling.proposal(1, TPE, claim_id="first", next_number=20) as first:
            assert isinstance(first, Proposal)
            with sampling.proposal(1, TPE, claim_id="second", next_number=20) as second:
                assert isinstance(second, Proposal)
                _propose(sampling, "third")
        assert shows == [[], [first.values], [first.values, second.values]]

    def test_a_proposal_that_could_not_be_stored_is_forgotten_at_once(self, shows: Shows):
        sampling = Sampling(Ledger(*_twenty()).read, Clock())
        failing = sampling.proposal(1, TPE, claim_id="first", next_number=20)
        with pytest.raises(ConnectionError), failing:
            raise ConnectionError
        _propose(sampling)
        assert shows == [[], []]

    def test_a_proposal_that_became_no_trial_is_forgotten_at_once(self, shows: Shows):
        sampling = Sampling(Ledger(*_twenty()).read, Clock())
        with sampling.proposal(1, TPE, claim_id="first", next_number=20):
            raise NotStored
        _propose(sampling)
        assert shows == [[], []]

    def test_a_stored_proposal_counts_until_the_history_shows_it_and_then_once(
        self, shows: Shows
    ):
        ledger = Ledger(*_twenty())
        sampling = Sampling(ledger.read, Clock())
        first = _propose(sampling, "first")
        second = _propose(sampling, "second")
        ledger.commit(TrialFacts(20, "running", first))
        third = _propose(sampling, "third")
        ledger.commit(completed(20, first, 0.5), TrialFacts(21, "queued", second))
        _propose(sampling, "fourth")
        assert shows == [[], [first], [first, second], [second, third]]

    def test_a_proposal_that_never_appears_is_forgotten_after_a_second(self, shows: Shows):
        clock = Clock()
        sampling = Sampling(Ledger(*_twenty()).read, clock)
        first = _propose(sampling)
        clock.now = REREAD_AFTER_S - 0.01
        second = _propose(sampling)
        clock.now = REREAD_AFTER_S
        _propose(sampling)
        assert shows == [[], [first], [second]]

    def test_a_proposal_shown_before_its_block_is_left_counts_once(self, shows: Shows):
        ledger = Ledger(*_twenty())
        sampling = Sampling(ledger.read, Clock())
        with sampling.proposal(1, TPE, claim_id="first", next_number=20) as first:
            assert isinstance(first, Proposal)
            ledger.commit(TrialFacts(20, "running", first.values))
            _propose(sampling, "second", 21)
        assert shows == [[], [first.values]]

    def test_no_lock_is_held_while_the_caller_stores(self):
        sampling = Sampling(Ledger(*_twenty()).read, Clock())
        with sampling.proposal(1, TPE, claim_id="first", next_number=20):
            other = _in_thread(lambda: _propose(sampling, "second"))
            other.join(DEADLINE_S)
            assert not other.is_alive()


class TestLocks:
    def test_a_study_that_loads_slowly_keeps_no_other_waiting(self):
        ledger, loading, go_on = Ledger(*_twenty()), threading.Event(), threading.Event()

        def read(study_id: int, cursor: Cursor | None) -> Changes:
            if study_id == 2:
                loading.set()
                # Longer than the others are waited for: no thread fails beside the test.
                assert go_on.wait(2 * DEADLINE_S)
            return ledger.read(study_id, cursor)

        sampling = Sampling(read, Clock())
        slow = _in_thread(lambda: sampling.prune(2, MEDIAN, 9, ((0, 0.5),)))
        assert loading.wait(DEADLINE_S)
        quick = _in_thread(lambda: _propose(sampling))
        quick.join(DEADLINE_S)
        assert not quick.is_alive()
        assert slow.is_alive()
        go_on.set()
        slow.join(DEADLINE_S)

    def test_a_report_does_not_wait_for_a_proposals_mathematics(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        computing, go_on = threading.Event(), threading.Event()

        def slow(tpe: ArrayTPE, seed: int) -> Iterator[Mapping[str, Scalar]]:
            computing.set()
            # Longer than the report is waited for: no thread fails beside the test.
            assert go_on.wait(2 * DEADLINE_S)
            yield any_values(TPE.space, random.Random(seed))

        monkeypatch.setattr(ArrayTPE, "candidates", slow)
        sampling = Sampling(Ledger(*_twenty()).read, Clock())
        proposing = _in_thread(lambda: _propose(sampling))
        assert computing.wait(DEADLINE_S)
        report = _in_thread(lambda: sampling.prune(1, MEDIAN, 9, ((0, 0.5),)))
        report.join(DEADLINE_S)
        waits = report.is_alive()
        go_on.set()
        for thread in (proposing, report):
            thread.join(DEADLINE_S)
        assert not waits

    def test_proposals_made_at_once_by_many_threads_all_differ(self):
        ledger, found = Ledger(*_twenty()), list[Mapping[str, Scalar]]()
        sampling = Sampling(ledger.read, Clock())
        threads = [
            _in_thread(lambda n=n: found.append(_propose(sampling, f"claim-{n}")))
            for n in range(16)
        ]
        for thread in threads:
            thread.join(DEADLINE_S)
        assert len({tuple(values.items()) for values in found}) == 16


class TestPruning:
    def test_the_last_step_is_held_against_the_completed_trials_alone(self):
        good = [TrialFacts(n, "completed", {}, ((0, 0.1), (1, 0.9)), 0.9) for n in range(2)]
        others = [TrialFacts(n, "pruned", {}, ((0, 0.1), (1, 0.0))) for n in range(2, 9)]
        sampling = Sampling(Ledger(*good, *others).read, Clock())
        assert sampling.prune(1, MEDIAN, 9, ((0, 0.5), (1, 0.5))).stop
        assert not sampling.prune(1, MEDIAN, 9, ((0, 0.5),)).stop
        assert not sampling.prune(1, MEDIAN, 9, ()).stop

    def test_the_documents_start_up_and_warm_up_count(self):
        low = ((0, 0.5), (1, 0.5))
        for startup, warmup, pruned in ((2, 1, True), (3, 1, False), (2, 2, False)):
            pruner = {"kind": "median", "startup_trials": startup, "warmup_epochs": warmup}
            older = document(startup_trials=startup, warmup_epochs=warmup)
            for study in (document(pruner=pruner), older):
                sampling = _after(2)
                assert sampling.prune(1, study, 9, low).stop is pruned
                assert stopped(sampling.prune_at_once(1, study, 9, low)) is pruned

    def test_where_epochs_are_searched_one_long_trial_stops_nobody(self):
        pruner = {"kind": "median", "warmup_epochs": 0}
        study = document({"epochs": {"kind": "int", "low": 2, "high": 100}}, pruner=pruner)
        short = tuple((step, 0.1 * (step + 1)) for step in range(5))
        long = tuple((step, 0.5 + 0.005 * step) for step in range(100))
        trials = [TrialFacts(n, "completed", {"epochs": 5}, short, 0.5) for n in range(5)]
        trials.append(TrialFacts(5, "completed", {"epochs": 100}, long, 0.995))
        sampling = Sampling(Ledger(*trials).read, Clock())
        for judge in (sampling.prune, sampling.prune_at_once):
            # The long one alone has a value at a twentieth, or at the sixth epoch.
            assert not stopped(judge(1, study, 9, ((0, 0.01),), 20))
            sixth = tuple((step, 0.15) for step in range(6))
            assert not stopped(judge(1, study, 9, sixth, 25))
            # By two fifths the median of all six is 0.2, though the long one had 0.695 by then.
            above, below = (tuple((n, value) for n in range(10)) for value in (0.21, 0.19))
            assert not stopped(judge(1, study, 9, above, 25))
            assert stopped(judge(1, study, 9, below, 25))

    def test_a_trial_is_compared_with_as_many_as_the_document_says(self):
        low = ((0, 0.5),)
        for least, pruned in ((5, True), (6, False)):
            pruner = {"kind": "median", "warmup_epochs": 0, "min_trials": least}
            assert _after(5).prune(1, document(pruner=pruner), 9, low).stop is pruned

    def test_the_share_that_goes_on_is_the_documents(self):
        curves = [((0, 0.1 * (n + 1)),) for n in range(5)]
        peers = [TrialFacts(n, "completed", {}, curve, 0.5) for n, curve in enumerate(curves)]
        for kept, pruned in ((25.0, True), (75.0, False)):
            pruner = {"kind": "percentile", "percentile": kept, "warmup_epochs": 0}
            room = Sampling(Ledger(*peers).read, Clock())
            judgement = room.prune(1, document(pruner=pruner), 9, ((0, 0.35),))
            assert judgement.stop is pruned

    @pytest.mark.parametrize("pruner", ["median", {"kind": "median"}])
    def test_the_bare_word_waits_for_five_trials_and_half_of_the_epochs(self, pruner: Any):
        study, low = document(pruner=pruner), tuple((step, 0.5) for step in range(6))
        assert not _after(4).prune(1, study, 9, low).stop
        assert _after(5).prune(1, study, 9, low).stop
        assert not _after(5).prune(1, study, 9, low[:5]).stop

    def test_half_of_the_epochs_are_the_trials_own_where_they_are_searched(self):
        study = document({"epochs": {"kind": "int", "low": 2, "high": 100}})
        judge = _after(5, {"epochs": 6}).prune
        assert not judge(1, study, 9, ((0, 0.5), (1, 0.5), (2, 0.5)), 6).stop
        assert judge(1, study, 9, ((0, 0.5), (1, 0.5), (2, 0.5), (3, 0.5)), 6).stop


class TestAudit:
    HALF = document(
        pruner={"kind": "median", "startup_trials": 2, "warmup_epochs": 0}, audit=0.5, seed=3
    )

    def test_its_share_of_the_trials_runs_on_and_tells_why_it_would_have_stopped(self):
        room, low = _after(5), ((0, 0.5),)
        found = [room.prune(1, self.HALF, number, low) for number in range(1000)]
        assert 450 < sum(one.stop for one in found) < 550
        told = {(one.stop, one.reason and one.reason.rule) for one in found}
        assert told == {(True, "median"), (False, "audit")}
        audited = next(one.reason for one in found if not one.stop)
        assert audited is not None
        assert audited.text == (
            "It runs on for the audit, where it would have stopped. "
            "Its best value 0.5 after 1 epoch is below the median 0.9 of 5 completed trials at that point."
        )
        assert audited.epoch == 1

    def test_who_is_audited_depends_on_seed_and_number_alone(self):
        other = document(pruner=MEDIAN.search.pruner, audit=0.5, seed=4)
        low, lower = ((0, 0.5),), ((0, 0.5), (1, 0.4))
        first, again, seeded = (
            [_after(peers).prune(1, study, number, curve).stop for number in range(64)]
            for peers, study, curve in (
                (5, self.HALF, low),
                (7, self.HALF, lower),
                (5, other, low),
            )
        )
        assert first == again
        assert first != seeded

    @pytest.mark.parametrize(("share", "stopping"), [(0.0, 50), (1.0, 0)])
    def test_none_or_all_may_be_audited(self, share: float, stopping: int):
        study = document(pruner=MEDIAN.search.pruner, audit=share)
        room = _after(5)
        found = [room.prune(1, study, number, ((0, 0.5),)).stop for number in range(50)]
        assert sum(found) == stopping

    def test_a_trial_that_is_worth_its_next_epoch_is_no_matter_of_the_audit(self):
        study = document(pruner=MEDIAN.search.pruner, audit=1.0)
        assert _after(5).prune(1, study, 9, ((0, 0.95),)) == GO_ON

    def test_a_value_that_is_not_finite_stops_audited_trials_too(self):
        study = document(pruner=MEDIAN.search.pruner, audit=1.0)
        judgement = _after(5).prune(1, study, 9, ((0, None),))
        assert judgement.stop
        assert judgement.reason is not None
        assert judgement.reason.rule == "not_finite"


def _after(count: int, values: Mapping[str, Scalar] | None = None) -> Sampling:
    """The room where so many trials have completed at 0.9."""
    curve = tuple((step, 0.9) for step in range(6))
    good = [TrialFacts(n, "completed", values or {}, curve, 0.9) for n in range(count)]
    return Sampling(Ledger(*good).read, Clock())


class TestGrid:
    def test_each_number_is_a_cell_that_no_other_number_may_take(self):
        sampling = Sampling(Ledger().read, Clock())
        for number in range(3):
            with sampling.proposal(1, SMALL, claim_id="c", next_number=number) as proposal:
                assert isinstance(proposal, Proposal)
                assert proposal.values == {"frozen_stages": number}
                assert proposal.only_as_number == number
                assert proposal.internal["frozen_stages"][0] == number

    def test_past_the_last_cell_it_is_exhausted(self):
        sampling = Sampling(Ledger().read, Clock())
        with sampling.proposal(1, SMALL, claim_id="c", next_number=3) as proposal:
            assert proposal == Exhausted()


def test_the_seed_depends_on_study_and_claim_and_on_nothing_else():
    assert seed_of(0, "claim") == 7371188
    assert seed_of(0, "claim") != seed_of(1, "claim")
    assert seed_of(0, "claim") != seed_of(0, "other")
    assert 0 <= seed_of(2**31 - 1, "x" * 100) < 2**32


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_without_a_claim_the_proposal_is_the_trial_numbers_own_and_void_as_another(
    sampler: str,
):
    study, found = document(sampler=sampler), list[Proposal]()
    for claim_id, number in ((None, 20), (None, 20), (None, 21), ("claim", 20)):
        sampling = Sampling(Ledger(*_twenty()).read, Clock())
        with sampling.proposal(1, study, claim_id=claim_id, next_number=number) as proposal:
            assert isinstance(proposal, Proposal)
            found.append(proposal)
    assert found[0] == found[1]
    assert found[0].values != found[2].values != found[3].values != found[0].values
    assert [proposal.only_as_number for proposal in found] == [20, 20, 21, None]


@pytest.mark.parametrize("error", [Unavailable("away"), MemoryError(), ConnectionError()])
def test_trouble_of_the_database_or_the_machine_is_no_fault_of_the_study(error: Exception):
    def read(study_id: int, cursor: Cursor | None) -> Changes:
        raise error

    sampling = Sampling(read, Clock())
    with pytest.raises(type(error)):
        _propose(sampling)
    with pytest.raises(type(error)):
        sampling.prune(1, MEDIAN, 9, ((0, 0.5),))


def test_an_error_of_the_history_is_told_as_the_studys_own():
    def read(study_id: int, cursor: Cursor | None) -> Changes:
        raise KeyError("momentum")

    sampling = Sampling(read, Clock())
    with pytest.raises(SamplingFailed, match=r"The sampler failed \(KeyError: 'momentum'\)"):
        _propose(sampling)
    with pytest.raises(SamplingFailed, match="The pruner failed"):
        sampling.prune(1, MEDIAN, 9, ((0, 0.5),))


def test_a_random_draw_is_optunas_at_the_ends_of_a_range_too():
    narrow = {
        "a": FloatDistribution(1.0, 1.0 + 3 * 2**-52),
        "b": FloatDistribution(1.0, 1.0 + 3 * 2**-52, log=True),
        "c": FloatDistribution(1e17, 1e17 + 48),
        "d": FloatDistribution(1e17, 1e17 + 48, log=True),
    }
    draws = Draws(narrow)
    found = [draws.draw(seed) for seed in range(100)]
    optunas = [ask(RandomSampler(seed=n), narrow, [], 0, "maximize") for n in range(100)]
    assert found == [one.values for one in optunas]


def test_a_random_draw_is_what_optunas_random_sampler_would_be_asked_for():
    space = {**SPACE, "epochs": {"kind": "int", "low": 3, "high": 3}}
    found = distributions(document(space).space)
    draws = Draws(found)
    for seed in range(50):
        asked = ask(RandomSampler(seed=seed), found, [], 0, "maximize").values
        drawn = draws.draw(seed)
        assert drawn == asked
        assert list(map(type, drawn.values())) == list(map(type, asked.values()))
