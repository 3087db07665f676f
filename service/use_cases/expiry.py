"""The sweep: leases past their time are revoked, and studies whose budget is spent are brought to their end."""

from dataclasses import dataclass

from service.domain import leasing
from service.domain import tidying as rules
from service.storage import expiring, leases, tidying
from service.storage import studies as study_rows
from service.use_cases import ending, quarantine
from service.use_cases.context import Context

BATCH = 100


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did, and how soon the next one is due."""

    expired: int = 0
    extended: int = 0
    """Leases that began anew, because nobody swept for a while."""
    held: int = 0
    """Leases past their time that were left alone for now, because they are so many."""
    pause_s: float = 0.0


def sweep(context: Context, every_s: float) -> Swept:
    """Revoke what is past its time, unless silence is likelier the network's fault than the workers'.

    Every replica may sweep at any time: one at a time decides, and the rows that one works on are skipped by the others.
    """
    with context.database.transaction() as connection:
        sweeper = tidying.lock_sweeper(connection)
        if sweeper is None:
            return Swept(pause_s=every_s)
        below_ttl_s = rules.amnesty_below_ttl_s(sweeper.silence_s)
        extended = tidying.extend(connection, below_ttl_s) if below_ttl_s else 0
        running = tidying.running(connection)
        holding = rules.holds_back(running, sweeper.held_s)
        tidying.note_sweep(connection, holding=holding)
    pause_s = rules.pause_s(running, every_s)
    if holding:
        return Swept(extended=extended, held=running.expired, pause_s=pause_s)
    return Swept(expired=revoke(context), extended=extended, pause_s=pause_s)


def revoke(context: Context) -> int:
    """Revoke every lease past its time, then let each study follow from what was spent; returns how many expired."""
    count = 0
    while (revoked := _revoke_some(context)) > 0:
        count += revoked
    with context.database.statements() as connection:
        names = study_rows.to_follow(connection)
    for name in names:
        ending.follow(context, name)
    return count


def _revoke_some(context: Context) -> int:
    with context.database.transaction() as connection:
        expired = expiring.lock_expired(connection, BATCH)
        for lease in expired:
            departure = leasing.expired(lease.held)
            leases.leave(connection, lease.lease_id, departure, lease.held.kind)
    for lease in expired:
        context.sampling.touch(lease.study_id)
        quarantine.judge(context, lease.lease_id)
    return len(expired)
