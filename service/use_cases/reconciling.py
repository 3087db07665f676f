"""Reconciling: Optuna's tables say of each trial what ours say, whoever else wrote to them."""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg2.errors

from service.storage import tidying
from service.use_cases.context import Context

EVERY_S = 60.0
ORPHAN_AFTER_S = 600.0


def reconcile(context: Context) -> int:
    """Once a minute, by one replica: repair what disagrees and end what others left running; returns how many."""
    with context.database.statements() as connection:
        if not tidying.take_turn_to_reconcile(connection, EVERY_S):
            return 0
        orphans = tidying.fail_orphans(connection, ORPHAN_AFTER_S)
    with context.database.transaction() as connection:
        disagreeing = tidying.lock_disagreeing(connection)
        repaired = [tidying.repair(connection, trial_id) for trial_id in disagreeing]
    return orphans + sum(repaired)


@contextmanager
def strangers_make_way(context: Context) -> Generator[None]:
    """Where a stranger's trial has the number that ours is due, give it another; the claim that met it tries again."""
    try:
        yield
    except psycopg2.errors.UniqueViolation as error:
        if error.diag.constraint_name == tidying.TRIAL_NUMBERS:
            with context.database.statements() as connection:
                tidying.renumber_strangers(connection)
        raise
