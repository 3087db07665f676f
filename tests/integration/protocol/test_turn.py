"""The turn of studies, by the statement and by the rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from service.domain.serving import Claim, Work, distribute
from service.storage import turn
from service.storage.engine import Database

US, OTHERS = UUID(int=1), UUID(int=2)


@dataclass(frozen=True)
class Made:
    """A study in the database: `ours` of its running trials are of the worker that claims beside it."""

    work: Work
    ours: int


def made(number: int, priority: int, running: int, day: int, ours: int) -> Made:
    created_at = datetime(2030, 1, day, tzinfo=UTC)
    work = Work(number, f"study-{number}", priority, running, created_at, 0, 100, False, True)
    return Made(work, min(ours, running))


# Few values of each, so that ties are common and the next column decides.
facts = st.tuples(
    st.integers(0, 1), st.integers(0, 3), st.sampled_from([1, 2]), st.integers(0, 3)
)
studies_with_work = st.lists(facts, min_size=2, max_size=6).flatmap(
    lambda all_facts: st.permutations(range(1, len(all_facts) + 1)).map(
        lambda numbers: [
            made(number, *of_one) for number, of_one in zip(numbers, all_facts, strict=True)
        ]
    )
)


def insert(connection: Connection, studies: Sequence[Made]) -> None:
    """Store the studies with their running trials."""
    connection.execute(
        text("""INSERT INTO trimtab.workers (worker_id, label, device, capacity)
                VALUES (:us, 'us', 'cpu', 100), (:others, 'others', 'cpu', 100)"""),
        {"us": US, "others": OTHERS},
    )
    for one in studies:
        work = {"id": one.work.study_id, "name": one.work.name}
        connection.execute(
            text("INSERT INTO public.studies (study_id, study_name) VALUES (:id, :name)"), work
        )
        connection.execute(
            text("""INSERT INTO trimtab.studies (study_id, name, document, objective, direction, priority,
                        trials_limit, active_since, max_crashes, lease_ttl, created_at, data)
                    VALUES (:id, :name, '{}', 'accuracy', 'maximize', :priority, 100, trimtab.now(), 3, '60 s', :at,
                        '{}')"""),
            work | {"priority": one.work.priority, "at": one.work.created_at},
        )
        connection.execute(
            text("""
                WITH run AS (
                    INSERT INTO public.trials (study_id, number, state)
                    SELECT :id, n, 'RUNNING' FROM generate_series(1, :running) n RETURNING trial_id, number)
                INSERT INTO trimtab.trials (trial_id, kind, study_id, number, state, hyperparameters, lease_id,
                        worker_id, slot, lease_until)
                SELECT trial_id, 'trial', :id, number, 'running', '{}', gen_random_uuid(),
                       CASE WHEN number <= :ours THEN CAST(:us AS uuid) ELSE CAST(:others AS uuid) END,
                       10 * :id + number, trimtab.now() FROM run"""),
            {
                "id": one.work.study_id,
                "running": one.work.running,
                "ours": one.ours,
                "us": US,
                "others": OTHERS,
            },
        )


def turns(studies: Sequence[Made]) -> Iterator[int]:
    """The studies by the rule: whom a claim is given, then whom without that study, and so on."""
    left = [one.work for one in studies]
    while left:
        (first,) = distribute(left, [Claim()])
        assert first is not None
        yield first.study_id
        left = [work for work in left if work.study_id != first.study_id]


@settings(max_examples=50)
@given(studies_with_work)
def test_the_statement_and_the_rule_serve_studies_in_one_order(
    database: Database, studies: list[Made]
) -> None:
    with database.engine.connect() as connection, connection.begin() as transaction:
        insert(connection, studies)
        listed = turn.candidates(connection, worker_id=US)
        transaction.rollback()
    assert [one.study_id for one in listed] == list(turns(studies))


@settings(max_examples=50)
@given(studies_with_work)
def test_the_statement_and_the_rule_agree_whose_turn_a_claim_beside_a_study_meets(
    database: Database, studies: list[Made]
) -> None:
    beside, *others = studies
    alone = [Made(one.work, 0) for one in others]  # a worker runs trials of one study at a time
    with database.engine.connect() as connection, connection.begin() as transaction:
        insert(connection, [beside, *alone])
        first, *_ = turn.candidates(connection, worker_id=US, beside_worker=US)
        transaction.rollback()
    claim = Claim(beside.work.name, beside.ours, US)
    (served,) = distribute([one.work for one in studies], [claim])
    assert (first.study_id == beside.work.study_id) == (served is not None)
